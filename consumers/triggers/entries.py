"""A change on its way through a trigger: in memory, or parked in the state store."""

from collections.abc import Callable
from typing import Any, Final

import orjson

from streamtable.core.changes import Change
from streamtable.core.positions import Position

__all__ = ["PARKED", "Entry", "Ticket", "parked_id", "redriven"]

PARKED: Final = "parked/"
"""What the ids of parked changes begin with in the state store."""


class Ticket:
    """A record of the log, and how many of its changes are not handled yet."""

    __slots__ = ("_done", "left")

    def __init__(self, left: int, done: Callable[[], None]) -> None:
        self.left = left
        self._done = done

    def punch(self) -> None:
        """Take note that one change is handled, or safe in the state store."""
        self.left -= 1
        if self.left == 0:
            self._done()


class Entry:
    """One change that is to be handled.

    Attributes:
        position: where it is in the log.
        keys: the item's key in wire form.
        key: the same as bytes, to find the item by.
        created_ms: from when its age counts, by the clock of who made the change.
        born_ms: the same by the runtime's clock, which nobody sets.
        change: what is delivered; None for a parked one that is not being tried.
        size: about its bytes in memory.
        ticket: its record, None once that needs no word from it.
        arrived_ms: when it came here.
        alone: whether it is called for by itself, as a batch with it took too long.
        attempts: how often it was tried and failed.
        next_ms: when it may be tried again.
        first_failed_ms: when it failed first, 0 before.
        error: its last error, as `letter_error` has it.
        letter: the partition and offset of the dead letter that has the change, where that is
            not in the log any more.
        saved: whether it is parked: its row is in the state store.
    """

    __slots__ = (
        "alone",
        "arrived_ms",
        "attempts",
        "born_ms",
        "change",
        "created_ms",
        "error",
        "first_failed_ms",
        "key",
        "keys",
        "letter",
        "next_ms",
        "position",
        "saved",
        "size",
        "ticket",
    )

    def __init__(
        self,
        position: Position,
        keys: dict[str, Any],
        created_ms: int,
        *,
        change: Change | None = None,
        size: int = 0,
        ticket: Ticket | None = None,
        arrived_ms: int = 0,
        born_ms: int = 0,
    ) -> None:
        self.position = position
        self.keys = keys
        self.key = orjson.dumps(keys)
        self.created_ms = created_ms
        self.change = change
        self.size = size
        self.ticket = ticket
        self.arrived_ms = arrived_ms
        self.born_ms = born_ms
        self.alone = False
        self.attempts = 0
        self.next_ms = 0
        self.first_failed_ms = 0
        self.error: dict[str, str] | None = None
        self.letter: tuple[int, int] | None = None
        self.saved = False

    @property
    def id(self) -> str:
        """The id of its row in the state store."""
        return parked_id(self.position)

    def row(self, ahead_ms: int) -> dict[str, Any]:
        """Return the row that it is parked as; it refers to the change and does not contain it.

        Args:
            ahead_ms: what the clock since 1970 shows more than the runtime's.
        """
        return {
            "position": self.position.to_json(),
            "keys": self.keys,
            "created_ms": self.created_ms,
            "attempts": self.attempts,
            "next_ms": self.next_ms + ahead_ms if self.next_ms else 0,
            "first_failed_ms": self.first_failed_ms,
            "error": self.error,
            "letter": None if self.letter is None else list(self.letter),
        }

    @classmethod
    def of_row(cls, row: dict[str, Any], ahead_ms: int) -> "Entry":
        """Return what a row was made of; `ahead_ms` is as for `row`."""
        entry = cls(Position(*row["position"]), row["keys"], row["created_ms"])
        entry.attempts = row["attempts"]
        entry.next_ms = row["next_ms"] - ahead_ms if row["next_ms"] else 0
        entry.first_failed_ms = row["first_failed_ms"]
        entry.error = row["error"]
        entry.letter = None if row["letter"] is None else (row["letter"][0], row["letter"][1])
        entry.saved = True
        return entry


def parked_id(position: Position) -> str:
    """Return the id of the row that a change is parked under: those of a shard in its order."""
    return f"{PARKED}{position.offset:020d}-{position.index:06d}"


def redriven(
    position: Position, keys: dict[str, Any], letter: tuple[int, int], now_ms: int
) -> tuple[str, dict[str, Any]]:
    """Return id and row that have a trigger handle a dead letter's change again.

    Args:
        position: the change's place in the log.
        keys: its item's.
        letter: partition and offset of the letter.
        now_ms: its age counts from now.
    """
    entry = Entry(position, keys, now_ms)
    entry.letter = letter
    return entry.id, entry.row(0)
