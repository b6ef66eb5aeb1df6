"""The writing client of one partition, where the broker does not take what it is sent."""

import asyncio
import time
from pathlib import Path

import pytest
from aiokafka.errors import KafkaStorageError
from kio.schema.errors import ErrorCode

from streamtable.streams import appender
from streamtable.streams.appender import Appender
from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.topics import Topics


class FullBroker:
    """A broker of this process whose disk is full for the first batches."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.sent = 0

    async def open_producer(self, _name: str) -> tuple[int, int]:
        return 1, 0

    async def append(self, _topic: str, _partition: int, _batch: bytes) -> tuple[int, int]:
        self.sent += 1
        if self.sent <= self.refusals:
            return ErrorCode.kafka_storage_error.value, -1
        return 0, 7


async def test_a_full_disk_is_given_a_moment() -> None:
    broker = FullBroker(2)
    here = Appender("", "topic", 0, broker)
    await here.open("shard")
    assert await here.append(b"a", []) == 7
    assert broker.sent == 3


async def test_a_disk_that_stays_full_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for the append waits for the shard's next term too, and others for them."""
    monkeypatch.setattr(appender, "_STORAGE_S", 0.3)
    broker = FullBroker(1_000_000)
    here = Appender("", "topic", 0, broker)
    await here.open("shard")
    started = time.monotonic()
    with pytest.raises(KafkaStorageError):
        await here.append(b"a", [])
    assert time.monotonic() - started < 5
    assert broker.sent > 1


async def test_no_two_batches_have_the_same_number(tmp_path: Path) -> None:
    """The broker would take the second one for the first, and say that it has it."""
    broker = Broker(BrokerSettings(data=tmp_path, port=0))
    await broker.start()
    topics = Topics("test")
    await topics.create(broker.address, 1)
    here = Appender(broker.address, topics.changelog, 0)
    await here.open("shard")
    assert sorted(await asyncio.gather(here.append(b"a", []), here.append(b"b", []))) == [0, 1]
    await here.close()
    await broker.stop()
