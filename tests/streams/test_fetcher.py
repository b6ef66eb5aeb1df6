import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.protocol.fetch import FetchRequest

from streamtable.core.formats import NewerFormat
from streamtable.streams import records
from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.fetcher import Fetched, LogFetcher, LogTrimmed
from streamtable.streams.formats import CHANGELOG, HEADER
from streamtable.streams.log import LogUnavailable
from streamtable.streams.shard_log import ShardLog
from streamtable.streams.topics import Topics
from tests.streams.logs import put
from tests.support.ports import free_port


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)])
async def address(request, tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "apache":
        yield request.getfixturevalue("apache").address
        return
    broker = Broker(BrokerSettings(data=tmp_path / "broker", port=0))
    await broker.start()
    yield broker.address
    await broker.stop()


@pytest.fixture
async def topic(address: str) -> str:
    topics = Topics(f"r{uuid.uuid4().hex[:8]}")
    await topics.create(address, 2)
    return topics.changelog


@pytest.fixture
async def fetcher(address: str, topic: str) -> AsyncIterator[LogFetcher]:
    made = LogFetcher(address, topic)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def log(address: str, topic: str, fetcher: LogFetcher) -> AsyncIterator[ShardLog]:
    made = ShardLog(address, topic, 1, fetcher)
    await made.open()
    yield made
    await made.close()


async def fill(log, count, size=10):
    for number in range(count):
        await log.append(*records.commit("one", [put(str(number), "x" * size)], []))


class TestFetch:
    async def test_a_record_of_a_newer_format_is_not_read(self, fetcher, log):
        value, headers = records.barrier("one", {})
        await log.append(value, headers)
        await log.append(value, [*headers, (HEADER, b"%d" % (CHANGELOG + 1))])
        with pytest.raises(NewerFormat, match="offset 1 of shard 1 of the change log"):
            await fetcher.fetch(1, 0, 1024 * 1024)

    async def test_records_come_from_the_middle(self, fetcher, log):
        await log.append(*records.barrier("one", {}))
        await fill(log, 5)
        found = await fetcher.fetch(1, 2, 1024 * 1024)
        assert [record.offset for record in found.records] == [2, 3, 4, 5]
        assert found.next == 6
        assert found.size_bytes > 0
        [change] = found.records[0].changes()
        assert change.keys == {"id": {"S": "1"}}
        assert {record.shard for record in found.records} == {1}
        assert all(record.timestamp_ms > 1_600_000_000_000 for record in found.records)

    async def test_the_end_is_empty(self, fetcher, log):
        assert (await fetcher.fetch(1, 0, 1024)).records == []
        await fill(log, 2)
        found = await fetcher.fetch(1, 2, 1024)
        assert (found.records, found.next) == ([], 2)
        assert (await fetcher.fetch(1, 50, 1024)).next == 50

    async def test_a_leader_that_lags_behind_makes_nobody_skip_records(
        self, fetcher, log, monkeypatch
    ):
        await fill(log, 5)
        answers = [OffsetOutOfRangeError]
        ask_once = fetcher._ask_once

        async def lag(shard, request):
            if answers and isinstance(request, FetchRequest):
                raise answers.pop()
            return await ask_once(shard, request)

        monkeypatch.setattr(fetcher, "_ask_once", lag)
        assert await fetcher.fetch(1, 2, 1024) == Fetched([], 2, 0)
        assert [record.offset for record in (await fetcher.fetch(1, 2, 10_000)).records] == [
            2,
            3,
            4,
        ]

    async def test_a_part_is_bounded_but_has_a_record_at_least(self, fetcher, log):
        await fill(log, 20, 1000)
        found = await fetcher.fetch(1, 0, 5000)
        assert 0 < len(found.records) < 20
        assert found.next == len(found.records)
        found = await fetcher.fetch(1, 3, 1)
        assert [record.offset for record in found.records] == [3]

    async def test_a_record_inside_a_batch(self, address, topic, fetcher):
        producer = AIOKafkaProducer(bootstrap_servers=address, linger_ms=50)
        await producer.start()
        value, headers = records.commit("one", [put("a")], [])
        sent = [await producer.send(topic, value, partition=1, headers=headers) for _ in range(10)]
        await asyncio.gather(*sent)
        await producer.stop()
        found = await fetcher.fetch(1, 7, 1024 * 1024)
        assert [record.offset for record in found.records] == [7, 8, 9]

    async def test_many_at_once(self, fetcher, log):
        await fill(log, 30)
        found = await asyncio.gather(*(fetcher.fetch(1, at, 1024 * 1024) for at in range(30)))
        assert [part.records[0].offset for part in found] == list(range(30))

    async def test_what_was_trimmed_is_told(self, address, topic, fetcher, log):
        await fill(log, 5)
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        try:
            await admin.delete_records({TopicPartition(topic, 1): RecordsToDelete(3)})
        finally:
            await admin.close()
        assert await fetcher.bounds(1) == (3, 5)
        with pytest.raises(LogTrimmed, match="offset 3, not 1"):
            await fetcher.fetch(1, 1, 1024)
        assert [record.offset for record in (await fetcher.fetch(1, 3, 10_000)).records] == [3, 4]


class TestSearch:
    async def test_what_has_the_text_is_returned(self, fetcher, log):
        await fill(log, 5)
        found = await fetcher.search(1, 1, 1024 * 1024, [b"no such thing", b'{"S":"3"}'])
        assert [record.offset for record in found.records] == [1, 2, 3, 4]
        assert found.next == 5

    async def test_what_has_none_is_passed_over(self, fetcher, log):
        await fill(log, 20, 1000)
        whole = await fetcher.fetch(1, 0, 5000)
        found = await fetcher.search(1, 0, 5000, [b"no such thing"])
        assert found.records == []
        assert (found.next, found.size_bytes) == (whole.next, whole.size_bytes)
        assert 0 < found.next < 20
        assert (await fetcher.search(1, 20, 5000, [b"x"])).next == 20

    async def test_a_text_in_a_header_is_found(self, fetcher, log):
        await log.append(*records.barrier("one", {}))
        found = await fetcher.search(1, 0, 5000, [b"barrier"])
        assert [record.kind for record in found.records] == ["barrier"]

    async def test_packed_batches_are_always_read(self, address, topic, fetcher):
        producer = AIOKafkaProducer(bootstrap_servers=address, compression_type="gzip")
        await producer.start()
        value, headers = records.commit("one", [put("a", "x" * 1000)], [])
        try:
            await producer.send_and_wait(topic, value, partition=1, headers=headers)
        finally:
            await producer.stop()
        found = await fetcher.search(1, 0, 5000, [b"no such thing"])
        assert [record.offset for record in found.records] == [0]


class TestOffsets:
    async def test_bounds(self, fetcher, log):
        assert await fetcher.bounds(1) == (0, 0)
        await fill(log, 3)
        assert await fetcher.bounds(1) == (0, 3)
        assert await fetcher.bounds(0) == (0, 0)

    async def test_by_time(self, fetcher, log):
        await fill(log, 20)
        found = await fetcher.fetch(1, 0, 1024 * 1024)
        times = [record.timestamp_ms for record in found.records]
        assert len(times) == 20
        for at_ms in {times[0] - 1_000_000, *times, *(time + 1 for time in times)}:
            after = [offset for offset, time in enumerate(times) if time >= at_ms]
            assert await fetcher.offset_at(1, at_ms) == (after[0] if after else None)


class TestFailures:
    async def test_no_broker(self):
        fetcher = LogFetcher("127.0.0.1:1", "r.changelog")
        with pytest.raises(LogUnavailable):
            await fetcher.start()
        await fetcher.stop()

    async def test_a_broker_that_comes_back(self, tmp_path):
        settings = BrokerSettings(data=tmp_path / "broker", port=free_port())
        broker = Broker(settings)
        await broker.start()
        address = broker.address
        topics = Topics("r")
        await topics.create(address, 1)
        fetcher = LogFetcher(address, topics.changelog)
        await fetcher.start()
        assert await fetcher.bounds(0) == (0, 0)
        await broker.stop()
        with pytest.raises(LogUnavailable):
            await fetcher.fetch(0, 0, 1024)
        broker = Broker(settings)
        await broker.start()
        assert await fetcher.bounds(0) == (0, 0)
        await fetcher.stop()
        await broker.stop()
