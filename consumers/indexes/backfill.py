"""Fills a new global index from the items that the table has already."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final

from streamtable.consumers.indexes.sender import PARTS, IndexSender
from streamtable.consumers.tables.store import ShardStore
from streamtable.core.documents import ACTIVE, CREATING
from streamtable.core.errors import ApiError, StreamtableError
from streamtable.core.index_rows import index_row
from streamtable.core.operations.index_updates import finish_index
from streamtable.core.tables import Index, Table
from streamtable.streams.catalog import Catalog
from streamtable.streams.shard import Shard

__all__ = ["Backfill"]

logger = logging.getLogger(__name__)

_CHUNK_ROWS: Final = 200
_WAIT_S: Final = 0.02
_RETRY_S: Final = 0.5


class Backfill:
    """Moves new indexes to ACTIVE and removes deleted ones from the catalog.

    Rows of items that were there are sent chunk by chunk between the rows of changes, with a
    position after the last change whose rows were sent. So a row of a chunk never takes the
    place of a newer one, and a removal that comes later in the log comes later on the way too.
    How far each shard is, is kept in its store: a backfill that dies goes on from there.

    Args:
        catalog: says which indexes are new or deleted.
        shards: the shards by number.
        stores: their stores.
        sender: sends rows.
        between: for each shard, held while a chunk of it is sent, so that no change's rows are.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        shards: Mapping[int, Shard],
        stores: Mapping[int, ShardStore],
        sender: IndexSender,
        between: Mapping[int, AbstractAsyncContextManager[None]],
    ) -> None:
        self._catalog = catalog
        self._shards = shards
        self._stores = stores
        self._sender = sender
        self._between = between
        self._sequence = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._attending: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Look after the indexes until `stop`."""
        self._catalog.on_change(lambda _before, _after: self._wake.set())
        self._wake.set()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop; what is not filled is filled after the next start."""
        tasks = [*self._attending.values()]
        if self._task is not None:
            tasks.append(self._task)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            for table in self._catalog.tables():
                for index in table.indexes.values():
                    index_id = index.document.id
                    new = index_id not in self._attending
                    if new and index.is_global and index.document.status != ACTIVE:
                        task = asyncio.create_task(self._attend(table.id, index_id))
                        self._attending[index_id] = task
                        task.add_done_callback(partial(self._attended, index_id))

    def _attended(self, index_id: str, task: asyncio.Task[None]) -> None:
        del self._attending[index_id]
        if task.cancelled():
            return
        if task.exception() is None:
            self._wake.set()
        else:
            logger.error("an index can't be filled or removed", exc_info=task.exception())

    async def _attend(self, table_id: str, index_id: str) -> None:
        while True:
            table = self._catalog.by_id(table_id)
            index = None if table is None else _index(table, index_id)
            if table is None or index is None or index.document.status == ACTIVE:
                return
            try:
                if index.document.status == CREATING:
                    await self._fill(table, index)
                await self._finish(table, index)
            except (ApiError, StreamtableError) as error:
                logger.info("index %s of %s: %s; trying again", index.name, table.name, error)
                await asyncio.sleep(_RETRY_S)

    async def _fill(self, table: Table, index: Index) -> None:
        # What was answered before the index was there must be in it when it is ACTIVE.
        answered = {number: self._shards[number].owner.last for number in self._stores}
        for number, store in self._stores.items():
            note = _note(index)
            cursor: bytes | None = store.load(note) or table.prefix
            while cursor is not None:
                if self._catalog.by_id(table.id) is None:
                    return
                async with self._between[number]:
                    if self._sender.sent(number) == store.applied >= answered[number]:
                        cursor = await self._send_chunk(number, store, table, index, cursor)
                        store.write([(note, cursor or table.end)])
                        continue
                # Changes are not applied yet, or their index rows are not sent.
                await asyncio.sleep(_WAIT_S)
        for number, store in self._stores.items():
            await self._wait_applied(number)
            store.write([(_note(index), None)])

    async def _send_chunk(
        self, number: int, store: ShardStore, table: Table, index: Index, cursor: bytes
    ) -> bytes | None:
        """Send the rows of the next items; return where to go on, None at the end."""
        rows = []
        for seen, (row_key, image) in enumerate(store.scan(cursor, table.end)):
            if seen == _CHUNK_ROWS:
                following: bytes | None = row_key
                break
            row = index_row(index, image)
            if row is not None:
                rows.append(row)
        else:
            following = None
        if rows:
            self._sequence += 1
            position = (store.applied, self._sequence * PARTS)
            await self._sender.send(number, [(position, rows)])
        return following

    async def _wait_applied(self, number: int) -> None:
        """Wait until every target has what was sent from a shard, one way or another."""
        sent = self._sender.positions(number)
        while any(self._stores[to].indexed_position(number) < sent[to] for to in sent):  # noqa: ASYNC110 - a target tells nobody what it has applied
            await asyncio.sleep(_WAIT_S)

    async def _finish(self, table: Table, index: Index) -> None:
        """Have the catalog say that a new index is filled, or a deleted one gone."""
        current = self._catalog.table(table.name).document
        await self._catalog.update(finish_index(current, index.name))


def _note(index: Index) -> bytes:
    """Where a store keeps how far the index is filled from it: the next item's row key."""
    return b"\x00backfill/" + index.document.id.encode()


def _index(table: Table, index_id: str) -> Index | None:
    return next((i for i in table.indexes.values() if i.document.id == index_id), None)
