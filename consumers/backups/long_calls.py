"""Calls to a shard's owner that take longer than a call may."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final

__all__ = ["LongCalls"]

# Whoever asks hears so often that the work goes on.
_ANSWER_S: Final = 2.0


class LongCalls:
    """Work that goes on while its caller asks again and again what has become of it.

    What nobody asks for any more is ended by `forget`.
    """

    def __init__(self) -> None:
        self._working: dict[Hashable, asyncio.Task[Any]] = {}

    async def ask(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Return what a piece of work has led to, None if it goes on; raise what it raised.

        Args:
            key: names the work.
            work: begins it, if nobody has.
        """
        task = self._working.get(key)
        if task is None:
            task = self._working[key] = asyncio.create_task(work())
        await asyncio.wait([task], timeout=_ANSWER_S)
        if not task.done():
            return None
        if self._working.get(key) is task:
            del self._working[key]
        return task.result()

    async def forget(self, has_use: Callable[[Hashable], bool]) -> None:
        """End what has no use any more."""
        gone = [key for key in self._working if not has_use(key)]
        tasks = [self._working.pop(key) for key in gone]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def stop(self) -> None:
        """End everything."""
        await self.forget(lambda _key: False)
