"""What passes between the runtime of triggers and the code that calls a function."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from streamtable.core.changes import Change
from streamtable.core.errors import StreamtableError
from streamtable.core.positions import Position

__all__ = [
    "Answer",
    "BatchItemFailed",
    "Delivery",
    "HandlerTimeout",
    "Invoke",
    "Rejected",
    "Window",
]


class HandlerTimeout(StreamtableError, TimeoutError):
    """A function did not return in time.

    Args:
        message: which function, and how long it was given.
        finished: done when it does not run any more. A thread can't be stopped: the items that
            it was called for wait for it, so that nothing of one item runs twice at a time. A
            function that was cancelled and has ended needs none.

    Attributes:
        finished: as given, or done.
    """

    def __init__(self, message: str, finished: "asyncio.Future[Any] | None" = None) -> None:
        super().__init__(message)
        if finished is None:
            finished = asyncio.get_running_loop().create_future()
            finished.set_result(None)
        self.finished = finished


class Rejected(StreamtableError, ValueError):
    """A change that fails however often it is tried: it is given up at once."""


class BatchItemFailed(StreamtableError):
    """A change that a function named in its answer, without saying why."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One change as it is given to a function.

    Attributes:
        change: the change.
        position: where it is in the log; the same each time it is delivered.
        attempts: which attempt this is, from 1. Calls for a batch that is only taken apart
            after a failure do not count.
    """

    change: Change
    position: Position
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Window:
    """A tumbling window of one shard, as it is given to a function.

    Attributes:
        shard: the shard; each has windows of its own.
        start_ms: its begin, milliseconds since 1970, by the changes' `created_ms`.
        end_ms: its end; a change of that millisecond is in the next one.
        state: what the function answered last in this window, empty at first.
        final: whether this is the last call, with no changes and the whole state.
    """

    shard: int
    start_ms: int
    end_ms: int
    state: dict[str, Any]
    final: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a batch. The plain `Answer()`: all of it is done.

    Attributes:
        failed: the changes that failed, by index in the batch, with why. The others are done,
            except later ones of the same items: they come again, after those.
        checkpoint: the index of a change that failed, where it and all after it come again
            (ReportBatchItemFailures on a stream).
        state: the window's new state; None leaves it.
    """

    failed: Mapping[int, BaseException] = field(default_factory=dict)
    checkpoint: int | None = None
    state: dict[str, Any] | None = None


Invoke: TypeAlias = Callable[[Sequence[Delivery], Window | None], Awaitable[Answer]]
"""Calls a function with a batch. What it raises is the whole batch's failure."""
