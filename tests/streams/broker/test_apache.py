"""Apache Kafka behaves as the suite says, so the suite says what Kafka does."""

import asyncio

import pytest

from tests.streams.broker import behaviour, clients, membership
from tests.support.apache_kafka import ApacheKafka

pytestmark = pytest.mark.kafka


class Apache:
    """Runs each test on the session's Apache Kafka."""

    @pytest.fixture
    def address(self, apache: ApacheKafka) -> str:
        return apache.address

    @pytest.fixture
    def restart(self, apache: ApacheKafka) -> behaviour.Restart:
        async def again() -> None:
            await asyncio.to_thread(apache.stop)
            await asyncio.to_thread(apache.start)

        return again


class TestProduce(Apache, behaviour.ProduceCase):
    pass


class TestIdempotence(Apache, behaviour.IdempotenceCase):
    pass


class TestFetch(Apache, behaviour.FetchCase):
    pass


class TestOffsetsByTime(Apache, behaviour.OffsetsByTimeCase):
    pass


class TestTopics(Apache, behaviour.TopicsCase):
    pass


class TestProtocol(Apache, behaviour.ProtocolCase):
    pass


class TestMembership(Apache, membership.MembershipCase):
    pass


class TestClients(Apache, clients.ClientsCase):
    pass
