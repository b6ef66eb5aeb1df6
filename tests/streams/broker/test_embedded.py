"""The embedded broker behaves as a Kafka broker."""

from collections.abc import AsyncIterator

import pytest

from streamtable.streams.broker import Broker, BrokerSettings
from tests.streams.broker import behaviour, clients, membership
from tests.support.ports import free_port


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
