"""From a commit of the log to calls of one trigger's function."""

import asyncio
from typing import Any

from streamtable.core.changes import Change as LogChange
from streamtable.core.errors import StreamtableError
from streamtable.core.plain import plain_item
from streamtable.core.positions import Position
from streamtable.streams.records import LogRecord
from streamtable.triggers.trigger import Trigger

__all__ = ["ChangeFailed", "Delivery"]


class ChangeFailed(StreamtableError):
    """A trigger could not handle a change; `__cause__` says why.

    Attributes:
        trigger: the trigger's name.
        change: what it was.
        position: where it is in the log.
    """

    def __init__(self, trigger: str, change: LogChange, position: Position) -> None:
        self.trigger = trigger
        self.change = change
        self.position = position
        keys = ", ".join(f"{name}={value!r}" for name, value in self.keys.items())
        super().__init__(
            f"{change.event_name} in {change.table}, {keys}, shard {position.shard}, offset "
            f"{position.offset}, index {position.index}"
        )

    @property
    def keys(self) -> dict[str, Any]:
        """The item's key attributes, as plain values."""
        return plain_item(self.change.keys)


class Delivery:
    """Calls a trigger for its changes, one at a time, in the log's order.

    Args:
        trigger: the trigger.
    """

    def __init__(self, trigger: Trigger) -> None:
        self._trigger = trigger
        self.count = 0
        """Changes handled so far."""

    def wants(self, tables: frozenset[str]) -> bool:
        """Whether a commit that touches these tables may hold a change for the trigger."""
        return self._trigger.table in tables

    async def deliver(self, record: LogRecord) -> None:
        """Have every change of a commit that is the trigger's handled.

        Raises:
            ChangeFailed: one was not; those before it were, those after it were not tried.
        """
        for index, change in enumerate(record.changes()):
            if change.table != self._trigger.table:
                continue
            if change.event_name not in self._trigger.events:
                continue
            await self._call(change, Position(record.shard, record.offset, index))
            self.count += 1

    async def _call(self, change: LogChange, position: Position) -> None:
        handler = self._trigger.handler
        try:
            await handler.call(handler.change(change, position))
        # A function that exits or cancels itself has not handled its change either.
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            raise ChangeFailed(self._trigger.name, change, position) from error
