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
        """Milliseconds since 1970."""

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call back in so many seconds."""


class SystemClock:
    """The time since 1970 when it was made, and what has passed since then.

    So a system clock that is set anew while a worker runs makes no change older.
    """

    def __init__(self) -> None:
        self._began_s = time.time() - time.monotonic()

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return int((self._began_s + time.monotonic()) * 1000)

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
