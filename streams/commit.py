"""A commit under way: changes that become durable together, and who waits for them."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from streamtable.core.changes import Change
from streamtable.core.errors import InternalServerError, ServiceUnavailable, StreamtableError
from streamtable.core.images import Image
from streamtable.core.index_rows import IndexRow

__all__ = ["Commit", "NotWritten", "Row", "Slot"]

Row = tuple[bytes, Image | None]

_CHANGE_BYTES: Final = 500
_MOST_TRACES: Final = 64


class NotWritten(StreamtableError):
    """The commit is not in the log and never will be: evaluate the write again."""


class Slot:
    """What the overlay knows of one row.

    Attributes:
        durable: the image a read may see.
        latest: the image the next write is evaluated on; not durable yet while `in_flight`.
        in_flight: how many changes to the row are not durable yet.
        commit: the commit that `latest` is in, if it is in flight.
        gone: whether the overlay has let go of it.
        offset: offset of the commit that `durable` came with, -1 if it came from the state.
    """

    __slots__ = ("commit", "durable", "gone", "in_flight", "latest", "offset")

    def __init__(self, durable: Image | None) -> None:
        self.durable = durable
        self.latest = durable
        self.in_flight = 0
        self.offset = -1
        self.commit: Commit | None = None
        self.gone = False


class Commit:
    """What one append carries.

    Attributes:
        changes: the changes, in the order in which they were evaluated.
        encoded: the same as the log has them, with commas between them, until they are sent. They
            are encoded one by one while what they are made of is in the processor's caches, into
            one piece of memory: many small ones would leave holes between what stays.
        tables: the names of their tables.
        rows: the rows of this shard that they make, of items and of local indexes; the last one
            of a key wins.
        slots: what the overlay knows of those rows, in the same order.
        parsed: the images among them whose parsed item is kept until they are durable.
        index_rows: the rows of global indexes that they make, wherever those are.
        entries: what it notes about transactions.
        size_bytes: size of the images in it, and what a change takes beside them, roughly.
        traces: what of its changes is traced, see `streams.traces`; None where nothing is.
    """

    __slots__ = (
        "_loop",
        "_outcome",
        "_settled",
        "_waiters",
        "changes",
        "encoded",
        "entries",
        "index_rows",
        "parsed",
        "rows",
        "size_bytes",
        "slots",
        "tables",
        "traces",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.changes: list[Change] = []
        self.encoded = bytearray()
        self.tables: dict[str, None] = {}
        self.rows: list[Row] = []
        self.slots: list[Slot] = []
        self.parsed: list[Image] = []
        self.index_rows: list[IndexRow] = []
        self.entries: list[dict[str, Any]] = []
        self.size_bytes = 0
        self.traces: list[str] | None = None
        self._loop = loop
        self._outcome: int | StreamtableError | None = None
        self._waiters: list[asyncio.Future[int]] = []
        self._settled: list[Callable[[int | StreamtableError], None]] = []

    def add(self, change: Change, encoded: bytes | None = None) -> int:
        """Take a change in, which may be encoded already, and return its index."""
        index = len(self.changes)
        self.changes.append(change)
        if index:
            self.encoded += b","
        self.encoded += change.encode() if encoded is None else encoded
        self.tables[change.table] = None
        self.size_bytes += _CHANGE_BYTES
        if change.trace is not None:
            self._follow_from(change.trace)
        old, new = change.old, change.new
        if old is not None:
            self.size_bytes += old.size_bytes
        if new is not None:
            self.size_bytes += new.size_bytes
        return index

    def _follow_from(self, trace: str) -> None:
        if self.traces is None:
            self.traces = []
        if trace not in self.traces and len(self.traces) < _MOST_TRACES:
            self.traces.append(trace)

    def lay(self, row_key: bytes, slot: Slot, image: Image | None) -> None:
        """Take in a row that a change makes, and let the next write of it see that."""
        slot.latest = image
        slot.in_flight += 1
        slot.commit = self
        self.rows.append((row_key, image))
        self.slots.append(slot)
        if image is not None and image.parsed:
            self.parsed.append(image)

    def outcome(self) -> asyncio.Future[int]:
        """A future of the caller's own: the commit's offset when it is durable.

        It raises NotWritten, ServiceUnavailable where the log takes no commits, or
        InternalServerError where nobody can say in time.
        """
        waiter = self._loop.create_future()
        if self._outcome is None:
            self._waiters.append(waiter)
        else:
            _tell(waiter, self._outcome)
        return waiter

    def when_settled(self, then: Callable[[int | StreamtableError], None]) -> None:
        """Have `then` called with the offset or the error, before those who wait go on."""
        assert self._outcome is None
        self._settled.append(then)

    def written(self, offset: int) -> None:
        """Tell everyone who waits that the commit is durable at `offset`."""
        self._settle(offset)

    def not_written(self) -> None:
        """Tell everyone who waits that the commit is not in the log."""
        self._settle(NotWritten())

    def refused(self) -> None:
        """Tell everyone who waits that the commit is not in the log, and not to wait for longer."""
        self._settle(ServiceUnavailable("The log takes no writes right now. Try again."))

    def unknown(self) -> None:
        """Tell everyone who waits that the log does not answer: the commit may be in it or not."""
        self._settle(
            InternalServerError("The outcome of the write is not known. Read the item, try again.")
        )

    def _settle(self, outcome: int | StreamtableError) -> None:
        self._outcome = outcome
        settled, self._settled = self._settled, []
        for then in settled:
            then(outcome)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            _tell(waiter, outcome)


def _tell(waiter: asyncio.Future[int], outcome: int | StreamtableError) -> None:
    if waiter.done():
        return
    if isinstance(outcome, int):
        waiter.set_result(outcome)
    else:
        waiter.set_exception(outcome)
