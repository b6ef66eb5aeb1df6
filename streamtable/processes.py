"""Several nodes in processes of their own on one machine, behind one port.

Each process is a node as any other: it owns shards, and passes on what is asked of others. They
share the data folder, in which each shard's rows are open in one process at a time, and the
embedded broker, which the first process, their parent, has. One that dies is started again, and the
group gives it its shards back.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict

from streamtable.core.errors import StreamtableError
from streamtable.data_folder import DataFolder
from streamtable.file_limit import raise_file_limit
from streamtable.settings import NodeSettings
from streamtable.streams.appends import AppendServer
from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.security import known_address
from streamtable.streams.topics import Topics

__all__ = ["Processes", "Seat"]

logger = logging.getLogger(__name__)

_START_S: Final = 90.0
_STOP_S: Final = 20.0
_AGAIN_S: Final = 0.5
# What a process and its parent tell each other.
_CLOSE: Final = b"c"
_END: Final = b"e"
_CLOSED: Final = b"closed\n"


class Seat(BaseModel):
    """What one process is told.

    Attributes:
        number: which one of them it is, from 0.
        appends: where the parent takes appends to its broker; None where it has no broker.
        settings: the node's; `kafka` names the brokers, `port` the port that all share.
        checks: apps whose checks are asked before each write.
        log_level: how much it tells.
        log_format: what a log line looks like.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    appends: str | None = None
    settings: NodeSettings
    checks: tuple[str, ...] = ()
    log_level: str = "info"
    log_format: str = "text"


class ProcessFailed(StreamtableError, RuntimeError):
    """A process did not start."""


class Processes:
    """The processes of one `streamtable serve --workers N`.

    Args:
        settings: what the command was told.
        seat: what each process is told beside its number and its settings.
    """

    def __init__(self, settings: NodeSettings, seat: Seat) -> None:
        self._settings = settings
        self._seat = seat
        self._parts = contextlib.AsyncExitStack()
        self._keepers: list[asyncio.Task[None]] = []
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._answering: set[asyncio.subprocess.Process] = set()
        self.kafka = ""
        self.endpoint = ""

    async def start(self) -> None:
        """Start the broker and all processes; returns when each of them answers.

        Raises:
            StreamtableError: what can't be started, and what to do.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        settings = self._settings
        raise_file_limit()
        # 1. The folder, and the log.
        folder = DataFolder(settings.data)
        self._parts.callback(folder.release)
        appends = None
        if settings.kafka is None:
            broker = Broker(BrokerSettings(data=folder.broker, port=settings.broker_port))
            await broker.start()
            self._parts.push_async_callback(broker.stop)
            self.kafka = broker.address
            folder.workers.mkdir(exist_ok=True)
            server = AppendServer(broker, settings.region, folder.workers)
            appends = await server.start()
            self._parts.push_async_callback(server.stop)
        else:
            self.kafka = known_address(settings.kafka, settings.kafka_config)
        await Topics(settings.region).create(self.kafka, settings.shards)
        # 2. The port that they share.
        host, port = settings.host, settings.port
        if not port:
            with socket.socket() as probe:
                probe.bind((host, 0))
                port = probe.getsockname()[1]
        self.endpoint = f"http://{host}:{port}"
        told = settings.model_copy(update={"port": port, "kafka": str(self.kafka)})
        # 3. The processes.
        ready = []
        for number in range(settings.workers):
            seat = self._seat.model_copy(
                update={"number": number, "settings": told, "appends": appends}
            )
            started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._keepers.append(asyncio.create_task(self._keep(seat, started)))
            ready.append(started)
        async with asyncio.timeout(_START_S):
            await asyncio.gather(*ready)

    async def wait_failed(self) -> None:
        """Return never: a process that dies is started again."""
        await asyncio.gather(*self._keepers)

    async def stop(self) -> None:
        """Stop all processes, then the broker; what was answered is durable already.

        First all of their endpoints: what one of them has been asked may need another's shards.
        """
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*map(_close, self._answering))
        await asyncio.gather(*map(self._end, self._running.values()))
        await self._parts.aclose()

    async def _keep(self, seat: Seat, started: asyncio.Future[None]) -> None:
        """Run a process, again and again."""
        while True:
            process = self._running[seat.number] = await asyncio.create_subprocess_exec(
                *_command(seat),
                # It ends when its parent does, however that ends.
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdout is not None
            if await process.stdout.readline():
                self._answering.add(process)
                if not started.done():
                    started.set_result(None)
                # It was told to stop, though not by this process.
                if await _closed(process):
                    _tell(process, _END)
            code = await process.wait()
            self._answering.discard(process)
            if not started.done():
                started.set_exception(
                    ProcessFailed(f"the process of worker {seat.number} ended with {code}")
                )
                return
            logger.warning("worker %d ended with %d and is started again", seat.number, code)
            await asyncio.sleep(_AGAIN_S)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Have a process end, at once if it does not in time."""
        if process.returncode is not None:
            return
        if process in self._answering:
            _tell(process, _END)
        else:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _command(seat: Seat) -> Sequence[str]:
    return (sys.executable, "-m", "streamtable.cli.seat", seat.model_dump_json())


async def _close(process: asyncio.subprocess.Process) -> None:
    """Have a process close its endpoint."""
    # No signal: it may have had the one that its parent got, and the second would be its end.
    _tell(process, _CLOSE)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_STOP_S):
            await _closed(process)


async def _closed(process: asyncio.subprocess.Process) -> bool:
    """Return whether a process has closed its endpoint, once it has; or else has ended."""
    assert process.stdout is not None
    async for line in process.stdout:
        if line == _CLOSED:
            return True
    return False


def _tell(process: asyncio.subprocess.Process, what: bytes) -> None:
    """Tell a process something, unless it has ended."""
    assert process.stdin is not None
    if not process.stdin.is_closing():
        process.stdin.write(what)


class Parent:
    """A process's end of what it and its parent tell each other, by its input and its output.

    Attributes:
        gone: done when the parent has ended: the input ends then.
        to_close: done when this process is to close its endpoint.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = loop.create_future()
        self.to_close: asyncio.Future[None] = loop.create_future()
        self._to_end: asyncio.Future[None] = loop.create_future()
        self._told = {b"": self.gone, _CLOSE: self.to_close, _END: self._to_end}
        loop.add_reader(sys.stdin.fileno(), self._read)

    def _read(self) -> None:
        said = os.read(sys.stdin.fileno(), 1)
        if not said:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        told = self._told[said]
        if not told.done():
            told.set_result(None)

    def answers_at(self, endpoint: str) -> None:
        """Tell that this process answers."""
        sys.stdout.write(f"{endpoint}\n")
        sys.stdout.flush()

    async def closed(self) -> None:
        """Tell that this process's endpoint is closed; return when it is to end."""
        sys.stdout.buffer.write(_CLOSED)
        sys.stdout.flush()
        await self._to_end
