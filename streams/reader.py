"""Reads the change log of every shard at once, without a consumer group."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from itertools import chain
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from aiokafka import TopicPartition

from streamtable.core.errors import StreamtableError
from streamtable.streams.admin import open_admin
from streamtable.streams.log import CLIENT_ERRORS, LogUnavailable
from streamtable.streams.partitions import open_consumer
from streamtable.streams.records import LogRecord
from streamtable.streams.unreachable import why_no_broker

__all__ = ["LogReader", "NoChangeLog", "Span"]

_START_S: Final = 10.0
_WAIT_MS: Final = 1000


class NoChangeLog(StreamtableError, LookupError):
    """The brokers have no change log of that name."""


class Span(NamedTuple):
    """The offsets that a shard's log has: from `start` to before `end`."""

    start: int
    end: int


class LogReader:
    """A reader of a whole change log, for people and tools. An async context manager.

    Args:
        address: the brokers, `host:port,...`.
        topic: the change log's name.
        count: how many shards there are; None for as many as the log has partitions.
    """

    def __init__(self, address: str, topic: str, count: int | None = None) -> None:
        self._address = address
        self._topic = topic
        self._count = count
        self._consumer: Any = None
        self.shards: list[int] = []
        """The numbers of the log's shards."""

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            LogUnavailable: no broker answers.
            NoChangeLog: there is no such log.
        """
        try:
            async with asyncio.timeout(_START_S):
                self.shards = await self._find_shards()
                partitions = [self._partition(shard) for shard in self.shards]
                self._consumer = await open_consumer(self._address, partitions, missing="earliest")
        except CLIENT_ERRORS as error:
            why = await why_no_broker(self._address)
            raise LogUnavailable(f"no Kafka broker answers at {self._address}: {why}") from error
        return self

    async def _find_shards(self) -> list[int]:
        async with open_admin(self._address) as admin:
            if self._topic not in await admin.list_topics():
                raise NoChangeLog(f"the brokers at {self._address} have no topic {self._topic}")
            [topic] = await admin.describe_topics([self._topic])
        return sorted(partition["partition"] for partition in topic["partitions"])[: self._count]

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(*CLIENT_ERRORS):
            await self._consumer.stop()

    async def spans(self) -> dict[int, Span]:
        """Return the offsets of each shard.

        Raises:
            LogUnavailable: the brokers do not answer.
        """
        partitions = [self._partition(shard) for shard in self.shards]
        try:
            starts = await self._consumer.beginning_offsets(partitions)
            ends = await self._consumer.end_offsets(partitions)
        except CLIENT_ERRORS as error:
            raise self._unavailable(error) from error
        return {
            partition.partition: Span(starts[partition], ends[partition])
            for partition in partitions
        }

    async def offsets_at(self, time_ms: int) -> dict[int, int]:
        """Return for each shard the offset of the first record of that time or later.

        Raises:
            LogUnavailable: the brokers do not answer.
        """
        ends = await self.spans()
        times = {self._partition(shard): time_ms for shard in self.shards}
        try:
            found = await self._consumer.offsets_for_times(times)
        except CLIENT_ERRORS as error:
            raise self._unavailable(error) from error
        return {
            partition.partition: ends[partition.partition].end if at is None else at.offset
            for partition, at in found.items()
        }

    async def read(self, starts: Mapping[int, int]) -> AsyncIterator[list[LogRecord]]:
        """Yield records from these offsets on, each shard's in order; never ends.

        Shards that are not named are left out. An empty list is yielded when nothing has come
        for a second.

        Raises:
            LogUnavailable: the brokers do not answer.
        """
        wanted = [self._partition(shard) for shard in starts]
        others = [self._partition(shard) for shard in self.shards if shard not in starts]
        self._consumer.pause(*others)
        self._consumer.resume(*wanted)
        for shard, offset in starts.items():
            self._consumer.seek(self._partition(shard), offset)
        while True:
            try:
                found = await self._consumer.getmany(timeout_ms=_WAIT_MS)
            except CLIENT_ERRORS as error:
                raise self._unavailable(error) from error
            yield [LogRecord.from_consumer(each) for each in chain.from_iterable(found.values())]

    async def read_range(self, spans: Mapping[int, Span]) -> AsyncIterator[list[LogRecord]]:
        """Yield the records of these offsets, each shard's in order, and end.

        Raises:
            LogUnavailable: the brokers do not answer.
        """
        left = {shard: span for shard, span in spans.items() if span.start < span.end}
        if not left:
            return
        async for records in self.read({shard: span.start for shard, span in left.items()}):
            kept = []
            for record in records:
                span = left.get(record.shard)
                if span is None:
                    continue
                if record.offset < span.end:
                    kept.append(record)
                if record.offset >= span.end - 1:
                    del left[record.shard]
            yield kept
            if not left:
                return

    def _partition(self, shard: int) -> TopicPartition:
        return TopicPartition(self._topic, shard)

    def _unavailable(self, error: BaseException) -> LogUnavailable:
        return LogUnavailable(f"the log {self._topic} at {self._address}: {error!r}")
