"""A change log on a real broker, written by the test itself."""

from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from streamtable.core.changes import Change
from streamtable.core.images import Image
from streamtable.core.values import Item, dump_item, item_size
from streamtable.streams import records
from streamtable.streams.epochs import EpochFilter
from streamtable.streams.formats import CHANGELOG, HEADER
from streamtable.streams.records import Headers, LogRecord

__all__ = ["Changelog", "change"]


def change(
    name: str,
    *,
    old: Item | None = None,
    new: Item | None = None,
    table: str = "users",
    time: int = 1,
) -> Change:
    """A change of the item with this id; an INSERT of nothing else, unless told."""
    keys = {"id": {"S": name}}
    if old is None and new is None:
        new = {}
    images = [None if item is None else _image({**keys, **item}, time) for item in (old, new)]
    return Change(
        table=table,
        table_id="00000000-0000-0000-0000-000000000007",
        keys=keys,
        old=images[0],
        new=images[1],
        time=time,
        region="local",
        created_ms=1_700_000_000_000,
        request_id="REQUEST",
        principal="someone",
    )


def _image(item: Item, time: int) -> Image:
    return Image(dump_item(item), item_size(item), time, "local", item)


class Changelog:
    """The log of a region of the test's own. An async context manager.

    Attributes:
        region: the region's name.
        topic: its log.
        asked: the questions for an epoch so far, (shard, offset).
    """

    def __init__(self, address: str, shards: int = 2) -> None:
        self.address = address
        self.shards = shards
        self.region = f"r{uuid4().hex[:10]}"
        self.topic = f"{self.region}.changelog"
        self.asked: list[tuple[int, int]] = []
        self._written: dict[int, list[LogRecord]] = {shard: [] for shard in range(shards)}

    async def __aenter__(self) -> Self:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(self.topic, self.shards, 1)])
        finally:
            await admin.close()
        self._producer = AIOKafkaProducer(bootstrap_servers=self.address, acks="all")
        await self._producer.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._producer.stop()

    async def barrier(self, epoch: str, shard: int = 0) -> int:
        """Begin a term."""
        return await self._append(records.barrier(epoch, {"node": "node-1"}), shard)

    async def commit(self, epoch: str, *changes: Change, shard: int = 0) -> int:
        """Append a commit; return its offset."""
        return await self._append(records.commit(epoch, list(changes), []), shard)

    async def newer(self, epoch: str, shard: int = 0) -> None:
        """Append a commit of a format that nobody here knows."""
        value, headers = records.commit(epoch, [change("newer")], [])
        headers.append((HEADER, b"%d" % (CHANGELOG + 1)))
        sent = await self._producer.send_and_wait(
            self.topic, value, partition=shard, headers=headers
        )
        # The test knows better than the reader what it is.
        del headers[-1]
        self._written[shard].append(LogRecord.read(shard, sent.offset, 0, headers, value))

    async def trim(self, before: int, shard: int = 0) -> None:
        """Remove the records before an offset, as retention does."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        try:
            await admin.delete_records(
                {TopicPartition(self.topic, shard): RecordsToDelete(before_offset=before)}
            )
        finally:
            await admin.close()

    async def committed(self, group: str, shard: int = 0) -> int:
        """Return the offset that a group has committed, -1 where none."""
        partition = TopicPartition(self.topic, shard)
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        try:
            found = await admin.list_consumer_group_offsets(group, partitions=[partition])
        finally:
            await admin.close()
        offset: int = found[partition].offset
        return offset

    async def epoch(self, shard: int, offset: int) -> tuple[str | None, int | None]:
        """Answer as the node's page does."""
        self.asked.append((shard, offset))
        epochs = EpochFilter()
        for record in self._written[shard][:offset]:
            epochs.admit(record.kind, record.epoch, record.offset)
        return epochs.epoch, epochs.barrier

    async def _append(self, written: tuple[bytes, Headers], shard: int) -> int:
        value, headers = written
        sent: Any = await self._producer.send_and_wait(
            self.topic, value, partition=shard, headers=headers
        )
        log = self._written[shard]
        assert sent.offset == len(log)
        log.append(LogRecord.read(shard, sent.offset, sent.timestamp, headers, value))
        return len(log) - 1
