"""Calls to other nodes, each node over one connection that is kept open."""

import asyncio
import logging
import ssl
from contextlib import suppress
from typing import Any, Final

import aiohttp
import orjson

from streamtable.core.errors import StreamtableError
from streamtable.streams.peers.frames import FRAME_BYTES, FrameWriter
from streamtable.streams.peers.handshake import Hello, PeerRefused, check_proof, hello, prove
from streamtable.streams.peers.messages import error_from_json

__all__ = ["PATH", "PeerClient", "PeerLost"]

logger = logging.getLogger(__name__)

PATH: Final = "/peer"
"""Where a node takes connections of others."""

_CONNECT_S: Final = 2.0
_HEARTBEAT_S: Final = 6.0
# A call is given up after once to twice as long.
_CALL_S: Final = 12.0


class PeerLost(StreamtableError, ConnectionError):
    """Another node did not answer.

    Attributes:
        asked: whether it may have carried the call out.
    """

    def __init__(self, message: str, *, asked: bool) -> None:
        super().__init__(message)
        self.asked = asked


class _Connection:
    """One connection, and the calls that wait for answers on it."""

    def __init__(self, address: str, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.address = address
        self.closed = False
        self._socket = socket
        self._writer = FrameWriter(socket, self._lose)
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._next = 0
        # What was called when it last looked how long calls take.
        self._looked = 0
        self._reader = asyncio.create_task(self._read())
        self._watch = asyncio.create_task(self._look())

    async def call(self, method: str, catalog: int, arguments: Any) -> Any:
        number = self._next = self._next + 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls[number] = answer
        try:
            self._writer.send([number, method, catalog, arguments])
            return await answer
        finally:
            self._calls.pop(number, None)

    async def close(self) -> None:
        self._lose()
        self._writer.stop()
        self._reader.cancel()
        self._watch.cancel()
        await self._socket.close()

    async def _read(self) -> None:
        try:
            async for message in self._socket:
                if message.type is not aiohttp.WSMsgType.BINARY:
                    break
                for number, error, value in orjson.loads(message.data):
                    answer = self._calls.get(number)
                    if answer is None or answer.done():
                        continue
                    if error is None:
                        answer.set_result(value)
                    else:
                        answer.set_exception(error_from_json(error))
        except (OSError, RuntimeError, aiohttp.ClientError) as problem:
            logger.info("the connection to the node %s broke: %r", self.address, problem)
        finally:
            self._lose()

    async def _look(self) -> None:
        """Give up calls that take too long, all together: a timer for each costs more."""
        while not self.closed:
            await asyncio.sleep(_CALL_S)
            for number in [each for each in self._calls if each <= self._looked]:
                answer = self._calls[number]
                if not answer.done():
                    reason = f"the node {self.address} gave no answer in time"
                    answer.set_exception(PeerLost(reason, asked=True))
            self._looked = self._next

    def _lose(self) -> None:
        self.closed = True
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(
                    PeerLost(f"the connection to the node {self.address} broke", asked=True)
                )


class PeerClient:
    """Calls other nodes by their addresses.

    Args:
        region: this node's region; nodes of another one are refused.
        secret: what all nodes of the region know, or None.
        tls: how to speak TLS to them, or None for plain TCP.
    """

    def __init__(
        self, region: str, secret: bytes | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._region = region
        self._secret = secret
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._connections: dict[str, _Connection] = {}
        self._opening: dict[str, asyncio.Task[_Connection]] = {}

    async def call(self, address: str, method: str, arguments: Any, *, catalog: int = 0) -> Any:
        """Have another node carry something out; return its answer.

        Args:
            address: the node's, `host:port`.
            method: what it is to do.
            arguments: JSON for it.
            catalog: how far of the catalog it must have read before.

        Raises:
            ApiError: what it raised.
            PeerLost: it did not answer.
        """
        connection = self._connections.get(address)
        if connection is None or connection.closed:
            connection = await self._open(address)
            if connection.closed:
                raise PeerLost(f"the connection to the node {address} broke", asked=False)
        return await connection.call(method, catalog, arguments)

    async def stop(self) -> None:
        """Close all connections."""
        for opening in self._opening.values():
            opening.cancel()
        for connection in self._connections.values():
            await connection.close()
        if self._session is not None:
            await self._session.close()

    async def _open(self, address: str) -> _Connection:
        opening = self._opening.get(address)
        if opening is None:
            opening = self._opening[address] = asyncio.create_task(self._connect(address))
            opening.add_done_callback(lambda _: self._opening.pop(address, None))
        return await asyncio.shield(opening)

    async def _connect(self, address: str) -> _Connection:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        scheme = "http" if self._tls is None else "https"
        url = f"{scheme}://{address}{PATH}"
        try:
            async with asyncio.timeout(_CONNECT_S):
                socket = await self._session.ws_connect(
                    url, heartbeat=_HEARTBEAT_S, max_msg_size=FRAME_BYTES, ssl=self._tls or True
                )
                try:
                    await self._greet(socket)
                except BaseException:
                    await socket.close()
                    raise
        except PeerRefused as error:
            logger.error("the node %s is not one of ours: %s", address, error)  # noqa: TRY400 - the message says it all
            raise PeerLost(f"the node {address}: {error}", asked=False) from error
        except (OSError, TypeError, ValueError, aiohttp.ClientError) as error:
            raise PeerLost(
                f"the node {address} can't be reached: {error!r}", asked=False
            ) from error
        old = self._connections.get(address)
        if old is not None:
            with suppress(OSError):
                await old.close()
        connection = self._connections[address] = _Connection(address, socket)
        return connection

    async def _greet(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        mine = hello(self._region)
        await socket.send_json(mine._asdict())
        answer = await socket.receive_json()
        if "refused" in answer:
            raise PeerRefused(f"it says of this node: {answer['refused']}")
        theirs = Hello.read(answer, self._region)
        check_proof(self._secret, "server", mine.nonce, answer.get("proof"))
        await socket.send_json({"proof": prove(self._secret, "client", theirs.nonce)})
        done = await socket.receive_json()
        if "refused" in done:
            raise PeerRefused(f"it says of this node: {done['refused']}")
