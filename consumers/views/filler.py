"""Fills a view's table from nothing: the rows of its sources, then the log from there.

1. Of each shard, each source's rows are read as they were just after some offset of its log.
2. They are put with places of their own, (base, 1), (base, 2), ..., where base is the greatest of
   these offsets. So no place of the log's later changes is below them.
3. The log is read from behind the smallest of the offsets. A change that a source's rows have in
   them already is passed over. Up to base, changes count on in the places of step 2.
4. At the log's end the table is whole, up to an offset on each shard; a follower goes on there.

With a time given, the sources are taken as they were then: the rows of step 1, but where the log
has changes of an item since then, the item before the first of them. The log is read from that
time on.
"""

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from streamtable.consumers.views.builds import SourceTable
from streamtable.consumers.views.feed import CHANGE_STEP, Feed, place_of
from streamtable.consumers.views.mapping import Mapper, MappingFailed
from streamtable.consumers.views.nodes import SNAPSHOT, Node, Place
from streamtable.consumers.views.operations import Operation
from streamtable.consumers.views.progress import Progress, Throttle
from streamtable.consumers.views.sink import Reject, SourceReplaced, ViewStopped
from streamtable.core.errors import StreamtableError
from streamtable.core.values import Item
from streamtable.streams.epochs import EpochFilter
from streamtable.streams.follower import Source
from streamtable.streams.reader import LogReader, Span
from streamtable.streams.records import LogRecord

__all__ = ["Filler", "LogTooShort", "reach_back"]

logger = logging.getLogger(__name__)

_BLOCK_ROWS: Final = 250
_CLOSE_RECORDS: Final = 1000


class LogTooShort(StreamtableError, LookupError):
    """The log does not reach back to the time that was asked for."""


@dataclass(slots=True)
class _Shard:
    """What is done of one shard.

    Attributes:
        number: its number.
        next: the next offset of its log to be looked at.
        offsets: by source, the last offset that its rows have in them.
        base: the greatest of them.
        placed: how many places at `base` are given.
        then: by source, what an item was at the time that was asked for, by its key.
    """

    number: int
    next: int = 0
    offsets: dict[str, int] = field(default_factory=dict)
    base: int = -1
    placed: int = 0
    then: dict[str, dict[bytes, Item | None]] = field(default_factory=dict)

    def place(self) -> Place:
        """Return the next place at `base`."""
        self.placed += 1
        return self.base, self.placed * CHANGE_STEP


class Filler:
    """Fills a table.

    Args:
        mapper: makes operations of items and changes.
        feed: takes them; it is opened here.
        sources: the tables that they come from, by name.
        node: has the tables.
        log: the change log.
        progress: is told how far it is.
        throttle: holds it back.
        reject: puts changes among the dead letters, for a view that goes on without them.
        as_of_ms: begin with the sources as they were at this time, milliseconds since 1970.
    """

    def __init__(
        self,
        *,
        mapper: Mapper,
        feed: Feed,
        sources: Mapping[str, SourceTable],
        node: Node,
        log: Source,
        progress: Progress,
        throttle: Throttle,
        reject: Reject | None = None,
        as_of_ms: int | None = None,
    ) -> None:
        self._mapper = mapper
        self._feed = feed
        self._sources = sources
        self._names = frozenset(sources)
        self._node = node
        self._log = log
        self._progress = progress
        self._throttle = throttle
        self._reject = reject
        self._as_of_ms = as_of_ms

    async def fill(self, items: int | None = None) -> dict[int, int]:
        """Fill the table; return by shard the first offset whose changes are not in it.

        Args:
            items: about how many items the sources have, for the progress.

        Raises:
            ConnectionError: the node went away.
            LogTooShort: the log does not reach back to `as_of_ms`.
            LogUnavailable: the log went away.
            SourceReplaced: a source was deleted and made again.
            ViewStopped: the view's function failed.
            StreamtableError: feeding has failed.
        """
        async with LogReader(self._log.address, self._log.topic, self._feed.shards) as reader:
            beginning = await self._beginning(reader)
            self._progress.begin("rows", items)
            shards = []
            for number in reader.shards:
                await self._feed.open(number)
                shard = _Shard(number)
                await self._fill_shard(shard, beginning.get(number))
                shards.append(shard)
            await self._feed.drained()
            await self._follow(reader, {shard.number: shard for shard in shards})
        await self._feed.drained()
        return {shard.number: shard.next for shard in shards}

    async def _beginning(self, reader: LogReader) -> dict[int, int]:
        """Return where the log is read from, if that is a time; refuse one before the log's."""
        if self._as_of_ms is None:
            return {}
        return await reach_back(reader, self._as_of_ms)

    # The rows

    async def _fill_shard(self, shard: _Shard, beginning: int | None) -> None:
        async with AsyncExitStack() as stack:
            streams: dict[str, AsyncGenerator[dict[str, Any]]] = {}
            for name in self._sources:
                query = {
                    "table": name,
                    "shard": str(shard.number),
                    "shards": str(self._feed.shards),
                }
                stream = self._node.stream(SNAPSHOT, query)
                streams[name] = await stack.enter_async_context(aclosing(stream))
                shard.offsets[name] = int((await anext(streams[name]))["offset"])
            shard.base = max(shard.offsets.values())
            shard.next = min(shard.offsets.values()) + 1
            if beginning is not None:
                await self._look_back(shard, beginning)
                shard.next = beginning
            for name, stream in streams.items():
                await self._fill_rows(shard, name, stream)

    async def _fill_rows(
        self, shard: _Shard, name: str, stream: AsyncGenerator[dict[str, Any]]
    ) -> None:
        steps: list[tuple[Place, list[Operation]]] = []
        keys = self._sources[name].keys
        then = shard.then.get(name)
        rows: int | None = None
        async for item in stream:
            if type(item.get("rows")) is int:
                rows = item["rows"]  # the last line; an attribute's value is a dict
                break
            wanted: Item | None = item
            if then:
                wanted = then.pop(_identity(item, keys), item)
            self._put(shard, name, wanted, steps)
            if len(steps) >= _BLOCK_ROWS:
                await self._push(shard, steps)
                steps = []
        if rows is None:
            raise ConnectionError(f"the rows of {name} on shard {shard.number} were cut off")
        for gone in (then or {}).values():
            self._put(shard, name, gone, steps)
        await self._push(shard, steps)

    def _put(
        self,
        shard: _Shard,
        name: str,
        item: Item | None,
        steps: list[tuple[Place, list[Operation]]],
    ) -> None:
        if item is None:
            return
        try:
            planned = self._mapper.plan(name, None, item)
        except MappingFailed as error:
            keys = _shown({key: item[key] for key in self._sources[name].keys})
            raise ViewStopped(f"the item {keys} of {name}: {error}") from error.__cause__
        if planned.failure is not None:
            keys = _shown({key: item[key] for key in self._sources[name].keys})
            logger.warning("the item %s of %s has no rows: %s", keys, name, planned.failure)
        steps.append((shard.place(), planned.operations))

    async def _push(self, shard: _Shard, steps: list[tuple[Place, list[Operation]]]) -> None:
        self._feed.push(shard.number, steps, _nothing)
        self._progress.done += len(steps)
        await self._throttle.pace(len(steps), self._feed)

    async def _look_back(self, shard: _Shard, beginning: int) -> None:
        """Find out what the items were that were changed from an offset on."""
        span = Span(beginning, shard.base + 1)
        if span.start >= span.end:
            return
        admitted = await self._filter(shard.number, beginning)
        async with LogReader(self._log.address, self._log.topic, self._feed.shards) as reader:
            async for records in reader.read_range({shard.number: span}):
                for record in records:
                    valid = admitted.admit(record.kind, record.epoch, record.offset)
                    if valid and not self._names.isdisjoint(record.tables):
                        self._note_old(shard, record)

    def _note_old(self, shard: _Shard, record: LogRecord) -> None:
        for change in orjson.loads(record.value)["changes"]:
            name = change["table"]
            source = self._sources.get(name)
            if source is None or change["tableId"] != source.id:
                continue
            if record.offset <= shard.offsets[name]:
                images = change["dynamodb"]
                items = shard.then.setdefault(name, {})
                items.setdefault(_identity(images["Keys"], source.keys), images.get("OldImage"))

    # The log

    async def _filter(self, shard: int, offset: int) -> EpochFilter:
        if offset <= 0:
            return EpochFilter()
        return EpochFilter(*await self._log.epochs.epoch(shard, offset))

    async def _follow(self, reader: LogReader, shards: Mapping[int, _Shard]) -> None:
        """Follow the log until its end is close."""
        filters = {number: await self._filter(number, s.next) for number, s in shards.items()}
        ends = await reader.spans()
        behind = _behind(shards, ends)
        self._progress.begin("log", behind)
        if not behind:
            return
        async for records in reader.read({number: s.next for number, s in shards.items()}):
            for record in records:
                shard = shards[record.shard]
                if record.offset < shard.next:
                    continue
                admitted = filters[record.shard].admit(record.kind, record.epoch, record.offset)
                if admitted and not self._names.isdisjoint(record.tables):
                    await self._apply(shard, record)
                shard.next = record.offset + 1
                self._progress.done += 1
            if not _behind(shards, ends):
                ends = await reader.spans()
                behind = _behind(shards, ends)
                if behind <= _CLOSE_RECORDS:
                    return
                self._progress.total = self._progress.done + behind

    async def _apply(self, shard: _Shard, record: LogRecord) -> None:
        steps: list[tuple[Place, list[Operation]]] = []
        for index, change in enumerate(orjson.loads(record.value)["changes"]):
            name = change["table"]
            source = self._sources.get(name)
            if source is None:
                continue
            if change["tableId"] != source.id:
                if record.offset <= shard.offsets[name]:
                    continue  # of an earlier table of that name
                raise SourceReplaced(f"the table {name} was deleted and made again")
            if self._as_of_ms is None and record.offset <= shard.offsets[name]:
                continue
            images = change["dynamodb"]
            try:
                planned = self._mapper.plan(name, images.get("OldImage"), images.get("NewImage"))
            except MappingFailed as error:
                raise ViewStopped(
                    f"{change['eventName']} in {name}, {_shown(images['Keys'])}, shard "
                    f"{shard.number}, offset {record.offset}, index {index}: {error}"
                ) from error.__cause__
            if planned.failure is not None and self._reject is not None:
                await self._reject(record, index, planned.failure)
            early = record.offset <= shard.base
            place = shard.place() if early else place_of(record.offset, index)
            steps.append((place, planned.operations))
        self._feed.push(shard.number, steps, _nothing)
        await self._throttle.pace(len(steps), self._feed)


async def reach_back(reader: LogReader, time_ms: int) -> dict[int, int]:
    """Return by shard the offset of the first record of that time or later.

    Raises:
        LogTooShort: the log does not reach back to that time.
        LogUnavailable: the brokers do not answer.
    """
    offsets = await reader.offsets_at(time_ms)
    for number, span in (await reader.spans()).items():
        # A log without records has lost only those that are older than it keeps any.
        if 0 < span.start < span.end and offsets[number] <= span.start:
            wanted = datetime.fromtimestamp(time_ms / 1000, UTC)
            raise LogTooShort(
                f"the log of shard {number} does not reach back to {wanted:%Y-%m-%d %H:%M:%S} "
                f"UTC: its first record is at offset {span.start}. Name a later time, or none: "
                "the rows there are now are always there to build from"
            )
    return offsets


def _nothing() -> None:
    """Be called when rows are durable; nobody waits for single ones."""


def _behind(shards: Mapping[int, _Shard], ends: Mapping[int, Span]) -> int:
    return sum(max(0, ends[number].end - shard.next) for number, shard in shards.items())


def _identity(item: Mapping[str, Any], keys: tuple[str, ...]) -> bytes:
    return orjson.dumps([item[key] for key in keys])


def _shown(keys: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={next(iter(value.values()))!r}" for name, value in keys.items())
