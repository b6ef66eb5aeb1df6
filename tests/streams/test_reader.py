from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.log import LogUnavailable
from streamtable.streams.reader import LogReader, NoChangeLog, Span
from streamtable.streams.topics import Topics

TOPIC = "test.changelog"


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    broker = Broker(BrokerSettings(data=tmp_path / "broker", port=0))
    await broker.start()
    await Topics("test").create(broker.address, 2)
    yield broker.address
    await broker.stop()


async def test_an_empty_log(address):
    async with LogReader(address, TOPIC) as reader:
        assert reader.shards == [0, 1]
        assert await reader.spans() == {0: Span(0, 0), 1: Span(0, 0)}
        assert [found async for found in reader.read_range(await reader.spans())] == []


async def test_no_such_log(address):
    with pytest.raises(NoChangeLog, match=r"no topic nowhere\.changelog"):
        async with LogReader(address, "nowhere.changelog"):
            pass


async def test_no_broker(tmp_path):
    broker = Broker(BrokerSettings(data=tmp_path / "broker", port=0))
    await broker.start()
    await broker.stop()
    with pytest.raises(LogUnavailable, match=r"no Kafka broker answers at .*: Connection refused"):
        async with LogReader(broker.address, TOPIC):
            pass


async def closed(*_args, **_options):
    """Fail as uvloop does where aiokafka writes to a connection that is closed."""
    raise RuntimeError("unable to perform operation on <TCPTransport closed=True>")


@pytest.mark.parametrize(
    ("method", "use"),
    [
        ("end_offsets", lambda reader: reader.spans()),
        ("offsets_for_times", lambda reader: reader.offsets_at(0)),
        ("getmany", lambda reader: anext(reader.read({0: 0}))),
    ],
)
async def test_a_connection_that_breaks(address, monkeypatch, method, use):
    async with LogReader(address, TOPIC) as reader:
        await reader.spans()
        monkeypatch.setattr(reader._consumer, method, closed)
        with pytest.raises(LogUnavailable, match="closed=True"):
            await use(reader)
