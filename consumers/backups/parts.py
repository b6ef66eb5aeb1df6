"""The parts of a backup as files: written and read a piece at a time, never whole in memory.

A part is what DynamoDB's own exports to S3 are made of: gzipped lines, `{"Item": {...}}` each.
"""

import gzip
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from streamtable.consumers.backups.manifests import Part
from streamtable.consumers.checkpoints.objects import sha256_of

__all__ = ["PartReader", "PartWriter"]

_BEFORE: Final = b'{"Item":'
_AFTER: Final = b"}\n"
_PIECE_BYTES: Final = 64 * 1024
# Nobody needs the file, but the log is on the same disk: its syncs would wait for all of it.
_SYNCED_BYTES: Final = 4 * 1024 * 1024
# What takes little time; most of what can be saved is saved by it.
_LEVEL: Final = 1


class PartWriter:
    """Writes one part; for threads.

    Args:
        path: where; the file must not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.items = 0
        self.raw_bytes = 0
        self._unsynced_bytes = 0
        self._file = path.open("xb")
        # Without a name and a time in it the same items are the same bytes.
        self._packed = gzip.GzipFile(
            filename="", mode="wb", compresslevel=_LEVEL, fileobj=self._file, mtime=0
        )

    def add(self, items: Sequence[bytes]) -> None:
        """Write items, each as its JSON."""
        lines = b"".join(_BEFORE + item + _AFTER for item in items)
        self._packed.write(lines)
        self.items += len(items)
        self.raw_bytes += len(lines)
        self._unsynced_bytes += len(lines)
        if self._unsynced_bytes > _SYNCED_BYTES:
            self._sync()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._unsynced_bytes = 0

    def finish(self) -> Part:
        """Close the file; return what is in it."""
        self.close()
        return Part(
            sha256=sha256_of(self.path), size_bytes=self.path.stat().st_size, items=self.items
        )

    def close(self) -> None:
        """Close the file, whatever is in it."""
        self._packed.close()
        self._file.close()


class PartReader:
    """Reads one part; for threads.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = gzip.open(path, "rb")  # noqa: SIM115 - it is closed by `close`

    def read(self) -> list[bytes]:
        """Return the next items, each as its JSON; none at the end."""
        start, end = len(_BEFORE), -len(_AFTER)
        return [line[start:end] for line in self._file.readlines(_PIECE_BYTES)]

    def close(self) -> None:
        """Close the file."""
        self._file.close()
