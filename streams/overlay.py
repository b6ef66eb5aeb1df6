"""Writes that are in the log, or on their way to it, but not in the shard's state yet.

The owner evaluates a write on the newest image, in flight or not; a read sees only images that
are durable. The overlay holds both for each row, from the moment a write joins a commit until
the state has applied that commit.
"""

from collections import deque
from collections.abc import Iterable, Iterator

from streamtable.core.images import Image
from streamtable.core.index_rows import IndexRow
from streamtable.streams.commit import Commit, Row

__all__ = ["IndexOverlay", "Overlay", "Slot", "merge"]


class Slot:
    """What the overlay knows of one row.

    Attributes:
        durable: the image a read may see.
        latest: the image the next write is evaluated on; not durable yet while `in_flight`.
        in_flight: how many changes to the row are not durable yet.
        commit: the commit that `latest` is in, if it is in flight.
        offset: offset of the commit that `durable` came with, -1 if it came from the state.
    """

    __slots__ = ("commit", "durable", "in_flight", "latest", "offset")

    def __init__(self, durable: Image | None) -> None:
        self.durable = durable
        self.latest = durable
        self.in_flight = 0
        self.offset = -1
        self.commit: Commit | None = None


class Overlay:
    """The slots of one shard, and the commits that its state lacks."""

    def __init__(self) -> None:
        self._slots: dict[bytes, Slot] = {}
        self._commits: dict[int, Commit] = {}
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._slots)

    def slot(self, row_key: bytes) -> Slot | None:
        """The row's slot, None where the state has its newest image."""
        return self._slots.get(row_key)

    def open_slot(self, row_key: bytes, durable: Image | None) -> Slot:
        """Add a slot for a row whose newest image in the state is `durable`."""
        slot = self._slots[row_key] = Slot(durable)
        return slot

    def commit(self, offset: int) -> Commit | None:
        """The commit at `offset`, None if this node did not write it or the state has it."""
        return self._commits.get(offset)

    def made_durable(self, offset: int, commit: Commit) -> None:
        """The commit is in the log at `offset`: reads see it from now on."""
        slots = self._slots
        for row_key, image in commit.rows:
            slot = slots[row_key]
            slot.durable = image
            slot.offset = offset
            slot.in_flight -= 1
        self._commits[offset] = commit
        self.size_bytes += commit.size_bytes

    def applied(self, offset: int) -> None:
        """The state has applied the commit at `offset`: let go of what it holds now."""
        commit = self._commits.pop(offset, None)
        if commit is None:
            return
        slots = self._slots
        self.size_bytes -= commit.size_bytes
        for row_key, _ in commit.rows:
            slot = slots.get(row_key)
            if slot is not None and not slot.in_flight and slot.offset <= offset:
                del slots[row_key]

    def clear(self) -> None:
        """Forget everything: the state has applied the log to its end."""
        self._slots.clear()
        self._commits.clear()
        self.size_bytes = 0

    def between(self, start: bytes, end: bytes) -> list[Row]:
        """The durable rows with `start <= row key < end`, in order; removed ones as None."""
        found = [
            (row_key, slot.durable)
            for row_key, slot in self._slots.items()
            if start <= row_key < end
        ]
        found.sort(key=_row_key)
        return found


class IndexOverlay:
    """Rows of global indexes on one shard that follow from durable commits of any shard.

    The commit's own shard shows them here when it is acknowledged, if both are on one node; the
    state has them when it has applied the index's log that far.
    """

    def __init__(self) -> None:
        self._rows: dict[bytes, tuple[Image | None, int, int]] = {}
        self._shown: dict[int, deque[tuple[int, bytes]]] = {}

    def show(self, source: int, offset: int, row: IndexRow) -> None:
        """Let reads see a row of the commit at `offset` of shard `source`."""
        self._rows[row.row_key] = (row.image, source, offset)
        self._shown.setdefault(source, deque()).append((offset, row.row_key))

    def applied(self, source: int, offset: int) -> None:
        """The state has all rows of shard `source` through `offset`."""
        shown = self._shown.get(source)
        while shown and shown[0][0] <= offset:
            _, row_key = shown.popleft()
            row = self._rows.get(row_key)
            if row is not None and row[1] == source and row[2] <= offset:
                del self._rows[row_key]

    def between(self, start: bytes, end: bytes) -> list[Row]:
        """The rows with `start <= row key < end`, in order; removed ones as None."""
        found = [(row_key, row[0]) for row_key, row in self._rows.items() if start <= row_key < end]
        found.sort(key=_row_key)
        return found


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


def _row_key(row: Row) -> bytes:
    return row[0]
