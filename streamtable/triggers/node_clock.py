"""The time that all workers of a node agree on."""

import time
from collections.abc import Callable

__all__ = ["NodeClock"]


class NodeClock:
    """The node's clock, as its last answer told it, and what has passed since.

    So workers on hosts with different clocks agree, and a clock that is set anew on a worker's
    host changes nothing.

    Args:
        monotonic: a clock that only goes forward, seconds.
        now: the time until a node has told it, seconds since 1970.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._monotonic = monotonic
        self._offset_ms = now() * 1000 - monotonic() * 1000

    def note(self, now_ms: int) -> None:
        """Take what the node said just now."""
        self._offset_ms = now_ms - self._monotonic() * 1000

    def now_ms(self) -> int:
        """Return milliseconds since 1970."""
        return int(self._offset_ms + self._monotonic() * 1000)
