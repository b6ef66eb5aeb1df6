"""The embedded broker: one node that speaks Kafka's protocol, in the loop of its process."""

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
from collections.abc import Callable
from typing import Any, Final

from aiokafka.errors import KafkaConnectionError, KafkaStorageError

from streamtable.streams.broker import fetches, produces
from streamtable.streams.broker.admin import Admin
from streamtable.streams.broker.codes import Code
from streamtable.streams.broker.connection import Api, Connection
from streamtable.streams.broker.directory import Directory
from streamtable.streams.broker.disk import Disk
from streamtable.streams.broker.errors import DataInUse, PortTaken
from streamtable.streams.broker.groups import Groups
from streamtable.streams.broker.messages import MESSAGES
from streamtable.streams.broker.offsets import Offsets
from streamtable.streams.broker.producers import NO_PRODUCER, ProducerIds, Refused
from streamtable.streams.broker.settings import BrokerSettings
from streamtable.streams.broker.topics import Topics

__all__ = ["Broker"]

logger = logging.getLogger(__name__)

_COMMITS_SYNCED_S: Final = 1.0
_BACKLOG: Final = 128


class Broker:
    """A single-node broker for the clients of Apache Kafka.

    Records are durable when they are acknowledged, whatever `acks` asks for (1 or all), and visible
    to consumers only then. Topics, configurations and producers' epochs are durable when the
    request is answered; committed offsets survive the process at once, the machine after a second.

    It runs in the event loop that starts it and never waits for the disk there.

    Args:
        settings: where it stores, listens, and what bounds it.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._lock: int | None = None
        self._disk: Disk | None = None
        self._server: asyncio.Server | None = None
        self._port = settings.port
        self._connections: set[Connection] = set()
        self._housekeeping: list[asyncio.Task[None]] = []
        self._closers: list[Callable[[], None]] = []
        self._producers: ProducerIds | None = None
        self._produces: produces.Produces | None = None
        self._appends: set[asyncio.Future[tuple[int, int]]] = set()

    @property
    def address(self) -> str:
        """`host:port` for a client's bootstrap servers."""
        host, port = self._told()
        return f"{host}:{port}"

    async def start(self) -> None:
        """Read the data folder back and listen.

        1. Lock the folder.
        2. Read the journals, then the segments: checksums are verified, a torn tail is cut.
        3. Listen.

        Raises:
            DataInUse: another process holds the data folder.
            DamagedSegment: acknowledged bytes are not what was stored; names the file.
            PortTaken: another process listens on the port.
            OSError: the folder can't be read or written, or the address not listened on.
        """
        settings = self._settings
        settings.data.mkdir(parents=True, exist_ok=True)
        self._lock_folder()
        try:
            threads = self._disk = Disk(settings.disk_threads, kernel_syncs=settings.kernel_syncs)
            producers = ProducerIds(settings.data, threads)
            offsets = Offsets(settings.data, threads)
            topics = Topics(settings, threads, producers.fences)
            groups = Groups(settings, topics, offsets)
            self._producers = producers
            self._closers = [groups.close, topics.close, offsets.close, producers.close]
            await threads.run(lambda: [part.load() for part in (producers, offsets, topics)])
            apis = self._apis(topics, producers, offsets, groups)
            await self._listen(apis)
        except BaseException:
            await self.stop()
            raise
        self._housekeeping = [
            asyncio.create_task(
                _every(settings.retention_check_ms / 1000, self._clean, topics, groups, offsets)
            ),
            asyncio.create_task(_every(_COMMITS_SYNCED_S, offsets.sync)),
        ]
        logger.info("the broker listens on %s, its data is in %s", self.address, settings.data)

    async def stop(self) -> None:
        """Close every connection and file. What is not acknowledged yet stays without an answer."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._housekeeping:
            task.cancel()
        for task in self._housekeeping:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._housekeeping = []
        for connection in list(self._connections):
            connection.close()
        self._producers = self._produces = None
        if self._disk is not None:
            await self._disk.stop()
            self._disk = None
        for close in self._closers:
            close()
        self._closers = []
        for waiter in list(self._appends):
            waiter.set_exception(KafkaConnectionError("the broker has stopped"))
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def append(self, topic: str, partition: int, batch: bytes) -> asyncio.Future[tuple[int, int]]:
        """Append a record batch as Produce does, for who is in this process.

        Half of what an append costs is the way through a client and a socket, there and back.

        Returns:
            When the batch is durable, or refused: Kafka's error code and the base offset. It raises
            KafkaConnectionError where the broker has stopped.
        """
        waiter: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
        if self._produces is None:
            waiter.set_exception(KafkaConnectionError("the broker has stopped"))
            return waiter

        def done(code: Code, base_offset: int, _start: int) -> None:
            if not waiter.done():
                waiter.set_result((code, base_offset))

        self._appends.add(waiter)
        waiter.add_done_callback(self._appends.discard)
        self._produces.append(topic, partition, batch, done)
        return waiter

    async def open_producer(self, name: str) -> tuple[int, int]:
        """Give the producer of a transactional id its id and a new epoch, as InitProducerId does.

        Raises:
            KafkaError: it can't be made durable, or the broker has stopped.
        """
        if self._producers is None:
            raise KafkaConnectionError("the broker has stopped")
        try:
            return await self._producers.initialize(name, NO_PRODUCER, NO_PRODUCER)
        except (Refused, OSError) as error:
            raise KafkaStorageError(str(error)) from error

    def _lock_folder(self) -> None:
        lock = os.open(self._settings.data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise DataInUse(self._settings.data) from None
        self._lock = lock

    async def _listen(self, apis: dict[int, Api]) -> None:
        loop = asyncio.get_running_loop()
        host, port = self._settings.host, self._settings.port
        try:
            self._server = await loop.create_server(
                lambda: Connection(apis, self._settings, self._connections),
                host,
                port,
                backlog=_BACKLOG,
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(host, port) from error
            raise
        self._port = self._server.sockets[0].getsockname()[1]

    def _told(self) -> tuple[str, int]:
        return self._settings.advertised_host or self._settings.host, self._port

    def _apis(
        self, topics: Topics, producers: ProducerIds, offsets: Offsets, groups: Groups
    ) -> dict[int, Api]:
        """Put every API to its handler."""
        apis: dict[int, Api] = {}
        admin = Admin(self._settings, topics, offsets)
        directory = Directory(topics, producers, self._told, apis)
        self._produces = produces.Produces(topics)
        apis[0] = Api(produces.FIRST_VERSION, produces.LAST_VERSION, raw=self._produces)
        apis[1] = Api(
            fetches.FIRST_VERSION,
            fetches.LAST_VERSION,
            raw=fetches.Fetches(topics, self._settings),
        )
        handlers: dict[str, Callable[..., Any]] = {
            "ApiVersions": directory.versions,
            "Metadata": directory.metadata,
            "DescribeCluster": directory.cluster,
            "ListOffsets": directory.list_offsets,
            "OffsetForLeaderEpoch": directory.leader_epochs,
            "FindCoordinator": directory.coordinator,
            "InitProducerId": directory.init_producer_id,
            "CreateTopics": admin.create_topics,
            "DeleteTopics": admin.delete_topics,
            "CreatePartitions": admin.create_partitions,
            "DeleteRecords": admin.delete_records,
            "DescribeConfigs": admin.describe_configs,
            "AlterConfigs": admin.alter_configs,
            "IncrementalAlterConfigs": admin.incremental_alter_configs,
            "JoinGroup": groups.join,
            "SyncGroup": groups.sync,
            "Heartbeat": groups.heartbeat,
            "LeaveGroup": groups.leave,
            "OffsetCommit": groups.commit,
            "OffsetFetch": groups.fetch,
            "OffsetDelete": groups.delete_offsets,
            "ListGroups": groups.list,
            "DescribeGroups": groups.describe,
            "DeleteGroups": groups.delete,
        }
        for message in MESSAGES.values():
            handler = handlers[message.name]
            apis[message.key] = Api(message.first, message.last, message, handler)
        return apis

    @staticmethod
    async def _clean(topics: Topics, groups: Groups, offsets: Offsets) -> None:
        await topics.apply_retention()
        groups.forget_idle()
        await offsets.rewrite()


async def _every(seconds: float, do: Callable[..., Any], *arguments: object) -> None:
    """Do something again and again; what fails is logged and tried again."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await do(*arguments)
        except OSError as error:
            logger.warning("housekeeping failed, and is tried again: %s", error)
