"""Time, as the runtime of triggers sees it; a test has its own."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

__all__ = ["Clock", "SystemClock", "Timer", "pause"]


class Timer(Protocol):
    """Something that will be called."""

    def cancel(self) -> None:
        """Have it not called."""


class Clock(Protocol):
    """Tells the time, and calls when it has passed."""

    def now_ms(self) -> int:
        """Milliseconds that pass evenly, however clocks are set: what delays are measured by."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970, as whoever makes the changes has them now."""

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call back in so many seconds."""


class SystemClock:
    """What has passed by the system's monotonic clock, and the time by another one.

    The other one may be set while a worker runs: that makes no change older, and no delay longer.

    Args:
        wall_ms: milliseconds since 1970, the system's own unless told.
    """

    def __init__(self, wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._wall_ms = wall_ms

    def now_ms(self) -> int:
        """Milliseconds since an arbitrary moment."""
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""
        return self._wall_ms()

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call back in so many seconds, in the running loop."""
        return asyncio.get_running_loop().call_later(delay_s, callback)


async def pause(clock: Clock, delay_s: float) -> None:
    """Return in so many seconds."""
    passed = asyncio.Event()
    timer = clock.call_later(delay_s, passed.set)
    try:
        await passed.wait()
    finally:
        timer.cancel()
