"""A follower of the change log: one consumer group that is told of every commit that counts.

It runs on Faust, which assigns the shards to the members of the group and keeps its offsets.
What is handled is the follower's own business: a record may be handled long after it was taken,
and after later ones, so for each shard it keeps the frontier, the first offset that is not
handled yet, and commits that and nothing beyond.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError
from faust.types import TP

from streamtable.core.errors import StreamtableError
from streamtable.core.layouts import LayoutDocument
from streamtable.streams.admin import open_admin
from streamtable.streams.epochs import EpochFilter, EpochSource
from streamtable.streams.group import Group
from streamtable.streams.intake import Intake
from streamtable.streams.log import CLIENT_ERRORS, LogUnavailable
from streamtable.streams.partitions import open_consumer
from streamtable.streams.records import LogRecord
from streamtable.streams.security import client_options
from streamtable.streams.traces import Tracer

__all__ = ["Follower", "LostRecords", "RecordSink", "Sequential", "Source"]

logger = logging.getLogger(__name__)

_STOP_S: Final = 5.0
_CRASH_CHECK_S: Final = 0.25
_COMMIT_S: Final = 0.2
_REVOKE_S: Final = 30.0  # Within the 60 s that Faust asks the group to wait for a member.
_RETRY_S: Final = 0.5
_SEED_ATTEMPTS: Final = 20
_BUFFER_RECORDS: Final = 512
_BUFFER_BYTES: Final = 4 * 1024 * 1024
_BREATH: Final = 64
_PARENT_S: Final = 0.5


class LostRecords(StreamtableError, LookupError):
    """The log no longer has records that the follower has not seen."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the change log is.

    Attributes:
        address: the brokers, `host:port,...`.
        topic: the change log's name.
        epochs: asked once a shard, where reading starts in the middle.
        layout: which shards there are, and which was split off which; None where each of the
            log's partitions has been a shard from the beginning.
    """

    address: str
    topic: str
    epochs: EpochSource
    layout: LayoutDocument | None = None


class RecordSink(Protocol):
    """What a follower gives its records to.

    An exception from any of these stops the follower; `Follower.run` raises it.
    """

    async def take(self, record: LogRecord, done: Callable[[], None]) -> None:
        """Take a valid commit that is wanted, in its shard's order.

        The record counts as taken as soon as this is called; it returns when there is room for
        the shard's next one. It is cancelled when that is not wanted any more.

        Args:
            record: the commit.
            done: to be called once, when all of it is handled, during this call or any time
                later: the shard's position moves past it, if those before it are done too.
        """

    async def assigned(self, shards: frozenset[int]) -> None:
        """Get ready for shards that come to this member, before their first record."""

    async def revoked(self, shards: frozenset[int]) -> None:
        """Finish with shards that go: on return nothing of them runs here any more."""

    async def stop(self) -> None:
        """Finish what is in hand. No record is given after that was called."""


class Sequential:
    """A sink that handles one record of a shard after the other, within `take`.

    Args:
        handle: handles a record. What it raises stops the follower; the record is not done
            then, and comes again.
    """

    def __init__(self, handle: Callable[[LogRecord], Awaitable[None]]) -> None:
        self._handle = handle
        self._running: dict[int, asyncio.Task[None]] = {}

    async def take(self, record: LogRecord, done: Callable[[], None]) -> None:
        """Handle a record; one that is begun is finished, also where this is cancelled."""
        task = asyncio.ensure_future(self._handle(record))
        self._running[record.shard] = task
        task.add_done_callback(partial(_if_handled, done))
        await asyncio.shield(task)
        del self._running[record.shard]

    async def assigned(self, shards: frozenset[int]) -> None:
        """Nothing is to be prepared."""

    async def revoked(self, shards: frozenset[int]) -> None:
        """Wait for the records in hand."""
        for shard in shards:
            if shard in self._running:
                await asyncio.shield(self._running.pop(shard))

    async def stop(self) -> None:
        """Wait for the records in hand."""
        await self.revoked(frozenset(self._running))


def _if_handled(done: Callable[[], None], task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is None:
        done()


class _Frontier:
    """The first offset of a shard that is not handled yet.

    Attributes:
        next: that offset; None where no record was seen yet and none is committed.
        committed: what the group has committed, as far as is known here.
    """

    __slots__ = ("_done", "_end", "_taken", "committed", "next")

    def __init__(self, committed: int | None) -> None:
        self.next = committed
        self.committed = committed
        self._end = committed
        self._taken: deque[int] = deque()
        self._done: set[int] = set()

    def passed(self, offset: int) -> None:
        """Take note of a record that needs no handling."""
        self._end = offset + 1
        if not self._taken:
            self.next = self._end

    def taken(self, offset: int) -> None:
        """Take note of a record that is being handled."""
        if not self._taken:
            self.next = offset
        self._taken.append(offset)
        self._end = offset + 1

    def done(self, offset: int) -> None:
        """Take note that a taken record is handled."""
        done, taken = self._done, self._taken
        assert offset not in done, f"offset {offset} is done twice"
        done.add(offset)
        while taken and taken[0] in done:
            done.remove(taken.popleft())
        self.next = taken[0] if taken else self._end


@dataclass(slots=True)
class _Shard:
    """A shard that is assigned to this member.

    Attributes:
        number: its number.
        records: fetched and not looked at yet, as the consumer gave them.
        more: set when there are some.
        bytes: how much they are.
        paused: whether no more are asked for.
        next: offset of the record that is looked at next; None before the first.
        filter: which commits count there.
        frontier: what is handled.
    """

    number: int
    records: deque[Any] = field(default_factory=deque)
    more: asyncio.Event = field(default_factory=asyncio.Event)
    bytes: int = 0
    paused: bool = False
    next: int | None = None
    filter: EpochFilter = field(default_factory=EpochFilter)
    frontier: _Frontier = field(default_factory=lambda: _Frontier(None))


class Follower:
    """Gives every valid commit of the log to a sink, each shard's in order, at least once.

    A shard's frontier is committed a fraction of a second after it moved, before the shard goes
    to another member, and when the follower stops; so after a crash the last records may come
    again, and those that were handled before an earlier one was. Shards do not wait for each
    other. When the sink raises, the follower stands still: what was not done is given again
    after the next start.

    Args:
        source: the log.
        group: the consumer group; its members share the shards.
        wants: says by the names of the tables that a commit touches whether it is given to the
            sink; the others are passed over without being parsed.
        sink: takes the commits. It is this follower's alone, and is not used again.
        start: the first offset by shard for a group that is new: committed before the first
            record is read, where nothing is committed. Without it a new group starts at the
            beginning of the log.
        skip_lost: go on at the log's start where the log has lost records that the group has
            not seen yet, instead of raising `LostRecords`.
        tracer: told of each commit that is traced, from when the sink gets it until it is done.
        is_settled: asked, before the first record of a shard that was split off another one is
            given to the sink, whether the sink is done with all of the parent up to the split:
            its number, and the offset of its split. The frontier has passed that by then.
    """

    def __init__(
        self,
        source: Source,
        group: str,
        *,
        wants: Callable[[frozenset[str]], bool],
        sink: RecordSink,
        start: Mapping[int, int] | None = None,
        skip_lost: bool = False,
        tracer: Tracer | None = None,
        is_settled: Callable[[int, int], Awaitable[bool]] | None = None,
    ) -> None:
        self._source = source
        self._group = group
        self._wants = wants
        self._sink = sink
        # A shard that was split off another one is followed from its beginning.
        self._start_at = {**_beginnings(source.layout), **(start or {})}
        self._is_settled = is_settled
        self._skip_lost = skip_lost
        self._tracer = tracer
        self._shards: dict[int, _Shard] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._committing = asyncio.Lock()
        self._stopping = False
        self._app = Group(group, source.address)
        self._intake = Intake(self._app, (source.topic,), self._receive)
        # Their types want plain functions; a coroutine is awaited.
        self._app.on_partitions_assigned.connect(self._on_assigned)  # type: ignore[arg-type]
        self._app.on_partitions_revoked.connect(self._on_revoked)  # type: ignore[arg-type]

    @property
    def positions(self) -> Mapping[int, int]:
        """For each shard that is here, the first offset that is not handled yet.

        Records that were passed over count as handled. A shard is missing until its position is
        known.
        """
        return {
            number: shard.frontier.next
            for number, shard in self._shards.items()
            if shard.frontier.next is not None
        }

    async def run(self) -> None:
        """Follow the log until it is cancelled; then have the sink finish, and commit.

        Raises:
            LogUnavailable: the brokers are gone; a new follower goes on where this one stood.
            LostRecords: the log was cut before the follower got there.
            Exception: what the sink raised, also where that was after the cancellation.
        """
        committing = asyncio.create_task(self._keep_committing())
        try:
            await self._seed()
            await self._start()
            while not self._failed.done():
                await asyncio.wait([self._failed], timeout=_CRASH_CHECK_S)
                if self._app.crashed and not self._failed.done():
                    raise LogUnavailable(f"{self._source.topic}: {self._app.crash_reason!r}")
        finally:
            committing.cancel()
            await self._stop()
            if self._failed.done():
                self._failed.result()

    # Starting and stopping

    async def _seed(self) -> None:
        """Commit where a new group starts, for the shards that have nothing committed."""
        for _ in range(_SEED_ATTEMPTS):
            if not self._start_at:
                return
            committed = await self._committed(self._start_at)
            missing = {
                TopicPartition(self._source.topic, shard): offset
                for shard, offset in self._start_at.items()
                if committed[shard] is None
            }
            if not missing:
                return
            try:
                await self._commit_alone(missing)
            except CommitFailedError as error:
                # Another member has joined, and must have done this before.
                logger.debug("%s: %r", self._group, error)
                await asyncio.sleep(_RETRY_S)
            except CLIENT_ERRORS as error:
                raise LogUnavailable(f"the offsets of {self._group}: {error!r}") from error
        raise LogUnavailable(
            f"{self._group} has members that never committed where they start. Stop them."
        )

    async def _commit_alone(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit offsets without being a member, which only a group without members allows."""
        consumer = AIOKafkaConsumer(
            **client_options(self._source.address),
            group_id=self._group,
            enable_auto_commit=False,
        )
        try:
            await consumer.start()
            consumer.assign(list(offsets))
            await consumer.commit(dict(offsets))
        finally:
            await consumer.stop()

    async def _start(self) -> None:
        self._app.finalize()
        try:
            await self._app.start()
        except CLIENT_ERRORS as error:
            raise LogUnavailable(f"{self._source.topic}: {error!r}") from error

    async def _stop(self) -> None:
        """Let what is in hand be finished, commit, leave the group."""
        self._stopping = True
        await self._end_work()
        try:
            await self._sink.stop()
        except Exception as error:  # noqa: BLE001 - `run` raises it
            self._fail(error)
        await self._try("commit", self._commit())
        await self._try("leave the group", self._app.stop())

    async def _try(self, what: str, action: Awaitable[object]) -> None:
        """Do what stopping takes; where Kafka is gone, that must not keep anyone from leaving."""
        try:
            async with asyncio.timeout(_STOP_S):
                await action
        except Exception as error:  # noqa: BLE001 - whatever Faust raises, it is being left
            logger.debug("%s could not %s: %r", self._group, what, error)

    def _fail(self, error: BaseException) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)

    # Assignment

    async def _on_assigned(self, _app: Any, assigned: Iterable[Any], **_: Any) -> None:
        # No heartbeat is sent until this returns, so what takes time is a task.
        # Others are for shards that are to be, or that this follower does not know of yet: they
        # are left alone until there is one that does.
        layout = self._source.layout
        partitions = frozenset(
            one for one in assigned if layout is None or one.partition < layout.count
        )
        numbers = sorted(one.partition for one in partitions)
        self._shards = {number: _Shard(number) for number in numbers}
        self._intake.begin(partitions)
        if numbers and not self._stopping:
            self._begin_work(self._take_up(dict(self._shards)))

    async def _on_revoked(self, _app: Any, _revoked: Iterable[Any], **_: Any) -> None:
        """Give all shards back, with nothing of them running and their positions committed."""
        self._intake.end()
        if self._stopping or not self._shards:
            return
        shards = frozenset(self._shards)
        try:
            async with asyncio.timeout(_REVOKE_S):
                await self._end_work()
                await self._sink.revoked(shards)
        except TimeoutError:
            logger.warning(
                "%s: what runs for the shards %s did not end within %g s; another worker may "
                "begin with the same changes",
                self._group,
                ", ".join(map(str, sorted(shards))),
                _REVOKE_S,
            )
        except Exception as error:  # noqa: BLE001 - `run` raises it
            self._fail(error)
        if not self._stopping:
            await self._try("commit", self._commit())
            self._shards = {}

    async def _take_up(self, shards: dict[int, _Shard]) -> None:
        """Find out where the shards stand, have the sink get ready, and begin with each."""
        committed = await self._committed(shards)
        for number, shard in shards.items():
            shard.frontier = _Frontier(committed[number])
        await self._sink.assigned(frozenset(shards))
        for shard in shards.values():
            self._begin_work(self._feed(shard))

    def _begin_work(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._on_work_done)

    def _on_work_done(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    async def _end_work(self) -> None:
        while tasks := [*self._work]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    # Records

    def _receive(self, found: Mapping[TP, Sequence[Any]]) -> None:
        for partition, records in found.items():
            shard = self._shards.get(partition.partition)
            if shard is None:
                continue
            shard.records.extend(records)
            shard.bytes += sum(len(record.value or b"") for record in records)
            shard.more.set()
            if len(shard.records) > _BUFFER_RECORDS or shard.bytes > _BUFFER_BYTES:
                shard.paused = True
                self._intake.pause(partition)

    async def _feed(self, shard: _Shard) -> None:
        """Give a shard's records to the sink, one after the other."""
        if not shard.records:
            await shard.more.wait()
        await self._until_parent_done(shard)
        since_breath = 0
        while True:
            if not shard.records:
                shard.more.clear()
                await shard.more.wait()
            found = shard.records.popleft()
            shard.bytes -= len(found.value or b"")
            if shard.paused and (
                len(shard.records) <= _BUFFER_RECORDS // 2 and shard.bytes <= _BUFFER_BYTES // 2
            ):
                shard.paused = False
                self._intake.resume(self._partition(shard.number))
            if self._stopping or self._failed.done():
                return
            await self._handle(shard, LogRecord.from_consumer(found))
            since_breath += 1
            if since_breath == _BREATH:
                since_breath = 0
                await asyncio.sleep(0)

    async def _until_parent_done(self, shard: _Shard) -> None:
        """Return when everything is done that came before a shard's beginning.

        An item's changes before the split are in its parent's log, and another member may have
        that one.
        """
        layout = self._source.layout
        if layout is None or shard.frontier.next:
            return
        birth = layout.birth(shard.number)
        if birth is None or birth.end is None:
            return
        while not await self._is_done(birth.parent, birth.end):  # noqa: ASYNC110 - others tell nobody
            await asyncio.sleep(_PARENT_S)

    async def _is_done(self, number: int, end: int) -> bool:
        parent = self._shards.get(number)
        if parent is not None and parent.frontier.next is not None:
            following: int | None = parent.frontier.next
        else:
            following = (await self._committed([number]))[number]
        if following is None:
            # It has seen nothing of it, and may never: the log may have lost all of it.
            following = await self._first(number)
        if following <= end:
            return False
        return self._is_settled is None or await self._is_settled(number, end)

    async def _first(self, number: int) -> int:
        """The first offset that the log has of a shard."""
        partition = TopicPartition(self._source.topic, number)
        consumer = await open_consumer(self._source.address, [partition])
        try:
            found: int = (await consumer.beginning_offsets([partition]))[partition]
        finally:
            await consumer.stop()
        return found

    async def _handle(self, shard: _Shard, record: LogRecord) -> None:
        offset = record.offset
        if offset != shard.next:
            if shard.next is not None and offset < shard.next:
                return  # taken here before the consumer was set back
            await self._resume(shard, offset)
        valid = shard.filter.admit(record.kind, record.epoch, offset)
        shard.next = offset + 1
        if valid and self._wants(record.tables):
            shard.frontier.taken(offset)
            done: Callable[[], None] = partial(shard.frontier.done, offset)
            if record.trace is not None and self._tracer is not None:
                done = self._traced(self._tracer, record.trace, record, done)
            await self._sink.take(record, done)
        else:
            shard.frontier.passed(offset)

    def _traced(
        self, tracer: Tracer, trace: str, record: LogRecord, done: Callable[[], None]
    ) -> Callable[[], None]:
        """Tell that a commit's changes are worked on; return what is to be called at the end."""
        known = {"shard": record.shard, "offset": record.offset}
        step = tracer.begin(self._group, [trace], known)

        def finish() -> None:
            step.end()
            done()

        return finish

    async def _resume(self, shard: _Shard, offset: int) -> None:
        """Find out what is in force at a record that does not follow on the last one taken."""
        expected = shard.frontier.committed if shard.next is None else shard.next
        if expected is not None and expected < offset:
            lost = (
                f"shard {shard.number} of {self._source.topic} starts at offset {offset}, the "
                f"group {self._group} needs {expected}: {offset - expected} records are gone"
            )
            if not self._skip_lost:
                raise LostRecords(lost)
            logger.warning("%s and are left out", lost)
        epoch, barrier = None, None
        if offset > 0:
            epoch, barrier = await self._source.epochs.epoch(shard.number, offset)
        shard.filter = EpochFilter(epoch, barrier)

    # Positions

    async def _keep_committing(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_S)
            try:
                await self._commit()
            except Exception as error:  # noqa: BLE001 - a consumer that crashed ends `run`
                logger.debug("%s could not commit: %r", self._group, error)

    async def _commit(self) -> None:
        """Commit the frontiers that have moved."""
        async with self._committing:
            moved = {
                number: shard.frontier
                for number, shard in self._shards.items()
                if shard.frontier.next != shard.frontier.committed
            }
            offsets = {number: frontier.next or 0 for number, frontier in moved.items()}
            told = {self._partition(number): offset for number, offset in offsets.items()}
            if told and await self._intake.commit(told):
                for number, frontier in moved.items():
                    frontier.committed = offsets[number]

    def _partition(self, number: int) -> TP:
        return TP(self._source.topic, number)

    async def _committed(self, shards: Iterable[int]) -> dict[int, int | None]:
        """Return what the group has committed for each of these shards, None where nothing."""
        partitions = {shard: TopicPartition(self._source.topic, shard) for shard in shards}
        try:
            async with open_admin(self._source.address) as admin:
                found = await admin.list_consumer_group_offsets(
                    self._group, partitions=list(partitions.values())
                )
        except CLIENT_ERRORS as error:
            raise LogUnavailable(f"the offsets of {self._group}: {error!r}") from error
        offsets = {shard: found[partition].offset for shard, partition in partitions.items()}
        return {shard: None if offset < 0 else offset for shard, offset in offsets.items()}


def _beginnings(layout: LayoutDocument | None) -> dict[int, int]:
    """Where the shards that were split off others begin."""
    numbers = () if layout is None else range(layout.count)
    return {number: 0 for number in numbers if layout is not None and layout.birth(number)}
