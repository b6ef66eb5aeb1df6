"""Takes the calls of other nodes."""

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

from streamtable.core.errors import StreamtableError
from streamtable.streams.owner import Moved
from streamtable.streams.peers.failures import failed
from streamtable.streams.peers.frames import Link, Packed, socket_in
from streamtable.streams.peers.handshake import Hello, check_proof, hello, prove
from streamtable.streams.peers.messages import GOODBYE, error_to_json
from streamtable.streams.reasons import why_failed
from streamtable.streams.standstill import Standstill

__all__ = ["Call", "PeerServer", "PeersUnavailable"]

logger = logging.getLogger(__name__)

Call: TypeAlias = Callable[[Any], Awaitable[Any]]
"""Carries a call out: from its arguments to its answer, both of them JSON or Packed.

Where it has the answer at once, it returns it Packed, and needs no task; nor does a future. Raises
ApiError.
"""

_GREETING_S: Final = 5.0
_STOP_S: Final = 1.0
_LOOK_S: Final = 0.01
_DAZED: Final = "The node that has the shard stood still until a moment ago. Try again."
_OURS_ONLY: Final = 0o600


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
        sockets: the folder for a socket that nodes of this machine may use instead, or None.
        standstill: knows whether what comes may be old; None where nobody tries again elsewhere.
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
        sockets: Path | None = None,
        standstill: Standstill | None = None,
    ) -> None:
        self._region = region
        self._standstill = standstill
        self._find = find
        self._catalog = catalog
        self._caught_up = caught_up
        self._secret = secret
        self._tls = tls
        self._sockets = sockets
        self._loop = asyncio.get_running_loop()
        self._listeners: list[asyncio.AbstractServer] = []
        self._beside: Path | None = None
        # By connection, how many of its calls are to be answered.
        self._links: dict[Link, _Owed] = {}
        self._leaving = False
        self._running: set[asyncio.Task[None]] = set()

    async def start(self, host: str | None, port: int) -> int:
        """Listen; return the port.

        Args:
            host: the address; None for all that the machine has.
            port: the port; 0 takes a free one.

        Raises:
            PeersUnavailable: the address can't be had.
        """
        handshake_s = None if self._tls is None else _GREETING_S
        try:
            listener = await self._loop.create_server(
                lambda: Link(self._accept),
                host,
                port,
                ssl=self._tls,
                ssl_handshake_timeout=handshake_s,
            )
        except OSError as error:
            where = f"{host or 'any address'}, port {port}"
            raise PeersUnavailable(
                f"other nodes can't reach this one at {where} ({error.strerror or error}): "
                "give each node on a machine an address of its own with --advertise"
            ) from error
        self._listeners.append(listener)
        taken: int = listener.sockets[0].getsockname()[1]
        if self._sockets is not None:
            await self._listen_beside(socket_in(self._sockets, taken))
        return taken

    async def _listen_beside(self, path: Path) -> None:
        """Listen on a socket of this machine too."""
        try:
            listener = await self._loop.create_unix_server(
                lambda: Link(self._accept), sock=_bound(path)
            )
        except OSError as error:
            # The folder's name may be too long for it.
            logger.info("other processes reach this one over TCP only: %s", error)
        else:
            self._listeners.append(listener)
            self._beside = path

    async def stop(self) -> None:
        """Take no more calls, answer those under way if that is soon done, and close.

        Whoever has all answers is told so: what it has called since was not carried out.
        """
        self._leaving = True
        for listener in self._listeners:
            listener.close()
        if self._beside is not None:
            self._beside.unlink(missing_ok=True)
        await self._until(lambda: not any(owed.calls for owed in self._links.values()))
        for link, owed in self._links.items():
            if not owed.calls:
                link.send([GOODBYE, None, None, 0])
        # They close the connection then. What this side closes loses what it has not read.
        await self._until(lambda: all(owed.calls for owed in self._links.values()))
        for link in list(self._links):
            link.close()
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                for listener in self._listeners:
                    await listener.wait_closed()

    @staticmethod
    async def _until(done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _STOP_S
        while not done() and time.monotonic() < deadline:  # noqa: ASYNC110 - an event would cost each call
            await asyncio.sleep(_LOOK_S)

    def _accept(self, link: Link) -> None:
        self._links[link] = _Owed()
        self._run(self._admit(link))

    def _forget(self, link: Link) -> None:
        self._links.pop(link, None)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        # asyncio's own asks the system for the process's id first.
        task = self._loop.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _admit(self, link: Link) -> None:
        """Find out who has connected, and take its calls from then on."""
        try:
            async with asyncio.timeout(_GREETING_S):
                await self._greet(link)
        except (OSError, TypeError, ValueError) as error:
            # One that took too long, or is gone already, is among these.
            logger.warning("a connection from another node was refused: %s", why_failed(error))
            link.send({"refused": str(error)})
            link.close()
            self._forget(link)
            return

        owed = self._links[link]

        def take(messages: list[Any], contents: bytes) -> None:
            if self._leaving:
                return
            owed.calls += len(messages)
            if self._standstill is not None and self._standstill.dazed():
                for number, method, *_ in messages:
                    _Answered(link, owed, number, method).fail(Moved(_DAZED))
                return
            read = self._catalog()
            start = 0
            for number, method, catalog, arguments, *packed in messages:
                if packed:
                    end = start + packed[0]
                    arguments = Packed(arguments, contents[start:end])  # noqa: PLW2901
                    start = end
                answered = _Answered(link, owed, number, method)
                if catalog > read:
                    self._run(self._carry_out_later(answered, catalog, arguments))
                else:
                    self._carry_out(answered, arguments)

        link.open(take, lambda: self._forget(link))

    async def _greet(self, link: Link) -> None:
        theirs = Hello.read(await link.receive(), self._region)
        mine = hello(self._region)
        proof = prove(self._secret, "server", theirs.nonce)
        link.send({**mine._asdict(), "proof": proof})
        said = await link.receive()
        proved = said.get("proof") if isinstance(said, dict) else None
        check_proof(self._secret, "client", mine.nonce, proved)
        link.send({"node": "ok"})

    def _carry_out(self, answered: "_Answered", arguments: Any) -> None:
        """Carry a call out: at once where nothing has to be waited for, else in a task."""
        try:
            begun = self._find(answered.method)(arguments)
        except Exception as error:  # noqa: BLE001 - an answer in any case
            answered.fail(error)
        else:
            if type(begun) is Packed:
                answered.tell(begun)
            elif isinstance(begun, asyncio.Future):
                begun.add_done_callback(answered.settle)
            else:
                self._run(answered.finish(begun))

    async def _carry_out_later(self, answered: "_Answered", catalog: int, arguments: Any) -> None:
        """Carry a call out when the catalog is read so far."""
        try:
            await self._caught_up(catalog)
        except Exception as error:  # noqa: BLE001 - an answer in any case
            answered.fail(error)
        else:
            self._carry_out(answered, arguments)


class _Owed:
    """How many calls of a connection are to be answered."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0


class _Answered:
    """A call that is to be answered, and how."""

    __slots__ = ("_link", "_number", "_owed", "method")

    def __init__(self, link: Link, owed: _Owed, number: int, method: str) -> None:
        self._link = link
        self._owed = owed
        self._number = number
        self.method = method

    def settle(self, begun: asyncio.Future[Any]) -> None:
        error = begun.exception()
        if isinstance(error, Exception):
            self.fail(error)
        else:
            self.tell(begun.result())

    async def finish(self, begun: Awaitable[Any]) -> None:
        try:
            answer = await begun
        except Exception as error:  # noqa: BLE001 - an answer in any case
            self.fail(error)
        else:
            self.tell(answer)

    def tell(self, answer: Any) -> None:
        self._owed.calls -= 1
        if type(answer) is Packed:
            value, content = answer
            self._link.send([self._number, None, value, len(content)], content)
        else:
            self._link.send([self._number, None, answer, 0])

    def fail(self, error: Exception) -> None:
        self._owed.calls -= 1
        told = failed(self.method, None, error)
        self._link.send([self._number, error_to_json(told), None, 0])


def _bound(path: Path) -> socket.socket:
    """Return a socket at a path, for processes of the same user; one that was left is replaced."""
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(str(path))
        path.chmod(_OURS_ONLY)
    except BaseException:
        made.close()
        raise
    return made
