"""Calls a user's function: in the loop or in a thread, with a limit of time."""

import asyncio
import contextvars
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from streamtable.consumers.triggers.deliveries import HandlerTimeout
from streamtable.triggers.errors import HandlerExited

__all__ = ["Caller"]

_THREADS: Final = 100


class Caller:
    """Calls one function.

    A plain function has threads of its own, so that one that blocks holds up no other.

    Args:
        function: what is called.
        name: its name, for errors.
        is_async: it is a coroutine function.
        timeout_s: how long a call may take; None for as long as it takes.
    """

    def __init__(
        self, function: Callable[..., Any], name: str, *, is_async: bool, timeout_s: float | None
    ) -> None:
        self._function = function
        self._name = name
        self._timeout_s = timeout_s
        self._threads = None if is_async else ThreadPoolExecutor(_THREADS, f"trigger {name}")

    async def call(self, *arguments: Any) -> Any:
        """Call the function and return what it returns.

        Raises:
            HandlerTimeout: it took too long. A coroutine was cancelled; a thread can't be.
            HandlerExited: it has ended the program, or cancelled itself, if it could have.
            Exception: what it raised.
        """
        if self._threads is not None:
            return await self._call_in_thread(self._threads, arguments)
        if self._timeout_s is None:
            return await self._guard(arguments)
        return await self._limit(asyncio.ensure_future(self._guard(arguments)))

    async def _guard(self, arguments: tuple[Any, ...]) -> Any:
        """Run the coroutine; its exit must not be the loop's."""
        try:
            return await self._function(*arguments)
        except SystemExit as error:
            raise self._exited(error) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise self._exited(error) from error

    async def _call_in_thread(self, threads: ThreadPoolExecutor, arguments: tuple[Any, ...]) -> Any:
        context = contextvars.copy_context()

        def run() -> Any:
            try:
                return context.run(self._function, *arguments)
            except Exception:
                raise
            except BaseException as error:
                raise self._exited(error) from error

        running = asyncio.get_running_loop().run_in_executor(threads, run)
        result = await (running if self._timeout_s is None else self._limit(running))
        if inspect.isawaitable(result):
            result = await result
        return result

    async def _limit(self, running: "asyncio.Future[Any]") -> Any:
        """Wait for a call, so long as it may take."""
        try:
            await asyncio.wait({running}, timeout=self._timeout_s)
        except asyncio.CancelledError:
            running.cancel()
            raise
        if running.done():
            return running.result()
        finished = asyncio.get_running_loop().create_future()
        running.add_done_callback(lambda call: _finish(call, finished))
        if self._threads is None:
            running.cancel()
        raise HandlerTimeout(f"{self._name} took longer than {self._timeout_s:g} s", finished)

    def _exited(self, error: BaseException) -> HandlerExited:
        return HandlerExited(f"{self._name} raised {error!r}")


def _finish(call: "asyncio.Future[Any]", finished: "asyncio.Future[None]") -> None:
    if not call.cancelled():
        call.exception()  # nobody waits for it any more
    if not finished.done():
        finished.set_result(None)
