"""Waiting for a condition, with a limit; the one place in the tests that sleeps.

Limits are there to end a test that waits in vain, and cost nothing else: they leave room for a
machine that is slow and busy with other things.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

__all__ = ["until", "wait_until"]

T = TypeVar("T")

PAUSE_S = 0.02


def wait_until(condition: Callable[[], T | None], what: str, timeout_s: float = 60) -> T:
    """Return what `condition()` returns as soon as that is true.

    Raises:
        TimeoutError: it was not within `timeout_s`; the message names `what`.
    """
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            message = f"waited {timeout_s} s for {what}"
            raise TimeoutError(message)
        time.sleep(PAUSE_S)
    return found


@overload
async def until(
    condition: Callable[[], Awaitable[T | None]], what: str, timeout_s: float = 60
) -> T: ...
@overload
async def until(condition: Callable[[], T | None], what: str, timeout_s: float = 60) -> T: ...
async def until(condition: Callable[[], Any], what: str, timeout_s: float = 60) -> Any:
    """Return what `condition()`, awaited if it can be, returns as soon as that is true.

    Raises:
        TimeoutError: it was not within `timeout_s`; the message names `what`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            message = f"waited {timeout_s} s for {what}"
            raise TimeoutError(message)
        await asyncio.sleep(PAUSE_S)
