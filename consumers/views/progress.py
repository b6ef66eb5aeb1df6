"""How far a build is, and how fast it may go."""

import asyncio
import time
from typing import Any, Final

from streamtable.consumers.views.feed import Feed

__all__ = ["Progress", "Throttle"]

_PAUSE_S: Final = 0.05
_LATENCY_S: Final = 0.15
_LONGEST_S: Final = 1.0


class Progress:
    """Where a build stands, for people.

    Attributes:
        phase: what it does.
        done: rows or changes done in this phase.
        total: about how many there are, None where that is not known.
    """

    def __init__(self) -> None:
        self.phase = "waiting"
        self.done = 0
        self.total: int | None = None
        self._since = time.monotonic()

    def begin(self, phase: str, total: int | None = None) -> None:
        """Begin with the next phase."""
        self.phase, self.total, self.done = phase, total, 0
        self._since = time.monotonic()

    def report(self) -> dict[str, Any]:
        """Return it as JSON: `rate` is rows or changes a second, `left_s` the time left."""
        rate = self.done / max(time.monotonic() - self._since, 0.001)
        left_s = None
        if self.total is not None and rate > 0:
            left_s = round(max(self.total - self.done, 0) / rate, 1)
        return {
            "phase": self.phase,
            "done": self.done,
            "total": None if self.total is None else max(self.total, self.done),
            "rate": round(rate, 1),
            "left_s": left_s,
        }


class Throttle:
    """Holds a build back so that clients' writes don't suffer.

    When the node takes longer over a batch than it should, the build pauses for longer the
    longer it takes.

    Args:
        rate: the most rows a second, None without such a limit.
    """

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._free_at = time.monotonic()

    async def pace(self, rows: int, feed: Feed) -> None:
        """Wait as long as is due after so many rows.

        Raises:
            StreamtableError: feeding has failed.
        """
        await feed.room()
        pause_s = 0.0
        if feed.latency_s > _LATENCY_S:
            pause_s = min(feed.latency_s - _LATENCY_S, _LONGEST_S) * min(rows / 1000, 1)
        if self._rate is not None:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - _PAUSE_S) + rows / self._rate
            pause_s = max(pause_s, self._free_at - now)
        await asyncio.sleep(pause_s)
