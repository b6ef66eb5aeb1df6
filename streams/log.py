"""One shard's end of the change log: append to it, read it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced

from streamtable.core.errors import StreamtableError
from streamtable.streams.partitions import open_consumer
from streamtable.streams.records import Headers, LogRecord
from streamtable.streams.security import client_options
from streamtable.streams.topics import MAX_RECORD_BYTES

__all__ = ["CLIENT_ERRORS", "LogFenced", "LogUnavailable", "ShardLog"]

CLIENT_ERRORS: Final = (KafkaError, OSError, RuntimeError)
"""What aiokafka raises while a broker is away; on a connection that uvloop has closed, the last."""

_APPEND_S: Final = 10.0
_CANCEL_S: Final = 0.05
_REQUEST_TIMEOUT_MS: Final = 15_000
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
    """

    def __init__(self, address: str, topic: str, shard: int) -> None:
        self._address = address
        self._topic = topic
        self._shard = shard
        self._producer: AIOKafkaProducer | None = None
        self._prober: AIOKafkaConsumer | None = None

    async def open(self) -> None:
        """Take a new producer and fence every older one of this shard.

        The producer is started as a transactional one, so that the broker raises the epoch of
        the shard's producer id and refuses batches of older holders. Then it forgets that it is
        transactional: its batches go out plain, without a transaction's cost. That is the second
        layer under the barrier, not a replacement for it.

        Raises:
            LogUnavailable: the brokers do not answer.
        """
        await self._close_producer()
        producer = AIOKafkaProducer(
            **client_options(self._address),
            transactional_id=f"{self._topic}-{self._shard}",
            acks="all",
            linger_ms=0,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            max_request_size=MAX_RECORD_BYTES,
            max_batch_size=MAX_RECORD_BYTES,
        )
        try:
            async with asyncio.timeout(_APPEND_S):
                await producer.start()
        except CLIENT_ERRORS as error:
            await _drop(producer)
            raise self._unavailable("no producer", error) from error
        # No public way to say this; aiokafka is pinned, and a test fails when it stops working.
        producer._txn_manager.transactional_id = None  # noqa: SLF001 - see above
        self._producer = producer

    async def close(self) -> None:
        """Let go of the brokers. An append under way ends with `LogUnavailable`."""
        await self._close_producer()
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
        if self._producer is None:
            raise self._unavailable("no producer", None)
        try:
            # The producer itself would try for ever: what it sends again is never written twice.
            async with asyncio.timeout(_APPEND_S):
                sent = await self._producer.send(
                    self._topic, value, partition=self._shard, headers=headers
                )
                metadata = await sent
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise LogFenced(f"shard {self._shard} of {self._topic} has another writer") from error
        except CLIENT_ERRORS as error:
            raise self._unavailable("append failed", error) from error
        offset: int = metadata.offset
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
            if self._prober is None:
                self._prober = await open_consumer(self._address, [partition])
            first = await self._prober.beginning_offsets([partition])
            end = await self._prober.end_offsets([partition])
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

    async def _close_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _drop(producer)

    def _unavailable(self, what: str, error: BaseException | None) -> LogUnavailable:
        cause = "" if error is None else f" ({error!r})"
        return LogUnavailable(f"shard {self._shard} of {self._topic}: {what}{cause}")


async def _drop(producer: AIOKafkaProducer) -> None:
    """Let go of a producer, and of what it still wanted to send.

    Its own `stop` sends that first, for as long as it takes, unless its sender has ended.
    """
    sender = producer._sender.sender_task  # noqa: SLF001 - see above
    # Cancelled once, it waits for its requests; cancelled again, it cancels them, one by one.
    while sender is not None and not sender.done():
        sender.cancel()
        await asyncio.wait([sender], timeout=_CANCEL_S)
    with suppress(*CLIENT_ERRORS):
        await producer.stop()
