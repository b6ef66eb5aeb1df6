"""Shards and a catalog in memory, with the interfaces of the real ones: no log, no disk."""

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

import orjson

from streamtable.core.backups import BackupDocument
from streamtable.core.context import RequestContext
from streamtable.core.documents import TableDocument
from streamtable.core.errors import (
    ApiError,
    IdempotentParameterMismatch,
    ResourceInUse,
    ResourceNotFound,
    TransactionCanceled,
)
from streamtable.core.images import Image
from streamtable.core.index_rows import index_rows
from streamtable.core.item_collections import collection_key
from streamtable.core.operations.writes import Write
from streamtable.core.tables import Table
from streamtable.core.values import dump_item
from streamtable.streams.catalog import ChangedMeanwhile
from streamtable.streams.shard import Chunk, FetchedChunk, Outcome
from streamtable.streams.snapshots import Read
from streamtable.streams.transactions import UsedToken

CONTEXT = RequestContext(request_id="R", principal="someone", source_address="127.0.0.1")


class FakeShard:
    """Rows in a dict; `evaluations` counts how often writes were evaluated."""

    def __init__(self, shards: "FakeShards", number: int) -> None:
        self.number = number
        self.rows: dict[bytes, Image] = {}
        self.evaluations = 0
        self._shards = shards
        self._time = 0

    async def write(self, write: Write, context: RequestContext) -> Outcome:
        await asyncio.sleep(0)
        return self._apply(write)

    async def write_many(self, writes: list[Write], context: RequestContext) -> list[Outcome]:
        await asyncio.sleep(0)
        return [self._apply(write) for write in writes]

    def begin(self, _write: Write, _context: RequestContext) -> None:
        """Nothing is at once."""

    def at_hand(self, *, consistent: bool) -> None:
        """Nothing is: everybody waits."""

    async def read(self, row_key: bytes, *, consistent: bool) -> Image | None:
        await self.ready(consistent=consistent)
        return self.rows.get(row_key)

    async def read_many(self, row_keys: list[bytes], *, consistent: bool) -> list[Image | None]:
        await self.ready(consistent=consistent)
        return [self.rows.get(row_key) for row_key in row_keys]

    async def chunks(
        self, start: bytes, end: bytes, *, reverse: bool, consistent: bool, limit: int | None
    ) -> AsyncIterator[Chunk]:
        await self.ready(consistent=consistent)
        yield Chunk(self.scan(start, end, reverse=reverse), more=False)

    async def fetched_chunks(
        self,
        table: Table,
        start: bytes,
        end: bytes,
        *,
        reverse: bool,
        consistent: bool,
        limit: int | None,
    ) -> AsyncIterator[FetchedChunk]:
        await self.ready(consistent=consistent)
        items = (
            (key, image, self.rows[table.keys.locate(table.prefix, image.item)[1]])
            for key, image in self.scan(start, end, reverse=reverse)
        )
        yield FetchedChunk(items, more=False)

    async def ready(self, *, consistent: bool) -> None:
        await asyncio.sleep(0)

    def get(self, row_key: bytes) -> Image | None:
        return self.rows.get(row_key)

    async def measure_collection(self, write: Write) -> int:
        start = collection_key(write.table, write.key)
        return sum(image.size_bytes for key, image in self.rows.items() if key.startswith(start))

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, Image]]:
        keys = sorted(self.rows)
        found = keys[bisect_left(keys, start) : bisect_left(keys, end)]
        return iter([(key, self.rows[key]) for key in (reversed(found) if reverse else found)])

    def _apply(self, write: Write) -> Outcome:
        self.evaluations += 1
        old = self.rows.get(write.row_key)
        old_item = old.item if old is not None and write.needs_old else None
        found, size = write.evaluate(old_item)
        if found is None:
            self.rows.pop(write.row_key, None)
            self._index(write.table, old, None)
            return Outcome(old, None, 0, 0)
        item = orjson.loads(found) if isinstance(found, bytes) else found
        if old is not None and (item is old_item or item == old.item):
            return Outcome(old, old, -1, 0)
        self._time += 1
        new = self.rows[write.row_key] = Image(dump_item(item), size, self._time, "local")
        self._index(write.table, old, new)
        return Outcome(old, new, 0, 0)

    def _index(self, table: Table, old: Image | None, new: Image | None) -> None:
        for row in index_rows(table, None if old is None else old.item, new):
            rows = self._shards.of(row.hash).rows
            if row.image is None:
                rows.pop(row.row_key, None)
            else:
                rows[row.row_key] = row.image


class FakeShards:
    def __init__(self, count: int = 4) -> None:
        self.count = count
        self._shards = [FakeShard(self, number) for number in range(count)]

    def of(self, partition_hash: int) -> FakeShard:
        return self._shards[partition_hash % self.count]

    def __getitem__(self, number: int) -> FakeShard:
        return self._shards[number]

    def purge(self, table: Table) -> None:
        for shard in self._shards:
            for key in [key for key in shard.rows if key.startswith(table.prefix)]:
                del shard.rows[key]


class FakeTransactions:
    """All writes of a transaction are tried before any is carried out; tokens never expire."""

    def __init__(self, shards: FakeShards) -> None:
        self._shards = shards
        self._tokens: dict[str, str] = {}

    async def write(
        self, writes: Sequence[Write], token: UsedToken | None, context: RequestContext
    ) -> list[Outcome] | None:
        if token is not None and token.token in self._tokens:
            if self._tokens[token.token] != token.digest:
                raise IdempotentParameterMismatch
            return None
        reasons = [self._try(write) for write in writes]
        if any(reason["Code"] != "None" for reason in reasons):
            raise TransactionCanceled(reasons)
        if token is not None:
            self._tokens[token.token] = token.digest
        return [await self._shards.of(write.hash).write(write, context) for write in writes]

    async def read(self, reads: Sequence[Read]) -> list[Image | None]:
        await asyncio.sleep(0)
        return [self._shards.of(read.hash).get(read.row_key) for read in reads]

    def _try(self, write: Write) -> dict[str, Any]:
        image = self._shards.of(write.hash).get(write.row_key)
        try:
            write.evaluate(None if image is None else image.item)
        except ApiError as error:
            code = error.code.removesuffix("Exception").replace("Validation", "ValidationError")
            return {"Code": code, "Message": error.message, **error.members}
        return {"Code": "None"}


class FakeCatalog:
    """Tables and backups in dicts; each change takes a while, so another one can come first."""

    def __init__(self, shards: FakeShards) -> None:
        self._shards = shards
        self._tables: dict[str, Table] = {}
        self._backups: dict[str, BackupDocument] = {}

    def table(self, name: str) -> Table:
        try:
            return self._tables[name]
        except KeyError:
            raise ResourceNotFound("Requested resource not found") from None

    def tables(self) -> Iterable[Table]:
        return [self._tables[name] for name in sorted(self._tables)]

    def backups(self) -> Iterable[BackupDocument]:
        return list(self._backups.values())

    async def put_backup(self, document: BackupDocument) -> None:
        before = self._backups.get(document.id)
        await asyncio.sleep(0)
        if self._backups.get(document.id) is not before:
            raise ChangedMeanwhile(document.table.name)
        self._backups[document.id] = document

    async def create(self, document: TableDocument) -> None:
        if document.name in self._tables:
            raise ResourceInUse(f"Table already exists: {document.name}")
        self._put(document)

    async def update(self, document: TableDocument) -> None:
        before = self.table(document.name)
        await asyncio.sleep(0)
        if self._tables.get(document.name) is not before:
            raise ChangedMeanwhile(document.name)
        self._put(document)

    async def delete(self, name: str) -> None:
        before = self.table(name)
        await asyncio.sleep(0)
        if self._tables.get(name) is not before:
            raise ChangedMeanwhile(name)
        self._shards.purge(before)
        del self._tables[name]

    def _put(self, document: TableDocument) -> None:
        # As the real one: only what survives JSON is there afterwards.
        stored: Any = TableDocument.model_validate_json(document.model_dump_json())
        self._tables[document.name] = Table(stored)
