"""A change log of several shards in memory, read as `LogFetcher` reads the real one."""

from collections.abc import Collection
from typing import Any

from streamtable.core.changes import Change
from streamtable.core.images import Image
from streamtable.core.values import Item, dump_item, item_size
from streamtable.streams import records
from streamtable.streams.epochs import EpochFilter
from streamtable.streams.fetcher import Fetched, LogTrimmed
from streamtable.streams.records import Headers, LogRecord

TABLE_ID = "00000000-0000-0000-0000-000000000007"


class MemoryFetches:
    """Stands where `LogFetcher` stands, and for the stores that know the epochs.

    Attributes:
        first: the first offset kept, of every shard.
        fetches: how many requests were made.
        skipped: how many of them were searches that found none of their texts.
        batch: how many records one request is answered with.
    """

    def __init__(self, shards: int = 1, batch: int = 3) -> None:
        self.shards: list[list[LogRecord]] = [[] for _ in range(shards)]
        self.first = 0
        self.fetches = 0
        self.skipped = 0
        self.batch = batch

    def append(self, written: tuple[bytes, Headers], shard: int = 0, at_ms: int = 0) -> int:
        value, headers = written
        log = self.shards[shard]
        log.append(LogRecord.read(shard, len(log), at_ms, headers, value))
        return len(log) - 1

    def barrier(self, epoch: str, shard: int = 0) -> int:
        return self.append(records.barrier(epoch, {}), shard)

    def commit(self, epoch: str, *changes: Change, shard: int = 0) -> int:
        at_ms = max((change.created_ms for change in changes), default=0)
        return self.append(records.commit(epoch, list(changes), []), shard, at_ms)

    async def fetch(self, shard: int, offset: int, max_bytes: int) -> Fetched:
        self.fetches += 1
        if offset < self.first:
            raise LogTrimmed(str(self.first))
        found = self.shards[shard][offset : offset + self.batch]
        return Fetched(found, offset + len(found), sum(len(record.value) for record in found))

    async def search(
        self, shard: int, offset: int, max_bytes: int, texts: Collection[bytes]
    ) -> Fetched:
        fetched = await self.fetch(shard, offset, max_bytes)
        for record in fetched.records:
            if any(text in record.value or text == record.kind.encode() for text in texts):
                return fetched
        self.skipped += 1
        return Fetched([], fetched.next, fetched.size_bytes)

    async def bounds(self, shard: int) -> tuple[int, int]:
        return self.first, len(self.shards[shard])

    async def offset_at(self, shard: int, timestamp_ms: int) -> int | None:
        for record in self.shards[shard][self.first :]:
            if record.timestamp_ms >= timestamp_ms:
                return record.offset
        return None

    async def epoch(self, shard: int, offset: int) -> tuple[str | None, int | None]:
        epochs = EpochFilter()
        for record in self.shards[shard][:offset]:
            epochs.admit(record.kind, record.epoch, record.offset)
        return epochs.epoch, epochs.barrier


def put(
    name: str,
    value: Any = "v",
    *,
    table: str = "users",
    table_id: str = TABLE_ID,
    created_ms: int = 1_700_000_000_000,
    keys: Item | None = None,
) -> Change:
    """A change that puts an item for the first time."""
    keys = keys or {"id": {"S": name}}
    item = {**keys, "v": {"S": value}}
    return Change(
        table=table,
        table_id=table_id,
        keys=keys,
        old=None,
        new=Image(dump_item(item), item_size(item), created_ms << 16, "local", item),
        time=created_ms << 16,
        region="local",
        created_ms=created_ms,
        request_id="R",
        principal="someone",
    )
