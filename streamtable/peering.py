"""This node among the others of its region: who has which shard, and how they talk."""

import asyncio
import ipaddress
import logging
import ssl
import time
from collections.abc import Awaitable, Collection, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from streamtable.core.errors import ApiError, ServiceUnavailable, StreamtableError
from streamtable.settings import NodeSettings
from streamtable.streams.catalog import Catalog
from streamtable.streams.certificates import (
    Shown,
    WrongCertificates,
    client_tls,
    server_tls,
)
from streamtable.streams.held import HeldShards
from streamtable.streams.owner import Moved
from streamtable.streams.peers.calls import ShardCall
from streamtable.streams.peers.client import PeerClient, PeerLost
from streamtable.streams.peers.server import Call, PeerServer, PeersUnavailable
from streamtable.streams.placement import Placement
from streamtable.streams.routes import Routes
from streamtable.streams.standstill import Standstill

__all__ = ["NotTaken", "Peering", "UnprotectedPeers"]

logger = logging.getLogger(__name__)

_LOOPBACK: Final = "127.0.0.1"
_CAUGHT_UP_S: Final = 10.0
# A node that does not answer is about to be left out of the group; nobody waits for it for long.
_SPREAD_S: Final = 2.0
_LOOK_S: Final = 0.05
_HAND_OVER_S: Final = 30.0
_SILENT_S: Final = 5.0
# A node that stops closes connections too; it is not there for the next one.
_MEETINGS: Final = 2
_NAMED: Final = 3


class UnprotectedPeers(StreamtableError, PermissionError):
    """Nodes on other machines could be reached by anybody."""


class NotTaken(StreamtableError, PermissionError):
    """This node and the others don't take each other."""


class Peering:
    """Connects this node with the others.

    Args:
        settings: the node's.
        port_file: where the port is kept that was chosen for it.
        catalog: the region's tables.
        held: the shards that this node has.
        calls: what other nodes can ask of a shard, by name; may be filled later.
        standstill: knows whether this node stood still.
        sockets: the folder in which processes of this machine have sockets for each other; None
            for a node that has the machine for itself.

    Attributes:
        node_calls: what other nodes can call of this node, by name; may be filled later.
        placement: who has which shard.
        routes: the way to each shard.
    """

    def __init__(
        self,
        settings: NodeSettings,
        port_file: Path,
        catalog: Catalog,
        held: HeldShards,
        calls: Mapping[str, ShardCall],
        *,
        standstill: Standstill,
        sockets: Path | None = None,
    ) -> None:
        self._host, self._port = _address(settings.advertise)
        self._port_file = port_file
        self._catalog = catalog
        self._held = held
        self._calls = calls
        secret = _secret(settings.peer_secret_file)
        client_tls, server_tls = _tls(settings)
        if secret is None and server_tls is None and not _is_loopback(self._host):
            raise UnprotectedPeers(
                f"--advertise {settings.advertise} lets other machines ask this node for any item. "
                "Give all nodes the same --peer-secret-file, or certificates: --peer-tls-cert, "
                "--peer-tls-key, --peer-tls-ca"
            )
        if server_tls is not None:
            # Who asks for certificates wants to see them.
            sockets = None
        self.node_calls: dict[str, Call] = {
            "placement": self._tell_placement,
            "caught_up": self._tell_caught_up,
        }
        self._client = PeerClient(settings.region, secret, client_tls, sockets)
        self._server = PeerServer(
            settings.region,
            self._find_call,
            lambda: catalog.next,
            self._caught_up,
            secret=secret,
            tls=server_tls,
            sockets=sockets,
            standstill=standstill,
        )
        self._telling: set[asyncio.Task[Any]] = set()
        self.placement = Placement("")
        self.routes = Routes(held, self.placement, self._client, calls, lambda: self._catalog.next)
        self._looking: asyncio.Task[None] | None = None
        self._leaving = False

    async def start(self) -> None:
        """Listen for other nodes; they know this one by `placement.own` from now on.

        Raises:
            PeersUnavailable: the address can't be had.
        """
        shown = f"[{self._host}]" if ":" in self._host else self._host
        # Other machines are to reach it at whichever address of this one they know.
        host = None
        if _is_loopback(self._host):
            host = self._host if shown != self._host else _LOOPBACK
        port = await self._listen(host)
        self.placement.own = f"{shown}:{port}"
        self._catalog.spread_by(self._spread)

    async def check_taken(self, nodes: Collection[str]) -> None:
        """Make sure, before this node has shards, that others can ask it for them.

        One node that takes this one is enough. What is slow, or gone, says nothing: a node whose
        others are all so is let in.

        Args:
            nodes: the addresses of the region's nodes, maybe with some that died lately.

        Raises:
            NotTaken: nodes answer, and none of them takes this one, or is taken by it.
        """
        others = sorted(set(nodes) - {self.placement.own})
        found = await asyncio.gather(*map(self._meet, others))
        refusals = [str(each) for each in found if each is not None and each.refused]
        if not refusals or None in found:
            return
        told = "; ".join(refusals[:_NAMED])
        raise NotTaken(
            f"no other node takes this one, so nobody would reach shards that it had: {told}. "
            "Give all nodes certificates of one authority (--peer-tls-cert, --peer-tls-key, "
            "--peer-tls-ca), or none, and the same --peer-secret-file, then start this one again"
        )

    async def _meet(self, address: str) -> PeerLost | None:
        """Return why a node can't be talked to, None if it can."""
        lost: PeerLost | None = None
        for _ in range(_MEETINGS):
            try:
                await self._client.meet(address)
            except PeerLost as error:
                lost = error
                if not error.refused:
                    break
            else:
                return None
        return lost

    async def stop(self) -> None:
        """Let go of the other nodes."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        await self._server.stop()
        await self._client.stop()

    async def hand_over(self) -> None:
        """Return when others have all shards, now that this node has left the group.

        Until `stop` it goes on asking them who has which, so that requests find their way.

        Raises:
            ServiceUnavailable: nobody has taken all of them in time, or nobody is left who could.
        """
        if not self.placement.others:
            return
        if self._looking is None:
            self._leaving = True
            self._looking = asyncio.create_task(self._look())
        deadline = time.monotonic() + _HAND_OVER_S
        while True:
            owners = self.placement.owners
            layout = self._held.layout
            if owners.keys() >= set(layout) and self.placement.own not in owners.values():
                with suppress(ApiError):
                    await asyncio.gather(*(self.routes.ask(n, "end", None) for n in layout))
                    return
            if not self.placement.others:
                raise ServiceUnavailable("No other node is left")
            if time.monotonic() > deadline:
                raise ServiceUnavailable("No other node has taken over all shards in time")
            await self.placement.changed(deadline, _LOOK_S)

    async def _listen(self, host: str | None) -> int:
        """Take the port that was asked for, or else the one of the last time, or any."""
        if self._port:
            return await self._server.start(host, self._port)
        before = 0
        with suppress(OSError, ValueError):
            before = int(self._port_file.read_text())
        try:
            port = await self._server.start(host, before)
        except PeersUnavailable:
            port = await self._server.start(host, 0)
        self._port_file.write_text(f"{port}\n")
        return port

    def tell_others(self, method: str, arguments: Any) -> None:
        """Call all other nodes, and wait for none of them: what is lost does not matter."""
        for address in self.placement.others:
            task = asyncio.create_task(self._tell(address, method, arguments))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def ask_others(self, method: str) -> list[Any]:
        """Call all other nodes, and return their answers: None for each that gives none in time."""

        async def ask(address: str) -> Any:
            with suppress(PeerLost, ApiError, TimeoutError):
                async with asyncio.timeout(_SPREAD_S):
                    return await self._client.call(address, method, None)
            return None

        return await asyncio.gather(*map(ask, sorted(self.placement.others)))

    async def _tell(self, address: str, method: str, arguments: Any) -> None:
        with suppress(PeerLost, ApiError):
            await self._client.call(address, method, arguments, catalog=self._catalog.next)

    async def ask_all(self, method: str, arguments: Any) -> dict[str, Any]:
        """Have every node of the region carry something out; return the answers by address.

        Raises:
            ApiError: what one of them raised.
            PeerLost: one of them did not answer.
        """
        own, others = self.placement.own, sorted(self.placement.others)
        answers = await asyncio.gather(
            self.node_calls[method](arguments),
            *(
                self._client.call(address, method, arguments, catalog=self._catalog.next)
                for address in others
            ),
        )
        return dict(zip([own, *others], answers, strict=True))

    def _find_call(self, method: str) -> Call:
        """Return what other nodes can call by a name: of this node, or of one of its shards."""
        return self.node_calls.get(method) or partial(self._call_shard, method)

    def _call_shard(self, method: str, arguments: Any) -> Awaitable[Any]:
        """Carry out what another node asks of a shard.

        Raises:
            ApiError: it can't be done; Moved where this node does not own the shard.
        """
        call = self._calls.get(method)
        if call is None:
            raise Moved("This node is starting. Try again.")
        number, rest, *generation = arguments
        if sum(generation) != self._held.layout.generation:
            raise Moved("The number of shards is another one now. Try again.")
        shard = self.routes.own(number)
        if shard is None:
            raise Moved(f"Shard {number} is not this node's. Try again.")
        return call(shard, rest)

    async def _tell_placement(self, _arguments: Any) -> Any:
        """Tell another node who has which shard, and who could have some."""
        nodes = self.placement.others
        if not self._leaving:
            nodes |= {self.placement.own}
        return [list(self.placement.owners.items()), list(nodes)]

    async def _tell_caught_up(self, _arguments: Any) -> None:
        """Answer; that the catalog is read was seen to before."""

    async def _caught_up(self, catalog: int) -> None:
        try:
            async with asyncio.timeout(_CAUGHT_UP_S):
                await self._catalog.caught_up(catalog)
        except TimeoutError:
            raise Moved("The node is behind the catalog. Try again.") from None

    async def _spread(self, catalog: int) -> None:
        """Return when the other nodes have read the catalog so far, as far as they answer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_SPREAD_S):
                await asyncio.gather(
                    *(
                        self._client.call(address, "caught_up", None, catalog=catalog)
                        for address in self.placement.others
                    ),
                    return_exceptions=True,
                )

    async def _look(self) -> None:
        """Ask the others who has which shard, as long as there are some."""
        silent_since = time.monotonic()
        while True:
            for address in sorted(self.placement.others):
                with suppress(PeerLost, ApiError):
                    owners, nodes = await self._client.call(address, "placement", None)
                    self.placement.set(dict(owners), frozenset(nodes))
                    silent_since = time.monotonic()
                    break
            if time.monotonic() - silent_since > _SILENT_S:
                self.placement.set(self.placement.owners, frozenset())
            await asyncio.sleep(_LOOK_S)


def _address(advertise: str | None) -> tuple[str, int]:
    """Return host and port of an address, port 0 where none was asked for."""
    if advertise is None:
        return _LOOPBACK, 0
    host, _, port = advertise.rpartition(":")
    return host.strip("[]"), int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _secret(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise UnprotectedPeers(f"--peer-secret-file {path}: {error.strerror}") from error
    if len(secret) < 16:
        raise UnprotectedPeers(f"--peer-secret-file {path}: a secret has 16 bytes at least")
    return secret


def _tls(settings: NodeSettings) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """Return how to speak TLS to other nodes, and how they speak it to this one.

    Each side shows a certificate that the other one's authority has signed.
    """
    cert, key, ca = settings.peer_tls_cert, settings.peer_tls_key, settings.peer_tls_ca
    if cert is None and key is None and ca is None:
        return None, None
    if cert is None or key is None or ca is None:
        raise UnprotectedPeers(
            "--peer-tls-cert, --peer-tls-key and --peer-tls-ca go together: each node shows its "
            "certificate and checks the others'"
        )
    shown = Shown(cert, key)
    try:
        return client_tls(ca, shown), server_tls(ca, shown)
    except WrongCertificates as error:
        raise UnprotectedPeers(
            f"the certificates for other nodes can't be used: {error}"
        ) from error
