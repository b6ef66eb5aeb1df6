"""A replica follows the log; where it may not read on, the node hears of it."""

import math
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from streamtable.consumers.indexes.messages import encode
from streamtable.consumers.replicas import Following, Replicas
from streamtable.consumers.tables.memory import StoreMemory
from streamtable.consumers.tables.store import ShardStore
from streamtable.core.formats import NewerFormat
from streamtable.core.images import Image
from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.overlay import IndexOverlay
from streamtable.streams.owner import StateUnavailable
from streamtable.streams.partitions import open_consumer
from streamtable.streams.producers import open_producer
from streamtable.streams.topics import Topics
from tests.support.changelog import Changelog, change
from tests.support.waiting import until


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    broker = Broker(BrokerSettings(data=tmp_path / "broker", port=0))
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
def address(broker: Broker) -> str:
    return broker.address


async def test_it_stops_at_a_record_of_a_newer_format(address: str, tmp_path: Path) -> None:
    store = ShardStore(tmp_path / "store", StoreMemory(1024, 1024), lambda _: None)
    # What opens shards, with one that is open.
    holdings: Any = SimpleNamespace(held={0: None}, stores={0: store})
    failures: list[BaseException] = []
    async with Changelog(address, shards=1) as log:
        topics = Topics(log.region)
        await topics.create(address, 1)
        replicas = Replicas(address, topics, holdings, failures.append)
        await log.barrier("e1")
        await log.commit("e1", change("a"))
        replicas.start(0)
        await until(lambda: store.applied == 1, "the commit")
        await log.newer("e1")
        await until(lambda: failures, "the failure")
        await replicas.stop_all()
    assert isinstance(failures[0], NewerFormat)
    assert store.applied == 1
    store.close()


async def test_what_was_shown_before_its_row_came_goes_when_it_comes(
    address: str, tmp_path: Path
) -> None:
    """A node shows rows of its own shards on its replica at once; the log has the last word."""
    store = ShardStore(tmp_path / "store", StoreMemory(1024, 1024), lambda _: None)
    shown = IndexOverlay()
    holdings: Any = SimpleNamespace(held={0: SimpleNamespace(index_rows=shown)}, stores={0: store})
    row: Any = SimpleNamespace(
        index=SimpleNamespace(name="by"), row_key=b"\x02key", image=Image(b"{}", 2, 1, "test")
    )
    failures: list[BaseException] = []
    async with Changelog(address, shards=1) as log:
        topics = Topics(log.region)
        await topics.create(address, 1)
        shown.show(7, 3, row)
        replicas = Replicas(address, topics, holdings, failures.append)
        replicas.start(0)
        producer = await open_producer(address)
        await producer.send_and_wait(topics.indexes, encode(7, [((3, 0), [row])]), partition=0)
        await producer.stop()
        await until(lambda: store.indexed(7) == 3, "the row")
        await until(lambda: not shown.between(b"\x02", b"\x03"), "the log's word")
        await replicas.stop_all()
    assert not failures
    store.close()


async def test_one_consumer_follows_those_that_are_to_be_followed(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who takes a shard over opens and closes its store: nothing may be applied to it any more."""
    opened = 0

    async def counted(*arguments: Any) -> Any:
        nonlocal opened
        opened += 1
        return await open_consumer(*arguments)

    monkeypatch.setattr("streamtable.consumers.replicas.open_consumer", counted)
    memory = StoreMemory(1024, 1024)
    stores = {each: ShardStore(tmp_path / str(each), memory, lambda _: None) for each in range(3)}
    holdings: Any = SimpleNamespace(held=dict.fromkeys(stores), stores=stores)
    failures: list[BaseException] = []
    async with Changelog(address, shards=3) as log:
        topics = Topics(log.region)
        await topics.create(address, 3)
        replicas = Replicas(address, topics, holdings, failures.append)
        for shard in (0, 1):
            replicas.start(shard)
        for shard in stores:
            await log.barrier("e1", shard)
        await until(lambda: stores[0].applied == stores[1].applied == 0, "the barriers")
        assert await replicas.stop(0)
        stores.pop(0).close()
        replicas.start(2)
        for shard in range(3):
            await log.commit("e1", change("a"), shard=shard)
        await until(lambda: stores[1].applied == stores[2].applied == 1, "the commits")
        assert not await replicas.stop(0)
        await replicas.stop_all()
    assert not failures
    assert opened == 1
    for store in stores.values():
        store.close()


async def test_what_is_wrong_with_one_does_not_stop_the_others(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamtable.consumers.replicas._RETRY_S", 0.5)
    memory = StoreMemory(1024, 1024)
    stores = {each: ShardStore(tmp_path / str(each), memory, lambda _: None) for each in range(2)}
    holdings: Any = SimpleNamespace(held=dict.fromkeys(stores), stores=stores)
    failures: list[BaseException] = []
    full, apply = True, stores[0].apply

    def refused(*arguments: Any) -> Any:
        if full:
            raise StateUnavailable("the disk is full")
        return apply(*arguments)

    monkeypatch.setattr(stores[0], "apply", refused)
    async with Changelog(address, shards=2) as log:
        topics = Topics(log.region)
        await topics.create(address, 2)
        replicas = Replicas(address, topics, holdings, failures.append)
        for shard in stores:
            replicas.start(shard)
            await log.barrier("e1", shard)
            await log.commit("e1", change("a"), shard=shard)
        await until(lambda: stores[1].applied == 1, "the other one")
        assert stores[0].applied == -1
        full = False
        await until(lambda: stores[0].applied == 1, "the one that was full")
        await replicas.stop_all()
    assert not failures
    for store in stores.values():
        store.close()


async def test_one_that_is_older_than_the_log_is_loaded_anew(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ShardStore(tmp_path / "store", StoreMemory(1024, 1024), lambda _: None)
    did: list[str] = []
    held: dict[int, None] = {0: None}

    async def close(number: int) -> None:
        did.append("close")
        del held[number]

    async def load(number: int) -> None:
        did.append("open")
        held[number] = None

    holdings: Any = SimpleNamespace(held=held, stores={0: store}, close=close, open=load)
    failures: list[BaseException] = []
    async with Changelog(address, shards=1) as log:
        topics = Topics(log.region)
        await topics.create(address, 1)
        await log.barrier("e1")
        gone = OffsetOutOfRangeError({TopicPartition(topics.changelog, 0): 0})

        async def open_past(*arguments: Any) -> Any:
            consumer = await open_consumer(*arguments)
            getmany = consumer.getmany

            async def once(**how: Any) -> Any:
                if not did:
                    raise gone
                return await getmany(**how)

            consumer.getmany = once
            return consumer

        monkeypatch.setattr("streamtable.consumers.replicas.open_consumer", open_past)
        replicas = Replicas(address, topics, holdings, failures.append)
        replicas.start(0)
        await until(lambda: store.applied == 0, "the barrier")
        await replicas.stop_all()
    assert did == ["close", "open"]
    assert not failures
    store.close()


async def test_it_is_fresh_while_the_brokers_tell_that_it_is(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them it knows no later end than the last one, and is at it for ever."""
    monkeypatch.setattr("streamtable.consumers.replicas._FRESH_S", 1.5)
    store = ShardStore(tmp_path / "store", StoreMemory(1024, 1024), lambda _: None)
    shard: Any = SimpleNamespace(index_rows=IndexOverlay())
    holdings: Any = SimpleNamespace(held={0: shard}, stores={0: store})
    failures: list[BaseException] = []
    async with Changelog(broker.address, shards=1) as log:
        topics = Topics(log.region)
        await topics.create(broker.address, 1)
        replicas = Replicas(broker.address, topics, holdings, failures.append)
        replicas.start(0)
        assert replicas.fresh(0) is None
        await log.barrier("e1")
        await until(lambda: replicas.fresh(0) is shard, "the end of the logs")
        assert replicas.lags() == {0: 0}
        await broker.stop()
        await until(lambda: replicas.fresh(0) is None, "the end of what is fresh")
        await replicas.stop_all()
    assert not failures
    store.close()


def test_it_is_not_fresh_while_it_lacks_index_rows() -> None:
    """The two logs are on different brokers, most likely, and one may be behind."""
    told: dict[TopicPartition, tuple[int, int]] = {}
    consumer: Any = SimpleNamespace(
        highwater=lambda each: told[each][0], last_poll_timestamp=lambda each: told[each][1]
    )
    changes, rows = TopicPartition("changes", 0), TopicPartition("rows", 0)
    following = Following()
    told.update({changes: (5, 1000), rows: (9, 1000)})
    following.look(consumer, changes, 5)
    assert following.fresh_at == -math.inf
    following.look(consumer, rows, 7)
    assert (following.fresh_at, following.lag) == (-math.inf, 2)
    told[rows] = (9, 1001)
    following.look(consumer, rows, 9)
    assert following.lag == 0
    at = following.fresh_at
    assert at <= time.monotonic()
    told[changes] = (5, 1002)
    following.look(consumer, changes, 5)
    assert following.fresh_at > at
    at = following.fresh_at
    following.look(consumer, rows, 9)
    assert following.fresh_at == at
