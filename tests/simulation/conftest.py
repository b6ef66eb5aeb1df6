"""What the simulations share: how many seeds, the simulated time, and the checker of histories."""

import logging
import os
from collections.abc import Iterable, Iterator
from typing import Protocol

import pytest

from streamtable.streams import owner, participant, shard
from tests.simulation.log import Faults
from tests.simulation.loop import SimulatedLoop, SimulatedTime
from tests.support.linearizable import built_checker

__all__ = ["MANY", "UNTOLD", "faults", "run", "seeds"]

SEEDS = int(os.environ.get("STREAMTABLE_SEEDS", "1000"))
MANY = 100
"""From so many seeds on it is checked that enough happened in them."""
UNTOLD = 0.005
"""Of so many runs, of 1, the checker need not tell in its time whether they are right."""
FIRST = int(os.environ.get("STREAMTABLE_FIRST_SEED", "0"))


class Runs(Protocol):
    """A simulation."""

    async def run(self) -> None:
        """Run it to its end."""


@pytest.fixture(scope="session")
def checker() -> str:
    """The program that says which histories no order of the operations explains."""
    return built_checker()


@pytest.fixture(autouse=True)
def simulated_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the real code see the loop's time; what goes wrong on purpose is not logged."""
    for module in (owner, participant, shard):
        monkeypatch.setattr(module, "time", SimulatedTime)
    monkeypatch.setattr(owner, "now", SimulatedTime.monotonic)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def seeds(share: float = 1.0) -> Iterable[int]:
    """Which seeds are run: STREAMTABLE_SEED alone, or a share of STREAMTABLE_SEEDS."""
    if "STREAMTABLE_SEED" in os.environ:
        return [int(os.environ["STREAMTABLE_SEED"])]
    return range(FIRST, FIRST + int(SEEDS * share))


def faults(seed: int) -> Faults:
    """Without the broker's own fencing for every second seed: the barrier alone must do."""
    often = 0.1 if seed % 3 == 0 else 0.03
    return Faults(lost=often, hidden=often, late=often, fencing=seed % 2 == 0)


def run(simulation: Runs) -> None:
    """Run a simulation on a loop of its own."""
    loop = SimulatedLoop()
    try:
        loop.run_until_complete(simulation.run())
    finally:
        loop.close()
