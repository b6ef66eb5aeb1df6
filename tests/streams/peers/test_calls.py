"""Calls between nodes over loopback: frames, errors, lost connections, secrets and TLS."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from streamtable.core.errors import (
    ConditionalCheckFailed,
    InternalServerError,
    ResourceNotFound,
)
from streamtable.streams.owner import Moved
from streamtable.streams.peers import server
from streamtable.streams.peers.client import PeerClient, PeerLost
from streamtable.streams.peers.frames import Link, Packed
from streamtable.streams.peers.handshake import Hello
from streamtable.streams.peers.server import PeerServer, PeersUnavailable
from tests.support.ports import free_port
from tests.support.waiting import until

SECRET = b"a secret that all nodes know"

Calls = dict[str, Callable[[Any], Awaitable[Any]]]


class Peers:
    """Servers and clients, stopped at the test's end."""

    def __init__(self, parts: AsyncExitStack) -> None:
        self._parts = parts
        self.calls: Calls = {"echo": _echo}
        self.read: list[int] = []
        self.catalog = 0

    async def _caught_up(self, catalog: int) -> None:
        self.read.append(catalog)

    async def server(self, region: str = "eu", port: int = 0, **how: Any) -> tuple[PeerServer, str]:
        made = PeerServer(
            region, self.calls.__getitem__, lambda: self.catalog, self._caught_up, **how
        )
        self._parts.push_async_callback(made.stop)
        return made, f"127.0.0.1:{await made.start('127.0.0.1', port)}"

    def client(self, region: str = "eu", **how: Any) -> PeerClient:
        made = PeerClient(region, **how)
        self._parts.push_async_callback(made.stop)
        return made


async def _echo(arguments: Any) -> Any:
    return arguments


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    async with AsyncExitStack() as parts:
        yield Peers(parts)


async def test_a_call_is_answered_after_the_catalog_is_read(peers: Peers) -> None:
    _, address = await peers.server()
    assert await peers.client().call(address, "echo", {"a": [1, None]}, catalog=7) == {
        "a": [1, None]
    }
    assert peers.read == [7]


async def test_calls_at_a_time_share_frames(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    flush = Link._flush

    def note(link: Link) -> None:
        if link._messages:
            sent.append(len(link._messages))
        flush(link)

    monkeypatch.setattr(Link, "_flush", note)
    _, address = await peers.server()
    client = peers.client()
    await client.call(address, "echo", "opens the connection")
    sent.clear()
    answers = await asyncio.gather(*(client.call(address, "echo", n) for n in range(50)))
    assert answers == list(range(50))
    # One frame with the questions, and hardly more with the answers.
    assert sent[0] == 50
    assert len(sent) < 10


async def test_a_large_answer_and_small_ones_come_whole(peers: Peers) -> None:
    _, address = await peers.server()
    client = peers.client()
    asked = ["x" * 3_000_000, "y", "z" * 1_500_000, *map(str, range(20))]
    assert await asyncio.gather(*(client.call(address, "echo", each) for each in asked)) == asked


async def test_what_is_packed_comes_as_it_is(peers: Peers) -> None:
    async def pack(number: int) -> Packed:
        return Packed({"n": number}, b"\xff\x00" * number)

    peers.calls["pack"] = pack
    _, address = await peers.server()
    client = peers.client()
    asked = [3, 1, 700_000, 2]
    answers = await asyncio.gather(
        *(client.call(address, "pack", each) for each in asked), client.call(address, "echo", "x")
    )
    assert answers == [*(Packed({"n": each}, b"\xff\x00" * each) for each in asked), "x"]


async def test_what_is_asked_packed_comes_as_it_is(peers: Peers) -> None:
    _, address = await peers.server()
    client = peers.client()
    asked = [Packed(number, b"\xff\x00" * number) for number in (3, 1, 700_000, 2)]
    answers = await asyncio.gather(
        *(client.call(address, "echo", each) for each in asked), client.call(address, "echo", "x")
    )
    assert answers == [*asked, "x"]


async def test_what_is_known_at_once_needs_no_task(peers: Peers) -> None:
    waiting: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    gone: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    found: dict[str, Awaitable[Any]] = {
        "known": Packed([1], b"known"),
        "waiting": waiting,
        "gone": gone,
    }

    def refuse(_: Any) -> Awaitable[Any]:
        raise ResourceNotFound("no such table")

    peers.calls |= {"find": found.__getitem__, "refuse": refuse}
    server, address = await peers.server()
    client = peers.client()
    assert await client.call(address, "find", "known") == Packed([1], b"known")
    with pytest.raises(ResourceNotFound):
        await client.call(address, "refuse", None)
    calls = [client.call(address, "find", name) for name in ("waiting", "gone")]
    # The connection's own is done with, so each that runs would be a call's.
    await client.call(address, "find", "known")
    assert not server._running
    waiting.set_result(7)
    gone.set_exception(Moved("gone"))
    assert await calls[0] == 7
    with pytest.raises(Moved):
        await calls[1]


async def test_nodes_of_one_machine_use_a_socket_of_it(peers: Peers, tmp_path: Path) -> None:
    running, address = await peers.server(sockets=tmp_path)
    (rights,) = _sockets(tmp_path)
    assert rights & 0o077 == 0
    client = peers.client(sockets=tmp_path)
    assert await client.call(address, "echo", 1) == 1
    (connection,) = client._connections.values()
    family = connection._link._transport.get_extra_info("socket").family
    assert family == socket.AF_UNIX
    await running.stop()
    assert _sockets(tmp_path) == []
    await peers.server(port=int(address.rpartition(":")[2]))
    with suppress(PeerLost):
        await client.call(address, "echo", 2)
    assert await client.call(address, "echo", 3) == 3


def _sockets(folder: Path) -> list[int]:
    """Who may do what with the sockets in a folder."""
    return [path.stat().st_mode for path in folder.iterdir()]


async def test_where_no_socket_can_be_there_is_the_port(peers: Peers, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    _, address = await peers.server(sockets=folder)
    assert await peers.client(sockets=folder).call(address, "echo", 1) == 1


async def test_who_says_nothing_any_more_is_given_up(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamtable.streams.peers.frames._BEAT_S", 0.02)
    looks: list[Link] = []
    look = Link._look

    def note(link: Link) -> None:
        looks.append(link)
        look(link)

    monkeypatch.setattr(Link, "_look", note)
    _, address = await peers.server()
    client = peers.client()
    assert await client.call(address, "echo", 1) == 1
    (connection,) = client._connections.values()
    # As long as both say that they are there, it stays.
    await until(lambda: len(looks) > 20, "both to look often")
    assert not connection.closed

    async def never(_: Any) -> None:
        await asyncio.Event().wait()

    peers.calls["never"] = never
    waiting = asyncio.ensure_future(client.call(address, "never", 1))
    await client.call(address, "echo", 1)
    connection._link._transport.pause_reading()
    with pytest.raises(PeerLost) as caught:
        await waiting
    assert caught.value.asked


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"\x00\x00\x00\x03\x00\x00\x00\x00{[}",
        b"\x00\x00\x00\x04\x00\x00\x00\x00null",
        b"\x00\x00\x00\x02\x7f\xff\xff\xff[]",
    ],
)
async def test_what_is_no_frame_is_not_listened_to(peers: Peers, said: bytes) -> None:
    _, address = await peers.server()
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(said)
    async with asyncio.timeout(5):
        with suppress(ConnectionError):
            await reader.read()
    writer.close()
    assert await peers.client().call(address, "echo", 1) == 1


async def test_answers_come_as_they_are_ready(peers: Peers) -> None:
    first = asyncio.Event()

    async def wait(_: Any) -> str:
        await first.wait()
        return "late"

    peers.calls["wait"] = wait
    _, address = await peers.server()
    client = peers.client()
    late = asyncio.ensure_future(client.call(address, "wait", None))
    assert await client.call(address, "echo", "soon") == "soon"
    first.set()
    assert await late == "late"


@pytest.mark.parametrize(
    "error",
    [
        Moved("gone"),
        ResourceNotFound("no such table"),
        ConditionalCheckFailed({"id": {"S": "1"}}),
    ],
)
async def test_an_error_arrives_as_its_class(peers: Peers, error: Any) -> None:
    async def refuse(_: Any) -> None:
        raise error

    peers.calls["refuse"] = refuse
    _, address = await peers.server()
    with pytest.raises(type(error)) as caught:
        await peers.client().call(address, "refuse", None)
    assert (caught.value.message, caught.value.members) == (error.message, error.members)


async def test_a_mistake_is_told_without_its_text(
    peers: Peers, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_: Any) -> None:
        raise ZeroDivisionError("a secret of this node's")

    peers.calls["fail"] = fail
    _, address = await peers.server()
    with pytest.raises(InternalServerError) as caught:
        await peers.client().call(address, "fail", None)
    assert "secret" not in caught.value.message
    assert "a secret of this node's" in caplog.text


async def test_who_was_asked_and_went_may_have_done_it(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_STOP_S", 0.05)
    asked = asyncio.Event()

    async def never(_: Any) -> None:
        asked.set()
        await asyncio.Event().wait()

    peers.calls["never"] = never
    running, address = await peers.server()
    client = peers.client()
    calls = [asyncio.ensure_future(client.call(address, "never", n)) for n in range(3)]
    await asked.wait()
    await running.stop()
    for call in calls:
        with pytest.raises(PeerLost) as caught:
            await call
        assert caught.value.asked


async def test_nobody_there_has_done_nothing(peers: Peers) -> None:
    with pytest.raises(PeerLost) as caught:
        await peers.client().call(f"127.0.0.1:{free_port()}", "echo", 1)
    assert not caught.value.asked


async def test_a_node_that_is_away_is_told_of_once(
    peers: Peers, caplog: pytest.LogCaptureFixture
) -> None:
    client, port = peers.client(), free_port()
    address = f"127.0.0.1:{port}"
    for _ in range(2):  # and once more when it has been there meanwhile
        for _ in range(3):
            with pytest.raises(PeerLost, match="can't be talked to: Connection refused"):
                await client.call(address, "echo", 1)
        running, _ = await peers.server(port=port)
        assert await client.call(address, "echo", 1) == 1
        await running.stop()
        with suppress(PeerLost):
            # It may still find the old connection.
            await client.call(address, "echo", 1)
    told = [each for each in caplog.messages if "can't be talked to" in each]
    assert told[:2] == [f"the node {address} can't be talked to: Connection refused"] * 2
    assert len(told) <= 3


async def test_no_answer_in_time_may_have_been_done(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_: Any) -> None:
        await asyncio.Event().wait()

    peers.calls["never"] = never
    monkeypatch.setattr("streamtable.streams.peers.client._CALL_S", 0.05)
    _, address = await peers.server()
    client = peers.client()
    with pytest.raises(PeerLost) as caught:
        await client.call(address, "never", 1)
    assert caught.value.asked
    assert await client.call(address, "echo", 1) == 1


async def test_a_node_that_comes_back_is_called_again(peers: Peers) -> None:
    running, address = await peers.server()
    client = peers.client()
    assert await client.call(address, "echo", 1) == 1
    await running.stop()
    await peers.server(port=int(address.rpartition(":")[2]))
    with suppress(PeerLost):
        # It may still find the old connection.
        await client.call(address, "echo", 2)
    assert await client.call(address, "echo", 3) == 3


async def test_a_connection_that_breaks_as_it_opens_was_asked_nothing(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, address = await peers.server()
    client = peers.client()
    connect = client._connect

    async def break_at_once(to: str) -> Any:
        connection = await connect(to)
        connection.close()
        return connection

    monkeypatch.setattr(client, "_connect", break_at_once)
    async with asyncio.timeout(5):
        with pytest.raises(PeerLost) as caught:
            await client.call(address, "echo", 1)
    assert not caught.value.asked


@pytest.mark.parametrize(
    ("theirs", "mine", "why"),
    [
        ({"region": "us"}, {}, "of this node: it is a node of the region eu, not of us"),
        ({"secret": SECRET}, {"secret": b"not the same secret"}, "another secret"),
        ({"secret": SECRET}, {}, "another secret"),
        ({}, {"secret": SECRET}, "another secret"),
    ],
)
async def test_strangers_are_refused(peers: Peers, theirs: Any, mine: Any, why: str) -> None:
    _, address = await peers.server(**theirs)
    with pytest.raises(PeerLost, match=why) as caught:
        await peers.client(**mine).call(address, "echo", 1)
    assert not caught.value.asked
    assert peers.read == []


async def test_another_version_of_the_protocol_is_refused(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, address = await peers.server()
    monkeypatch.setattr(server, "hello", lambda region: Hello(99, region, "nonce"))
    with pytest.raises(PeerLost, match="speaks version 99"):
        await peers.client().call(address, "echo", 1)


async def test_nodes_with_one_secret_talk(peers: Peers) -> None:
    _, address = await peers.server(secret=SECRET)
    assert await peers.client(secret=SECRET).call(address, "echo", 1) == 1


async def test_a_taken_port_is_told_of(peers: Peers) -> None:
    _, address = await peers.server()
    with pytest.raises(PeersUnavailable, match="--advertise"):
        await peers.server(port=int(address.rpartition(":")[2]))


class Certificates:
    """Contexts of both sides, of an authority of their own."""

    def __init__(self) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        self.client = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.server.verify_mode = ssl.CERT_REQUIRED
        for context in (self.client, self.server):
            authority.configure_trust(context)
            issued.configure_cert(context)


async def test_nodes_with_certificates_of_one_authority_talk(peers: Peers) -> None:
    ours = Certificates()
    _, address = await peers.server(tls=ours.server, secret=SECRET)
    client = peers.client(tls=ours.client, secret=SECRET)
    assert await client.call(address, "echo", 1) == 1


async def test_strangers_certificates_are_refused(peers: Peers) -> None:
    ours, theirs = Certificates(), Certificates()
    nobody = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    nobody.check_hostname = False
    nobody.verify_mode = ssl.CERT_NONE
    _, address = await peers.server(tls=ours.server)
    for tls in (theirs.client, nobody, None):
        with pytest.raises(PeerLost):
            await peers.client(tls=tls).call(address, "echo", 1)
    assert peers.read == []


async def test_a_server_that_stops_answers_what_is_under_way_and_does_nothing_else(
    peers: Peers,
) -> None:
    """Whoever is not answered knows that nothing was done, and asks elsewhere."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    done: list[Any] = []

    async def work(arguments: Any) -> Any:
        begun.set()
        await go_on.wait()
        done.append(arguments)
        return arguments

    peers.calls["work"] = work
    running, address = await peers.server()
    client = peers.client()
    first = asyncio.ensure_future(client.call(address, "work", 1))
    await begun.wait()
    stopping = asyncio.create_task(running.stop())
    await asyncio.sleep(0)
    late = asyncio.ensure_future(client.call(address, "work", 2))
    # So that it has come before the answer has gone.
    for _ in range(20):
        await asyncio.sleep(0.001)
    go_on.set()
    assert await first == 1
    with pytest.raises(PeerLost) as error:
        await late
    assert not error.value.asked
    await stopping
    with pytest.raises(PeerLost) as error:
        await client.call(address, "work", 3)
    assert not error.value.asked
    assert done == [1]


async def test_what_is_written_to_a_connection_that_is_gone_fails_nowhere() -> None:
    """For a moment uvloop knows of that, and raises, and the connection does not know yet."""

    class Closed(asyncio.Transport):
        def write(self, data: Any) -> None:
            raise RuntimeError("the handler is closed")

    failed: list[Any] = []
    lost = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
    link = Link()
    link.connection_made(Closed())
    link.open(lambda *_: None, lost.set)
    link.send([1])
    for _ in range(3):
        await asyncio.sleep(0)
    link.connection_lost(None)
    assert lost.is_set()
    assert failed == []
