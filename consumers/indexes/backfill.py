"""Fills a new global index from the items that the table has already."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from streamtable.consumers.indexes.sender import PARTS, IndexSender
from streamtable.consumers.indexes.settling import Settling
from streamtable.consumers.leading import Leading
from streamtable.consumers.tables.store import ShardStore
from streamtable.core.documents import ACTIVE, CREATING
from streamtable.core.errors import ResourceNotFound
from streamtable.core.index_rows import index_row
from streamtable.core.operations.index_updates import finish_index
from streamtable.core.tables import Index, Table
from streamtable.streams.catalog import Catalog
from streamtable.streams.layout import Layout
from streamtable.streams.peers.calls import ShardCall
from streamtable.streams.routes import AskShard
from streamtable.streams.shard import Shard

__all__ = ["Backfill", "ShardFiller"]

_CHUNK_ROWS: Final = 200
_WAIT_S: Final = 0.02
# The owner of a shard answers so often how far it is.
_ANSWER_S: Final = 2.0


class ShardFiller:
    """Sends the rows of a new index that follow from the items of this node's shards.

    Rows of items that were there are sent chunk by chunk between the rows of changes, with a
    position after the last change whose rows were sent. So a row of a chunk never takes the
    place of a newer one, and a removal that comes later in the log comes later on the way too.
    How far each shard is, is kept in its store: a backfill that dies goes on from there, and on
    another node, which does not have the note, from the start.

    Args:
        catalog: has the tables.
        stores: the stores of this node's shards.
        sender: sends rows.
        between: for each shard, held while a chunk of it is sent, so that no change's rows are.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        stores: Mapping[int, ShardStore],
        sender: IndexSender,
        between: Mapping[int, AbstractAsyncContextManager[None]],
    ) -> None:
        self._catalog = catalog
        self._stores = stores
        self._sender = sender
        self._between = between
        self._sequence = 0

    @property
    def calls(self) -> dict[str, ShardCall]:
        """What can be asked of a shard."""
        return {"fill": self._fill, "filled": self._forget}

    async def _fill(self, shard: Shard, arguments: Any) -> dict[str, int] | None:
        """Go on filling an index from a shard for a while.

        Returns:
            The offset through which the shard's log is in the index once what was sent is; None
            if there is more to send.
        """
        table, index = self._find(arguments)
        number, store, note = shard.number, self._stores[shard.number], _note(index)
        # What was answered before the index was there must be in it when it is ACTIVE.
        answered = shard.owner.last
        deadline = time.monotonic() + _ANSWER_S
        cursor: bytes | None = store.load(note) or table.prefix
        while cursor is not None and cursor < table.end:
            if time.monotonic() > deadline or not shard.owner.wanted:
                return None
            async with self._between[number]:
                if self._sender.sent(number) == store.applied >= answered:
                    cursor = await self._send_chunk(number, store, table, index, cursor)
                    store.write([(note, cursor or table.end)])
                    continue
            # Changes are not applied yet, or their index rows are not sent.
            await asyncio.sleep(_WAIT_S)
        return {"through": store.applied}

    async def _forget(self, shard: Shard, arguments: Any) -> None:
        """Forget how far a shard was filled from: the index is done."""
        self._stores[shard.number].write([(_note(self._find(arguments)[1]), None)])

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

    def _find(self, arguments: Any) -> tuple[Table, Index]:
        table_id, index_id = arguments
        table = self._catalog.by_id(table_id)
        index = None if table is None else _index(table, index_id)
        if table is None or index is None:
            raise ResourceNotFound("Requested resource not found")
        return table, index


class Backfill(Leading[tuple[Table, Index]]):
    """Moves new indexes to ACTIVE and removes deleted ones from the catalog.

    The node that owns the first shard does that for all; each shard is filled from by its owner.

    Args:
        catalog: says which indexes are new or deleted.
        layout: the region's shards.
        ask: asks a shard's owner.
        settling: knows when an index has what was sent.
        leads: says whether this node owns a shard.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        layout: Layout,
        ask: AskShard,
        settling: Settling,
        leads: Callable[[int], bool],
    ) -> None:
        super().__init__(leads)
        self._catalog = catalog
        self._layout = layout
        self._ask = ask
        self._settling = settling

    def start(self) -> None:
        """Look after the indexes until `stop`."""
        self._catalog.on_change(self._look_at)
        super().start()

    def _look_at(self, _before: Table | None, after: Table | None) -> None:
        if after is not None and any(True for _ in _unfinished(after)):
            self._wake.set()

    def _unfinished(self) -> dict[str, tuple[Table, Index]]:
        return {
            f"index {index.name}, {index.document.id}": (table, index)
            for table in self._catalog.tables()
            for index in _unfinished(table)
        }

    async def _finish(self, work: tuple[Table, Index]) -> None:
        table, index = work
        if index.document.status == CREATING:
            await self._fill(table, index)
        # Other things may have changed in the table meanwhile.
        current = self._catalog.table(table.name).document
        await self._catalog.update(finish_index(current, index.name))

    async def _fill(self, table: Table, index: Index) -> None:
        what = [table.id, index.document.id]
        filled = await asyncio.gather(*(self._fill_from(number, what) for number in self._layout))
        await self._settling.settled(dict(enumerate(filled)))
        for number in self._layout:
            await self._ask(number, "filled", what)

    async def _fill_from(self, number: int, what: list[str]) -> int:
        """Have a shard's rows sent; return the offset through which they are."""
        while True:
            found = await self._ask(number, "fill", what)
            if found is not None:
                through: int = found["through"]
                return through


def _unfinished(table: Table) -> Iterator[Index]:
    """Yield the global indexes that are to be filled or removed."""
    for index in table.indexes.values():
        if index.is_global and index.document.status != ACTIVE:
            yield index


def _note(index: Index) -> bytes:
    """Where a store keeps how far the index is filled from it: the next item's row key."""
    return b"\x00backfill/" + index.document.id.encode()


def _index(table: Table, index_id: str) -> Index | None:
    return next((i for i in table.indexes.values() if i.document.id == index_id), None)
