"""The last call of a tumbling window."""

import asyncio
import logging
from collections.abc import Callable

from streamtable.consumers.triggers.clock import Timer
from streamtable.consumers.triggers.engine import Engine
from streamtable.consumers.triggers.entries import Entry
from streamtable.consumers.triggers.verdicts import Verdicts, delay_ms
from streamtable.consumers.triggers.windows import Windows

__all__ = ["WindowEnd"]

logger = logging.getLogger(__name__)


class WindowEnd:
    """Ends a shard's windows. A last call that fails is tried again; the shard waits for it.

    Args:
        number: the shard.
        engine: the trigger.
        windows: the shard's windows.
        verdicts: says when it is given up.
        wake: called when it may be tried again.

    Attributes:
        due: nothing more will come for the open window.
    """

    def __init__(
        self,
        number: int,
        engine: Engine,
        windows: Windows,
        verdicts: Verdicts,
        wake: Callable[[], None],
    ) -> None:
        self.due = False
        self._number = number
        self._engine = engine
        self._windows = windows
        self._verdicts = verdicts
        self._wake = wake
        self._failures = 0
        self._next_ms = 0
        self._timer: Timer | None = None

    def is_wanted(self, following: Entry | None, *, blocked: bool) -> bool:
        """Say whether the open window is to end now.

        Args:
            following: the next change that is ready.
            blocked: whether it waits for an earlier one of its item.
        """
        windows = self._windows
        if windows.start_ms is None or self._engine.clock.now_ms() < self._next_ms:
            return False
        if following is None:
            return self.due
        ends = windows.start_of(following.created_ms) != windows.start_ms
        return ends and (self.due or not blocked)

    async def call(self) -> bool:
        """Make the call, and say whether the window is closed: it was made, or given up."""
        window = self._windows.window(final=True)
        try:
            await self._engine.invoke([], window)
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            self._failures += 1
            if not (self._verdicts.too_many(self._failures) or self._verdicts.over(window.end_ms)):
                clock = self._engine.clock
                wait_ms = delay_ms(self._failures, self._engine.jitter())
                self._next_ms = clock.now_ms() + wait_ms
                logger.warning("%s: the last call of a window: %r", self._engine.name, error)
                self._timer = clock.call_later(wait_ms / 1000, self._wake)
                return False
            logger.error(  # noqa: TRY400 - it is the function's own
                "%s gave up the window of shard %d from %d to %d with the state %s: %r",
                self._engine.name,
                self._number,
                window.start_ms,
                window.end_ms,
                window.state,
                error,
            )
        self._windows.close()
        self.due = False
        self._failures = 0
        self._next_ms = 0
        return True

    def cancel(self) -> None:
        """Try no more."""
        if self._timer is not None:
            self._timer.cancel()
