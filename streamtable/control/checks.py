"""The node's side of checks: an app's functions are asked before a write is committed."""

import asyncio
import logging
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Final

from streamtable.core.errors import ValidationError
from streamtable.core.images import Image
from streamtable.streams.shard import Row
from streamtable.triggers import App
from streamtable.triggers.checks import Check
from streamtable.triggers.errors import Refused

__all__ = ["Checks"]

logger = logging.getLogger(__name__)

_SLOW_S: Final = 0.005
# A check that is slow or fails does so at each write; the log needs not say it each time.
_SAY_EVERY_S: Final = 10.0
_OWN_FRAMES: Final = ("streamtable.", "pydantic")


class Checks:
    """The checks of some apps, as a shard asks them: see `Shard.check`.

    All checks of a table are asked, in the order in which the apps were given and declare them,
    until one refuses. A check that fails refuses too: what a broken rule lets through could not
    be taken back. Items that go because their time to live is over are not checked.

    Args:
        apps: the apps.
        monotonic: a clock, seconds.
    """

    def __init__(
        self, apps: Iterable[App], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._monotonic = monotonic
        self._by_table: dict[str, list[_Asked]] = {}
        for app in apps:
            for check in app.checks.values():
                asked = _Asked(f"{app.name}/{check.name}", check)
                self._by_table.setdefault(check.table, []).append(asked)

    def __bool__(self) -> bool:
        """Whether there is any check."""
        return bool(self._by_table)

    def describe(self) -> list[str]:
        """Return a line for each check, for a person."""
        return [
            f"{asked.name} checks {', '.join(sorted(asked.check.events))} of the table {table}"
            for table, checks in self._by_table.items()
            for asked in checks
        ]

    def __call__(self, row: Row, old: Image | None, new: Image | None) -> None:
        """Ask about one write.

        Args:
            row: the item that it is about.
            old: the item before, None if there was none.
            new: the item as it would be, None if it would be gone.

        Raises:
            ValidationError: a check refuses it, or failed.
        """
        checks = self._by_table.get(row.table.name)
        if checks is None or row.service is not None:
            return
        before = None if old is None else old.item
        after = None if new is None else new.item
        for asked in checks:
            began = self._monotonic()
            try:
                asked.check.run(before, after)
            except Refused as refusal:
                raise ValidationError(
                    str(refusal) or f"The write was refused by the check {asked.name}"
                ) from refusal
            except (Exception, SystemExit, asyncio.CancelledError) as error:
                if asked.failures.say(began):
                    logger.error(  # noqa: TRY400 - the trace begins at the user's code
                        "the check %s failed, so the write was refused\n%s",
                        asked.name,
                        _trace(error),
                    )
                raise ValidationError(
                    f"The write was refused because the check {asked.name} failed: "
                    f"{type(error).__name__}. The node's log has its traceback"
                ) from error
            took = self._monotonic() - began
            if took > _SLOW_S and asked.slow.say(began):
                logger.warning(
                    "the check %s took %.0f ms: every request to this node waits for it meanwhile",
                    asked.name,
                    took * 1000,
                )


class _Asked:
    """A check, its full name, and when was said what about it."""

    __slots__ = ("check", "failures", "name", "slow")

    def __init__(self, name: str, check: Check) -> None:
        self.name = name
        self.check = check
        self.failures = _Seldom()
        self.slow = _Seldom()


class _Seldom:
    """Says when something may be said again."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = float("-inf")

    def say(self, now: float) -> bool:
        if now < self._next:
            return False
        self._next = now + _SAY_EVERY_S
        return True


def _trace(error: BaseException) -> str:
    """Return the traceback from the first frame of the user's code on."""
    trace = error.__traceback__
    while trace and trace.tb_frame.f_globals.get("__name__", "").startswith(_OWN_FRAMES):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()
