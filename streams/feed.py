"""Feeding a view: rows that follow from another shard's changes, each exactly once.

What feeds a view names the place in the source's log that its rows go through, and the one that
it believes was reached before. The shard notes the place in the commit that has the rows, so
after any crash, and against any rival that feeds the same view, rows are there exactly when the
place says so. Nothing is done unless both agree about the place before.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from streamtable.core.changes import Change
from streamtable.core.context import RequestContext
from streamtable.core.errors import StreamtableError
from streamtable.core.images import Image
from streamtable.core.tables import Table
from streamtable.core.values import Item, check_item_size, dump_item
from streamtable.streams.clock import HybridClock
from streamtable.streams.commit import Commit, NotWritten
from streamtable.streams.ledger import Fed, Place, view_entry
from streamtable.streams.overlay import merge
from streamtable.streams.owner import WAIT_S
from streamtable.streams.shard import Shard

__all__ = ["Batch", "LatestRows", "NotNext", "fed_through", "feed"]


class NotNext(StreamtableError):
    """The view is fed through another place than the batch says.

    Attributes:
        through: the place it is fed through, durably; None if it is not fed at all.
    """

    def __init__(self, through: Place | None) -> None:
        super().__init__(through)
        self.through = through


class _Row(NamedTuple):
    """A row that a batch writes or removes."""

    table: Table
    change: Change
    encoded: bytes


class LatestRows:
    """The newest rows of one shard, in flight or not, under what one batch is to write.

    A row's change is made, with its JSON, when the row is written: what it is made of is in the
    processor's caches then, and need not be kept. Nothing of it counts before the batch joins a
    commit.

    Args:
        shard: the shard.
        context: on whose behalf it is.
    """

    def __init__(self, shard: Shard, context: RequestContext) -> None:
        self._shard = shard
        self._context = context
        self._written: dict[bytes, _Row] = {}
        self._read: dict[bytes, Image | None] = {}

    def get(self, row_key: bytes) -> Item | None:
        """Return a row's item."""
        written = self._written.get(row_key)
        if written is None:
            image = self._read[row_key] = self._shard.latest(row_key)
        else:
            image = written.change.new
        return None if image is None else image.item

    def _before(self, row_key: bytes) -> Image | None:
        """Return a row as it was before the batch; most that are written were not read."""
        read = self._read
        return read[row_key] if row_key in read else self._shard.latest(row_key)

    def put(self, table: Table, key: Item, row_key: bytes, item: Item, size_bytes: int) -> None:
        """Write a row; one that stays as it is needs no change.

        Args:
            table: its table.
            key: its key attributes.
            row_key: its key in the state.
            item: all of it.
            size_bytes: the item's size.

        Raises:
            ValidationError: the item is too large.
        """
        check_item_size(size_bytes)
        shard, json = self._shard, dump_item(item)
        old = self._before(row_key)
        if old is not None and len(json) == len(old.json) and item == old.item:
            self._written.pop(row_key, None)
            return
        # Rows of an aggregate's groups are written again soon, and index rows are made of items.
        kept = item if old is not None or table.indexes else None
        self._write(table, key, row_key, old, shard.new_image(json, size_bytes, old, kept))

    def remove(self, table: Table, key: Item, row_key: bytes) -> None:
        """Remove a row, if there is one."""
        old = self._before(row_key)
        if old is None:
            self._written.pop(row_key, None)
        else:
            self._write(table, key, row_key, old, None)

    def _write(
        self, table: Table, key: Item, row_key: bytes, old: Image | None, new: Image | None
    ) -> None:
        change = self._shard.change_of(table, key, old, new, self._context)
        self._written[row_key] = _Row(table, change, change.encode())

    def scan(self, start: bytes, end: bytes, *, reverse: bool) -> Iterator[Item]:
        """Yield the items of the rows with `start <= row key < end`."""
        written = sorted(
            (row_key for row_key in self._written if start <= row_key < end), reverse=reverse
        )
        overlaid = [(row_key, self._written[row_key].change.new) for row_key in written]
        below = self._shard.scan_latest(start, end, reverse=reverse)
        for _, image in merge(below, overlaid, reverse=reverse):
            yield image.item

    def join(self, commit: Commit) -> None:
        """Put what is written and removed into a commit; nothing was awaited since.

        What follows from the commit is in the overlay then, and nothing is kept here.
        """
        for row_key, (table, change, encoded) in self._written.items():
            self._shard.join_prepared(commit, change, table, row_key, encoded)
        self._written.clear()
        self._read.clear()


class Batch(NamedTuple):
    """Rows of a view on one shard.

    Attributes:
        view: id of the view's table.
        source: number of the shard whose changes they follow from.
        after: the place in its log through which the view is fed here; None if it is not yet.
        through: the place through which it is fed with these rows.
        write: writes the rows; it may be called again, on other rows. What it raises is raised
            by `feed`, and nothing was done.
    """

    view: str
    source: int
    after: Place | None
    through: Place
    write: Callable[[LatestRows], None]


async def feed(shard: Shard, batch: Batch, context: RequestContext) -> int:
    """Carry out a batch, all of it or nothing; return its commit's offset when it is durable.

    Raises:
        NotNext: the view is fed through another place than `batch.after`; nothing was done.
        ApiError: a row can't be written; nothing was done.
        InternalServerError: the log does not answer; ask for the place before going on.
        ServiceUnavailable: the shard did not serve within the time limit; nothing was done.
    """
    deadline = time.monotonic() + WAIT_S
    ledger, owner = shard.ledger, shard.owner
    while True:
        if not owner.open:
            await owner.until_open(deadline)
        before = ledger.fed(batch.view, batch.source)
        if (None if before is None else before.through) != batch.after:
            raise NotNext(await fed_through(shard, batch.view, batch.source))
        rows = LatestRows(shard, context)
        batch.write(rows)
        # From here to the end of the loop nothing is awaited: the shard stays as it was seen.
        commit = owner.commit()
        now_ms = HybridClock.milliseconds(shard.clock.tick())
        commit.entries.append(view_entry(batch.view, batch.source, batch.through, now_ms))
        rows.join(commit)
        ledger.feed(batch.view, batch.source, Fed(batch.through, commit))
        try:
            offset = await commit.outcome()
        except NotWritten:
            continue
        fed = ledger.fed(batch.view, batch.source)
        if fed is not None and fed.commit is commit:
            # What it brought need not stay in memory for as long as nothing follows.
            ledger.feed(batch.view, batch.source, Fed(batch.through, None))
        return offset


async def fed_through(shard: Shard, view: str, source: int) -> Place | None:
    """The place through which a view is fed on a shard from another, durably.

    Raises:
        InternalServerError: the log does not answer.
        ServiceUnavailable: the shard did not serve within the time limit.
    """
    deadline = time.monotonic() + WAIT_S
    while True:
        if not shard.owner.open:
            await shard.owner.until_open(deadline)
        fed = shard.ledger.fed(view, source)
        if fed is None:
            return None
        try:
            if fed.commit is not None:
                await fed.commit.outcome()
        except NotWritten:
            continue
        return fed.through
