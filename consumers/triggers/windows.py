"""The tumbling windows of one shard, and what was counted in them."""

from collections.abc import Iterable
from typing import Any, Final

from streamtable.consumers.triggers.deliveries import Window
from streamtable.core.positions import Position

__all__ = ["WINDOW", "Windows"]

WINDOW: Final = "window"
"""The id of a shard's window in the state store."""

Place = tuple[int, int]


class Windows:
    """One shard's windows: at most one is open.

    State and the place in the log that it counts up to are kept in one row, so that a change
    that comes again after a crash is not counted twice.

    Attributes:
        start_ms: begin of the window that is open; None if none is.
        state: its state.
    """

    def __init__(self, shard: int, length_ms: int) -> None:
        self.start_ms: int | None = None
        self.state: dict[str, Any] = {}
        self._shard = shard
        self._length_ms = length_ms
        self._through: Place = (-1, -1)
        self._missing: frozenset[Place] = frozenset()

    def load(self, row: dict[str, Any] | None) -> None:
        """Take over what `row` made."""
        if row is not None:
            self.start_ms = row["start_ms"]
            self.state = row["state"]
            self._through = (row["through"][0], row["through"][1])
            self._missing = frozenset((each[0], each[1]) for each in row["missing"])

    def row(self, handled: Iterable[Position], pending: Iterable[Position]) -> dict[str, Any]:
        """Return what is to be stored after a call.

        Args:
            handled: what is counted now.
            pending: what is in memory and not counted.
        """
        handled_places = [(each.offset, each.index) for each in handled]
        self._through = max([self._through, *handled_places])
        waiting = ((each.offset, each.index) for each in pending)
        self._missing = frozenset(place for place in waiting if place < self._through)
        return {
            "start_ms": self.start_ms,
            "state": self.state,
            "through": list(self._through),
            "missing": sorted(list(place) for place in self._missing),
        }

    def has(self, position: Position) -> bool:
        """Say whether a change is counted already."""
        place = (position.offset, position.index)
        return place <= self._through and place not in self._missing

    def start_of(self, created_ms: int) -> int:
        """Return the begin of the window that a change belongs to.

        One that is late by less than a window counts in the one that is open: the clocks of two
        owners of a shard are not the same.
        """
        start = created_ms - created_ms % self._length_ms
        if self.start_ms is not None and self.start_ms - self._length_ms <= start < self.start_ms:
            return self.start_ms
        return start

    @property
    def end_ms(self) -> int | None:
        """The end of the window that is open."""
        return None if self.start_ms is None else self.start_ms + self._length_ms

    def open(self, start_ms: int) -> None:
        """Begin a window."""
        self.start_ms = start_ms
        self.state = {}

    def close(self) -> None:
        """End the window that is open."""
        self.start_ms = None
        self.state = {}

    def window(self, *, final: bool = False) -> Window:
        """Return the open window as a function gets it."""
        assert self.start_ms is not None
        end_ms = self.start_ms + self._length_ms
        return Window(self._shard, self.start_ms, end_ms, self.state, final)
