"""What the shards of a trigger share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from streamtable.consumers.dead_letters import Reason
from streamtable.consumers.triggers.clock import Clock
from streamtable.consumers.triggers.deliveries import Invoke
from streamtable.consumers.triggers.entries import Entry
from streamtable.consumers.triggers.options import TriggerOptions
from streamtable.consumers.triggers.state import StateStore
from streamtable.core.changes import Change

__all__ = ["Changes", "Engine", "GiveUp"]


class Changes(Protocol):
    """Reads parked changes."""

    async def read(self, entry: Entry) -> Change:
        """Return an entry's change; raises `ChangeGone`, or `LogUnavailable`."""


class GiveUp(Protocol):
    """Does what is to be done with a change that is given up; returns when that is durable."""

    async def __call__(
        self, entry: Entry, change: Change | None, reason: Reason, error: BaseException
    ) -> None:
        """Give up."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What the shards of a trigger share.

    Attributes:
        name: the trigger's name, for the log.
        options: how it wants its changes.
        invoke: calls its function.
        store: keeps what is parked.
        owner: whose rows there, without the shard.
        changes: reads what is parked.
        give_up: takes what is given up.
        fail: told what a shard stands still for: a mistake of the runtime itself, or that another
            worker has taken the shard over.
        clock: tells the time.
        jitter: a random number from 0 to 1 each time.
    """

    name: str
    options: TriggerOptions
    invoke: Invoke
    store: StateStore
    owner: str
    changes: Changes
    give_up: GiveUp
    fail: Callable[[BaseException], None]
    clock: Clock
    jitter: Callable[[], float]

    def ahead_ms(self) -> int:
        """Return what the clock since 1970 shows more than the runtime's."""
        return self.clock.wall_ms() - self.clock.now_ms()
