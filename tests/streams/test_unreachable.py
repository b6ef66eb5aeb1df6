import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from streamtable.streams import patience, unreachable
from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.log import LogUnavailable
from streamtable.streams.security import known_address
from streamtable.streams.unreachable import check_brokers, look_at_brokers, why_no_broker
from tests.support.ports import free_ports

HOST = "127.0.0.1"


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[str]:
    """The address of what speaks TLS, and closes each connection; its authority is in a file."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)

    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(close, HOST, 0, ssl=context) as server:
        yield f"{HOST}:{server.sockets[0].getsockname()[1]}"


def tls(folder: Path, address: str, authority: str) -> str:
    config = folder / "kafka.conf"
    config.write_text(f"security.protocol=SSL\nssl.ca.location={authority}\n")
    return known_address(address, config)


async def test_brokers_that_are_not_there() -> None:
    first, second = (f"{HOST}:{port}" for port in sorted(free_ports(2)))
    assert await why_no_broker(first) == "Connection refused"
    assert await why_no_broker(f"{first},{second}") == "Connection refused"
    found = await why_no_broker(f"{first},nobody.invalid:9092")
    assert found.startswith(f"{first}: Connection refused, nobody.invalid:9092: ")


async def test_a_certificate_of_an_authority_that_is_not_trusted(
    secured: str, tmp_path: Path
) -> None:
    found = await why_no_broker(tls(tmp_path, secured, "other"))
    assert found.startswith("its certificate is not taken: ")


async def test_a_broker_that_hangs_up(secured: str, tmp_path: Path) -> None:
    # Which is all that it says where TLS is missing, or a certificate.
    for address in (secured, tls(tmp_path, secured, "authority")):
        assert "it closes the connection, as if it asked for TLS" in await why_no_broker(address)


async def test_tls_to_a_broker_without(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "authority")
    broker = Broker(BrokerSettings(data=tmp_path / "broker", port=0))
    await broker.start()
    try:
        found = await why_no_broker(tls(tmp_path, broker.address, "authority"))
        assert found != "it answers now"
        assert await why_no_broker(broker.address) == "it answers now"
    finally:
        await broker.stop()


async def test_a_broker_that_is_not_where_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found where this machine is told to look, and sends it elsewhere."""
    monkeypatch.setattr(unreachable, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(unreachable, "_RETRY_S", 0.1)
    broker = Broker(BrokerSettings(data=tmp_path / "broker", port=0, advertised_host="127.0.0.9"))
    await broker.start()
    port = broker.address.rpartition(":")[2]
    try:
        found = await why_no_broker(f"{HOST}:{port}")
        assert found.startswith(f"broker 1 is not reached at 127.0.0.9:{port}, its adv")
        assert found.endswith("listeners: Connection refused")
        with pytest.raises(LogUnavailable, match=r"advertised\.listeners"):
            await check_brokers(f"{HOST}:{port}")
    finally:
        await broker.stop()


async def test_brokers_that_are_all_reached(tmp_path: Path) -> None:
    broker = Broker(BrokerSettings(data=tmp_path / "broker", port=0))
    await broker.start()
    await check_brokers(broker.address)
    await broker.stop()


async def test_a_broker_that_is_lost_is_named_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unreachable, "_RETRY_S", 0.01)
    named = [(1, HOST, free_ports(1)[0])]

    async def fewer(_address: str) -> list[tuple[int, str, int]]:
        return [named.pop()] if named else []

    monkeypatch.setattr(unreachable, "_named", fewer)
    await check_brokers(HOST)
    assert not named


async def test_a_broker_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unreachable, "_TIMEOUT_MS", 100)

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(wait, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert (await why_no_broker(f"{HOST}:{port}")) == "no answer in time"


async def test_a_broker_is_looked_at_that_others_leave_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience._silent, "_until", {})
    broker = Broker(BrokerSettings(data=tmp_path / "broker", port=0))
    await broker.start()
    patience._silent.note((HOST, int(broker.address.rpartition(":")[2])))
    assert await look_at_brokers(broker.address) == {1: None}
    assert not patience._silent
    await broker.stop()
