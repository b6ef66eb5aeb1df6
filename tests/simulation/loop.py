"""An event loop whose time is its own: it jumps to the next thing that is due.

What runs on it is the real code; that nothing happens but what the loop does next, in an order
that only the seed decides, makes each run the same again.
"""

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any

__all__ = ["SimulatedLoop", "SimulatedTime", "Stuck"]


class Stuck(AssertionError):
    """Everything waits, and nothing is due."""


class _Nothing(selectors.BaseSelector):
    """Waits for no file; waiting moves the loop's clock."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, fileobj, events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Stuck
        self.now += max(0.0, timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class SimulatedLoop(asyncio.SelectorEventLoop):
    """The loop; `run_until_complete` raises `Stuck` where real code would wait for ever."""

    def __init__(self) -> None:
        self._nothing = _Nothing()
        super().__init__(self._nothing)

    def time(self) -> float:
        """Return the simulated time, seconds."""
        return self._nothing.now


class SimulatedTime:
    """Stands where a module has imported `time`."""

    @staticmethod
    def monotonic() -> float:
        return asyncio.get_running_loop().time()

    @staticmethod
    def time() -> float:
        return asyncio.get_running_loop().time()

    perf_counter = monotonic
