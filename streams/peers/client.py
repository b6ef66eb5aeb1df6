"""Calls to other nodes, each node over one connection that is kept open."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Final

from streamtable.core.errors import StreamtableError
from streamtable.streams.peers.frames import Link, Packed, socket_in
from streamtable.streams.peers.handshake import Hello, PeerRefused, check_proof, hello, prove
from streamtable.streams.peers.messages import GOODBYE, error_from_json
from streamtable.streams.reasons import why_failed

__all__ = ["PeerClient", "PeerLost"]

logger = logging.getLogger(__name__)

_CONNECT_S: Final = 2.0
# A call is given up after once to twice as long.
_CALL_S: Final = 12.0
# OpenSSL's numbers for a certificate whose signer is not known. Others, as that it has expired, are
# about the node that shows it.
_NOT_OUR_AUTHORITY: Final = {2, 7, 18, 19, 20, 21}


class PeerLost(StreamtableError, ConnectionError):
    """Another node did not answer.

    Attributes:
        asked: whether it may have carried the call out.
        refused: whether it lives, and it or this node does not take the other.
    """

    def __init__(self, message: str, *, asked: bool, refused: bool = False) -> None:
        super().__init__(message)
        self.asked = asked
        self.refused = refused


class _Connection:
    """One connection, and the calls that wait for answers on it."""

    def __init__(self, address: str, link: Link) -> None:
        self.address = address
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._next = 0
        # What was called when it last looked how long calls take.
        self._looked = 0
        self._watch = self._loop.call_later(_CALL_S, self._look)
        link.open(self._take, self._lose)

    @property
    def closed(self) -> bool:
        return self._link.closed

    def call(self, method: str, catalog: int, arguments: Any) -> asyncio.Future[Any]:
        number = self._next = self._next + 1
        if type(arguments) is Packed:
            value, content = arguments
            self._link.send([number, method, catalog, value, len(content)], content)
        else:
            self._link.send([number, method, catalog, arguments])
        answer = self._calls[number] = self._loop.create_future()
        return answer

    def close(self) -> None:
        self._link.close()

    def _take(self, messages: list[Any], contents: bytes) -> None:
        start = 0
        for number, error, value, content_bytes in messages:
            end = start + content_bytes
            answer = self._calls.pop(number, None)
            if answer is None:
                if number == GOODBYE:
                    self._leave()
                    return
            elif not answer.done():
                if error is not None:
                    answer.set_exception(error_from_json(error))
                elif content_bytes:
                    answer.set_result(Packed(value, contents[start:end]))
                else:
                    answer.set_result(value)
            start = end

    def _leave(self) -> None:
        """The node stops: it has carried out nothing that it has not answered."""
        reason = f"the node {self.address} stops"
        self._give_up(list(self._calls), reason, asked=False)
        self._link.close()

    def _look(self) -> None:
        """Give up calls that take too long, all together: a timer for each costs more."""
        reason = f"the node {self.address} gave no answer in time"
        self._give_up([each for each in self._calls if each <= self._looked], reason)
        self._looked = self._next
        self._watch = self._loop.call_later(_CALL_S, self._look)

    def _lose(self) -> None:
        self._watch.cancel()
        self._give_up(list(self._calls), f"the connection to the node {self.address} broke")

    def _give_up(self, numbers: list[int], reason: str, *, asked: bool = True) -> None:
        for number in numbers:
            answer = self._calls.pop(number)
            if not answer.done():
                answer.set_exception(PeerLost(reason, asked=asked))


class PeerClient:
    """Calls other nodes by their addresses.

    Args:
        region: this node's region; nodes of another one are refused.
        secret: what all nodes of the region know, or None.
        tls: how to speak TLS to them, or None for plain TCP.
        sockets: the folder in which nodes of this machine have sockets too, see `socket_in`: what
            goes over one costs a third of what it costs over TCP. None where there is no such one.
    """

    def __init__(
        self,
        region: str,
        secret: bytes | None = None,
        tls: ssl.SSLContext | None = None,
        sockets: Path | None = None,
    ) -> None:
        self._region = region
        self._secret = secret
        self._tls = tls
        self._sockets = sockets
        self._connections: dict[str, _Connection] = {}
        self._opening: dict[str, asyncio.Task[_Connection]] = {}
        self._failing: set[str] = set()

    def call(
        self, address: str, method: str, arguments: Any, *, catalog: int = 0
    ) -> Awaitable[Any]:
        """Have another node carry something out; what is returned is awaited for its answer.

        Where there is a connection it is asked before this returns.

        Args:
            address: the node's, `host:port`.
            method: what it is to do.
            arguments: JSON for it, or Packed.
            catalog: how far of the catalog it must have read before.

        Raises:
            ApiError: what it raised.
            PeerLost: it did not answer.
        """
        connection = self._connections.get(address)
        if connection is None or connection.closed:
            return self._call_anew(address, method, catalog, arguments)
        return connection.call(method, catalog, arguments)

    async def _call_anew(self, address: str, method: str, catalog: int, arguments: Any) -> Any:
        connection = await self._open(address)
        if connection.closed:
            raise PeerLost(f"the connection to the node {address} broke", asked=False)
        return await connection.call(method, catalog, arguments)

    async def meet(self, address: str) -> None:
        """Make sure that a node and this one take each other.

        Raises:
            PeerLost: it can't be reached, or they don't.
        """
        await self._open(address)

    async def stop(self) -> None:
        """Close all connections."""
        opening = list(self._opening.values())
        for each in opening:
            each.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        for connection in self._connections.values():
            connection.close()

    async def _open(self, address: str) -> _Connection:
        opening = self._opening.get(address)
        if opening is None:
            opening = self._opening[address] = asyncio.create_task(self._connect(address))
            opening.add_done_callback(lambda _: self._opening.pop(address, None))
        return await asyncio.shield(opening)

    async def _connect(self, address: str) -> _Connection:
        link: Link | None = None
        try:
            async with asyncio.timeout(_CONNECT_S):
                link = await self._reach(address)
                await self._greet(link)
        except BaseException as error:
            if link is not None:
                link.abort()
            if not isinstance(error, OSError | TypeError | ValueError):
                raise
            why = why_failed(error)
            if self._sockets is None and isinstance(error, ConnectionResetError):
                why += ". All nodes have certificates of one authority, or none has; see its log"
            if address not in self._failing:
                # Once, until it is reached: each request comes to this.
                self._failing.add(address)
                logger.warning("the node %s can't be talked to: %s", address, why)
            refused = _refuses(error, by_tls=link is not None and self._tls is not None)
            raise PeerLost(
                f"the node {address} can't be talked to: {why}", asked=False, refused=refused
            ) from error
        self._failing.discard(address)
        old = self._connections.get(address)
        if old is not None:
            old.close()
        connection = self._connections[address] = _Connection(address, link)
        return connection

    async def _reach(self, address: str) -> Link:
        loop = asyncio.get_running_loop()
        host, _, port = address.rpartition(":")
        if self._sockets is not None:
            path = socket_in(self._sockets, int(port))
            if path.exists():
                _, link = await loop.create_unix_connection(Link, str(path))
                return link
        _, link = await loop.create_connection(Link, host.strip("[]"), int(port), ssl=self._tls)
        return link

    async def _greet(self, link: Link) -> None:
        mine = hello(self._region)
        link.send(mine._asdict())
        answer = await link.receive()
        if "refused" in answer:
            raise PeerRefused(f"it says of this node: {answer['refused']}")
        theirs = Hello.read(answer, self._region)
        check_proof(self._secret, "server", mine.nonce, answer.get("proof"))
        link.send({"proof": prove(self._secret, "client", theirs.nonce)})
        done = await link.receive()
        if "refused" in done:
            raise PeerRefused(f"it says of this node: {done['refused']}")


def _refuses(error: BaseException, *, by_tls: bool) -> bool:
    """Whether a connection failed because one side does not take the other.

    Args:
        error: why it failed.
        by_tls: whether the other side had shown its certificate before.
    """
    match error:
        case ssl.SSLCertVerificationError():
            return error.verify_code in _NOT_OUR_AUTHORITY
        case ssl.SSLError():
            # What the other side says of this one's certificate.
            return "ALERT" in (error.reason or "")
        case ConnectionResetError():
            # It reads this side's certificate last, and says nothing more. Without TLS it may be
            # what stands before a node that is gone.
            return by_tls
    return isinstance(error, PeerRefused)
