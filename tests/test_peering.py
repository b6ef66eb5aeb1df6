"""Nodes that talk about who has which shard, and one that leaves."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme

from streamtable import peering
from streamtable.core.errors import ServiceUnavailable
from streamtable.peering import NotTaken, Peering, UnprotectedPeers
from streamtable.settings import NodeSettings
from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.group import Group
from streamtable.streams.group_offsets import GroupOffsets
from streamtable.streams.held import HeldShards
from streamtable.streams.intake import Intake
from streamtable.streams.layout import Layout
from streamtable.streams.owner import Moved
from streamtable.streams.peers import client as peer_client
from streamtable.streams.peers.client import PeerLost
from streamtable.streams.peers.server import PeersUnavailable
from streamtable.streams.standstill import Standstill
from streamtable.streams.topics import Topics
from tests.support.commands import error_line
from tests.support.ports import free_port
from tests.support.waiting import until


class StillCatalog:
    """A catalog that everybody has read. Stands where `Catalog` stands."""

    next = 0

    def __init__(self) -> None:
        self.spread: Callable[[int], Coroutine[Any, Any, None]]
        self.read = asyncio.Event()
        self.read.set()

    def spread_by(self, spread: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        self.spread = spread

    async def caught_up(self, _catalog: int) -> None:
        await self.read.wait()


class Node:
    """A node without anything but the others."""

    def __init__(self, folder: Path, name: str, **settings: Any) -> None:
        self.held = HeldShards(Layout(2))
        self.catalog = StillCatalog()
        self.port_file = folder / name

        async def end(_shard: Any, _arguments: Any) -> str:
            return name

        self.peering = Peering(
            NodeSettings(**settings),
            self.port_file,
            self.catalog,  # type: ignore[arg-type]
            self.held,
            {"end": end},
            standstill=Standstill(),
        )

    @property
    def address(self) -> str:
        return self.peering.placement.own

    def own(self, *numbers: int) -> None:
        """Have these shards, and no others."""
        for number in range(2):
            wanted = number in numbers
            shard: Any = SimpleNamespace(number=number, owner=SimpleNamespace(wanted=wanted))
            self.held._shards[number] = shard


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[Node]]:
    """Two nodes, the first one has both shards."""
    async with AsyncExitStack() as parts:
        made = [Node(tmp_path, name) for name in ("a", "b")]
        for node in made:
            await node.peering.start()
            parts.push_async_callback(node.peering.stop)
        made[0].own(0, 1)
        tell(made, {0: made[0], 1: made[0]})
        yield made


def tell(nodes: list[Node], owners: dict[int, Node]) -> None:
    for node in nodes:
        node.peering.placement.set(
            {number: owner.address for number, owner in owners.items()},
            frozenset(each.address for each in nodes),
        )


async def test_a_node_that_leaves_learns_who_has_its_shards(nodes: list[Node]) -> None:
    first, second = nodes
    first.own()
    leaving = asyncio.create_task(first.peering.hand_over())
    await until(lambda: first.peering._looking is not None, "the node to ask the others")
    assert not leaving.done()
    second.own(0, 1)
    second.peering.placement.set(dict.fromkeys(range(2), second.address), frozenset())
    await leaving
    # Requests that still come find their way.
    assert await first.peering.routes.ask(0, "end", None) == "b"


async def test_nodes_that_leave_at_once_don_t_wait_for_each_other(nodes: list[Node]) -> None:
    tell(nodes, dict(enumerate(nodes)))
    found = await asyncio.gather(
        *(node.peering.hand_over() for node in nodes), return_exceptions=True
    )
    assert [str(error) for error in found] == ["No other node is left"] * 2
    assert all(isinstance(error, ServiceUnavailable) for error in found)


async def test_a_node_does_not_wait_for_the_dead(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peering, "_SILENT_S", 0.1)
    await nodes[1].peering.stop()
    with pytest.raises(ServiceUnavailable, match="No other node is left"):
        await nodes[0].peering.hand_over()


async def test_nobody_waits_for_ever(nodes: list[Node], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peering, "_HAND_OVER_S", 0.1)
    with pytest.raises(ServiceUnavailable, match="in time"):
        await nodes[0].peering.hand_over()


async def test_what_is_not_this_node_s_has_moved(nodes: list[Node]) -> None:
    client = nodes[1].peering._client
    assert await client.call(nodes[0].address, "end", [0, None]) == "a"
    with pytest.raises(Moved):
        await client.call(nodes[1].address, "end", [0, None])


async def test_a_change_of_the_catalog_is_spread_before_it_is_answered(nodes: list[Node]) -> None:
    first, second = (node.catalog for node in nodes)
    second.read.clear()
    spreading = asyncio.create_task(first.spread(7))
    await asyncio.sleep(0)
    second.read.set()
    await spreading


async def test_nobody_waits_for_a_node_that_does_not_read_the_catalog(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peering, "_SPREAD_S", 0.05)
    nodes[1].catalog.read.clear()
    await nodes[0].catalog.spread(7)


async def test_the_port_stays_over_restarts(tmp_path: Path) -> None:
    addresses = []
    for _ in range(2):
        node = Node(tmp_path, "a")
        await node.peering.start()
        addresses.append(node.address)
        await node.peering.stop()
    assert addresses[0] == addresses[1]


async def test_an_address_that_was_asked_for_is_taken(tmp_path: Path) -> None:
    port = free_port()
    node = Node(tmp_path, "a", advertise=f"127.0.0.1:{port}")
    await node.peering.start()
    assert node.address == f"127.0.0.1:{port}"
    await node.peering.stop()


@pytest.mark.parametrize("host", ["[::1]", "node-1.example"])
async def test_a_node_is_reached_over_ipv6(tmp_path: Path, host: str) -> None:
    port, secret = free_port(), tmp_path / "secret"
    secret.write_text("sixteen bytes or more\n")
    node = Node(tmp_path, "a", advertise=f"{host}:{port}", peer_secret_file=secret)
    other = Node(tmp_path, "b", peer_secret_file=secret)
    node.own(0)
    async with AsyncExitStack() as parts:
        try:
            await node.peering.start()
        except PeersUnavailable:
            pytest.skip("this machine has no IPv6")
        parts.push_async_callback(node.peering.stop)
        parts.push_async_callback(other.peering.stop)
        assert node.address == f"{host}:{port}"
        assert await other.peering._client.call(f"[::1]:{port}", "end", [0, None]) == "a"


@pytest.mark.parametrize("advertise", ["10.0.0.7:7000", "node-1.example:7000"])
async def test_other_machines_need_a_secret_or_certificates(tmp_path: Path, advertise: str) -> None:
    with pytest.raises(UnprotectedPeers, match="--peer-secret-file"):
        Node(tmp_path, "a", advertise=advertise)
    secret = tmp_path / "secret"
    secret.write_text("sixteen bytes or more\n")
    Node(tmp_path, "a", advertise=advertise, peer_secret_file=secret)


async def test_a_secret_is_long_enough_and_there(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    with pytest.raises(UnprotectedPeers, match="No such file"):
        Node(tmp_path, "a", peer_secret_file=secret)
    secret.write_text("short\n")
    with pytest.raises(UnprotectedPeers, match="16 bytes"):
        Node(tmp_path, "a", peer_secret_file=secret)


async def test_certificates_go_together(tmp_path: Path) -> None:
    with pytest.raises(UnprotectedPeers, match="go together"):
        Node(tmp_path, "a", peer_tls_cert=tmp_path / "cert")
    paths = {f"peer_tls_{name}": tmp_path / name for name in ("cert", "key", "ca")}
    with pytest.raises(UnprotectedPeers, match="can't be used"):
        Node(tmp_path, "a", **paths)


def certificates(
    folder: Path, name: str, signer: trustme.CA, trusted: trustme.CA
) -> dict[str, Any]:
    """A node's settings for a certificate of one authority, and another one whose it takes."""
    issued = signer.issue_cert("127.0.0.1")
    paths = {kind: folder / f"{name}.{kind}" for kind in ("cert", "key", "ca")}
    trusted.cert_pem.write_to_path(paths["ca"])
    issued.private_key_pem.write_to_path(paths["key"])
    issued.cert_chain_pems[0].write_to_path(paths["cert"])
    return {f"peer_tls_{kind}": path for kind, path in paths.items()}


def certified(folder: Path) -> list[Node]:
    """Return two nodes with certificates of one authority, one of another, one that trusts that."""
    ours, theirs = trustme.CA(), trustme.CA()
    return [
        Node(folder, name, **certificates(folder, name, signer, trusted))
        for name, signer, trusted in (
            ("first", ours, ours),
            ("second", ours, ours),
            ("foreign", theirs, ours),
            ("naive", ours, theirs),
        )
    ]


async def test_nodes_with_certificates_talk(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, foreign, naive = certified(tmp_path)
    plain = Node(tmp_path, "plain")

    async def refused(client: Node, server: Node, *told: str) -> None:
        """Check that one can't ask the other, and what both of them log."""
        caplog.clear()
        with pytest.raises(PeerLost):
            await client.peering._client.call(server.address, "end", [0, None])
        await until(lambda: all(each in caplog.text for each in told), "what is logged")

    async with AsyncExitStack() as parts:
        for node in (first, second, foreign, naive, plain):
            await node.peering.start()
            parts.push_async_callback(node.peering.stop)
        first.own(0)
        assert await second.peering._client.call(first.address, "end", [0, None]) == "first"
        issuer = "its certificate is not taken: "
        hint = f"the node {first.address} can't be talked to: it closes the connection. All nodes"
        await refused(foreign, first, f"a connection by TLS is refused: {issuer}", hint)
        await refused(naive, first, f"the node {first.address} can't be talked to: {issuer}")
        await refused(plain, first, "a connection by TLS is refused: TLS fails", hint)
        await refused(second, plain, "it speaks TLS, and this node has no --peer-tls-cert")


async def test_a_node_that_no_other_takes_is_told_before_it_has_shards(tmp_path: Path) -> None:
    first, second, foreign, naive = certified(tmp_path)
    gone = f"127.0.0.1:{free_port()}"
    async with AsyncExitStack() as parts:
        for node in (first, second, foreign, naive):
            await node.peering.start()
            parts.push_async_callback(node.peering.stop)
        for node, told in (
            (foreign, "it closes the connection"),
            (naive, "its certificate is not taken"),
        ):
            with pytest.raises(NotTaken, match=rf"{told}.*--peer-tls-ca"):
                await node.peering.check_taken([first.address, gone, node.address])
        # One that takes it is enough.
        await second.peering.check_taken([first.address, foreign.address, gone])


async def test_a_node_with_another_secret_is_told_too(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        secret = tmp_path / f"{name}.secret"
        secret.write_text(f"sixteen bytes or more of {name}\n")
        made.append(Node(tmp_path, name, peer_secret_file=secret))
    async with AsyncExitStack() as parts:
        for node in made:
            await node.peering.start()
            parts.push_async_callback(node.peering.stop)
        with pytest.raises(NotTaken, match=r"another secret.*the same --peer-secret-file"):
            await made[1].peering.check_taken([made[0].address])


async def test_a_node_whose_others_say_nothing_is_let_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_client, "_CONNECT_S", 0.1)
    ours = trustme.CA()
    node, dead = (
        Node(tmp_path, name, **certificates(tmp_path, name, ours, ours)) for name in ("a", "dead")
    )
    await node.peering.start()
    await dead.peering.start()
    await dead.peering.stop()
    slow = socket.create_server(("127.0.0.1", 0))
    closing = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    listening = (slow, closing.sockets[0])
    others = [f"127.0.0.1:{each.getsockname()[1]}" for each in listening]
    await node.peering.check_taken([node.address])
    await node.peering.check_taken([node.address, dead.address, *others])
    await node.peering.stop()
    slow.close()
    closing.close()


async def test_a_node_that_no_other_takes_does_not_join_their_group(tmp_path: Path) -> None:
    topics = Topics("local")
    known = Node(tmp_path, "known", **certificates(tmp_path, "known", ours := trustme.CA(), ours))
    foreign = certificates(tmp_path, "foreign", trustme.CA(), ours)
    async with AsyncExitStack() as parts:
        broker = Broker(BrokerSettings(data=tmp_path / "broker", port=0))
        await broker.start()
        parts.push_async_callback(broker.stop)
        await known.peering.start()
        parts.push_async_callback(known.peering.stop)
        await topics.create(broker.address, 2)
        url = f"http://{known.address}"
        group = Group(topics.nodes, broker.address, canonical_url=url, table_standby_replicas=1)
        Intake(group, [topics.changelog], lambda _found: None)
        group.finalize()
        await group.start()
        parts.push_async_callback(group.stop)
        groups = GroupOffsets(broker.address, topics.changelog)
        parts.push_async_callback(groups.stop)

        async def joined() -> bool:
            return await groups.addresses(topics.nodes) == {known.address}

        await until(joined, "the group to have the first node")
        options = [f"--{name.replace('_', '-')}={path}" for name, path in foreign.items()]
        line = await asyncio.to_thread(
            error_line,
            *("serve", "--kafka", broker.address, "--data", str(tmp_path / "data"), "--port", "0"),
            *("--log-level", "error", *options),
        )
        assert "error: no other node takes this one, so nobody would reach shards" in line
        assert f"the node {known.address} can't be talked to" in line
        assert await groups.members(topics.nodes) == 1
