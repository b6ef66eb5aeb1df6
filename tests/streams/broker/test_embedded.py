"""The embedded broker behaves as a Kafka broker."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import InvalidProducerEpoch, KafkaConnectionError

from streamtable.streams.appender import Appender, LocalBroker
from streamtable.streams.appends import AppendClient, AppendServer
from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.broker.log import PartitionLog
from tests.streams.broker import behaviour, clients, membership
from tests.support.kafka_wire import KafkaWire, batch
from tests.support.ports import free_port
from tests.support.waiting import until


class Embedded:
    """Runs each test on an embedded broker of its own."""

    @pytest.fixture
    async def running(self, settings: BrokerSettings) -> AsyncIterator[list[Broker]]:
        broker = Broker(settings.model_copy(update={"port": free_port()}))
        await broker.start()
        holder = [broker]
        yield holder
        await holder[0].stop()

    @pytest.fixture
    def address(self, running: list[Broker]) -> str:
        return running[0].address

    @pytest.fixture
    def restart(self, running: list[Broker], settings: BrokerSettings) -> behaviour.Restart:
        async def again() -> None:
            port = int(running[0].address.rpartition(":")[2])
            await running[0].stop()
            running[0] = Broker(settings.model_copy(update={"port": port}))
            await running[0].start()

        return again


class TestProduce(Embedded, behaviour.ProduceCase):
    pass


class TestIdempotence(Embedded, behaviour.IdempotenceCase):
    pass


class TestFetch(Embedded, behaviour.FetchCase):
    pass


class TestOffsetsByTime(Embedded, behaviour.OffsetsByTimeCase):
    pass


class TestTopics(Embedded, behaviour.TopicsCase):
    pass


class TestProtocol(Embedded, behaviour.ProtocolCase):
    pass


class TestMembership(Embedded, membership.MembershipCase):
    pass


class TestClients(Embedded, clients.ClientsCase):
    pass


class TestAppendsOfThisMachine(Embedded):
    """Of the broker's own process, and of others beside it."""

    @pytest.fixture(params=["its process", "another one"])
    async def local(
        self, running: list[Broker], request: pytest.FixtureRequest, tmp_path: Path
    ) -> AsyncIterator[LocalBroker]:
        if request.param == "its process":
            yield running[0]
            return
        server = AppendServer(running[0], "eu", tmp_path)
        client = AppendClient(await server.start(), "eu", tmp_path)
        yield client
        await client.stop()
        await server.stop()

    async def test_they_are_fenced_and_read_as_those_of_any_client(
        self, local: LocalBroker, address: str
    ) -> None:
        async with await KafkaWire.connect(address) as wire:
            topic = await behaviour.create(wire)
        here = Appender(address, topic, 0, local)
        await here.open("shard")
        assert [await here.append(text, [("kind", b"x")]) for text in (b"a", b"b")] == [0, 1]
        async with AIOKafkaConsumer(
            topic, bootstrap_servers=address, auto_offset_reset="earliest"
        ) as consumer:
            found = [await asyncio.wait_for(consumer.getone(), 10) for _ in range(2)]
        assert [(one.offset, one.value, one.headers) for one in found] == [
            (0, b"a", (("kind", b"x"),)),
            (1, b"b", (("kind", b"x"),)),
        ]
        newer = Appender(address, topic, 0)
        await newer.open("shard")
        with pytest.raises(InvalidProducerEpoch):
            await here.append(b"c", [])
        assert await newer.append(b"d", []) == 2
        await newer.close()
        await here.close()

    async def test_a_batch_that_may_not_be_stored_is_refused(
        self, local: LocalBroker, address: str
    ) -> None:
        assert await local.append("nowhere", 0, b"?") == (3, -1)  # UNKNOWN_TOPIC_OR_PARTITION
        async with await KafkaWire.connect(address) as wire:
            topic = await behaviour.create(wire)
        assert await local.append(topic, 0, b"damaged") == (2, -1)  # CORRUPT_MESSAGE

    async def test_whoever_waits_hears_that_the_broker_stops(
        self, local: LocalBroker, running: list[Broker], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broker = running[0]
        async with await KafkaWire.connect(broker.address) as wire:
            topic = await behaviour.create(wire)
        monkeypatch.setattr(PartitionLog, "_sync", lambda _log: None)
        waiting = asyncio.ensure_future(local.append(topic, 0, batch(b"a")))
        await until(lambda: bool(broker._appends), "the broker to have it")
        await broker.stop()
        with pytest.raises(KafkaConnectionError):
            await waiting
        with pytest.raises(KafkaConnectionError):
            await local.append(topic, 0, batch(b"a"))
        with pytest.raises(KafkaConnectionError):
            await local.open_producer("shard")


async def test_an_append_whose_way_is_gone_may_be_in_the_log(
    settings: BrokerSettings, tmp_path: Path
) -> None:
    broker = Broker(settings)
    server = AppendServer(broker, "eu", tmp_path)
    client = AppendClient(await server.start(), "eu", tmp_path)
    await server.stop()
    with pytest.raises(KafkaConnectionError):
        await client.append("topic", 0, b"?")
    await client.stop()
