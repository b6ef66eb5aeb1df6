"""One shard's end of the change log: append to it, read it."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced

from streamtable.core.errors import StreamtableError
from streamtable.streams.appender import Appender, LocalAppend
from streamtable.streams.partitions import open_consumer
from streamtable.streams.records import Headers, LogRecord

__all__ = ["CLIENT_ERRORS", "LogFenced", "LogUnavailable", "ShardLog"]

CLIENT_ERRORS: Final = (KafkaError, OSError, RuntimeError)
"""What aiokafka raises while a broker is away; on a connection that uvloop has closed, the last."""

_APPEND_S: Final = 10.0
_READ_WAIT_MS: Final = 500


class LogUnavailable(StreamtableError, OSError):
    """The brokers gave no answer. The record of an append may be in the log, or not."""


class LogFenced(LogUnavailable):
    """Another node has taken a producer for the shard since this one did."""


class ShardLog:
    """The log of one shard, and the one producer that may write to it.

    Args:
        address: the brokers, `host:port,...`.
        topic: the change log's name.
        shard: the partition.
        local: appends where the broker is this machine's own, see `Appender`.
    """

    def __init__(
        self, address: str, topic: str, shard: int, local: LocalAppend | None = None
    ) -> None:
        self._address = address
        self._topic = topic
        self._shard = shard
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
        partition = TopicPartition(self._topic, self._shard)
        try:
            prober = self._prober
            if prober is None:
                prober = self._prober = await open_consumer(self._address, [partition])
            first = await prober.beginning_offsets([partition])
            end = await prober.end_offsets([partition])
        except CLIENT_ERRORS as error:
            raise self._unavailable("its bounds are not known", error) from error
        return first[partition], end[partition]

    async def read(self, start: int) -> AsyncGenerator[list[LogRecord]]:
        """Yield the records from offset `start` on, in order, as they come; never ends.

        Raises:
            LogUnavailable: the brokers do not answer.
        """
        partition = TopicPartition(self._topic, self._shard)
        try:
            consumer = await open_consumer(self._address, [partition])
            try:
                consumer.seek(partition, start)
                while True:
                    found = await consumer.getmany(partition, timeout_ms=_READ_WAIT_MS)
                    yield [LogRecord.from_consumer(each) for each in found.get(partition, ())]
            finally:
                await consumer.stop()
        except CLIENT_ERRORS as error:
            raise self._unavailable("it can't be read", error) from error

    async def _close_appender(self) -> None:
        appender, self._appender = self._appender, None
        if appender is not None:
            await appender.close()

    def _unavailable(self, what: str, error: BaseException | None) -> LogUnavailable:
        cause = "" if error is None else f" ({error!r})"
        return LogUnavailable(f"shard {self._shard} of {self._topic}: {what}{cause}")
