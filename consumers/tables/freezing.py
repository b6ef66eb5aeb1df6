"""A copy of a RocksDB's files as they are at one moment, without a stop.

RocksDB's own checkpoint does the same, but waits for the disk a dozen times while it holds the
interpreter, and with it everything that the process does.
"""

import os
import shutil
import time
from pathlib import Path
from typing import Any, Final

from rocksdict import Rdict

__all__ = ["NoQuietMoment", "link_files"]

_CURRENT: Final = "CURRENT"
_RUNNING: Final = ("rocksdb.num-running-flushes", "rocksdb.num-running-compactions")
_LOOK_S: Final = 0.01
_PATIENCE_S: Final = 60.0


class NoQuietMoment(TimeoutError):
    """RocksDB wrote and merged files all the time."""


def link_files(db: Rdict, path: Path, folder: Path) -> None:
    """Link the files of a store into a new folder of the same file system; for a thread.

    1. No file is being made, and these are the files that the store consists of.
    2. The manifest, which names them, is copied: it only grows when a file was made or removed.
    3. The files are linked. They never change.
    4. What was so at 1. is so still. Otherwise all of this is done again.

    Args:
        db: the store, open. What it has in memory is not in the copy.
        path: its folder.
        folder: where the copy is made.

    Raises:
        NoQuietMoment: there was none in a minute.
        OSError: the files can't be read or linked.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        before = _files(db)
        if before is not None:
            folder.mkdir(parents=True)
            linked = _link(path, folder, before)
            if linked and _files(db) == before:
                return
            shutil.rmtree(folder)
        if time.monotonic() > deadline:
            raise NoQuietMoment(f"files of {path} were made and removed for {_PATIENCE_S:.0f} s")
        time.sleep(_LOOK_S)  # RocksDB's threads tell nobody


def _files(db: Rdict) -> set[tuple[str, int]] | None:
    """Return the names and levels of the files; None while one is being made."""
    files: list[dict[str, Any]] = db.live_files()
    if any(db.property_int_value(name) for name in _RUNNING):
        return None
    return {(file["name"].lstrip("/"), file["level"]) for file in files}


def _link(path: Path, folder: Path, files: set[tuple[str, int]]) -> bool:
    """Make the copy; return whether everything was there."""
    try:
        manifest = (path / _CURRENT).read_text()
        shutil.copyfile(path / manifest.strip(), folder / manifest.strip())
        for name, _ in files:
            os.link(path / name, folder / name)
    except FileNotFoundError:
        return False
    (folder / _CURRENT).write_text(manifest)
    return True
