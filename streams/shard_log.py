"""One shard's end of the change log: append to it, read it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, ParamSpec, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced

from streamtable.streams.appender import Appender, LocalBroker
from streamtable.streams.fetcher import LogFetcher, LogTrimmed
from streamtable.streams.log import CLIENT_ERRORS, LogFenced, LogUnavailable
from streamtable.streams.partitions import open_consumer
from streamtable.streams.records import Headers, LogRecord
from streamtable.streams.topics import Topics

__all__ = ["ShardLog", "ShardLogs"]

P = ParamSpec("P")
T = TypeVar("T")

_APPEND_S: Final = 10.0
# Longer than one broker is waited for, so that the next one is asked; shorter than clients wait.
_END_S: Final = 9.0
# A partition has no leader for some seconds when its broker is lost.
_PATIENCE_S: Final = 30.0
_RETRY_S: Final = 0.2
_READ_BYTES: Final = 4 * 1024 * 1024
_READ_WAIT_S: Final = 0.1


class ShardLogs:
    """The logs of a node's shards, which are read over the same connections.

    Args:
        address: the brokers, `host:port,...`.
        topics: the region's topics.
        local: the broker, where it is in this process.

    Attributes:
        changes: reads the change log.
        rows: reads the indexes' log.
    """

    def __init__(self, address: str, topics: Topics, local: LocalBroker | None = None) -> None:
        self.changes = LogFetcher(address, topics.changelog)
        self.rows = LogFetcher(address, topics.indexes)
        self._address = address
        self._topic = topics.changelog
        self._local = local

    async def start(self) -> None:
        """Connect.

        Raises:
            LogUnavailable: the brokers do not answer.
        """
        await self.changes.start()
        await self.rows.start()

    async def stop(self) -> None:
        """Close the connections."""
        await self.changes.stop()
        await self.rows.stop()

    def of(self, shard: int) -> "ShardLog":
        """Return a shard's log."""
        return ShardLog(self._address, self._topic, shard, self.changes, self._local)


class ShardLog:
    """The log of one shard, and the one producer that may write to it.

    Args:
        address: the brokers, `host:port,...`.
        topic: the change log's name.
        shard: the partition.
        reader: reads the change log.
        local: the broker, where it is in this process.
    """

    def __init__(
        self,
        address: str,
        topic: str,
        shard: int,
        reader: LogFetcher,
        local: LocalBroker | None = None,
    ) -> None:
        self._address = address
        self._topic = topic
        self._shard = shard
        self._reader = reader
        self._local = local
        self._appender: Appender | None = None
        self._prober: AIOKafkaConsumer | None = None

    async def open(self) -> None:
        """Take a new producer and fence every older one of this shard.

        The broker raises the epoch of the shard's producer id and refuses batches of older
        holders. That is the second layer under the barrier, not a replacement for it.

        Raises:
            LogUnavailable: the brokers do not answer.
        """
        await self._close_appender()
        appender = Appender(self._address, self._topic, self._shard, self._local)
        try:
            async with asyncio.timeout(_APPEND_S):
                await appender.open(f"{self._topic}-{self._shard}")
        except BaseException as error:
            await appender.close()
            if isinstance(error, CLIENT_ERRORS):
                raise self._unavailable("no producer", error) from error
            raise
        self._appender = appender

    async def close(self) -> None:
        """Let go of the brokers. An append under way ends with `LogUnavailable`."""
        await self._close_appender()
        prober, self._prober = self._prober, None
        if prober is not None:
            await prober.stop()

    async def append(self, value: bytes, headers: Headers) -> int:
        """Append one record; it is durable when this returns.

        Returns:
            Its offset.

        Raises:
            LogFenced: another node has taken a producer; the outcome is unknown all the same.
            LogUnavailable: the outcome is unknown. A failed batch spoils the producer:
                `open` again.
        """
        if self._appender is None:
            raise self._unavailable("no producer", None)
        try:
            async with asyncio.timeout(_APPEND_S):
                offset = await self._appender.append(value, headers)
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise LogFenced(f"shard {self._shard} of {self._topic} has another writer") from error
        except CLIENT_ERRORS as error:
            raise self._unavailable("append failed", error) from error
        if offset < 0:
            raise self._unavailable("the broker named no offset", None)
        return offset

    async def bounds(self) -> tuple[int, int]:
        """Return the offsets of the first record kept, and of the next one to come.

        Raises:
            LogUnavailable: the brokers do not answer.
        """
        return await self._patiently(self._reader.bounds, self._shard)

    async def end(self) -> int:
        """Return the offset of the next record to come.

        It is asked over a connection of the shard's own: a read that waits for the answer waits
        for nobody who reads the log.

        Raises:
            LogUnavailable: the brokers do not answer.
        """
        partition = TopicPartition(self._topic, self._shard)
        try:
            async with asyncio.timeout(_END_S):
                prober = self._prober
                if prober is None:
                    prober = self._prober = await open_consumer(self._address, [partition])
                ends: dict[TopicPartition, int] = await prober.end_offsets([partition])
        except CLIENT_ERRORS as error:
            raise self._unavailable("its end is not known", error) from error
        return ends[partition]

    async def read(self, start: int) -> AsyncGenerator[list[LogRecord]]:
        """Yield the records from offset `start` on, in order, as they come; never ends.

        Raises:
            LogUnavailable: the brokers do not answer, or no longer have that offset.
        """
        while True:
            try:
                found = await self._patiently(self._reader.fetch, self._shard, start, _READ_BYTES)
            except LogTrimmed as error:
                raise self._unavailable("it can't be read", error) from error
            start = found.next
            yield found.records
            if not found.size_bytes:
                await asyncio.sleep(_READ_WAIT_S)

    @staticmethod
    async def _patiently(ask: Callable[P, Awaitable[T]], *told: P.args, **named: P.kwargs) -> T:
        """Ask the brokers, again and again for some time where they do not answer."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return await ask(*told, **named)
            except LogUnavailable:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_RETRY_S)

    async def _close_appender(self) -> None:
        appender, self._appender = self._appender, None
        if appender is not None:
            await appender.close()

    def _unavailable(self, what: str, error: BaseException | None) -> LogUnavailable:
        cause = "" if error is None else f" ({error!r})"
        return LogUnavailable(f"shard {self._shard} of {self._topic}: {what}{cause}")
