"""Where requests wait while the number of shards changes, and old ones are refused."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from streamtable.core.errors import ServiceUnavailable
from streamtable.streams.standstill import Standstill

__all__ = ["Gate"]

_WAIT_S: Final = 10.0

Arguments = ParamSpec("Arguments")
ResultT = TypeVar("ResultT")


class Gate:
    """Lets requests through; while it is shut, those under way end and others wait.

    Args:
        standstill: knows whether what comes may be old, and another node has done it long ago; None
            where there is no other.
    """

    def __init__(self, standstill: Standstill | None = None) -> None:
        self._standstill = standstill
        self._open = asyncio.Event()
        self._open.set()
        self._running = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def shut(self) -> None:
        """Let nothing more through."""
        self._open.clear()

    def open(self) -> None:
        """Let everything through."""
        self._open.set()

    async def empty(self) -> None:
        """Return when nothing that was let through is under way."""
        await self._empty.wait()

    def keeps(
        self, call: Callable[Arguments, Awaitable[ResultT]]
    ) -> Callable[Arguments, Coroutine[Any, Any, ResultT]]:
        """Return a function as it is with the gate before it.

        What `call` does before it is awaited is done at once where the gate is open, and its
        arguments are not kept after that. What is returned is to be awaited, at once. It raises
        ServiceUnavailable where the gate stays shut for too long, or this process stood still a
        moment ago; nothing was done then.
        """

        @wraps(call)
        def kept(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Coroutine[Any, Any, ResultT]:
            if not self._open.is_set():
                return later(*args, **kwargs)
            if self._standstill is not None and self._standstill.dazed():
                raise ServiceUnavailable("This node stood still until a moment ago. Try again.")
            self._running += 1
            self._empty.clear()
            try:
                begun = call(*args, **kwargs)
            except BaseException:
                self._end()
                raise
            return self._rest(begun)

        async def later(*args: Arguments.args, **kwargs: Arguments.kwargs) -> ResultT:
            await self._wait()
            return await kept(*args, **kwargs)

        return kept

    async def _rest(self, begun: Awaitable[ResultT]) -> ResultT:
        try:
            return await begun
        finally:
            self._end()

    def _end(self) -> None:
        self._running -= 1
        if not self._running:
            self._empty.set()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_WAIT_S):
                while not self._open.is_set():
                    await self._open.wait()
        except TimeoutError:
            raise ServiceUnavailable("The number of shards is being changed. Try again.") from None
