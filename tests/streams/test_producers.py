"""Producers whose broker falls silent."""

import asyncio
import time

import pytest
from aiokafka.errors import KafkaError

from streamtable.streams import producers
from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.producers import close_producer, open_producer
from streamtable.streams.topics import Topics

FAR_BELOW_S = 10.0
"""What tells aiokafka's own limit, 40 s, from this one on a machine that is slow."""


async def test_a_producer_is_closed_that_gets_nothing_sent(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producers, "_CLOSE_S", 0.2)
    broker = Broker(BrokerSettings(data=tmp_path_factory.mktemp("broker"), port=0))
    await broker.start()
    topics = Topics("test")
    await topics.create(broker.address, 1)
    producer = await open_producer(broker.address)
    await producer.send_and_wait(topics.indexes, b"sent", partition=0)
    monkeypatch.setattr(
        "streamtable.streams.broker.connection.Connection.data_received", lambda *_: None
    )
    waiting = await producer.send(topics.indexes, b"not sent", partition=0)
    started = time.monotonic()
    await close_producer(producer)
    with pytest.raises(KafkaError):
        await asyncio.wait_for(waiting, FAR_BELOW_S)
    assert time.monotonic() - started < FAR_BELOW_S
    await broker.stop()
