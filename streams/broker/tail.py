"""The newest batches of a partition in memory, so that followers do not read files."""

from bisect import bisect_right
from typing import NamedTuple

__all__ = ["Found", "Tail"]


class Found(NamedTuple):
    """Whole batches of a partition, their size in bytes, and whether more may follow them."""

    batches: list[bytes]
    size: int
    more: bool


class Tail:
    """Contiguous batches up to the end of a log, synced or not, bounded in bytes."""

    def __init__(self) -> None:
        self._bases: list[int] = []
        self._batches: list[bytes] = []
        self._size = 0

    def holds(self, offset: int) -> bool:
        """Tell whether an offset of the log is in here."""
        return bool(self._bases) and offset >= self._bases[0]

    def add(self, base_offset: int, data: bytes, limit: int) -> None:
        """Add the newest batch; the oldest ones go where all of them pass `limit` bytes."""
        self._bases.append(base_offset)
        self._batches.append(data)
        self._size += len(data)
        if self._size <= limit:
            return
        gone = 0
        target = limit - limit // 4  # in gulps, so that deleting from the front stays cheap
        while gone < len(self._batches) and self._size > target:
            self._size -= len(self._batches[gone])
            gone += 1
        del self._batches[:gone], self._bases[:gone]

    def cut(self, end: int) -> None:
        """Forget the batches from an offset on: they were given up."""
        while self._bases and self._bases[-1] >= end:
            self._bases.pop()
            self._size -= len(self._batches.pop())

    def read(self, offset: int, max_bytes: int, high: int) -> Found:
        """Return the batches from the one that holds `offset` on, below the high watermark."""
        found: list[bytes] = []
        size = 0
        for number in range(bisect_right(self._bases, offset) - 1, len(self._bases)):
            if self._bases[number] >= high:
                break
            data = self._batches[number]
            size += len(data)
            if found and size > max_bytes:
                return Found(found, size - len(data), more=True)
            found.append(data)
        return Found(found, size, more=False)
