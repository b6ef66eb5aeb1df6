"""The writing client of one partition: one record at a time, each once, in order.

aiokafka's producer is made for many records of many partitions: it gathers them, has a task send
them and another one wait. An owner has one append in flight, so its records go out as they come, a
batch each, with the producer id, epoch and sequence number by which the broker knows a batch that
it has already.
"""

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable
from functools import partial
from io import BytesIO
from typing import Any, Final, Protocol

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import (
    ConcurrentTransactions,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaError,
    KafkaStorageError,
    LeaderNotAvailableError,
    NoError,
    NotCoordinatorError,
    for_code,
)
from aiokafka.protocol.produce import ProduceRequest_v7
from aiokafka.protocol.transaction import InitProducerIdRequest
from crc32c import crc32c

from streamtable.streams.records import Headers
from streamtable.streams.security import client_options

__all__ = ["Appender", "LocalBroker"]

_REQUEST_TIMEOUT_MS: Final = 15_000
_TRANSACTION_TIMEOUT_MS: Final = 60_000
_RETRY_S: Final = 0.1
# A disk that is full stays so for longer than a client waits.
_STORAGE_S: Final = 2.0
_SEQUENCES: Final = 1 << 31

_MAGIC: Final = 2
_ALL: Final = -1
_TOPIC: Final = struct.Struct(">hhiih")
_PARTITION: Final = struct.Struct(">iii")
# A batch: base offset, length of what follows it, leader's epoch, magic, checksum of the rest.
_UNCHECKED: Final = struct.Struct(">qiibI")
_LENGTH_END: Final = 12
# Attributes, last offset's delta, first and last time, producer, its epoch, sequence, records.
_CHECKED: Final = struct.Struct(">hiqqqhii")
# A record's attributes, the deltas of its time and its offset, and that it has no key.
_NO_KEY: Final = b"\x00\x00\x00\x01"
_SHORT: Final = struct.Struct(">h")
_ANSWER: Final = struct.Struct(">ihq")
_NAME_AT: Final = 4

_NOT_YET: Final = (
    ConcurrentTransactions,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    NotCoordinatorError,
)


class LocalBroker(Protocol):
    """A broker of this machine, which needs no connection to its port: `Broker`, `AppendClient`."""

    async def open_producer(self, name: str) -> tuple[int, int]:
        """Return the id and the new epoch of the producer of a name."""

    def append(self, topic: str, partition: int, batch: bytes) -> Awaitable[tuple[int, int]]:
        """Append a batch; return its error code and its offset."""


class Appender:
    """Appends to one partition; see the module.

    Args:
        address: the brokers, `host:port,...`.
        topic: the topic.
        partition: the partition.
        local: the broker, where it is this machine's.
    """

    def __init__(
        self, address: str, topic: str, partition: int, local: LocalBroker | None = None
    ) -> None:
        self._way: _Leader | _Here = (
            _Leader(address, topic, partition) if local is None else _Here(local, topic, partition)
        )
        self._producer = (-1, -1)
        self._sequence = 0
        # The last record's; most records of a term have the same.
        self._headers: tuple[Headers, bytes] = ([], _encode_headers([]))
        self._closed = False

    async def open(self, fence: str) -> None:
        """Connect, and let the broker refuse what older appenders of the same name still send.

        That is what it does for transactional producers: each time one of that name asks for its
        id, the id's epoch grows. No transaction is ever begun.

        Args:
            fence: the name.

        Raises:
            Exception: one of `log.CLIENT_ERRORS`: the brokers do not answer.
        """
        self._producer = await self._way.open(fence)

    async def close(self) -> None:
        """Close the connections. An append under way fails."""
        self._closed = True
        await self._way.close()

    async def append(self, value: bytes, headers: Headers) -> int:
        """Append one record, and return its offset when it is durable.

        It is sent again for as long as that may help; the broker takes it once.

        Raises:
            Exception: one of `log.CLIENT_ERRORS`: the record may be in the log, or not.
        """
        batch = self._batch(value, headers)
        sent = time.monotonic()
        while True:
            try:
                code, offset = await self._way.send(batch)
                error = for_code(code)
                if error is NoError:
                    return int(offset)
                raise error
            except KafkaError as error:
                if self._closed or not error.retriable:
                    raise
                if isinstance(error, KafkaStorageError) and time.monotonic() > sent + _STORAGE_S:
                    raise
            await self._way.wait()

    def _batch(self, value: bytes, headers: Headers) -> bytes:
        """Return a batch of one record.

        Source: https://kafka.apache.org/documentation/#recordbatch.
        """
        before = _NO_KEY + _varint(len(value))
        if headers != self._headers[0]:
            self._headers = headers, _encode_headers(headers)
        after = self._headers[1]
        length = len(before) + len(value) + len(after)
        now_ms = time.time_ns() // 1_000_000
        checked = _CHECKED.pack(0, 0, now_ms, now_ms, *self._producer, self._sequence, 1)
        body = b"".join((checked, _varint(length), before, value, after))
        # The number is this batch's, whatever becomes of it: the broker takes two of one number for
        # one. After a failure it refuses the next one, and a new producer is needed.
        self._sequence = (self._sequence + 1) % _SEQUENCES
        size = _UNCHECKED.size - _LENGTH_END + len(body)
        return _UNCHECKED.pack(0, size, -1, _MAGIC, crc32c(body)) + body


class _Leader:
    """The way to a partition's leader, over connections of its own."""

    def __init__(self, address: str, topic: str, partition: int) -> None:
        self._topic = topic
        self._partition = TopicPartition(topic, partition)
        self._client = AIOKafkaClient(
            **client_options(address), request_timeout_ms=_REQUEST_TIMEOUT_MS
        )
        name = topic.encode()
        self._head = _TOPIC.pack(-1, _ALL, _REQUEST_TIMEOUT_MS, 1, len(name)) + name

    async def open(self, fence: str) -> tuple[int, int]:
        """Connect, and return the producer's id and epoch."""
        await self._client.bootstrap()
        await self._client.set_topics([self._topic])
        while True:
            try:
                node = await self._client.coordinator_lookup(CoordinationType.TRANSACTION, fence)
                asked = InitProducerIdRequest(fence, _TRANSACTION_TIMEOUT_MS)
                answer = await self._client.send(node, asked)
                error = for_code(answer.error_code)
                if error is NoError:
                    return answer.producer_id, answer.producer_epoch
                raise error
            except KafkaError as error:
                if not (error.retriable or isinstance(error, _NOT_YET)):
                    raise
            await self.wait()

    async def send(self, batch: bytes) -> tuple[int, int]:
        """Send a batch; return its error code and its offset."""
        leader = self._client.cluster.leader_for_partition(self._partition)
        if leader is None or leader < 0:
            raise LeaderNotAvailableError
        partition = _PARTITION.pack(1, self._partition.partition, len(batch))
        request = _Produce(b"".join((self._head, partition, batch)))
        _, code, offset = await self._client.send(leader, request)
        return code, offset

    async def wait(self) -> None:
        """Find out where the leader is now; not at once, it may be elected just then."""
        await asyncio.sleep(_RETRY_S)
        await self._client.force_metadata_update()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


class _Here:
    """The way to a partition of the broker in this process: a call."""

    def __init__(self, broker: LocalBroker, topic: str, partition: int) -> None:
        self.open = broker.open_producer
        self.send = partial(broker.append, topic, partition)

    async def wait(self) -> None:
        """Give the disk a moment."""
        await asyncio.sleep(_RETRY_S)

    async def close(self) -> None:
        """Do nothing: what is under way ends by itself."""


def _encode_headers(headers: Headers) -> bytes:
    encoded = bytearray(_varint(len(headers)))
    for name, content in headers:
        text = name.encode()
        encoded += _varint(len(text)) + text + _varint(len(content)) + content
    return bytes(encoded)


def _varint(number: int) -> bytes:
    """Return a number from 0 on as Kafka's records have it, zigzag and seven bits a byte."""
    left = number << 1
    encoded = bytearray()
    while left > 127:
        encoded.append(left & 127 | 128)
        left >>= 7
    encoded.append(left)
    return bytes(encoded)


class _Answer:
    @staticmethod
    def decode(answer: BytesIO) -> tuple[int, int, int]:
        """Return partition, error and offset from the answer about one partition."""
        data = answer.read()
        (name_length,) = _SHORT.unpack_from(data, _NAME_AT)
        partition, error, offset = _ANSWER.unpack_from(data, _NAME_AT + 2 + name_length + 4)
        return partition, error, offset


class _Produce(ProduceRequest_v7):  # type: ignore[misc]  # aiokafka's classes have no types
    """A request that is bytes already: the general encoder takes five times as long."""

    RESPONSE_TYPE = _Answer

    def __init__(self, content: bytes) -> None:
        self.encode: Callable[[], bytes] = lambda: content

    def prepare(self, _versions: Any) -> "_Produce":
        return self
