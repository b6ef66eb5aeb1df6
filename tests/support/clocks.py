"""A clock that a process believes in, and that jumps: libfaketime."""

from pathlib import Path

import pytest

__all__ = ["FalseClock"]

_LIBRARIES = (
    "/usr/lib/*/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
)


class FalseClock:
    """What time it is for a process; how long something takes stays true.

    The test is skipped where there is no libfaketime.

    Args:
        path: a file of its own.

    Attributes:
        environment: makes a process believe in it.
    """

    def __init__(self, path: Path) -> None:
        found = [str(each) for name in _LIBRARIES for each in Path("/").glob(name[1:])]
        if not found:
            pytest.skip("no libfaketime here: it is in Debian's package faketime")
        self._path = path
        self.jump("+0")
        self.environment = {
            "LD_PRELOAD": found[0],
            "FAKETIME_TIMESTAMP_FILE": str(path),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, by: str) -> None:
        """Be so much ahead of the true time, for example `+2h` or `-3d`, within a second."""
        self._path.write_text(f"{by}\n")
