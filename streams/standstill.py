"""Notices that this process stood still: stopped, swapped out, or its machine was suspended.

What has come meanwhile waits in the sockets. Whoever sent it may have given it up, and tried again
elsewhere, and gone on: carried out now, an old write would come after newer ones.
"""

import asyncio
import time
from typing import Final

__all__ = ["Standstill", "now"]

# Goes on while the machine is suspended, where there is such a clock.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_LOOK_S: Final = 0.5
# Nobody gives a call up sooner.
_STILL_S: Final = 5.0
# By then all that waited has been read.
_DAZED_S: Final = 1.0


def now() -> float:
    """Return seconds on a clock that goes on while this process stands still."""
    return time.clock_gettime(_CLOCK)


class Standstill:
    """Looks at the clock now and then, from `start` on."""

    def __init__(self) -> None:
        self._seen = now()
        self._dazed_until = 0.0
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._seen = now()
        self._looking = asyncio.create_task(self._look())

    def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def dazed(self) -> bool:
        """Whether the process stood still until a moment ago: what it reads may be old."""
        at = now()
        if self._looking is not None and at - self._seen > _STILL_S:
            self._dazed_until = at + _DAZED_S
        return at < self._dazed_until

    async def _look(self) -> None:
        while True:
            self.dazed()
            self._seen = now()
            await asyncio.sleep(_LOOK_S)
