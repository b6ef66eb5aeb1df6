"""How a trigger wants its changes."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from streamtable.consumers.triggers.deliveries import Delivery
from streamtable.core.changes import INSERT, MODIFY, REMOVE, Change

__all__ = ["MAX_AGE_S", "ChangeFilter", "OnFailure", "TriggerOptions"]

MAX_AGE_S: Final = 23 * 60 * 60.0
"""The oldest change that is tried again. The log keeps 24 hours: until then it can be read."""


class ChangeFilter(Protocol):
    """Says which changes a trigger wants."""

    def matches(self, change: Change) -> bool:
        """Whether the change is wanted."""


OnFailure: TypeAlias = (
    Literal["deadletter", "drop"] | Callable[[Delivery, BaseException], Awaitable[None]]
)
"""What becomes of a change that is given up: kept, forgotten, or a function is called with it.
Where that raises, the change is kept as a dead letter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerOptions:
    """How a trigger wants its changes.

    Attributes:
        table: name of the table.
        events: kinds of change, of INSERT, MODIFY and REMOVE.
        where: which of them, None for all.
        batch_size: the most changes of a call.
        batch_window_s: how long a call waits for its batch to be full.
        retries: how often a change is tried again; None for until it is too old.
        max_age_s: the age from which a change is not tried any more, counted from when it was
            made; never more than `MAX_AGE_S`. Up to that limit each is tried once, however old.
        parallelism: calls at a time for each shard.
        bisect: whether a batch that fails as a whole is taken apart to find the change that it
            fails on. Without it all changes of the batch have failed.
        tumbling_window_s: the length of windows; None for none. With windows one call at a time
            is made for a shard.
        on_failure: what becomes of a change that is given up.
    """

    table: str
    events: frozenset[str] = frozenset((INSERT, MODIFY, REMOVE))
    where: ChangeFilter | None = None
    batch_size: int = 1
    batch_window_s: float = 0.0
    retries: int | None = None
    max_age_s: float = MAX_AGE_S
    parallelism: int = 1
    bisect: bool = True
    tumbling_window_s: float | None = None
    on_failure: OnFailure = "deadletter"
