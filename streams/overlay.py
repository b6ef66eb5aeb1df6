"""Writes that are in the log, or on their way to it, but not in the shard's state yet.

The owner evaluates a write on the newest image, in flight or not; a read sees only images that
are durable. The overlay holds both for each row, from the moment a write joins a commit until
the state has applied that commit.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, Generic, TypeVar

from streamtable.core.images import Image
from streamtable.core.index_rows import IndexRow
from streamtable.core.keys import HASH_BYTES
from streamtable.core.tables import PREFIX_BYTES
from streamtable.streams.commit import Commit, Row, Slot

__all__ = ["IndexOverlay", "Overlay", "Slot", "merge"]

# Rows of one partition key share so many bytes: their prefix and the key's hash.
_PARTITION_BYTES: Final = PREFIX_BYTES + HASH_BYTES

T = TypeVar("T")


class _RowMap(Generic[T]):
    """Values by row key, and quickly those between two row keys of one partition key."""

    def __init__(self) -> None:
        self._values: dict[bytes, T] = {}
        # A partition has its row keys here; where it has one, which is usual, that itself.
        self._partitions: dict[bytes, bytes | set[bytes]] = {}
        self.get = self._values.get

    def __len__(self) -> int:
        return len(self._values)

    def put(self, row_key: bytes, value: T) -> None:
        self._values[row_key] = value
        partition = row_key[:_PARTITION_BYTES]
        rows = self._partitions.setdefault(partition, row_key)
        if isinstance(rows, set):
            rows.add(row_key)
        elif rows != row_key:
            self._partitions[partition] = {rows, row_key}

    def remove(self, row_key: bytes) -> None:
        del self._values[row_key]
        partition = row_key[:_PARTITION_BYTES]
        rows = self._partitions[partition]
        if isinstance(rows, set):
            rows.discard(row_key)
            if rows:
                return
        del self._partitions[partition]

    def clear(self) -> None:
        self._values.clear()
        self._partitions.clear()

    def between(self, start: bytes, end: bytes) -> list[tuple[bytes, T]]:
        """The values with `start <= row key < end`, in order."""
        partition = start[:_PARTITION_BYTES]
        keys: Iterable[bytes] = self._values
        if partition == end[:_PARTITION_BYTES]:
            rows = self._partitions.get(partition, ())
            keys = rows if not isinstance(rows, bytes) else (rows,)
        found = sorted(key for key in keys if start <= key < end)
        return [(key, self._values[key]) for key in found]


class Overlay:
    """The slots of one shard, and the commits that its state lacks.

    Attributes:
        slot: returns a row's slot by its key, None where the state has its newest image.
        size_bytes: size of the durable commits in it.
        removals: how many rows were removed, ever: while it stays, a row that was not there
            has not come and gone.
    """

    def __init__(self) -> None:
        self.removals = 0
        self._slots: _RowMap[Slot] = _RowMap()
        self.slot = self._slots.get
        self._commits: dict[int, Commit] = {}
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._slots)

    def open_slot(self, row_key: bytes, durable: Image | None) -> Slot:
        """Add a slot for a row whose newest image in the state is `durable`."""
        slot = Slot(durable)
        self._slots.put(row_key, slot)
        return slot

    def commit(self, offset: int) -> Commit | None:
        """The commit at `offset`, None if this node did not write it or the state has it."""
        return self._commits.get(offset)

    def show(self, commit: Commit, first: int) -> None:
        """Let reads see rows of a commit that is not in the log yet, from number `first` on.

        For what other records make certain. Nothing else of these rows may be in flight.
        """
        for slot, (_, image) in zip(commit.slots[first:], commit.rows[first:], strict=True):
            slot.durable = image
            if image is None:
                self.removals += 1

    def made_durable(self, offset: int, commit: Commit) -> None:
        """The commit is in the log at `offset`: reads see it from now on."""
        for slot, (_, image) in zip(commit.slots, commit.rows, strict=True):
            slot.durable = image
            slot.offset = offset
            slot.in_flight -= 1
            if image is None:
                self.removals += 1
        for image in commit.parsed:
            image.forget_item()
        self._commits[offset] = commit
        self.size_bytes += commit.size_bytes

    def applied(self, offset: int) -> None:
        """The state has applied the commit at `offset`: let go of what it holds now."""
        commit = self._commits.pop(offset, None)
        if commit is None:
            return
        self.size_bytes -= commit.size_bytes
        for slot, (row_key, _) in zip(commit.slots, commit.rows, strict=True):
            if not slot.in_flight and slot.offset <= offset and not slot.gone:
                slot.gone = True
                self._slots.remove(row_key)
        # They refer to the commit: together they would wait for the garbage collector.
        commit.slots.clear()

    def clear(self) -> None:
        """Forget everything: the state has applied the log to its end."""
        self._slots.clear()
        self._commits.clear()
        self.size_bytes = 0

    def between(self, start: bytes, end: bytes) -> list[Row]:
        """The durable rows with `start <= row key < end`, in order; removed ones as None."""
        if not self._slots:
            return []
        return [(row_key, slot.durable) for row_key, slot in self._slots.between(start, end)]

    def latest_between(self, start: bytes, end: bytes) -> list[Row]:
        """As `between`, but the images that the next write is evaluated on, durable or not."""
        return [(row_key, slot.latest) for row_key, slot in self._slots.between(start, end)]


class IndexOverlay:
    """Rows of global indexes on one shard that follow from durable commits of any shard.

    The commit's own shard shows them here when it is acknowledged, if both are on one node; the
    state has them when it has applied the index's log that far.
    """

    def __init__(self) -> None:
        self._rows: _RowMap[tuple[Image | None, int, int]] = _RowMap()
        self._shown: dict[int, deque[tuple[int, bytes]]] = {}

    def show(self, source: int, offset: int, row: IndexRow) -> None:
        """Let reads see a row of the commit at `offset` of shard `source`."""
        self._rows.put(row.row_key, (row.image, source, offset))
        self._shown.setdefault(source, deque()).append((offset, row.row_key))

    def applied(self, source: int, offset: int) -> None:
        """The state has all rows of shard `source` through `offset`."""
        shown = self._shown.get(source)
        while shown and shown[0][0] <= offset:
            _, row_key = shown.popleft()
            row = self._rows.get(row_key)
            if row is not None and row[1] == source and row[2] <= offset:
                self._rows.remove(row_key)

    def between(self, start: bytes, end: bytes) -> list[Row]:
        """The rows with `start <= row key < end`, in order; removed ones as None."""
        return [(row_key, row[0]) for row_key, row in self._rows.between(start, end)]


def merge(
    stored: Iterator[tuple[bytes, Image]], overlaid: Iterable[Row], *, reverse: bool
) -> Iterator[tuple[bytes, Image]]:
    """Lay the overlay's rows over the state's, both in the order asked for.

    Args:
        stored: the state's rows.
        overlaid: the overlay's rows; one with the key of a stored row replaces it, None hides it.
        reverse: whether both run from the highest key down.
    """
    pending = iter(overlaid)
    over = next(pending, None)
    for row_key, image in stored:
        while over is not None and (over[0] > row_key if reverse else over[0] < row_key):
            if over[1] is not None:
                yield over[0], over[1]
            over = next(pending, None)
        if over is not None and over[0] == row_key:
            if over[1] is not None:
                yield row_key, over[1]
            over = next(pending, None)
        else:
            yield row_key, image
    while over is not None:
        if over[1] is not None:
            yield over[0], over[1]
        over = next(pending, None)
