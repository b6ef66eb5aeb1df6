"""How far consumers have got, and waiting for it: what read-your-writes rests on."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from streamtable.streams.log import LogUnavailable

__all__ = ["Frontiers"]

_FRESH_S: Final = 2.0
_ASK_S: Final = 0.1


@dataclass(slots=True)
class _Frontier:
    """How far one generation of a consumer has got.

    Attributes:
        generation: which one.
        next: by shard the offset of the first record not done, as far as is known.
        told: when a worker last told, by the monotonic clock.
        moved: set and replaced when that moves.
    """

    generation: int
    next: dict[int, int] = field(default_factory=dict)
    told: float = float("-inf")
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    def past(self, targets: Mapping[int, int]) -> bool:
        return all(self.next.get(shard, 0) > offset for shard, offset in targets.items())


class Frontiers:
    """Knows from the workers' reports how far each consumer has got.

    Where no worker reports to this node, it asks what the consumer group has committed.

    Args:
        committed: returns by shard what a consumer has committed, given its key and generation.
    """

    def __init__(self, committed: Callable[[str, int], Awaitable[Mapping[int, int]]]) -> None:
        self._committed = committed
        self._known: dict[str, _Frontier] = {}

    def note(self, key: str, generation: int, following: Mapping[int, int]) -> None:
        """Take what a worker reports.

        Args:
            key: the consumer's key.
            generation: what it is about; one that is over is passed over.
            following: by shard the offset of the first record that is not done.
        """
        known = self._of(key, generation)
        if known is not None:
            known.told = time.monotonic()
            _move(known, following)

    def next(self, key: str, generation: int) -> dict[int, int]:
        """Return by shard how far a generation is known to have got; nothing where it is not."""
        known = self._known.get(key)
        return dict(known.next) if known is not None and known.generation == generation else {}

    async def reached(
        self, key: str, generation: int, targets: Mapping[int, int], timeout_s: float
    ) -> bool:
        """Wait until a consumer is done with the records at these offsets, and all before them.

        Args:
            key: the consumer's key.
            generation: the generation that is in force.
            targets: an offset for each shard that matters.
            timeout_s: how long to wait.

        Returns:
            Whether it has got there; False too if a later generation begins meanwhile.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            known = self._of(key, generation)
            if known is None:
                return False
            if known.past(targets):
                return True
            now = time.monotonic()
            if now >= deadline:
                return False
            moved = known.moved
            if now - known.told > _FRESH_S:
                with suppress(LogUnavailable):
                    _move(known, await self._committed(key, generation))
                if known.past(targets):
                    return True
                wait_s = _ASK_S
            else:
                wait_s = known.told + _FRESH_S - now
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(wait_s, deadline - time.monotonic()))):
                    await moved.wait()

    def forget(self, key: str) -> None:
        """Forget a consumer that was removed."""
        known = self._known.pop(key, None)
        if known is not None:
            known.moved.set()

    def _of(self, key: str, generation: int) -> _Frontier | None:
        """Return what is known of a generation, None if it is over."""
        known = self._known.get(key)
        if known is None or known.generation < generation:
            if known is not None:
                known.moved.set()
            known = self._known[key] = _Frontier(generation)
        return known if known.generation == generation else None


def _move(known: _Frontier, following: Mapping[int, int]) -> None:
    moved = False
    for shard, offset in following.items():
        # Records that come again after a crash were done before: what they made is there.
        if offset > known.next.get(shard, -1):
            known.next[shard] = offset
            moved = True
    if moved:
        known.moved.set()
        known.moved = asyncio.Event()
