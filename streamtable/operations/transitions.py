"""Tables that are CREATING, UPDATING or DELETING for a while, as `table_delay_ms` asks."""

import asyncio
import logging
import time
from typing import Any

from streamtable.core.documents import ACTIVE, DELETING, TableDocument
from streamtable.core.errors import ApiError
from streamtable.streams.catalog import Catalog

__all__ = ["Transitions"]

logger = logging.getLogger(__name__)


class Transitions:
    """Ends the states that tables are in for a time.

    The document says until when, so a restart loses none: it goes on when the node starts, or
    when somebody looks at the table.

    Args:
        catalog: where the tables are.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._watched: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(self, document: TableDocument) -> None:
        """Have the state end at its time; without effect for a table that is in none."""
        until = document.status_until
        if until is None or document.id in self._watched:
            return
        self._watched.add(document.id)
        # A timer, and no task that sleeps: it needs no end when the node stops.
        loop = asyncio.get_running_loop()
        loop.call_later(max(0.0, until - time.time()), self._start, document)

    def _start(self, document: TableDocument) -> None:
        task = asyncio.get_running_loop().create_task(self._end(document))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self, document: TableDocument) -> None:
        self._watched.discard(document.id)
        try:
            current = self._catalog.table(document.name).document
            if current.id != document.id or current.status_until is None:
                return
            if current.status == DELETING:
                await self._catalog.delete(current.name)
            else:
                changes: dict[str, Any] = {"status": ACTIVE, "status_until": None}
                await self._catalog.update(current.model_copy(update=changes))
        except ApiError as error:
            # Another node ended it first, or the catalog is away: whoever looks next tries again.
            logger.info("table %s stays %s: %s", document.name, document.status, error)
