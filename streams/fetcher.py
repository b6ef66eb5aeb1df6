"""Reading the change log at any offset, at once.

A consumer waits behind its own long polls. Whoever reads here and there (the Streams API, a
replay) asks with requests that the broker answers at once, over connections of their own.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, Protocol

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    LeaderNotAvailableError,
    NoError,
    OffsetOutOfRangeError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.memory_records import MemoryRecords

from streamtable.core.errors import StreamtableError
from streamtable.streams.log import CLIENT_ERRORS, LogUnavailable
from streamtable.streams.records import LogRecord
from streamtable.streams.security import client_options

__all__ = ["Fetched", "Fetches", "LogFetcher", "LogTrimmed"]

_TIMEOUT_MS: Final = 10_000
_ATTEMPTS: Final = 5
_RETRY_S: Final = 0.1
_EARLIEST: Final = -2
_LATEST: Final = -1


class LogTrimmed(StreamtableError, LookupError):
    """The log no longer has the offset that is to be read."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """Part of a shard's log.

    Attributes:
        records: contiguous records from the offset asked for, none at the log's end.
        next: the offset after them.
        size_bytes: what they take in the log.
    """

    records: list[LogRecord]
    next: int
    size_bytes: int


class Fetches(Protocol):
    """Reads a shard's log at any offset; `LogFetcher`, or what stands for it in a test."""

    async def fetch(self, shard: int, offset: int, max_bytes: int) -> Fetched:
        """Return the durable records from an offset on; see `LogFetcher.fetch`."""

    async def bounds(self, shard: int) -> tuple[int, int]:
        """Return the offsets of the first record kept, and of the next one to come."""

    async def offset_at(self, shard: int, timestamp_ms: int) -> int | None:
        """Return the offset of the first record of that time or later, None if there is none."""


class LogFetcher:
    """Reads the change log at any offset, for many readers at once.

    Only durable records are returned: the broker ends its answers at the high watermark.

    Args:
        address: the brokers, `host:port,...`.
        topic: the change log's name.
    """

    def __init__(self, address: str, topic: str) -> None:
        self._topic = topic
        self._client = AIOKafkaClient(
            **client_options(address),
            client_id="streamtable-fetcher",
            request_timeout_ms=_TIMEOUT_MS,
        )

    async def start(self) -> None:
        """Connect.

        Raises:
            LogUnavailable: the brokers do not answer.
        """
        try:
            await self._client.bootstrap()
            await self._client.set_topics([self._topic])
        except CLIENT_ERRORS as error:
            raise self._unavailable(error) from error

    async def stop(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def fetch(self, shard: int, offset: int, max_bytes: int) -> Fetched:
        """Return the durable records from `offset` on, as they are now.

        Args:
            shard: the shard.
            offset: the first record to return.
            max_bytes: about so many bytes of the log, at least one record.

        Raises:
            LogTrimmed: the log starts after `offset`.
            LogUnavailable: the brokers do not answer.
        """
        data = await self._data(shard, offset, max_bytes)
        if data is None:
            return await self._past_the_log(shard, offset)
        return _parse(shard, offset, data)

    async def search(
        self, shard: int, offset: int, max_bytes: int, texts: Collection[bytes]
    ) -> Fetched:
        """Fetch, but pass over the records, unread, where what was fetched has none of the texts.

        Args:
            shard: the shard.
            offset: the first record to look at.
            max_bytes: about so many bytes of the log, at least one record.
            texts: what to look for, as it stands in the values or headers of records.

        Returns:
            All records of this part of the log, or none of them if no text occurs in it.

        Raises:
            LogTrimmed: the log starts after `offset`.
            LogUnavailable: the brokers do not answer.
        """
        data = await self._data(shard, offset, max_bytes)
        if data is None:
            return await self._past_the_log(shard, offset)
        if not any(text in data for text in texts):
            end = _skip(offset, data)
            if end is not None:
                return Fetched([], end, len(data))
        return _parse(shard, offset, data)

    async def bounds(self, shard: int) -> tuple[int, int]:
        """Return the offsets of the first record kept, and of the next one to come.

        Raises:
            LogUnavailable: the brokers do not answer.
        """
        first, end = await asyncio.gather(
            self._offset(shard, _EARLIEST), self._offset(shard, _LATEST)
        )
        return first, end

    async def offset_at(self, shard: int, timestamp_ms: int) -> int | None:
        """Return the offset of the first record appended at that time or later.

        Args:
            shard: the shard.
            timestamp_ms: milliseconds since 1970, of the clocks that wrote the log.

        Returns:
            None if there is no such record yet.

        Raises:
            LogUnavailable: the brokers do not answer.
        """
        offset = await self._offset(shard, timestamp_ms)
        return None if offset < 0 else offset

    async def _data(self, shard: int, offset: int, max_bytes: int) -> bytes | None:
        """Return the batches that begin with the one that has `offset`, None if there is none."""
        request = FetchRequest(0, 0, max_bytes, 0, [(self._topic, [(shard, offset, max_bytes)])])
        try:
            _, _, _, *_, data = await self._ask(shard, request)
        except OffsetOutOfRangeError:
            return None
        found: bytes = data
        return found

    async def _past_the_log(self, shard: int, offset: int) -> Fetched:
        """Answer for an offset that the log does not have; raises LogTrimmed before its start.

        The reader stays where it is, also where the log goes on by now: a broker that has stood
        still for a while, and does not know yet that another one leads, does not have the offset.
        """
        first = await self._offset(shard, _EARLIEST)
        if offset < first:
            raise LogTrimmed(
                f"shard {shard} of {self._topic} starts at offset {first}, not {offset}"
            )
        return Fetched([], offset, 0)

    async def _offset(self, shard: int, timestamp: int) -> int:
        request = OffsetRequest(-1, 0, [(self._topic, [(shard, timestamp)])])
        *_, offset = await self._ask(shard, request)
        found: int = offset
        return found

    async def _ask(self, shard: int, request: Any) -> Any:
        """Send a request about one shard to its leader; return its answer's part of that shard.

        Asks again where the leader has moved or its connection broke.
        """
        failure: Exception | None = None
        for attempt in range(_ATTEMPTS):
            try:
                if attempt:
                    await asyncio.sleep(_RETRY_S)
                    async with asyncio.timeout(_TIMEOUT_MS / 1000):
                        await self._client.force_metadata_update()
                return await self._ask_once(shard, request)
            except OffsetOutOfRangeError:
                raise
            except CLIENT_ERRORS as error:
                failure = error
        assert failure is not None
        raise self._unavailable(failure) from failure

    async def _ask_once(self, shard: int, request: Any) -> Any:
        leader = self._client.cluster.leader_for_partition(TopicPartition(self._topic, shard))
        if leader is None or leader < 0:
            raise LeaderNotAvailableError
        response = await self._client.send(leader, request)
        [(_, [answer])] = response.topics
        error = for_code(answer[1])
        if error is not NoError:
            raise error
        return answer

    def _unavailable(self, error: Exception) -> LogUnavailable:
        return LogUnavailable(f"{self._topic} can't be read: {error!r}")


def _skip(offset: int, data: bytes) -> int | None:
    """Return the offset after a fetch answer's batches; None if one is packed."""
    position = offset
    batches = MemoryRecords(data)
    while batches.has_next():
        batch: Any = batches.next_batch()
        if batch.compression_type:
            return None
        position = max(position, batch.next_offset)
    return position


def _parse(shard: int, offset: int, data: bytes) -> Fetched:
    """Read a fetch answer's batches; the first may begin before `offset`, the last be cut off."""
    records = []
    position = offset
    batches = MemoryRecords(data)
    while batches.has_next():
        batch: Any = batches.next_batch()
        if not batch.is_control_batch:
            records += [
                LogRecord.read(shard, each.offset, each.timestamp, each.headers, each.value)
                for each in batch
                if each.offset >= offset
            ]
        position = max(position, batch.next_offset)
    return Fetched(records, position, len(data))
