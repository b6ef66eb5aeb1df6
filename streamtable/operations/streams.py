"""ListStreams, DescribeStream, GetShardIterator and GetRecords: DynamoDB Streams over the log."""

import asyncio
import time
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import orjson

from streamtable.core.context import Handler, RequestContext
from streamtable.core.documents import StreamDocument, TableDocument
from streamtable.core.errors import (
    ResourceNotFound,
    ServiceUnavailable,
    TrimmedDataAccess,
    ValidationError,
)
from streamtable.core.layouts import Part
from streamtable.core.limits import (
    STREAM_KEPT_S,
    STREAM_PAGE_BYTES,
    STREAM_PAGE_RECORDS,
    STREAM_PAGE_SHARDS,
    STREAM_PAGE_STREAMS,
)
from streamtable.core.positions import CHANGES_PER_COMMIT, Position, parse_sequence_number
from streamtable.core.positions import sequence_number as print_sequence_number
from streamtable.core.shard_iterators import ShardIterator
from streamtable.core.stream_ids import parse_shard_id, parse_stream_arn, shard_id
from streamtable.core.stream_records import stream_record
from streamtable.core.tables import Table
from streamtable.streams.catalog import Catalog
from streamtable.streams.fetcher import LogTrimmed
from streamtable.streams.log import LogUnavailable
from streamtable.streams.stream_reader import StreamReader, Wanted

__all__ = ["stream_handlers"]

_T = TypeVar("_T")

_NUMBERED: Final = frozenset({"AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"})
_TRIMMED: Final = "The data you are trying to access has been trimmed"
# A record is appended after its changes were accepted, on another clock after a fail-over.
_CLOCKS_MS: Final = 60_000
# Changes accepted before the stream was switched off have reached the log after so long.
_CLOSING_MS: Final = 5_000
_ENDS_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Stream:
    """A stream that can be read, and its table."""

    table: TableDocument
    document: StreamDocument

    @property
    def arn(self) -> str:
        return self.table.stream_arn(self.document)

    @property
    def disabled_ms(self) -> int | None:
        disabled = self.document.disabled
        return None if disabled is None else int(disabled * 1000)

    def wanted(self, end: int | None) -> Wanted:
        return Wanted(
            self.table.name,
            self.table.id,
            self.document.view_type,
            int(self.document.enabled * 1000),
            self.disabled_ms,
            end,
        )


class _Streams:
    """The streams of a region, and where each is in the log."""

    def __init__(self, catalog: Catalog, reader: StreamReader) -> None:
        self._catalog = catalog
        self._reader = reader
        self._ends: dict[tuple[str, int], int] = {}

    def of(self, table: str | None) -> Iterator[_Stream]:
        """Yield every stream that can be read now, of one table or of all.

        A deleted table's streams are among them, and those of a table of its name made since.
        """
        now = time.time()
        for document in self._tables(table):
            for stream in document.streams:
                if stream.disabled is None or now - stream.disabled < STREAM_KEPT_S:
                    yield _Stream(document, stream)

    def _tables(self, name: str | None) -> Iterator[TableDocument]:
        live: set[str] = set()
        for table in self._catalog.tables() if name is None else self._named(name):
            live.add(table.id)
            yield table.document
        for document in self._catalog.ended_tables():
            if document.id not in live and name in {None, document.name}:
                yield document

    def _named(self, name: str) -> list[Table]:
        try:
            return [self._catalog.table(name)]
        except ResourceNotFound:
            return []

    def find(self, arn: str) -> _Stream:
        """Return the stream of an ARN.

        Raises:
            ValidationError: it is not the ARN of a stream.
            ResourceNotFound: there is no such stream, or it was switched off a day ago.
        """
        for stream in self.of(parse_stream_arn(arn).table):
            if stream.arn == arn:
                return stream
        raise ResourceNotFound(f"Requested resource not found: Stream: {arn} not found")

    def parts(self, stream: _Stream) -> list[Part]:
        """Return the parts of the log that are a stream's shards, parents before children.

        One that was closed before the stream was switched on is none, nor is one that began after
        it was switched off, nor one that was closed a day ago.
        """
        enabled, disabled = stream.document.enabled, stream.document.disabled
        since = max(enabled - _CLOCKS_MS / 1000, time.time() - STREAM_KEPT_S)
        return [
            part
            for part in self._reader.layout.document.parts()
            if (part.ended is None or part.ended >= since)
            and (
                part.began is None or disabled is None or part.began <= disabled + _CLOCKS_MS / 1000
            )
        ]

    def shard(self, stream: _Stream, text: str) -> Part:
        """Return a stream's shard.

        Raises:
            ResourceNotFound: the stream has no such shard.
        """
        return self.part(stream, parse_shard_id(text, stream.document))

    def part(self, stream: _Stream, code: int | None) -> Part:
        """Return a stream's shard by its code; raises ResourceNotFound where there is none."""
        for part in self.parts(stream):
            if part.code == code:
                return part
        raise ResourceNotFound("Requested resource not found: Shard does not exist")

    async def start(self, stream: _Stream, part: Part) -> int:
        """Return the offset at which a stream's shard starts, or the log if that is later."""
        since_ms = int(stream.document.enabled * 1000) - _CLOCKS_MS
        start = max(part.first, await self._reader.offset_at(part.number, since_ms))
        return start if part.end is None else min(start, part.end)

    async def end(self, stream: _Stream, part: Part) -> int | None:
        """Return the offset at which a stream's shard ends, None while it is open.

        It is open until everything that was accepted while the stream was on is in the log.
        """
        disabled_ms = stream.disabled_ms
        if disabled_ms is None or time.time() * 1000 <= disabled_ms + _CLOSING_MS:
            return part.end
        key = stream.arn, part.code
        end = self._ends.get(key)
        if end is None:
            # What is later in the log than the end found now was accepted later, too.
            end = await self._reader.offset_at(part.number, disabled_ms + _CLOSING_MS)
            if part.end is not None:
                end = min(end, part.end)
            if len(self._ends) >= _ENDS_KEPT:
                self._ends.clear()
            self._ends[key] = end
        return end

    def numbered_from(self, part: Part) -> int:
        """Return what is added to a shard's offsets in its sequence numbers."""
        return self._reader.layout.document.numbered_from(part.number)


def stream_handlers(catalog: Catalog, reader: StreamReader) -> dict[str, Handler]:
    """Return the handlers of DynamoDB Streams.

    Args:
        catalog: the region's tables, and the streams of those deleted within a day.
        reader: reads the log.
    """
    streams = _Streams(catalog, reader)

    async def list_streams(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        name = body.get("TableName")
        after = body.get("ExclusiveStartStreamArn", "")
        if after:
            parse_stream_arn(after)
        limit = body.get("Limit", STREAM_PAGE_STREAMS)
        found = sorted(
            (
                {
                    "StreamArn": stream.arn,
                    "StreamLabel": stream.document.label,
                    "TableName": stream.table.name,
                }
                for stream in streams.of(name)
                if stream.arn > after
            ),
            key=lambda each: each["StreamArn"],
        )
        answer: dict[str, Any] = {"Streams": found[:limit]}
        if len(found) > limit:
            answer["LastEvaluatedStreamArn"] = found[limit - 1]["StreamArn"]
        return answer

    async def describe_stream(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        stream = streams.find(body["StreamArn"])
        after = body.get("ExclusiveStartShardId", "")
        limit = body.get("Limit", STREAM_PAGE_SHARDS)
        shards = {
            shard_id(stream.document, part.code): part
            for part in _chosen(streams, stream, body.get("ShardFilter", {}))
        }
        left = sorted(name for name in shards if name > after)
        shown = left[:limit]
        description: dict[str, Any] = {
            "CreationRequestDateTime": round(stream.document.enabled, 3),
            "KeySchema": [
                {"AttributeName": key.name, "KeyType": key.kind} for key in stream.table.keys
            ],
            "Shards": await _answer(
                asyncio.gather(
                    *(_describe_shard(streams, stream, name, shards[name]) for name in shown)
                )
            ),
            "StreamArn": stream.arn,
            "StreamLabel": stream.document.label,
            "StreamStatus": "ENABLED" if stream.document.disabled is None else "DISABLED",
            "StreamViewType": stream.document.view_type,
            "TableName": stream.table.name,
        }
        if len(left) > limit:
            description["LastEvaluatedShardId"] = shown[-1]
        return {"StreamDescription": description}

    async def get_shard_iterator(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        kind = body["ShardIteratorType"]
        _check_parameters(kind, body)
        stream = streams.find(body["StreamArn"])
        part = streams.shard(stream, body["ShardId"])
        offset, index = await _answer(_locate(streams, reader, stream, part, body))
        iterator = ShardIterator(stream.arn, part.code, offset, index)
        return {"ShardIterator": iterator.encode(time.time())}

    async def get_records(body: dict[str, Any], _context: RequestContext) -> bytes:
        iterator = ShardIterator.decode(body["ShardIterator"], time.time())
        stream = streams.find(iterator.arn)
        part = streams.part(stream, iterator.shard)
        end = await _answer(streams.end(stream, part))
        page = await _answer(
            reader.read(
                part.number,
                (iterator.offset, iterator.index),
                stream.wanted(end),
                limit=body.get("Limit", STREAM_PAGE_RECORDS),
                max_bytes=STREAM_PAGE_BYTES,
            )
        )
        view_type, numbered_from = stream.document.view_type, streams.numbered_from(part)
        answer: dict[str, Any] = {
            "Records": [
                stream_record(
                    change, Position(part.number, offset, index), view_type, numbered_from
                )
                for offset, index, change in page.changes
            ]
        }
        offset, index = page.next
        if end is None or offset < end:
            following = ShardIterator(iterator.arn, part.code, offset, index)
            answer["NextShardIterator"] = following.encode(time.time())
        return orjson.dumps(answer)

    return {
        "ListStreams": list_streams,
        "DescribeStream": describe_stream,
        "GetShardIterator": get_shard_iterator,
        "GetRecords": get_records,
    }


def _chosen(streams: _Streams, stream: _Stream, choice: dict[str, Any]) -> list[Part]:
    """Return the shards that a ShardFilter lets through: all, or the children of one.

    Raises:
        ValidationError: a part of the filter is missing.
        ResourceNotFound: the parent is no shard of the stream.
    """
    if not choice:
        return streams.parts(stream)
    if "Type" not in choice or "ShardId" not in choice:
        raise ValidationError("Both Type and ShardId must be specified in ShardFilter")
    parent = streams.shard(stream, choice["ShardId"])
    return [part for part in streams.parts(stream) if part.parent == parent.code]


async def _describe_shard(
    streams: _Streams, stream: _Stream, name: str, part: Part
) -> dict[str, Any]:
    start = await streams.start(stream, part)
    end = await streams.end(stream, part)
    base = streams.numbered_from(part)
    numbers = {"StartingSequenceNumber": print_sequence_number(base + start, 0)}
    if end is not None:
        last = None
        if end > start:
            last = print_sequence_number(base + end - 1, CHANGES_PER_COMMIT - 1)
        numbers["EndingSequenceNumber"] = last or numbers["StartingSequenceNumber"]
    described: dict[str, Any] = {"ShardId": name, "SequenceNumberRange": numbers}
    # A part that ended before the stream was switched on is no shard of it.
    if part.parent in [each.code for each in streams.parts(stream)]:
        assert part.parent is not None
        described["ParentShardId"] = shard_id(stream.document, part.parent)
    return described


def _check_parameters(kind: str, body: dict[str, Any]) -> None:
    """Check that a GetShardIterator request has what its type needs, and nothing else.

    Raises:
        ValidationError: a parameter is missing, or there for nothing.
    """
    for parameter, needed in (
        ("SequenceNumber", kind in _NUMBERED),
        ("Timestamp", kind == "AT_TIMESTAMP"),
    ):
        if needed and parameter not in body:
            raise ValidationError(
                f"One or more parameter values were invalid: {parameter} must be specified "
                f"when ShardIteratorType is {kind}"
            )
        if not needed and parameter in body:
            raise ValidationError(
                f"One or more parameter values were invalid: {parameter} must not be specified "
                f"when ShardIteratorType is {kind}"
            )


async def _locate(
    streams: _Streams, reader: StreamReader, stream: _Stream, part: Part, body: dict[str, Any]
) -> tuple[int, int]:
    """Return the offset and the index at which an iterator starts."""
    match body["ShardIteratorType"]:
        case "TRIM_HORIZON":
            return await streams.start(stream, part), 0
        case "LATEST":
            end = await streams.end(stream, part)
            return (await reader.bounds(part.number))[1] if end is None else end, 0
        case "AT_TIMESTAMP":
            return await _locate_time(streams, reader, stream, part, body["Timestamp"])
        case kind:
            number, index = _parse_number(body["SequenceNumber"])
            position = number - streams.numbered_from(part), index
            first, end = await reader.bounds(part.number)
            if part.end is not None:
                end = min(end, part.end)
            if position < (part.first, 0):
                raise ValidationError("Invalid SequenceNumber")
            if position < (first, 0):
                raise TrimmedDataAccess(_TRIMMED)
            if position > (end, 0):
                raise ValidationError("Invalid SequenceNumber")
            return (position[0], index + 1) if kind == "AFTER_SEQUENCE_NUMBER" else position


def _parse_number(text: str) -> tuple[int, int]:
    try:
        return parse_sequence_number(text)
    except ValueError:
        raise ValidationError("Invalid SequenceNumber") from None


async def _locate_time(
    streams: _Streams, reader: StreamReader, stream: _Stream, part: Part, timestamp: float
) -> tuple[int, int]:
    """Return the position of the stream's first record of a time or later, or the log's end."""
    if timestamp > time.time():
        raise ValidationError("Timestamp must not be in the future")
    since = max(int(timestamp * 1000), int(stream.document.enabled * 1000))
    end = await streams.end(stream, part)
    wanted = replace(stream.wanted(end), first_ms=since)
    found = max(part.first, await reader.offset_at(part.number, since - _CLOCKS_MS))
    position = found if end is None else min(found, end), 0
    while True:
        page = await reader.read(
            part.number, position, wanted, limit=1, max_bytes=STREAM_PAGE_BYTES
        )
        if page.changes:
            offset, index, _ = page.changes[0]
            return offset, index
        position = page.next
        if page.at_end:
            return position


async def _answer(reading: Awaitable[_T]) -> _T:
    """Wait for what is read from the log.

    Raises:
        TrimmedDataAccess: the log does not reach back so far.
        ServiceUnavailable: the brokers do not answer.
    """
    try:
        return await reading
    except LogTrimmed:
        raise TrimmedDataAccess(_TRIMMED) from None
    except LogUnavailable as error:
        raise ServiceUnavailable(str(error)) from error
