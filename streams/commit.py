"""A commit under way: changes that become durable together, and who waits for them."""

import asyncio
from typing import Any

from streamtable.core.changes import Change
from streamtable.core.errors import StreamtableError
from streamtable.core.images import Image
from streamtable.core.index_rows import IndexRow

__all__ = ["Commit", "NotWritten", "Row"]

Row = tuple[bytes, Image | None]


class NotWritten(StreamtableError):
    """The commit is not in the log and never will be: evaluate the write again."""


class Commit:
    """What one append carries.

    Attributes:
        changes: the changes, in the order in which they were evaluated.
        rows: the rows of this shard that they make, of items and of local indexes; the last one
            of a key wins.
        index_rows: the rows of global indexes that they make, wherever those are.
        entries: what it notes about transactions.
        size_bytes: size of the images in it.
    """

    __slots__ = ("_loop", "_waiters", "changes", "entries", "index_rows", "rows", "size_bytes")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.changes: list[Change] = []
        self.rows: list[Row] = []
        self.index_rows: list[IndexRow] = []
        self.entries: list[dict[str, Any]] = []
        self.size_bytes = 0
        self._loop = loop
        self._waiters: list[asyncio.Future[int]] = []

    def add(self, change: Change) -> int:
        """Take a change in and return its index."""
        index = len(self.changes)
        self.changes.append(change)
        old, new = change.old, change.new
        if old is not None:
            self.size_bytes += old.size_bytes
        if new is not None:
            self.size_bytes += new.size_bytes
        return index

    def outcome(self) -> asyncio.Future[int]:
        """A future of the caller's own: the commit's offset when it is durable, or NotWritten."""
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        return waiter

    def written(self, offset: int) -> None:
        """Tell everyone who waits that the commit is durable at `offset`."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(offset)

    def not_written(self) -> None:
        """Tell everyone who waits that the commit is not in the log."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(NotWritten())
