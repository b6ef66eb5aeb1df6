"""Takes the calls of other nodes."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeAlias

import aiohttp
import orjson
from aiohttp import web

from streamtable.core.errors import ApiError, InternalServerError, StreamtableError
from streamtable.streams.peers.client import PATH
from streamtable.streams.peers.frames import FRAME_BYTES, FrameWriter
from streamtable.streams.peers.handshake import Hello, check_proof, hello, prove
from streamtable.streams.peers.messages import error_to_json

__all__ = ["Call", "PeerServer", "PeersUnavailable"]

logger = logging.getLogger(__name__)

Call: TypeAlias = Callable[[Any], Awaitable[Any]]
"""Carries a call out: from its arguments to its answer, both JSON. Raises ApiError."""

_HEARTBEAT_S: Final = 6.0
_GREETING_S: Final = 5.0
_STOP_S: Final = 1.0


class PeersUnavailable(StreamtableError, OSError):
    """The address for other nodes can't be listened on."""


class PeerServer:
    """Listens for other nodes.

    Args:
        region: this node's region.
        find: returns what can be called by a name; a name that is none is its matter.
        catalog: tells how far this node has read the catalog.
        caught_up: waits until it has read it so far.
        secret: what all nodes of the region know, or None.
        tls: how to speak TLS, or None.
    """

    def __init__(
        self,
        region: str,
        find: Callable[[str], Call],
        catalog: Callable[[], int],
        caught_up: Callable[[int], Awaitable[None]],
        *,
        secret: bytes | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._region = region
        self._find = find
        self._catalog = catalog
        self._caught_up = caught_up
        self._secret = secret
        self._tls = tls
        self._sockets: set[web.WebSocketResponse] = set()
        self._running: set[asyncio.Task[None]] = set()
        app = web.Application()
        app.router.add_get(PATH, self._accept)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_S)

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port.

        Raises:
            PeersUnavailable: the address can't be had.
        """
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, ssl_context=self._tls)
        try:
            await site.start()
        except OSError as error:
            raise PeersUnavailable(
                f"other nodes can't reach this one at {host}:{port} ({error.strerror or error}): "
                "give each node on a machine an address of its own with --advertise"
            ) from error
        taken: int = self._runner.addresses[0][1]
        return taken

    async def stop(self) -> None:
        """Close all connections; calls under way are ended."""
        for socket in list(self._sockets):
            await socket.close()
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._runner.cleanup()

    async def _accept(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=_HEARTBEAT_S, max_msg_size=FRAME_BYTES)
        await socket.prepare(request)
        try:
            async with asyncio.timeout(_GREETING_S):
                await self._greet(socket)
        except (OSError, TypeError, ValueError) as error:
            # One that took too long, or is gone already, is among these.
            logger.warning("a connection from %s was refused: %r", request.remote, error)
            with suppress(OSError):
                await socket.send_json({"refused": str(error)})
                await socket.close()
            return socket
        self._sockets.add(socket)
        gone = asyncio.Event()
        writer = FrameWriter(socket, gone.set)
        try:
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.BINARY:
                    break
                for number, method, catalog, arguments in orjson.loads(message.data):
                    task = asyncio.create_task(
                        self._carry_out(writer, number, method, catalog, arguments)
                    )
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
        finally:
            writer.stop()
            self._sockets.discard(socket)
        return socket

    async def _greet(self, socket: web.WebSocketResponse) -> None:
        theirs = Hello.read(await socket.receive_json(), self._region)
        mine = hello(self._region)
        proof = prove(self._secret, "server", theirs.nonce)
        await socket.send_json({**mine._asdict(), "proof": proof})
        said = await socket.receive_json()
        proved = said.get("proof") if isinstance(said, dict) else None
        check_proof(self._secret, "client", mine.nonce, proved)
        await socket.send_json({"node": "ok"})

    async def _carry_out(
        self, writer: FrameWriter, number: int, method: str, catalog: int, arguments: Any
    ) -> None:
        try:
            if catalog > self._catalog():
                await self._caught_up(catalog)
            value = await self._find(method)(arguments)
        except ApiError as error:
            writer.send([number, error_to_json(error), None])
        except Exception:
            logger.exception("the call %s of another node failed", method)
            problem = InternalServerError("The node that has the shard failed")
            writer.send([number, error_to_json(problem), None])
        else:
            writer.send([number, None, value])
