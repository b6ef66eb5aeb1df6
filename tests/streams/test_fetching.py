"""Consumers whose broker goes away."""

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.errors import KafkaError

from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.partitions import open_consumer
from streamtable.streams.topics import Topics

SOON_S = 20.0


@pytest.fixture
async def broker(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = Broker(BrokerSettings(data=tmp_path_factory.mktemp("broker"), port=0))
    await made.start()
    yield made
    await made.stop()


async def read(broker: Broker) -> Any:
    """A consumer that fetches."""
    topics = Topics("test")
    await topics.create(broker.address, 1)
    consumer = await open_consumer(
        broker.address, [TopicPartition(topics.changelog, 0)], missing="earliest"
    )
    await consumer.getmany(timeout_ms=100)
    return consumer


async def test_it_is_stopped_while_it_waits_to_fetch_again(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = asyncio.Event()
    monkeypatch.setattr(
        Fetcher, "_invalidate_preferred_read_replica_for_node", lambda *_: failed.set()
    )
    consumer = await read(broker)
    consumer._fetcher._retry_backoff = 10 * SOON_S
    await broker.stop()
    async with asyncio.timeout(SOON_S):
        await failed.wait()
        await consumer.stop()


async def test_who_reads_is_told_when_nothing_is_fetched_any_more(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> bool:
        raise ZeroDivisionError

    consumer = await read(broker)
    monkeypatch.setattr(Fetcher, "_proc_fetch_request", fail)

    async def wait() -> None:
        while not await consumer.getmany(timeout_ms=10):
            pass

    with pytest.raises(KafkaError, match="retrieval"):
        await asyncio.wait_for(wait(), SOON_S)
    with pytest.raises(KafkaError, match="retrieval"):
        await consumer.stop()
    await consumer._client.close()
