"""A commit under way: changes that become durable together, and who waits for them."""

import asyncio

from streamtable.core.changes import Change
from streamtable.core.errors import StreamtableError
from streamtable.core.images import Image
from streamtable.streams.overlay import Row

__all__ = ["Commit", "NotWritten"]


class NotWritten(StreamtableError):
    """The commit is not in the log and never will be: evaluate the write again."""


class Commit:
    """Changes that one append carries.

    Attributes:
        changes: the changes, in the order in which they were evaluated.
        rows: the rows they make, the last one of a key wins.
        size_bytes: size of the images in it.
    """

    __slots__ = ("_loop", "_waiters", "changes", "rows", "size_bytes")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.changes: list[Change] = []
        self.rows: list[Row] = []
        self.size_bytes = 0
        self._loop = loop
        self._waiters: list[asyncio.Future[int]] = []

    def add(self, change: Change, row_key: bytes) -> int:
        """Take a change in and return its index."""
        index = len(self.changes)
        self.changes.append(change)
        self.rows.append((row_key, change.new))
        self.size_bytes += _size(change.old) + _size(change.new)
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


def _size(image: Image | None) -> int:
    return 0 if image is None else image.size_bytes
