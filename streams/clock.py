"""The hybrid logical clock that gives each version of an item its time."""

from collections.abc import Callable
from typing import Final

__all__ = ["HybridClock"]

_COUNTER_BITS: Final = 16


class HybridClock:
    """Times that grow with each tick and stay close to the wall clock.

    A time is `milliseconds since 1970 << 16 | counter`. Two ticks of one clock never give the
    same time; a tick is later than any time it was told of, even when the wall clock went back
    or another node's runs ahead. Source: Kulkarni et al., "Logical Physical Clocks", 2014.

    Args:
        now_ms: reads the wall clock, milliseconds since 1970.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._last = 0

    def tick(self, after: int = 0) -> int:
        """Return a time later than every earlier one, and later than `after`."""
        # Once for each row that is written; `max` would take longer than the rest.
        time = self._now_ms() << _COUNTER_BITS
        if time <= self._last:
            time = self._last + 1
        if time <= after:
            time = after + 1
        self._last = time
        return time

    def tell(self, time: int) -> None:
        """Have every tick from now on be later than a time of another clock."""
        self._last = max(self._last, time)

    @staticmethod
    def milliseconds(time: int) -> int:
        """The wall clock's part of a time."""
        return time >> _COUNTER_BITS
