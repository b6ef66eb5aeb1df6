"""Schedules: functions that are called at fixed intervals."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from streamtable.triggers.errors import InvalidDeclaration, InvalidHandler
from streamtable.triggers.names import check_name, check_positive
from streamtable.triggers.signatures import Signature

__all__ = ["Schedule", "make_schedule"]

_LONGEST: Final = timedelta(days=366)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A function that is called at fixed intervals.

    Attributes:
        name: it is known by it in its app.
        every_s: seconds from one time to the next. The times are multiples of it since 1970, so
            that every worker knows the same ones.
        timeout_s: a call may take so long; None for as long as it takes.
        function: what is called.
        takes_time: it takes the time that it is called for, in UTC.
        is_async: it is a coroutine function; otherwise it is called in a thread.
        was: the name that it had before.
    """

    name: str
    every_s: float
    timeout_s: float | None
    function: Callable[..., Any] = field(compare=False)
    takes_time: bool
    is_async: bool
    was: str | None = None

    def definition(self) -> dict[str, Any]:
        """Return what the app declared, as JSON."""
        return {"kind": "schedule", "every_s": self.every_s, "timeout_s": self.timeout_s}

    async def call(self, due: datetime) -> None:
        """Call the function for one of its times.

        Raises:
            TimeoutError: it took too long. An async function was cancelled; a thread can't be.
            Exception: what the function raised.
        """
        arguments = (due,) if self.takes_time else ()
        async with asyncio.timeout(self.timeout_s):
            if self.is_async:
                await self.function(*arguments)
            else:
                await asyncio.to_thread(self.function, *arguments)


def make_schedule(
    name: str,
    function: Callable[..., Any],
    *,
    every: float | timedelta,
    timeout_s: float | None,
    was: str | None,
) -> Schedule:
    """Check a schedule's declaration; see `App.every`."""
    check_name("a schedule", name)
    if was is not None:
        check_name("a schedule", was)
        if was == name:
            raise InvalidDeclaration(f"was={was!r} is the name that the schedule has now")
    every_s = every.total_seconds() if isinstance(every, timedelta) else every
    check_positive(every=every_s, timeout_s=timeout_s)
    if every_s > _LONGEST.total_seconds():
        raise InvalidDeclaration(f"every={every!r} is longer than a year")
    signature = Signature.read(function)
    if signature.required > 1:
        raise InvalidHandler(
            f"{signature.name}{signature.text} must take nothing, or the time that it is called for"
        )
    return Schedule(
        name=name,
        every_s=float(every_s),
        timeout_s=timeout_s,
        function=function,
        takes_time=bool(signature.annotations),
        is_async=signature.is_async,
        was=was,
    )
