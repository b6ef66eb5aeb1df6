"""Embedded brokers for the tests here, one for each."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamtable.streams.broker import Broker, BrokerSettings


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
