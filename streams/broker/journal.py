"""Small durable facts: topics, producers' epochs, committed offsets.

An append-only file of JSON records, each with its checksum. What it says is kept in memory by its
owner, who can also say it all over again, so that the file is rewritten when most of it is stale.
A record is atomic: after a crash it is there as a whole or not at all.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import orjson

from streamtable.streams.broker import disk
from streamtable.streams.broker.errors import DamagedSegment

__all__ = ["Journal"]

logger = logging.getLogger(__name__)

_CHECKSUM_CHARACTERS: Final = 8
_REWRITE_BYTES: Final = 1 << 20


class Journal:
    """One file of records.

    `write` puts a record into the page cache: it survives the end of this process, not that of the
    machine. `sync` waits until all that was written before is on the device.

    Args:
        path: the file.
        threads: what waits for the disk.
        apply: called with each record that is read back, in order.
        snapshot: returns records that say everything that is true now.
    """

    def __init__(
        self,
        path: Path,
        threads: disk.Disk,
        apply: Callable[[Any], None],
        snapshot: Callable[[], Iterable[Any]],
    ) -> None:
        self.path = path
        self._disk = threads
        self._apply = apply
        self._snapshot = snapshot
        self._fd = -1
        self._size = 0
        self._fresh_size = 0
        self._unsynced = False
        self._syncing = asyncio.Lock()
        self._since: list[bytes] | None = None

    def load(self) -> None:
        """Read the records back and rewrite the file. Blocking: call it from a thread.

        Raises:
            DamagedSegment: a record in the middle is not what was written.
            OSError: the file can't be read or written.
        """
        data = self.path.read_bytes() if self.path.exists() else b""
        at = 0
        while at < len(data):
            end = data.find(b"\n", at)
            record = _decode(data[at:end]) if end >= 0 else None
            if record is None:
                if any(_decode(line) is not None for line in data[at:].split(b"\n")[1:]):
                    raise DamagedSegment(self.path, at, "a record's checksum does not match")
                logger.warning("%s ended in an unfinished record, cut off at %d", self.path, at)
                break
            self._apply(record[0])
            at = end + 1
        fresh, size = self._write_fresh(self._encoded())
        self._put_in_place(fresh, size)
        disk.sync_folder(self.path.parent)

    def write(self, record: Any) -> None:
        """Append a record; on an error nothing of it stays.

        Raises:
            OSError: it could not be written.
        """
        data = _encode(record)
        try:
            disk.write_all(self._fd, data, self._size)
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)
        self._unsynced = True
        if self._since is not None:
            self._since.append(data)

    async def sync(self) -> None:
        """Wait until everything written so far is on the device.

        Raises:
            OSError: it may not be.
        """
        async with self._syncing:
            if not self._unsynced:
                return
            self._unsynced = False
            fd = os.dup(self._fd)
            try:
                await self._disk.run(partial(disk.sync_file, fd))
            except OSError:
                self._unsynced = True
                raise
            finally:
                os.close(fd)

    async def rewrite(self) -> None:
        """Replace the file by one without stale records, if most of it is stale.

        Writes go on meanwhile. The old file stays if this fails.
        """
        if self._size < 4 * self._fresh_size + _REWRITE_BYTES or self._since is not None:
            return
        self._since = []
        try:
            fresh, size = await self._disk.run(partial(self._write_fresh, self._encoded()))
            late = b"".join(self._since)
            disk.write_all(fresh, late, size)
            self._put_in_place(fresh, size + len(late))
            self._unsynced = bool(late)
            await self._disk.run(partial(disk.sync_folder, self.path.parent))
        except OSError as error:
            logger.warning("%s could not be rewritten: %s", self.path, error)
            self._fresh_size = self._size
        finally:
            self._since = None

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _encoded(self) -> bytes:
        return b"".join(map(_encode, self._snapshot()))

    def _write_fresh(self, data: bytes) -> tuple[int, int]:
        """Write a new file beside the old one, synced; returns its descriptor and size."""
        fresh = os.open(self._fresh_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            disk.write_all(fresh, data, 0)
            disk.sync_file(fresh)
        except OSError:
            os.close(fresh)
            raise
        return fresh, len(data)

    def _put_in_place(self, fresh: int, size: int) -> None:
        self._fresh_path.replace(self.path)
        self.close()
        self._fd = fresh
        self._size = self._fresh_size = size

    @property
    def _fresh_path(self) -> Path:
        return self.path.with_suffix(".new")


def _encode(record: Any) -> bytes:
    body = orjson.dumps(record)
    return b"%08x %s\n" % (crc32(body), body)


def _decode(line: bytes) -> tuple[Any] | None:
    """Return the record in a tuple, or None if the line is not one."""
    checksum, _, body = line.partition(b" ")
    if len(checksum) != _CHECKSUM_CHARACTERS or checksum != b"%08x" % crc32(body):
        return None
    return (orjson.loads(body),)
