"""Rows of shards of several splits are made from what the logs have, and from nothing less."""

import asyncio
import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaConnectionError

from streamtable.consumers.indexes.messages import read
from streamtable.consumers.reshard import copies
from streamtable.consumers.reshard.copies import Copies
from streamtable.consumers.tables.memory import StoreMemory
from streamtable.consumers.tables.share import Share
from streamtable.consumers.tables.store import ShardStore
from streamtable.core.keys import HASH_BYTES
from streamtable.core.layouts import LayoutDocument, Split
from streamtable.core.tables import GLOBAL_ROW, PREFIX_BYTES
from streamtable.streams import records
from streamtable.streams.layout import Layout
from streamtable.streams.log import LogUnavailable
from streamtable.streams.overlay import Overlay
from streamtable.streams.owner import StateUnavailable
from streamtable.streams.records import Headers, LogRecord
from streamtable.streams.topics import Topics
from tests.streams.logs import put
from tests.streams.shards import TABLE

KEYS = 60
WRITES = 40
DELETED = 0.2
MEMORY = StoreMemory(1024 * 1024, 1024 * 1024)


@dataclass
class Log:
    """The records of one topic by partition."""

    topic: str
    records: defaultdict[int, list[ConsumerRecord[Any, Any]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    starts: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))

    def append(self, shard: int, value: bytes, headers: Headers) -> int:
        offset = len(self.records[shard])
        told = (self.topic, shard, offset, 0, 0, None, value, None, 0, len(value), tuple(headers))
        self.records[shard].append(ConsumerRecord(*told))
        return offset

    async def bounds(self, shard: int) -> tuple[int, int]:
        return self.starts[shard], len(self.records[shard])


class Consumer:
    """Reads both logs some records at a time. Stands where aiokafka's consumer stands."""

    def __init__(self, region: "Region") -> None:
        self._region = region
        self._at: dict[TopicPartition, int] = {}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._at[partition] = offset

    async def getmany(self, *partitions: TopicPartition, **_: Any) -> dict[TopicPartition, Any]:
        region = self._region
        await asyncio.sleep(0)
        if region.chance.random() < region.broken:
            raise KafkaConnectionError("lost")
        found = {}
        for each in partitions:
            at = self._at[each]
            has = region.logs[each.topic].records[each.partition][at:]
            found[each] = has[: region.chance.randint(0, 9)]
            self._at[each] += len(found[each])
        return found

    def highwater(self, partition: TopicPartition) -> int:
        return len(self._region.logs[partition.topic].records[partition.partition])

    async def stop(self) -> None:
        pass


class Region:
    """A region that is written to and split, of which only the logs are left."""

    def __init__(self, path: Path, chance: random.Random) -> None:
        self.chance = chance
        self.broken = 0.0
        self.topics = Topics("test")
        self.changes, self.rows = Log(self.topics.changelog), Log(self.topics.indexes)
        self.logs = {log.topic: log for log in (self.changes, self.rows)}
        self.layout = Layout(2)
        self.items: dict[str, Any] = {}
        self.indexed: dict[bytes, bytes] = {}
        for shard in self.layout:
            self._begin(shard)
        logs: Any = self
        self.copies = Copies(
            address="",
            topics=self.topics,
            logs=logs,
            layout=self.layout,
            catalog=lambda: 0,
            stores={},
            path=lambda number: path / str(number),
            make=self._open,
            restorer=None,
            fail=lambda _error: None,
        )

    async def open_consumer(self, _address: str, _partitions: Any) -> Consumer:
        return Consumer(self)

    async def _open(self, path: Path) -> ShardStore:
        return ShardStore(path, MEMORY, {TABLE.id: TABLE}.get)

    def _begin(self, shard: int) -> None:
        self.changes.append(shard, *records.barrier(f"epoch of {shard}", {}))

    def write(self) -> None:
        """Write an item, or delete it, and a row of an index elsewhere."""
        name = f"item {self.chance.randrange(KEYS)}"
        change = put(name, str(self.chance.random()), table_id=TABLE.id)
        change.old = self.items.get(name)
        if self.chance.random() < DELETED:
            change.new = None
        hashed, _ = TABLE.keys.locate(TABLE.prefix, change.keys)
        shard = hashed % self.layout.count
        offset = self.changes.append(shard, *records.commit(f"epoch of {shard}", [change], []))
        self.items[name] = change.new
        key = self.chance.randbytes(1)
        row_key = bytes([GLOBAL_ROW]).ljust(PREFIX_BYTES, b"-") + key.rjust(HASH_BYTES, b"\0")
        row = {
            "index": "by-value", "key": row_key.hex(),
            "item": {"source": {"N": str(shard)}}, "size": 1, "version": f"{offset}@test",
        }  # fmt: skip
        entry = {"position": [offset, 0], "rows": [row]}
        value = orjson.dumps({"source": shard, "entries": [entry]})
        self.rows.append(key[0] % self.layout.count, value, [])
        self.indexed[row_key] = orjson.dumps(row["item"])

    def split(self, times: int) -> None:
        """Split each shard, after an attempt that was given up."""
        before = self.layout.count
        for _ in range(2):
            ends = tuple(
                self.changes.append(shard, *records.split(f"epoch of {shard}", "attempt", 0))
                for shard in range(before)
            )
        index_ends = tuple(len(self.rows.records[shard]) for shard in range(before))
        split = Split(before=before, after=before * times, ends=ends, index_ends=index_ends, at=1.0)
        splits = (*self.layout.document.splits, split)
        self.layout.take(LayoutDocument(count=split.after, splits=splits))
        for shard in range(before, split.after):
            self._begin(shard)

    async def rebuild(self, shard: int) -> ShardStore:
        """Take a copy, however often that is interrupted, and its shard's own logs."""
        while True:
            try:
                store = await self.copies.take(shard)
            except LogUnavailable:
                continue
            break
        assert store.applied == -1
        store.apply(
            [LogRecord.from_consumer(each) for each in self.changes.records[shard]], Overlay()
        )
        rows = self.rows.records[shard]
        if rows:
            store.apply_index([read(each) for each in rows], len(rows))
        if store.share(Share(shard, self.layout.count), 2):
            cursor: bytes | None = b""
            while cursor is not None:
                cursor = store.drop_foreign(cursor, 7)
        return store

    def check(self, shard: int, store: ShardStore) -> None:
        """Compare a store with what was written."""
        share = Share(shard, self.layout.count)
        expected = {
            TABLE.keys.locate(TABLE.prefix, image.item)[1]: image.json
            for image in self.items.values()
            if image is not None
        } | self.indexed
        found = {key: image.json for key, image in store.scan(b"\1", b"\4")}
        assert found == {key: json for key, json in expected.items() if share.has(key)}
        own = [image for key, image in store.scan(b"\1", b"\2")]
        assert store.total(TABLE.prefix) == (len(own), sum(image.size_bytes for image in own))


@pytest.fixture
def region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Region:
    made = Region(tmp_path, random.Random(0))
    monkeypatch.setattr(copies, "open_consumer", made.open_consumer)
    return made


@pytest.mark.parametrize("seed", range(4))
async def test_shards_are_made_from_the_logs_of_all_that_came_before_them(
    region: Region, seed: int
) -> None:
    region.chance.seed(seed)
    for times in (2, 3, 2):
        for _ in range(WRITES):
            region.write()
        region.split(times)
    for _ in range(WRITES):
        region.write()
    region.broken = 0.05
    generations = set()
    for shard in range(2, region.layout.count):
        generations.add(len(region.layout.document.births(shard)))
        store = await region.rebuild(shard)
        region.check(shard, store)
        store.close()
    assert generations == {1, 2, 3}


async def test_a_log_without_its_beginning_is_said_to_be_what_is_missing(region: Region) -> None:
    for _ in range(2):
        region.write()
        region.split(2)
    assert [each.parent for each in region.layout.document.births(6)] == [0, 2]
    region.changes.starts[0] = 5
    with pytest.raises(StateUnavailable, match=r"shard 2 .* from shard 0, .* offsets 5 and"):
        await region.copies.take(6)
    region.rows.starts[2] = 3
    with pytest.raises(StateUnavailable, match=r"shard 6 .* from shard 2, .* and 3\. Name"):
        await region.copies.take(6)
    region.changes.starts.clear()
    region.rows.starts.clear()
    (await region.copies.take(6)).close()
