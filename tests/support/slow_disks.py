"""Disks that are slow, or stand still, for one process: a library in C that delays its calls."""

import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["SlowDisk"]

_SOURCE = Path(__file__).parent / "disk" / "slow.c"
_BUILT = Path(__file__).parents[2] / ".cache" / "slow_disk.so"
_HOW = struct.Struct("4q")
_SYNCS_ONLY = 1 << 62


def _built() -> Path | None:
    """Return the library; None where there is no compiler, or it is not for this system."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    if not _BUILT.exists() or _BUILT.stat().st_mtime < _SOURCE.stat().st_mtime:
        _BUILT.parent.mkdir(exist_ok=True)
        options = ["-shared", "-fPIC", "-O1", "-o", str(_BUILT), str(_SOURCE), "-ldl"]
        made = subprocess.run([compiler, *options], capture_output=True, check=False)
        if made.returncode:
            return None
    return _BUILT


class SlowDisk:
    """The disk below a folder, as a process sees it. It is fast at first.

    Args:
        path: a file of its own.
        folder: what is on the disk.
        smallest: writes of so many bytes or more wait, beside syncs; None for syncs only.

    Attributes:
        environment: gives a process that disk; nothing where that is not possible.
    """

    def __init__(self, path: Path, folder: Path, smallest: int | None = None) -> None:
        self._path = path
        self._smallest = _SYNCS_ONLY if smallest is None else smallest
        self._set()
        self.environment: dict[str, str] = {}
        library = _built()
        if library is not None:
            self.environment = {
                "LD_PRELOAD": str(library),
                "SLOW_DISK": str(path),
                "SLOW_DISK_FOLDER": str(folder),
            }

    @contextmanager
    def slow(self, from_ms: int, to_ms: int) -> Iterator[None]:
        """Have each call wait for a time between these; the test is skipped if that can't be."""
        with self._how(from_ms, to_ms, 0):
            yield

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Have no call return; the test is skipped where that can't be."""
        with self._how(0, 0, 1):
            yield

    @contextmanager
    def _how(self, from_ms: int, to_ms: int, still: int) -> Iterator[None]:
        if not self.environment:
            pytest.skip("slow disks need a C compiler, cc, and glibc")
        self._set(from_ms, to_ms, still)
        try:
            yield
        finally:
            self._set()

    def _set(self, from_ms: int = 0, to_ms: int = 0, still: int = 0) -> None:
        # In place: the process has the file mapped.
        with self._path.open("r+b" if self._path.exists() else "xb") as file:
            file.write(_HOW.pack(from_ms, to_ms, self._smallest, still))
