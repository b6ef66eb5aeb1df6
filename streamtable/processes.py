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
        """Stop all processes, then the broker; what was answered is durable already."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*map(_end, self._running.values()))
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
            if await process.stdout.readline() and not started.done():
                started.set_result(None)
            code = await process.wait()
            if not started.done():
                started.set_exception(
                    ProcessFailed(f"the process of worker {seat.number} ended with {code}")
                )
                return
            logger.warning("worker %d ended with %d and is started again", seat.number, code)
            await asyncio.sleep(_AGAIN_S)


def _command(seat: Seat) -> Sequence[str]:
    return (sys.executable, "-m", "streamtable.cli.seat", seat.model_dump_json())


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def parent_is_gone() -> asyncio.Future[None]:
    """Return what is done when this process's parent has ended: its input ends then."""
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[None] = loop.create_future()

    def look() -> None:
        if not os.read(sys.stdin.fileno(), 1):
            loop.remove_reader(sys.stdin.fileno())
            if not gone.done():
                gone.set_result(None)

    loop.add_reader(sys.stdin.fileno(), look)
    return gone
