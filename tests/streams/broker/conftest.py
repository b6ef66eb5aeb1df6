"""Brokers for the tests: Apache Kafka once a session, the embedded one once a class or test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from streamtable.streams.broker import Broker, BrokerSettings
from tests.support import apache_kafka


@pytest.fixture(scope="session")
def apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apache_kafka.ApacheKafka]:
    """Apache Kafka, shared by the session; topics have names of their own."""
    yield from apache_kafka.running(tmp_path_factory.mktemp("kafka"))


@pytest.fixture
def settings(tmp_path: Path) -> BrokerSettings:
    """Settings of an embedded broker of the test's own."""
    return BrokerSettings(data=tmp_path / "broker", port=0, min_session_ms=100)


@pytest.fixture
async def broker(settings: BrokerSettings) -> AsyncIterator[Broker]:
    """A running embedded broker of the test's own."""
    made = Broker(settings)
    await made.start()
    yield made
    await made.stop()
