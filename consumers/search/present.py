"""Which table has the name now that a search index follows."""

import asyncio
import logging
import time
from typing import Final

from streamtable.consumers.views.nodes import Node, find_table
from streamtable.core.changes import Change
from streamtable.core.errors import StreamtableError

__all__ = ["PresentTable"]

logger = logging.getLogger(__name__)

_RETRY_S: Final = 1.0
# For so long a table is believed to be there still: no index of the next one is built as quickly.
_BELIEVED_S: Final = 0.5


class PresentTable:
    """The table of a name: one that is deleted and made again has another id.

    Args:
        node: is asked.
        name: the name.
    """

    def __init__(self, node: Node, name: str) -> None:
        self._node = node
        self._name = name
        self._replaced_ids: set[str] = set()
        self._believed = ""
        self._until = 0.0

    async def id(self) -> str | None:
        """Return its id; None if there is no table.

        Raises:
            StreamtableError: the node does not answer.
        """
        table = await find_table(self._node, self._name)
        return None if table is None else str(table["TableId"])

    async def has(self, change: Change) -> bool:
        """Say whether a change is of it, or of one that nothing has replaced yet.

        It waits for a node that does not answer.
        """
        table_id = change.table_id
        if table_id == self._believed and time.monotonic() < self._until:
            return True
        if table_id in self._replaced_ids:
            return False
        until = time.monotonic() + _BELIEVED_S
        if await self._replaced(change):
            self._replaced_ids.add(table_id)
            return False
        self._believed, self._until = table_id, until
        return True

    async def _replaced(self, change: Change) -> bool:
        while True:
            try:
                table = await find_table(self._node, self._name)
            except StreamtableError as error:
                logger.warning("the node does not say which table %s is: %s", self._name, error)
                await asyncio.sleep(_RETRY_S)
                continue
            if table is None or table["TableId"] == change.table_id:
                return False
            # A node that is behind may tell of the table before.
            return float(table["CreationDateTime"]) * 1000 > change.created_ms
