"""One file of a partition's log: record batches as received, one behind the other.

The file's name is the offset of its first record. A sparse index in memory finds a batch by offset
or by time; it is rebuilt at start, when every batch's checksum is verified.

The file that is appended to is longer than its batches: zeros are written in advance. A sync of
bytes that lie within the file costs two thirds of one that makes the file grow, since nothing but
the data has to reach the device. They are cut off when the log leaves the file; after a crash they
are found behind the last batch, and mean nothing.
"""

import contextlib
import errno
import logging
import os
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Final

from streamtable.streams.broker import batches, disk
from streamtable.streams.broker.batches import HEADER_BYTES, Batch, InvalidBatch
from streamtable.streams.broker.codes import Code
from streamtable.streams.broker.errors import DamagedSegment

__all__ = ["Segment"]

logger = logging.getLogger(__name__)

_SUFFIX: Final = ".log"
_INDEX_INTERVAL_BYTES: Final = 16 << 10
_SCAN_BYTES: Final = 8 << 20
_RESERVE_BYTES: Final = 16 << 10, 256 << 10
_ZEROS: Final = memoryview(bytes(_RESERVE_BYTES[1]))
_NO_TIME: Final = -1
_NO_WAIT: Final[int | None] = getattr(os, "RWF_NOWAIT", None)
_CANNOT_TELL: Final = {errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class Segment:
    """One segment file.

    Attributes:
        path: the file.
        base_offset: the offset of its first record.
        size: how many bytes of it are batches; written, not necessarily synced.
        max_timestamp: the newest time in it by the producers' clocks, in ms; -1 if there is none.
        begun_ms: when it was begun, by this machine's clock.
        written_ms: when it was last written.
        sealed: whether the log has left it; its file is then open only while it is read.
    """

    def __init__(self, folder: Path, base_offset: int) -> None:
        self.path = folder / f"{base_offset:020}{_SUFFIX}"
        self.base_offset = base_offset
        self.size = 0
        self.max_timestamp = _NO_TIME
        self.begun_ms = self.written_ms = time.time() * 1000
        self.sealed = False
        self._fd: int | None = None
        self._users = 0
        self._reserved = 0
        self._offsets = array("q")
        self._positions = array("q")
        self._times = array("q")
        self._indexed_to = -_INDEX_INTERVAL_BYTES

    @classmethod
    def all_in(cls, folder: Path) -> list["Segment"]:
        """Return the segments of a folder in order, not read yet."""
        names = sorted(path.stem for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdigit())
        return [cls(folder, int(name)) for name in names]

    def open(self) -> int:
        """Open the file, made if it is not there, and return its descriptor."""
        if self._fd is None:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        return self._fd

    def seal(self) -> None:
        """Note that the log goes on elsewhere: the file is closed when nobody reads it."""
        self.sealed = True
        if self._reserved > self.size and self._fd is not None:
            with contextlib.suppress(OSError):  # it only takes room
                self.cut()
        self._close_if_idle()

    def acquire(self) -> int:
        """Keep the file open until `release`; returns its descriptor."""
        fd = self.open()
        self._users += 1
        return fd

    def release(self) -> None:
        """End an `acquire`."""
        self._users -= 1
        self._close_if_idle()

    def unlink(self) -> None:
        """Delete the file; whoever reads it now still can."""
        self.path.unlink(missing_ok=True)

    def _close_if_idle(self) -> None:
        if self.sealed and not self._users and self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def append(self, data: bytes, batch: Batch, base_offset: int) -> None:
        """Write one batch behind the last one, into the page cache.

        Raises:
            OSError: nothing was appended, but bytes behind `size` may have been written; `cut`
                removes them.
        """
        fd = self.open()
        if self.size + len(data) > self._reserved:
            self._reserve(fd, len(data))
        disk.write_all(fd, data, self.size)
        self._note(batch, base_offset)

    def _reserve(self, fd: int, needed: int) -> None:
        """Write zeros where the next batches will stand: as much as there is, within limits.

        A batch that would use most of them up goes without, and so do those for which the disk has
        no room.
        """
        least, most = _RESERVE_BYTES
        room = max(least, min(self.size, most))
        if needed > room // 4:
            return
        try:
            disk.write_all(fd, _ZEROS[:room], self.size)
            self._reserved = self.size + room
        except OSError:
            self.cut()

    def cut(self) -> None:
        """Remove what is behind the last batch: of a failed write, or reserved.

        Raises:
            OSError: it is still there.
        """
        os.ftruncate(self.open(), self.size)
        self._reserved = self.size

    def forget(self, size: int, max_timestamp: int) -> None:
        """Take the batches behind `size` out of the segment; `cut` takes them out of the file."""
        self.size = size
        self.max_timestamp = max_timestamp
        while self._positions and self._positions[-1] >= size:
            del self._offsets[-1], self._positions[-1], self._times[-1]
        self._indexed_to = self._positions[-1] if self._positions else -_INDEX_INTERVAL_BYTES

    def load(self, *, last: bool, found: Callable[[Batch], None]) -> int:
        """Read the whole file, build the index and return the offset after the last record.

        What was reserved is cut off, and so is a torn tail of the last segment.

        Args:
            last: whether this is the partition's newest segment.
            found: called with each batch, in order.

        Raises:
            DamagedSegment: bytes in front of valid batches are not what was stored.
        """
        status = os.fstat(self.open())
        file_size = status.st_size
        self.begun_ms = self.written_ms = status.st_mtime * 1000
        next_offset = self.base_offset
        at, chunk, start = 0, b"", 0
        while at < file_size:
            chunk, start = self._window(chunk, start, at, file_size)
            try:
                batch = batches.parse(chunk, at - start, len(chunk))
                if batch.base_offset != next_offset:
                    raise InvalidBatch(  # noqa: TRY301 - handled as any other invalid batch
                        Code.CORRUPT_MESSAGE,
                        f"offset {batch.base_offset} where {next_offset} is next",
                    )
            except InvalidBatch as error:
                self._stop_at(at, file_size, next_offset, str(error), last=last)
                break
            self._note(batch, batch.base_offset)
            found(batch)
            next_offset = batch.base_offset + batch.last_delta + 1
            at += batch.size
        return next_offset

    def _window(self, chunk: bytes, start: int, at: int, file_size: int) -> tuple[bytes, int]:
        """Return bytes of the file, and where they start, that hold the batch at `at` whole."""
        while True:
            here = at - start
            wanted = HEADER_BYTES
            if len(chunk) - here >= HEADER_BYTES:
                wanted = max(wanted, batches.size_at(chunk, here))
            if here + wanted <= len(chunk) or start + len(chunk) >= file_size:
                return chunk, start
            chunk = os.pread(self.open(), max(_SCAN_BYTES, wanted), at)
            start = at

    def _stop_at(
        self, at: int, file_size: int, next_offset: int, reason: str, *, last: bool
    ) -> None:
        """Cut a torn tail off, or refuse a damaged middle."""
        fd = self.open()
        rest = os.pread(fd, file_size - at, at)
        torn = rest.rstrip(b"\0")
        if not torn:
            os.ftruncate(fd, at)
            return
        follows = batches.resume_point(rest, 0, next_offset)
        if follows is not None or not last:
            raise DamagedSegment(self.path, at, reason)
        os.ftruncate(fd, at)
        logger.warning(
            "%s ended in %d bytes of an unfinished batch (%s); they were never acknowledged and "
            "are cut off at %d",
            self.path,
            len(torn),
            reason,
            at,
        )

    def read(self, offset: int, max_bytes: int, end: int, *, wait: bool) -> bytes:
        """Read whole batches from the one that holds `offset` on.

        The first batch is returned whatever its size; no further one passes `max_bytes`.

        Args:
            offset: where to begin.
            max_bytes: how much is wanted.
            end: the position in the file to stop at, a batch's boundary.
            wait: whether the device may be waited for. Call it from a thread then.

        Raises:
            BlockingIOError: the bytes are not in the page cache, and `wait` is false.
        """
        start = self._floor(offset)
        reach = min(end, max(start + max_bytes, start + _INDEX_INTERVAL_BYTES))
        data = self._pread(start, reach - start, wait=wait)
        first = None
        stop = 0
        for at, size, last_offset in batches.spans(data):
            if first is None:
                if last_offset < offset:
                    continue
                first = at
                stop = at + size
                indexed = self._boundary(start + first + max_bytes) - start
                if stop < indexed <= len(data):
                    stop = indexed
                    break
            elif at + size - first > max_bytes:
                break
            else:
                stop = at + size
        if first is not None:
            return data[first:stop]
        return self._read_large(offset, start, end, data, wait=wait)

    def _read_large(self, offset: int, start: int, end: int, data: bytes, *, wait: bool) -> bytes:
        """Read the one batch that holds `offset`, larger than what was read so far."""
        at = start
        for begin, size, _ in batches.spans(data):
            at = start + begin + size
        while at + HEADER_BYTES <= end:
            header = self._pread(at, HEADER_BYTES, wait=wait)
            size = batches.size_at(header, 0)
            last_offset = int.from_bytes(header[:8], "big") + int.from_bytes(header[23:27], "big")
            if last_offset >= offset:
                return self._pread(at, size, wait=wait)
            at += size
        return b""

    @property
    def newest_ms(self) -> float:
        """The newest time in it; where its records have none, when it was last written."""
        return self.max_timestamp if self.max_timestamp >= 0 else self.written_ms

    def find_time(self, timestamp: int, end: int, start: int) -> tuple[int, int] | None:
        """Return (offset, timestamp) of the first record from `start` on not older than a time.

        Reads the file: call it from a thread.
        """
        if self.max_timestamp < timestamp:
            return None
        entry = bisect_right(self._times, timestamp - 1) - 1
        at = self._positions[entry] if entry >= 0 else 0
        while at + HEADER_BYTES <= end:
            header = self._pread(at, HEADER_BYTES, wait=True)
            size = batches.size_at(header, 0)
            if int.from_bytes(header[35:43], "big", signed=True) >= timestamp:
                data = self._pread(at, size, wait=True)
                found = batches.first_at_or_after(data, timestamp, start)
                if found is not None:
                    return found
            at += size
        return None

    def _note(self, batch: Batch, base_offset: int) -> None:
        """Count a batch that stands at the end, and index it if the last entry is far."""
        position = self.size
        if position - self._indexed_to >= _INDEX_INTERVAL_BYTES:
            self._offsets.append(base_offset)
            self._positions.append(position)
            self._times.append(self.max_timestamp)
            self._indexed_to = position
        self.max_timestamp = max(self.max_timestamp, batch.max_timestamp)
        self.size = position + batch.size

    def _floor(self, offset: int) -> int:
        """Return the position of an indexed batch at or before the one that holds `offset`."""
        entry = bisect_right(self._offsets, offset) - 1
        return self._positions[entry] if entry >= 0 else 0

    def _boundary(self, position: int) -> int:
        """Return the last indexed batch boundary at or before a position."""
        entry = bisect_right(self._positions, position) - 1
        return self._positions[entry] if entry >= 0 else 0

    def _pread(self, position: int, size: int, *, wait: bool) -> bytes:
        fd = self.open()
        if wait:
            return os.pread(fd, size, position)
        if _NO_WAIT is None:
            raise BlockingIOError
        data = bytearray(size)
        try:
            read = os.preadv(fd, [data], position, _NO_WAIT)
        except OSError as error:
            if error.errno in _CANNOT_TELL:
                raise BlockingIOError from error
            raise
        if read < size:
            raise BlockingIOError
        return bytes(data)
