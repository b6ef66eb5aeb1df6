"""Kafka's protocol spoken by hand, with kio's codec: for what no client library would send."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import enum
import io
import struct
import time
import types
import typing
from typing import Any, Self

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader, entity_writer

__all__ = ["KafkaWire", "batch", "build", "plain"]

_ANSWER_S = 30


def build(entity: Any, fields: dict[str, Any]) -> Any:
    """Make one of kio's entities from plain values; milliseconds stand for its timedeltas."""
    hints = typing.get_type_hints(entity)
    values = {}
    for field in dataclasses.fields(entity):
        if field.name in fields:
            kind = field.metadata.get("kafka_type", "")
            values[field.name] = _value(hints[field.name], kind, fields[field.name])
    unknown = fields.keys() - values.keys()
    assert not unknown, f"{entity.__name__} v{entity.__version__} has no {sorted(unknown)}"
    return entity(**values)


def _value(hint: Any, kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind.startswith("timedelta"):
        return dt.timedelta(milliseconds=value)
    if typing.get_origin(hint) is types.UnionType:
        hint = next(one for one in typing.get_args(hint) if one is not type(None))
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        return tuple(build(item, one) if dataclasses.is_dataclass(item) else one for one in value)
    return value


def plain(entity: Any) -> Any:
    """Turn one of kio's entities into plain values, without its tagged fields."""
    if dataclasses.is_dataclass(entity):
        return {
            field.name: plain(getattr(entity, field.name))
            for field in dataclasses.fields(entity)
            if "tag" not in field.metadata
        }
    if isinstance(entity, tuple):
        return [plain(one) for one in entity]
    if isinstance(entity, dt.timedelta):
        return entity // dt.timedelta(milliseconds=1)
    return entity.value if isinstance(entity, enum.Enum) else entity


def batch(
    *values: bytes,
    producer: tuple[int, int, int] = (-1, -1, -1),
    timestamps: tuple[int, ...] | None = None,
    compression: int = 0,
) -> bytes:
    """Build a record batch; `producer` is (producer id, epoch, base sequence)."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=compression,
        is_transactional=0,
        producer_id=producer[0],
        producer_epoch=producer[1],
        base_sequence=producer[2],
        batch_size=1 << 30,
    )
    for number, value in enumerate(values):
        timestamp = int(time.time() * 1000) if timestamps is None else timestamps[number]
        builder.append(number, timestamp, None, value, [])
    return bytes(builder.build())


class KafkaWire:
    """One connection to a broker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._correlation_id = 0

    @classmethod
    async def connect(cls, address: str) -> Self:
        """Connect to `host:port`."""
        host, _, port = address.partition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def send(self, key: int, version: int, **fields: Any) -> int:
        """Send a request and return its correlation id."""
        schema: Any = load_request_schema(key, version)
        self._correlation_id += 1
        header = schema.__header_schema__(
            request_api_key=key,
            request_api_version=version,
            correlation_id=self._correlation_id,
            client_id="wire",
        )
        out = io.BytesIO()
        entity_writer(type(header))(out, header)
        request = build(schema, fields)
        entity_writer(schema)(out, request)
        self.send_raw(struct.pack(">i", out.tell()) + out.getvalue())
        return self._correlation_id

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait until what was sent is with the kernel."""
        await self._writer.drain()

    async def receive(self, key: int, version: int, correlation_id: int) -> Any:
        """Receive the next answer, which has to be that of `correlation_id`.

        Raises:
            asyncio.IncompleteReadError: the broker closed the connection.
        """
        size = struct.unpack(">i", await self._read(4))[0]
        data = await self._read(size)
        schema: Any = load_response_schema(key, version)
        header_schema = schema.__header_schema__
        header, at = entity_reader(header_schema)(data, 0)
        assert header.correlation_id == correlation_id
        response, size = entity_reader(schema)(data, at)
        assert at + size == len(data)
        return response

    async def call(self, key: int, version: int, **fields: Any) -> Any:
        """Send a request and receive its answer."""
        return await self.receive(key, version, self.send(key, version, **fields))

    async def _read(self, size: int) -> bytes:
        return await asyncio.wait_for(self._reader.readexactly(size), _ANSWER_S)

    # The requests that many tests send

    async def produce(
        self, topic: str, records: bytes, *, partition: int = 0, version: int = 8, acks: int = -1
    ) -> Any:
        """Produce to one partition and return its answer."""
        return _only_partition(await self.receive(0, version, self.send_produce(
            topic, records, partition=partition, version=version, acks=acks
        )))  # fmt: skip

    def send_produce(
        self, topic: str, records: bytes, *, partition: int = 0, version: int = 8, acks: int = -1
    ) -> int:
        """Send a produce request and return its correlation id."""
        return self.send(
            0,
            version,
            transactional_id=None,
            acks=acks,
            timeout=10_000,
            topic_data=[
                {"name": topic, "partition_data": [{"index": partition, "records": records}]}
            ],
        )

    def send_fetch(
        self,
        topic: str,
        offset: int,
        *,
        partition: int = 0,
        version: int = 11,
        wait_ms: int = 0,
        min_bytes: int = 1,
        max_bytes: int = 1 << 20,
    ) -> int:
        """Send a fetch request for one partition and return its correlation id."""
        wanted = {"partition": partition, "fetch_offset": offset, "partition_max_bytes": max_bytes}
        fields: dict[str, Any] = {
            "max_wait": wait_ms,
            "min_bytes": min_bytes,
            "max_bytes": max_bytes,
            "isolation_level": 0,
            "replica_id": -1,
            "topics": [{"topic": topic, "partitions": [wanted]}],
        }
        if version >= 7:
            fields |= {"session_id": 0, "session_epoch": -1, "forgotten_topics_data": []}
        return self.send(1, version, **fields)

    async def fetch(self, topic: str, offset: int, **options: Any) -> Any:
        """Fetch from one partition and return its answer."""
        version = options.setdefault("version", 11)
        answer = await self.receive(1, version, self.send_fetch(topic, offset, **options))
        return answer.responses[0].partitions[0]

    async def list_offset(self, topic: str, timestamp: int, partition: int = 0) -> Any:
        """Find one offset by timestamp, or -1 latest, -2 earliest, -3 newest timestamp."""
        answer = await self.call(
            2,
            7,
            replica_id=-1,
            isolation_level=0,
            topics=[
                {
                    "name": topic,
                    "partitions": [{"partition_index": partition, "timestamp": timestamp}],
                }
            ],
        )
        return answer.topics[0].partitions[0]


def _only_partition(answer: Any) -> Any:
    return answer.responses[0].partition_responses[0]
