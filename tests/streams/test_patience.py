"""A broker that says nothing holds nobody up for longer than it would take to answer."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, RequestTimedOutError
from aiokafka.protocol.metadata import MetadataRequest

from streamtable.streams import patience
from streamtable.streams.appender import Appender
from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.fetcher import LogFetcher
from streamtable.streams.security import client_options
from streamtable.streams.topics import Topics
from tests.support.ports import free_port

LIMIT_S = 0.3
FAR_BELOW_S = 10.0
"""What tells aiokafka's own limit, 40 s, from this one on a machine that is slow."""


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """The address of one that takes connections and requests, and answers nothing."""
    writers = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    yield f"{host}:{port}"
    server.close()
    for writer in writers:
        writer.close()


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_AT_ONCE_S", LIMIT_S)
    for request in patience._LIMITS:
        monkeypatch.setitem(patience._LIMITS, request, LIMIT_S)
    monkeypatch.setattr(patience._silent, "_until", {})
    monkeypatch.setattr(patience._gone, "_since", None)


async def test_a_silent_broker_is_not_connected_to_for_long(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = AIOKafkaClient(**client_options(silent))
    asked = time.monotonic()
    with pytest.raises(KafkaConnectionError):
        await client.bootstrap()
    assert LIMIT_S / 2 < time.monotonic() - asked < FAR_BELOW_S
    # Nobody else tries for a while.
    monkeypatch.setattr(patience, "_AT_ONCE_S", 3 * FAR_BELOW_S)
    other = AIOKafkaClient(**client_options(silent))
    asked = time.monotonic()
    with pytest.raises(KafkaConnectionError):
        await other.bootstrap()
    assert time.monotonic() - asked < FAR_BELOW_S
    await other.close()
    await client.close()


async def test_the_others_are_asked(silent: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    broker = Broker(BrokerSettings(data=tmp_path_factory.mktemp("broker"), port=0))
    await broker.start()
    asked = time.monotonic()
    topics = Topics("test")
    await topics.create(f"{silent},{broker.address}", 1)
    log = LogFetcher(f"{silent},{broker.address}", topics.changelog)
    await log.start()
    assert await log.bounds(0) == (0, 0)
    assert time.monotonic() - asked < FAR_BELOW_S
    await log.stop()
    await broker.stop()


async def test_who_falls_silent_is_given_up(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is closed, so that the next request does not wait behind this one."""
    broker = Broker(BrokerSettings(data=tmp_path_factory.mktemp("broker"), port=0))
    await broker.start()
    client = AIOKafkaClient(**client_options(broker.address))
    await client.bootstrap()
    await client.force_metadata_update()
    (node,) = client.cluster.brokers()
    with monkeypatch.context() as silence:
        silence.setattr(
            "streamtable.streams.broker.connection.Connection.data_received", lambda *_: None
        )
        asked = time.monotonic()
        with pytest.raises(RequestTimedOutError):
            await client.send(node.nodeId, MetadataRequest([]))
        assert time.monotonic() - asked < FAR_BELOW_S
    # Then it is asked again, by one at first.
    monkeypatch.setattr(patience, "_ALONE_S", 0.0)
    patience._silent.note(("127.0.0.1", int(broker.address.rpartition(":")[2])))
    assert (await client.send(node.nodeId, MetadataRequest([]))).brokers
    assert not patience._silent
    await client.close()
    await broker.stop()


async def test_the_longer_no_broker_answers_the_longer_a_connection_waits(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_PAUSE_S", LIMIT_S)
    port = free_port()
    client = AIOKafkaClient(**client_options(f"127.0.0.1:{port}"))
    with pytest.raises(KafkaConnectionError):
        await client.bootstrap()
    assert patience._gone
    monkeypatch.setattr(patience._gone, "_since", time.monotonic() - FAR_BELOW_S)
    asked = time.monotonic()
    with pytest.raises(KafkaConnectionError):
        await client.bootstrap()
    assert time.monotonic() - asked >= LIMIT_S
    # The first answer ends that for all.
    broker = Broker(BrokerSettings(data=tmp_path_factory.mktemp("broker"), port=port))
    await broker.start()
    await client.bootstrap()
    assert patience._gone.pause_s() == 0
    await client.close()
    await broker.stop()


async def test_an_append_does_not_wait_for_a_silent_broker(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a long limit, since it waits for other brokers; what is answered at once tells."""
    broker = Broker(BrokerSettings(data=tmp_path_factory.mktemp("broker"), port=0))
    await broker.start()
    topics = Topics("test")
    await topics.create(broker.address, 1)
    appender = Appender(broker.address, topics.changelog, 0)
    await appender.open("shard")
    assert await appender.append(b"a", []) == 0
    client = AIOKafkaClient(**client_options(broker.address))
    await client.bootstrap()
    await client.force_metadata_update()
    (node,) = client.cluster.brokers()
    # It is sent again as soon as the broker may be asked again.
    monkeypatch.setattr(patience, "_ALONE_S", 0.0)
    with monkeypatch.context() as silence:
        silence.setattr(
            "streamtable.streams.broker.connection.Connection.data_received", lambda *_: None
        )
        asked = time.monotonic()
        appending = asyncio.create_task(appender.append(b"b", []))
        with pytest.raises(RequestTimedOutError):
            await client.send(node.nodeId, MetadataRequest([]))
    assert await appending == 1
    assert time.monotonic() - asked < FAR_BELOW_S
    await client.close()
    await appender.close()
    await broker.stop()


async def test_a_connection_that_uvloop_has_closed_is_an_error_of_kafkas(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker's reset comes to uvloop first. Who asks for the leader then waits for ever if not.

    Another error ends the client's task that asks for metadata.
    """

    def closed(_request: bytes) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")

    broker = Broker(BrokerSettings(data=tmp_path_factory.mktemp("broker"), port=0))
    await broker.start()
    client = AIOKafkaClient(**client_options(broker.address))
    await client.bootstrap()
    assert await client.force_metadata_update()
    [connection] = client._conns.values()
    monkeypatch.setattr(connection._writer, "write", closed)
    assert not await client.force_metadata_update()
    assert not connection.connected()
    assert await client.force_metadata_update()
    await client.close()
    await broker.stop()
