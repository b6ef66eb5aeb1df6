"""Listens for connections: uvicorn, inside a loop that is running already."""

import asyncio
import contextlib
import fcntl
import re
import socket
import termios
import time
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from streamtable.gateway.app import Gateway
from streamtable.gateway.limits import GatewayLimits
from streamtable.gateway.ports import listen, reserve
from streamtable.gateway.transports import JoiningTransport

__all__ = ["HttpServer"]

_TICK_S = 1.0
_LOOK_S = 0.01
_UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)


class HttpServer:
    """The HTTP server of one endpoint. It leaves signals alone: its owner calls `stop`.

    Args:
        app: answers the requests.
        host: the address to listen on.
        port: the port; 0 takes a free one.
        limits: what clients may ask of it.
        reserved: host and port, where they were reserved before.

    Attributes:
        host: the address that it listens on.
        port: the port; the one that the system chose once started, where 0 was asked for.
    """

    def __init__(
        self,
        app: Gateway,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        limits: GatewayLimits | None = None,
        reserved: socket.socket | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self._reserved = reserved
        self._server = _Server(_Config(app, GatewayLimits() if limits is None else limits))
        self._serving: asyncio.Task[None] | None = None

    @property
    def endpoint(self) -> str:
        """The URL for an SDK on this machine, for example "http://127.0.0.1:8000"."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104, compared
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}"

    async def start(self) -> None:
        """Listen. Requests are answered when this returns.

        Raises:
            PortTaken: another process listens on the port.
            ListenError: the address is not this machine's, or needs rights.
        """
        assert self._serving is None, "started twice"
        listener = self._reserved or await reserve(self.host, self.port)
        listen(listener)
        self.port = listener.getsockname()[1]
        self._serving = asyncio.create_task(
            self._server.serve(sockets=[listener]), name=f"http {self.endpoint}"
        )
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({ready, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            await self._serving  # it has ended, with the error that says why

    def leave(self) -> None:
        """Have each connection closed with its next answer, which says so: clients go elsewhere.

        New connections are still taken, until `stop`.
        """
        self._server.config.leaving = True

    async def stop(self) -> None:
        """Take no more requests, finish those that have been sent, and close all connections.

        No request is cut off that has been sent whole, unless it takes longer than `stop_s`: a
        connection that stays quiet for a moment is closed, any other one with its next answer.
        """
        if self._serving is None:
            return
        self._server.leave()
        await self._serving
        self._serving = None


class _Config(uvicorn.Config):
    def __init__(self, app: Gateway, limits: GatewayLimits) -> None:
        super().__init__(
            app,
            http=_Connection,
            ws="none",
            loop="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            log_level="error",
            proxy_headers=False,
            server_header=False,
            headers=[("server", "Server")],  # what DynamoDB calls itself
            timeout_keep_alive=limits.keep_alive_s,
        )
        self.gateway = app
        self.limits = limits
        self.leaving = False


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers and polls."""

    config: _Config

    def __init__(self, config: _Config) -> None:
        super().__init__(config)
        self._app = config.gateway
        self.ready = asyncio.Event()
        self._leaving = asyncio.Event()
        self._limits = config.limits
        self._tick_s = min(_TICK_S, config.limits.request_timeout_s / 4)

    def leave(self) -> None:
        self.should_exit = True
        self._leaving.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        await self.on_tick(0)
        self.ready.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # which also sets the clock of the Date header
            self._cut_connections(time.monotonic())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._tick_s):
                    await self._leaving.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop in good order, in place of uvicorn, which closes a connection as a request comes."""
        began = time.monotonic()
        self.config.leaving = True
        self._app.close_streams()
        await self._stop_accepting(sockets or [])
        for connection in self._connections():
            connection.answer_last()
        state = self.server_state
        while state.connections or state.tasks:
            waited_s = time.monotonic() - began
            if waited_s > self._limits.stop_s:
                break
            if waited_s > self._limits.quiet_s:
                for connection in self._connections():
                    connection.close_if_quiet()
            await asyncio.sleep(_LOOK_S)
        for task in state.tasks:
            task.cancel()
        if state.tasks:  # each has a last word to its client
            await asyncio.wait(set(state.tasks), timeout=self._tick_s)
        for connection in self._connections():
            connection.transport.abort()

    async def _stop_accepting(self, sockets: list[socket.socket]) -> None:
        """Close the listeners; who was let in by the system before is a client like any other."""
        loop = asyncio.get_running_loop()
        listeners = [each.dup() for each in sockets]
        for server in self.servers:
            server.close()
        for each in sockets:
            each.close()
        accepted = []
        for listener in listeners:
            listener.setblocking(False)
            with listener, contextlib.suppress(BlockingIOError):
                while True:
                    accepted.append(listener.accept()[0])
        for each in accepted:
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(self._connect, each)

    def _connect(self) -> "_Connection":
        return _Connection(self.config, self.server_state, self.lifespan.state)

    def _cut_connections(self, now: float) -> None:
        """Cut connections that keep us waiting, or that hold too much of what was answered."""
        connections = self._connections()
        for connection in connections:
            connection.close_if_stalled(now)
        unread = sum(connection.unread_bytes for connection in connections)
        if unread > self._limits.unread_bytes:
            for connection in sorted(connections, key=lambda each: each.unread_bytes, reverse=True):
                unread -= connection.unread_bytes
                connection.transport.abort()
                if unread <= self._limits.unread_bytes:
                    break

    def _connections(self) -> "list[_Connection]":
        return [each for each in self.server_state.connections if isinstance(each, _Connection)]


class _Connection(HttpToolsProtocol):
    """uvicorn's connection with limits on what a client may send and how long it may take."""

    config: _Config

    def __init__(
        self,
        config: _Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = config.limits
        self._head_bytes = 0
        self._waiting_for: tuple[Any, int] | None = None
        self._waiting_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._joining = JoiningTransport(transport)
        super().connection_made(self._joining)
        if len(self.connections) > self._limits.connections:
            self._turn_away(b"503 Service Unavailable")

    def data_received(self, data: bytes) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        is_body = cycle is not None and cycle.more_body
        if not is_body and b"pgrade:" in data:
            data = _without_upgrade(data)
        super().data_received(data)
        if is_body or self.cycle is not cycle:
            self._head_bytes = 0
            if self.config.leaving:
                self.answer_last()
        else:  # a part of a head: the gateway answers no request before it has read its body
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.header_bytes:
                self._turn_away(b"431 Request Header Fields Too Large")

    def on_response_complete(self) -> None:
        self._joining.flush()  # an answer to HEAD has no body
        super().on_response_complete()

    @property
    def unread_bytes(self) -> int:
        """What was answered and has not left the process yet."""
        return self.transport.get_write_buffer_size()

    def close_if_stalled(self, now: float) -> None:
        """Cut the connection if its client neither sends nor reads what is its turn to."""
        waiting_for = self._client_s_turn()
        if waiting_for is None or waiting_for != self._waiting_for:
            self._waiting_for = waiting_for
            self._waiting_since = now
        elif now - self._waiting_since > self._limits.request_timeout_s:
            self.transport.abort()

    def answer_last(self) -> None:
        """Close the connection with the answer to the request that it is at, and say so there."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None:
            cycle.keep_alive = False

    def close_if_quiet(self) -> None:
        """Close the connection unless a request has arrived whole, or has yet to be read."""
        if self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.more_body:
                self.transport.abort()
        elif not self._has_unread():
            self.transport.close()

    def _has_unread(self) -> bool:
        """Whether the client has sent something that nobody has read yet."""
        found = self.transport.get_extra_info("socket")
        count = fcntl.ioctl(found.fileno(), termios.FIONREAD, bytes(4))
        return any(count)

    def _client_s_turn(self) -> tuple[Any, int] | None:
        """What the client owes: the rest of a request, or reading on; None if it owes nothing."""
        unread = self.unread_bytes
        cycle: RequestResponseCycle | None = self.cycle
        if unread:
            return cycle, unread
        if cycle is not None:
            if not cycle.response_complete and not cycle.more_body:
                return None  # we are at work
            if cycle.response_complete and self.timeout_keep_alive_task is not None:
                return None  # between requests, which uvicorn itself limits
        return cycle, 0

    def _turn_away(self, status: bytes) -> None:
        self.transport.write(
            b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
        self.transport.close()


def _without_upgrade(data: bytes) -> bytes:
    """Return the beginning of a request without what it offers to speak in place of HTTP/1.1.

    Java's own client offers HTTP/2 with each first request. Answering in HTTP/1.1 declines, but the
    parser takes what follows such a head for another protocol, and drops the request's body.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"\r\nx-upgrade:", head, count=1) + end + rest
