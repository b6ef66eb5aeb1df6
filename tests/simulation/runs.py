"""What the simulations are made of: a run that follows from its seed, and what dies in it."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.log import Faults

__all__ = ["Run", "Work"]


@dataclass
class Run:
    """One run; everything in it follows from the seed.

    Attributes:
        failure: what a node could not go on from.
    """

    seed: int
    faults: Faults = field(default_factory=Faults)
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.value = 0

    def fail(self, error: BaseException) -> None:
        self.failure = error

    def next_value(self) -> int:
        """Return a value that nobody has written yet."""
        self.value += 1
        return self.value


class Work:
    """The tasks of a process, in their order: that of a set is another one each time."""

    def __init__(self) -> None:
        self.tasks: dict[asyncio.Task[Any], None] = {}

    def run(self, work: Any) -> asyncio.Task[Any]:
        """Run something that dies with the process."""
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self.tasks[task] = None
        task.add_done_callback(self.tasks.pop)
        return task
