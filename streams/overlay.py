"""Writes that are in the log, or on their way to it, but not in the shard's state yet.

The owner evaluates a write on the newest image, in flight or not; a read sees only images that
are durable. The overlay holds both for each row, from the moment a write joins a commit until
the state has applied that commit.
"""

from collections.abc import Iterable, Iterator

from streamtable.core.images import Image

__all__ = ["Overlay", "Row", "Slot"]

Row = tuple[bytes, Image | None]


class Slot:
    """What the overlay knows of one row.

    Attributes:
        durable: the image a read may see.
        latest: the image the next write is evaluated on; another object than `durable` while
            a commit with it is in flight.
        in_flight: how many changes to the row are not durable yet.
        offset: offset of the commit that `durable` came with, -1 if it came from the state.
        settled: resolves the writers' question whether `latest` became durable.
    """

    __slots__ = ("commit", "durable", "in_flight", "latest", "offset")

    def __init__(self, durable: Image | None) -> None:
        self.durable = durable
        self.latest = durable
        self.in_flight = 0
        self.offset = -1
        self.commit: object | None = None


class Overlay:
    """The slots of one shard, and the rows of its commits that the state lacks."""

    def __init__(self) -> None:
        self._slots: dict[bytes, Slot] = {}
        self._rows: dict[int, list[Row]] = {}
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

    def rows(self, offset: int) -> list[Row] | None:
        """The rows of the commit at `offset`, None if the overlay has not seen it."""
        return self._rows.get(offset)

    def made_durable(self, offset: int, rows: list[Row]) -> None:
        """The commit with `rows` is in the log at `offset`: reads see it from now on."""
        slots = self._slots
        for row_key, image in rows:
            slot = slots[row_key]
            slot.durable = image
            slot.offset = offset
            slot.in_flight -= 1
            if image is not None:
                self.size_bytes += image.size_bytes
        self._rows[offset] = rows

    def applied(self, offset: int) -> None:
        """The state has applied the commit at `offset`: let go of what it holds now."""
        slots = self._slots
        for row_key, image in self._rows.pop(offset, ()):
            if image is not None:
                self.size_bytes -= image.size_bytes
            slot = slots.get(row_key)
            if slot is not None and not slot.in_flight and slot.offset <= offset:
                del slots[row_key]

    def clear(self) -> None:
        """Forget everything: the state has applied the log to its end."""
        self._slots.clear()
        self._rows.clear()
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
