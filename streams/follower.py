"""A follower of the change log: one consumer group that is told of every commit that counts.

It runs on Faust, which assigns the shards to the members of the group and keeps its offsets.
What Faust would do on an error (acknowledge the record and lose it) is kept away from it: the
agent never raises, acknowledges a record only after it was taken, and Faust commits no further
than the records acknowledged without a gap.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streamtable.core.errors import StreamtableError
from streamtable.streams.admin import open_admin
from streamtable.streams.epochs import EpochFilter, EpochSource
from streamtable.streams.group import Group
from streamtable.streams.log import LogUnavailable
from streamtable.streams.records import LogRecord

__all__ = ["Follower", "LostRecords", "Source"]

logger = logging.getLogger(__name__)

_STOP_S: Final = 5.0
_CRASH_CHECK_S: Final = 0.25


class LostRecords(StreamtableError, LookupError):
    """The log no longer has records that the follower has not seen."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the change log is.

    Attributes:
        address: the brokers, `host:port,...`.
        topic: the change log's name.
        epochs: asked once a shard, where reading starts in the middle.
    """

    address: str
    topic: str
    epochs: EpochSource


@dataclass(slots=True)
class _Cursor:
    """Where the follower stands in a shard: what it takes next, and the epoch in force there."""

    next: int
    filter: EpochFilter = field(default_factory=EpochFilter)


class Follower:
    """Delivers every valid commit of the log, each shard's in order, at least once.

    A record's position is committed after `deliver` returned for it, within a fraction of a
    second and when the follower stops; so after a crash the last ones may come again. One
    record is delivered at a time. When `deliver` raises, the follower stands still: that record
    and all after it are delivered again after the next start. A group that is new starts at the
    beginning of the log.

    Args:
        source: the log.
        group: the consumer group; its members share the shards.
        wants: says by the names of the tables that a commit touches whether it is delivered;
            the others are passed over without being parsed.
        deliver: takes a valid commit.
        skip_lost: go on at the log's start where the log has lost records that the group has
            not seen yet, instead of raising `LostRecords`.
    """

    def __init__(
        self,
        source: Source,
        group: str,
        *,
        wants: Callable[[frozenset[str]], bool],
        deliver: Callable[[LogRecord], Awaitable[None]],
        skip_lost: bool = False,
    ) -> None:
        self._source = source
        self._group = group
        self._wants = wants
        self._deliver = deliver
        self._skip_lost = skip_lost
        self._cursors: dict[int, _Cursor] = {}
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        self._app = Group(group, source.address)
        topic = self._app.topic(source.topic, value_type=bytes, value_serializer="raw")
        self._app.agent(topic, name=f"{group}.follow")(self._run)

    async def run(self) -> None:
        """Follow the log until it is cancelled; then finish the record in hand and commit.

        Raises:
            LogUnavailable: the brokers are gone; a new follower goes on where this one stood.
            LostRecords: the log was cut before the follower got there.
            Exception: what `deliver` raised, also where that was after the cancellation.
        """
        try:
            await self._start()
            while not self._failed.done():
                await asyncio.wait([self._failed], timeout=_CRASH_CHECK_S)
                if self._app.crashed and not self._failed.done():
                    raise LogUnavailable(f"{self._source.topic}: {self._app.crash_reason!r}")
        finally:
            await self._stop()
            if self._failed.done():
                self._failed.result()

    async def _start(self) -> None:
        self._app.finalize()
        try:
            await self._app.start()
        except (KafkaError, OSError) as error:
            raise LogUnavailable(f"{self._source.topic}: {error!r}") from error

    async def _stop(self) -> None:
        """Let the record in hand be finished, commit, leave the group."""
        self._stopping = True
        await self._idle.wait()
        await self._try("commit", self._commit())
        await self._try("leave the group", self._app.stop())

    async def _commit(self) -> None:
        # Faust takes acknowledged offsets off its list when it begins to commit them, and
        # stopping cancels a commit that is under way: so it is awaited here, first. The second
        # call commits what was acknowledged since that one began.
        if self._app.consumer.started:
            await self._app.consumer.commit()
            await self._app.consumer.commit()

    async def _try(self, what: str, action: Awaitable[object]) -> None:
        """Do what stopping takes; where Kafka is gone, that must not keep anyone from leaving."""
        try:
            async with asyncio.timeout(_STOP_S):
                await action
        except Exception as error:  # noqa: BLE001 - whatever Faust raises, it is being left
            logger.debug("%s could not %s: %r", self._group, what, error)

    async def _run(self, stream: Any) -> None:
        async for event in stream.noack().events():
            await self._take(event)

    async def _take(self, event: Any) -> None:
        """Have one record handled; return when it is acknowledged, and only then."""
        if not (self._stopping or self._failed.done()):
            self._idle.clear()
            # Faust cancels its agents when it stops or crashes; a handler is never cut so.
            work = asyncio.ensure_future(self._handle(event.message))
            work.add_done_callback(partial(self._on_handled, event))
            await asyncio.shield(work)
        if self._stopping or self._failed.done():
            await asyncio.Event().wait()

    def _on_handled(self, event: Any, work: asyncio.Future[None]) -> None:
        if not work.cancelled():
            error = work.exception()
            if error is None:
                event.ack()
            elif not self._failed.done():
                self._failed.set_exception(error)
        self._idle.set()

    async def _handle(self, message: Any) -> None:
        record = LogRecord.from_faust(message)
        cursor = self._cursors.get(record.shard)
        if cursor is None or record.offset > cursor.next:
            cursor = await self._resume(record, cursor)
        elif record.offset < cursor.next:
            return  # taken here before the group was balanced anew
        valid = cursor.filter.admit(record.kind, record.epoch, record.offset)
        if valid and self._wants(record.tables):
            await self._deliver(record)
        cursor.next = record.offset + 1

    async def _resume(self, record: LogRecord, before: _Cursor | None) -> _Cursor:
        """Find out what is in force at a record that does not follow on the last one taken."""
        shard, offset = record.shard, record.offset
        committed = await self._committed(shard)
        expected = max(committed or 0, 0 if before is None else before.next)
        if expected < offset and not (before is None and committed is None):
            lost = (
                f"shard {shard} of {self._source.topic} starts at offset {offset}, the group "
                f"{self._group} needs {expected}: {offset - expected} records are gone"
            )
            if not self._skip_lost:
                raise LostRecords(lost)
            logger.warning("%s and are left out", lost)
        epoch, barrier = None, None
        if offset > 0:
            epoch, barrier = await self._source.epochs.epoch(shard, offset)
        self._cursors[shard] = cursor = _Cursor(offset, EpochFilter(epoch, barrier))
        return cursor

    async def _committed(self, shard: int) -> int | None:
        partition = TopicPartition(self._source.topic, shard)
        try:
            async with open_admin(self._source.address) as admin:
                found = await admin.list_consumer_group_offsets(self._group, partitions=[partition])
        except (KafkaError, OSError) as error:
            raise LogUnavailable(f"the offsets of {self._group}: {error!r}") from error
        offset: int = found[partition].offset
        return None if offset < 0 else offset
