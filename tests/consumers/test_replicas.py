"""A replica follows the log; where it may not read on, the node hears of it."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streamtable.consumers.indexes.messages import encode
from streamtable.consumers.replicas import Replicas
from streamtable.consumers.tables.memory import StoreMemory
from streamtable.consumers.tables.store import ShardStore
from streamtable.core.formats import NewerFormat
from streamtable.core.images import Image
from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.overlay import IndexOverlay
from streamtable.streams.producers import open_producer
from streamtable.streams.topics import Topics
from tests.support.changelog import Changelog, change
from tests.support.waiting import until


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    broker = Broker(BrokerSettings(data=tmp_path / "broker", port=0))
    await broker.start()
    yield broker.address
    await broker.stop()


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
