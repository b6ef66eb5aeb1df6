"""Builds an index anew from a table's rows and the log, beside the one that is being served.

1. A new index is made, under the next number, with an alias of its own to fill it through.
2. Each shard's rows, as of an offset of its log, are put into it with their versions.
3. The log is followed from there, until little is left.
4. The search index's alias is moved from the old index to the new one, in one step. The new one
   has a note from which offsets on the log is to be read once more.
5. The log is read from there to where it ends after that step. What went to the old index
   meanwhile is in the new one too then. The note is removed, and the old index a little later.

Versions make each document's latest state win, whatever is sent twice and in whichever order. A
builder that dies before the fourth step leaves an index that the next one removes; after it, the
next one goes on with the fifth.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from elasticsearch import ApiError, AsyncElasticsearch, TransportError

from streamtable.consumers.search.bulk import BulkLimits, BulkWriter, Rejected
from streamtable.consumers.search.client import error_text
from streamtable.consumers.search.indexes import Building, Current, SearchIndexes
from streamtable.consumers.search.operations import Subject, make_operation, subjects_of
from streamtable.consumers.search.spec import SearchSpec
from streamtable.consumers.views.nodes import SNAPSHOT, Node
from streamtable.core.changes import Change
from streamtable.core.errors import StreamtableError
from streamtable.core.images import Image
from streamtable.core.positions import CHANGES_PER_COMMIT, Position
from streamtable.core.values import item_size
from streamtable.streams.clock import HybridClock
from streamtable.streams.epochs import EpochFilter
from streamtable.streams.follower import Source
from streamtable.streams.reader import LogReader, Span

__all__ = ["BuildInterrupted", "Builder"]

logger = logging.getLogger(__name__)

_PAUSE_S: Final = 0.5
_NEARLY: Final = 500
_ROUNDS: Final = 20


class BuildInterrupted(StreamtableError):
    """An index can't be built to its end from here: it must be begun anew."""


@dataclass(slots=True)
class _Cursor:
    """Where a builder stands in a shard's log."""

    next: int
    filter: EpochFilter = field(default_factory=EpochFilter)


class Builder:
    """Builds one search index's indexes; one build at a time.

    Args:
        spec: the search index.
        client: Elasticsearch.
        indexes: its indexes.
        node: gives the rows.
        source: the log.
        shards: how many shards the region has.
        rejected: takes what Elasticsearch refuses.
        limits: how much is sent at a time.
    """

    def __init__(
        self,
        spec: SearchSpec,
        client: AsyncElasticsearch,
        indexes: SearchIndexes,
        *,
        node: Node,
        source: Source,
        shards: int,
        rejected: Rejected,
        limits: BulkLimits | None = None,
    ) -> None:
        self._spec = spec
        self._client = client
        self._indexes = indexes
        self._node = node
        self._source = source
        self._shards = shards
        self._rejected = rejected
        self._limits = limits
        self._writer: BulkWriter | None = None
        self._table_id = ""
        self._key_names: list[str] = []
        self._phase = ""
        self._total: int | None = None
        self._done = 0
        self._began = 0.0

    @property
    def progress(self) -> dict[str, Any] | None:
        """Where the build stands, None if there is none.

        `phase` is `rows`, then `log`; `done` counts rows, then changes too; `total` is how many
        rows there were, None where that is not known yet or in the log; `rate` is how many are
        done in a second, `left_s` seconds; `rejected` counts refusals.
        """
        writer = self._writer
        if writer is None:
            return None
        passed_s = max(time.monotonic() - self._began, 0.001)
        rate = self._done / passed_s
        total = self._total if self._phase == "rows" else None
        left_s = None
        if total is not None and rate > 0:
            left_s = round(max(total - self._done, 0) / rate, 1)
        return {
            "state": "building",
            "phase": self._phase,
            "done": self._done,
            "total": total,
            "rate": round(rate),
            "left_s": left_s,
            "rejected": writer.rejections,
            **({} if writer.error is None else {"error": writer.error}),
        }

    async def build(self, build: str, *, keep: bool) -> None:
        """Build the index and have it served; `complete_tail` is to follow.

        Args:
            build: id of the request, "" if there is none.
            keep: leave the old index in place.

        Raises:
            BuildInterrupted: the index is gone, or the log no longer reaches back to the rows.
            ConnectionError: the node does not answer.
            LogUnavailable: the log does not answer.
            Exception: an error of Elasticsearch's client.
        """
        before = await self._persist(self._indexes.current)
        await self._persist(self._indexes.drop_leftovers)
        building = await self._indexes.create()
        logger.info("%s: building the index %s", self._spec.key, building.name)
        async with self._writing(building.alias, "rows") as writer:
            tail = await self._until_missing(writer, self._fill(writer))
        await self._persist(lambda: self._indexes.finish(building))
        after = Current(building.name, build, self._table_id, self._spec.fingerprint, tail)
        await self._swap(building, before, after, keep=keep)
        logger.info("%s: the index %s is served", self._spec.key, building.name)

    async def complete_tail(self, current: Current) -> None:
        """Bring in what the index that is served may lack; nothing if its builder has done that.

        Raises are those of `build`.
        """
        if current.tail is None:
            return
        async with self._writing(self._spec.index, "log") as writer, self._reading() as reader:
            cursors = {
                shard: await self._cursor(shard, offset) for shard, offset in current.tail.items()
            }
            await self._until_missing(writer, self._read_to_end(reader, cursors, writer))
            await self._until_missing(writer, writer.flush())
        await self._persist(lambda: self._indexes.note(replace(current, tail=None)))

    # Filling

    async def _fill(self, writer: BulkWriter) -> dict[int, int]:
        """Put rows and log into an index; return by shard the offset reached."""
        table = (await self._node.call("DescribeTable", {"TableName": self._spec.table}))["Table"]
        self._table_id = table["TableId"]
        self._key_names = [each["AttributeName"] for each in table["KeySchema"]]
        self._total = table["ItemCount"]
        cursors = {}
        for shard in range(self._shards):
            offset = await self._put_rows(shard, writer)
            cursors[shard] = await self._cursor(shard, offset + 1)
        self._phase = "log"
        async with self._reading() as reader:
            for _ in range(_ROUNDS):
                if await self._read_to_end(reader, cursors, writer) < _NEARLY:
                    break
        await writer.flush()
        return {shard: cursor.next for shard, cursor in cursors.items()}

    async def _put_rows(self, shard: int, writer: BulkWriter) -> int:
        """Put a shard's rows into the index and return the offset that they are as of.

        Where the node goes away in between, all rows are asked for again. The offset is the first
        answer's: what was removed between the two is in the log after it.
        """
        first: int | None = None
        # Rows have no place in the log. They are told apart by indexes that commits do not reach.
        index = CHANGES_PER_COMMIT - 1
        while True:
            try:
                query = {
                    "table": self._spec.table,
                    "shard": str(shard),
                    "shards": str(self._shards),
                    "versions": "1",
                }
                async for line in self._node.stream(SNAPSHOT, query):
                    if "offset" in line:
                        first = line["offset"] if first is None else first
                    elif "rows" in line:
                        assert first is not None
                        return first
                    else:
                        assert first is not None
                        subject = self._subject_of_row(line, Position(shard, first, index))
                        index = (index - 1) % CHANGES_PER_COMMIT
                        await self._put(subject, writer)
            except ConnectionError as error:
                if first is None:
                    raise
                logger.info("%s: asking for the rows again: %s", self._spec.key, error)
                await asyncio.sleep(_PAUSE_S)

    async def _read_to_end(
        self, reader: LogReader, cursors: Mapping[int, _Cursor], writer: BulkWriter
    ) -> int:
        """Put what the log has up to where it ends now; return how many records it had.

        Raises:
            BuildInterrupted: the log begins after a cursor.
        """
        spans = await reader.spans()
        behind = {}
        for shard, cursor in cursors.items():
            if spans[shard].start > cursor.next:
                raise BuildInterrupted(
                    f"shard {shard} of {self._source.topic} starts at offset "
                    f"{spans[shard].start}, the index of {self._spec.key} needs {cursor.next}"
                )
            behind[shard] = Span(cursor.next, spans[shard].end)
        count = 0
        async for records in reader.read_range(behind):
            for record in records:
                cursor = cursors[record.shard]
                valid = cursor.filter.admit(record.kind, record.epoch, record.offset)
                cursor.next = record.offset + 1
                count += 1
                if not valid or self._spec.table not in record.tables:
                    continue
                for subject in subjects_of(record, self._spec.table):
                    await self._put(subject, writer)
        return count

    async def _put(self, subject: Subject, writer: BulkWriter) -> None:
        self._done += 1
        operation, rejection = make_operation(self._spec, subject, _nothing)
        if rejection is None:
            await writer.put(operation)
        else:
            await writer.reject(operation, rejection)

    def _subject_of_row(self, line: Mapping[str, Any], position: Position) -> Subject:
        item, version = line["item"], line["version"]
        keys = {name: item[name] for name in self._key_names}
        region = self._source.topic.partition(".")[0]

        def change() -> Change:
            """Return the change that would have made the row."""
            return Change(
                table=self._spec.table,
                table_id=self._table_id,
                keys=keys,
                old=None,
                new=Image.of_item(item, item_size(item), version, region),
                time=version,
                region=region,
                created_ms=HybridClock.milliseconds(version),
                request_id="",
                principal="",
            )

        return Subject(keys, item, version, position, change)

    async def _cursor(self, shard: int, offset: int) -> _Cursor:
        epoch, barrier = None, None
        if offset > 0:
            epoch, barrier = await self._source.epochs.epoch(shard, offset)
        return _Cursor(offset, EpochFilter(epoch, barrier))

    # Elasticsearch

    async def _swap(
        self,
        building: Building,
        before: Current | None,
        after: Current,
        *,
        keep: bool,
    ) -> None:
        """Swap; where the outcome is not known, look."""
        while True:
            try:
                await self._indexes.swap(building, before, after, keep=keep)
            except (TransportError, ApiError) as error:
                now = await self._persist(self._indexes.current)
                if now is not None and now.name == building.name:
                    return
                if not _is_outage(error):
                    raise BuildInterrupted(error_text(error)) from error
                await asyncio.sleep(_PAUSE_S)
            else:
                return

    async def _persist(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Ask Elasticsearch for something that may be done twice, until it answers."""
        while True:
            try:
                return await ask()
            except (TransportError, ApiError) as error:
                if not _is_outage(error):
                    raise
                logger.debug("%s: %s", self._spec.key, error_text(error))
                await asyncio.sleep(_PAUSE_S)

    async def _until_missing(self, writer: BulkWriter, work: Coroutine[Any, Any, Any]) -> Any:
        """Return what a coroutine returns, unless the index that it fills vanishes.

        Raises:
            BuildInterrupted: it did.
        """
        working = asyncio.create_task(work)
        missing = asyncio.create_task(writer.missing.wait())
        try:
            await asyncio.wait({working, missing}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise BuildInterrupted(f"the index that was built for {self._spec.key} is gone")
        finally:
            for task in (working, missing):
                task.cancel()
            await asyncio.wait({working, missing})

    @asynccontextmanager
    async def _writing(self, alias: str, phase: str) -> AsyncIterator[BulkWriter]:
        writer = BulkWriter(self._client, alias, self._rejected, self._limits)
        self._writer, self._phase, self._began = writer, phase, time.monotonic()
        self._done, self._total = 0, None
        writer.start()
        try:
            yield writer
        finally:
            self._writer = None
            await writer.close()

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[LogReader]:
        """Open the log, and close it.

        Both are finished where this is cancelled meanwhile: Kafka's client would leave a
        connection open.
        """
        opened = AsyncExitStack()
        reader = LogReader(self._source.address, self._source.topic, self._shards)
        try:
            await _whole(opened.enter_async_context(reader))
            yield reader
        finally:
            await _whole(opened.aclose())


async def _whole(work: Coroutine[Any, Any, Any]) -> None:
    """Await something to its end; a cancellation is raised after that."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _is_outage(error: BaseException) -> bool:
    """Whether Elasticsearch may answer otherwise in a while."""
    if isinstance(error, ApiError):
        return error.status_code in (408, 429) or error.status_code >= 500
    return isinstance(error, TransportError)


def _nothing() -> None:
    """Nobody waits for a single operation of a build."""
