"""The agents of a node: what materializes tables and indexes from the logs, on Faust."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, Final

from faust.types import TP

from streamtable.consumers.checkpoints.objects import StorageUnavailable
from streamtable.consumers.holdings import DiskFull, Holdings
from streamtable.consumers.indexes.messages import read
from streamtable.consumers.indexes.reader import read_to_end
from streamtable.consumers.indexes.sender import IndexSender
from streamtable.consumers.replicas import Replicas
from streamtable.streams.group import Group
from streamtable.streams.gulps import Gulps
from streamtable.streams.intake import Intake
from streamtable.streams.log import LogFenced, LogUnavailable
from streamtable.streams.owner import StateUnavailable
from streamtable.streams.pacing import pace
from streamtable.streams.placement import Placement
from streamtable.streams.records import LogRecord
from streamtable.streams.topics import Topics

__all__ = ["Agents"]

logger = logging.getLogger(__name__)

_FETCH_BYTES: Final = 4 * 1024 * 1024
_COMMIT_INTERVAL_S: Final = 1.0
_LAST_COMMIT_S: Final = 3.0
_START_S: Final = 60.0
_RETRY_S: Final = 0.5
# Each has connections and a recovery of its own while it is taken.
_TAKEN_AT_ONCE: Final = 32
# Between nodes a shard moves as soon as its members hear of it, with their next heartbeats.
_HEARTBEAT_S: Final = 0.3


class Agents:
    """Follows the logs for the shards that Faust assigned to this node.

    The shards come and go as the group says: those that come are opened and taken over, those
    that go are served no more at once, and closed when what was under way is settled.

    The group's offset of a shard passes a record only after its rows are in the shard's store, and
    the index rows that follow from it are in the indexes' log. Store and target know their own
    positions, so a record that comes again is passed over.

    Args:
        address: the brokers, `host:port,...`.
        topics: the region's topics.
        node: this node's name in the group; a node that comes back gets its shards back at once.
        holdings: opens and closes shards.
        sender: sends index rows.
        fail: told of an error after which the node can't go on.
        placement: told who owns which shard; None where nobody else can.
        replicas: on how many further nodes each shard is materialized.
        checked: what comes from the brokers is checked for damage on its way; needless where the
            broker is this machine's own, which has checked what it gives back.

    Attributes:
        between: for each shard, held while a batch of its changes is applied and its index rows
            are sent.
        on_taken: called with the number of each shard whose term has started.
        waiting: by shard of this node why it is not served yet.
    """

    def __init__(
        self,
        *,
        address: str,
        topics: Topics,
        node: str,
        holdings: Holdings,
        sender: IndexSender,
        fail: Callable[[BaseException], None],
        placement: Placement | None = None,
        replicas: int = 0,
        checked: bool = True,
    ) -> None:
        self.between: dict[int, asyncio.Lock] = {}
        self.on_taken: list[Callable[[int], None]] = []
        self.waiting: dict[int, str] = {}
        self._address = address
        self._topics = topics
        self._holdings = holdings
        self._sender = sender
        self._fail = fail
        self._placement = placement
        # What the group gave this node last, also of shards that are not there yet.
        self._given: tuple[frozenset[int], frozenset[int]] = frozenset(), frozenset()
        self._assigned: frozenset[int] = frozenset()
        self._followed: frozenset[int] = frozenset()
        self.replicas = Replicas(address, topics, holdings, fail)
        self._generation: int | None = None
        self._settled = False
        self._turns: dict[int, asyncio.Lock] = {}
        self._taking = asyncio.Semaphore(_TAKEN_AT_ONCE)
        self._opened: dict[int, asyncio.Event] = {}
        self._layout = holdings.held.layout
        self._make_room()
        self._joined = asyncio.Event()
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gulps: dict[TP, tuple[Gulps, asyncio.Task[None]]] = {}
        self._passed: dict[TP, int] = {}
        self._committing: asyncio.Task[None] | None = None
        self._moving: set[asyncio.Task[None]] = set()
        self._replicated = bool(replicas)
        # With none, Faust takes another assignor, which doesn't tell members of each other.
        settings: dict[str, Any] = {
            "table_standby_replicas": max(1, replicas),
            "broker_check_crcs": checked,
        }
        if placement is not None:
            settings["canonical_url"] = f"http://{placement.own}"
            settings["broker_heartbeat_interval"] = _HEARTBEAT_S
        self._app = Group(
            topics.nodes,
            address,
            consumer_group_instance_id=node,
            consumer_max_fetch_size=_FETCH_BYTES,
            **settings,
        )
        self._follows = {
            topics.changelog: self._apply_changes,
            topics.indexes: self._apply_index_rows,
        }
        self._intake = Intake(self._app, self._follows, self._receive, pace)
        # Their types want plain functions; a coroutine is awaited.
        self._app.on_partitions_assigned.connect(self._on_assigned)  # type: ignore[arg-type]
        self._app.on_partitions_revoked.connect(self._on_revoked)  # type: ignore[arg-type]

    @property
    def assigned(self) -> frozenset[int]:
        """The shards that are this node's."""
        return self._assigned

    async def start(self) -> None:
        """Join the group; returns when this node's shards serve, however much they have to read.

        Raises:
            LogUnavailable: the group does not take this node in.
            StreamtableError: a shard can't be taken over.
        """
        self._app.finalize()
        await self._app.start()
        self._committing = asyncio.create_task(self._keep_committing())
        try:
            async with asyncio.timeout(_START_S):
                await self._joined.wait()
        except TimeoutError:
            raise LogUnavailable(
                f"the group of the region's nodes gave this one no shards in {_START_S:.0f} s: "
                "the brokers' logs may say why"
            ) from None
        await self._ready

    async def leave(self) -> None:
        """Leave the group, so that others take the shards over now, not after the session's end.

        Nothing is served here any more when this returns.
        """
        self._app.leaves_for_good()
        await self._stop_following()
        self._given = frozenset(), frozenset()
        await self._assign()

    async def stop(self, *, for_good: bool = False) -> None:
        """Stop following, and let go of the shards.

        Args:
            for_good: others get them now. Otherwise they stay this node's for a session's time.
        """
        if for_good and self._joined.is_set():
            self._app.leaves_for_good()
        await self._stop_following()
        tasks = [*self._moving, *(task for _, task in self._gulps.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.replicas.stop_all()
        await self._holdings.stop()

    async def _stop_following(self) -> None:
        if self._committing is not None:
            self._committing.cancel()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_COMMIT_S):
                    await self._commit()
        await self._app.stop()

    # Assignment

    async def _on_revoked(self, _app: Any, _revoked: Any, **_: Any) -> None:
        self._settled = False
        self._intake.end()

    async def _on_assigned(self, _app: Any, assigned: Any, **_: Any) -> None:
        self._joined.set()
        if self._placement is not None:
            owners, nodes = self._app.owners(self._topics.changelog)
            self._placement.set(owners, nodes)
        self._intake.begin(frozenset(assigned))
        self._given = (
            frozenset(one.partition for one in assigned if one.topic == self._topics.changelog),
            self._app.followed(self._topics.changelog) if self._replicated else frozenset(),
        )
        self._settled = True
        await self._assign(kept=self._kept())

    async def grow(self) -> None:
        """Take those of the shards that are new by now that the group has given this node."""
        self._make_room()
        await self._assign()

    async def copy(self) -> None:
        """Have the rows copied of the shards that are to be, as far as they are to be here."""
        reshard = self._layout.document.reshard
        target = 0 if reshard is None else reshard.target
        given, followed = self._given
        here = given | followed
        await self._holdings.copies.want(
            frozenset(n for n in here if self._layout.count <= n < target),
            frozenset(n for n in here if n < self._layout.count),
        )

    def _make_room(self) -> None:
        """Have what is kept of each shard for those that are new."""
        for number in self._layout:
            self.between.setdefault(number, asyncio.Lock())
            self._turns.setdefault(number, asyncio.Lock())
            self._opened.setdefault(number, asyncio.Event())

    def _is_settled(self) -> bool:
        return self._settled

    def _heard_at(self) -> float:
        return self._intake.heard_at

    def _kept(self) -> bool:
        """Whether nobody else can have had this node's shards since the last assignment."""
        before, self._generation = self._generation, self._app.generation
        return self._placement is None or before is None or self._generation <= before + 1

    async def _assign(self, *, kept: bool = True) -> None:
        """Begin to open what is new and to close what is not this node's any more.

        Args:
            kept: the shards that it had before were its own all the time. Otherwise somebody else
                may have gone on with them, so their terms begin anew.
        """
        # The log may have partitions for shards that are still to be.
        numbers, followed = (
            frozenset(n for n in given if n < self._layout.count) for given in self._given
        )
        gone = self._assigned - numbers if kept else self._assigned
        self._assigned = numbers
        changed, self._followed = self._followed ^ followed, followed
        for number in gone:
            self._opened[number].clear()
            self._drop_gulps(number)
            shard = self._holdings.held.get(number)
            if shard is not None:
                shard.owner.step_down()
        moving = [
            asyncio.create_task(self._move(number))
            for number in self._turns
            if number in gone | changed or (number in numbers and not self._opened[number].is_set())
        ]
        self._moving.update(moving)
        for task in moving:
            task.add_done_callback(self._moved)
        # Who waits here sends no heartbeats meanwhile.
        if moving and not numbers:
            await asyncio.wait(moving)
        await self.copy()
        self._tell_ready()

    def _moved(self, task: asyncio.Task[None]) -> None:
        self._moving.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None:
            self._tell_ready()
        elif self._ready.done():
            self._fail(error)
        else:
            self._ready.set_exception(error)

    def _tell_ready(self) -> None:
        """Let the start go on when all shards are where they belong."""
        if not (self._moving or self._ready.done()):
            self._ready.set_result(None)

    async def _move(self, number: int) -> None:
        """Bring a shard to where it belongs by now: here, or not."""
        async with self._turns[number]:
            if number not in self._assigned:
                await self._let_go(number)
                return
            try:
                while number in self._assigned and not self._opened[number].is_set():
                    await self._try_to_take(number)
            finally:
                self.waiting.pop(number, None)

    async def _try_to_take(self, number: int) -> None:
        try:
            async with self._taking:
                await self._take(number)
        except (LogUnavailable, StateUnavailable, StorageUnavailable) as error:
            # A node that does not reach the log does not start. One that another node was
            # faster than, or slower, has its shards a moment later.
            if not (self._ready.done() or isinstance(error, LogFenced)):
                raise
            # The group can't be told that others should have one shard. So they get all of them.
            if isinstance(error, DiskFull) and self._placement and self._placement.others:
                raise
            self.waiting[number] = f"shard {number} is not served: {error}"
            logger.warning("%s; trying again", self.waiting[number])
            await asyncio.sleep(_RETRY_S)

    async def _let_go(self, number: int) -> None:
        """Close a shard that is another node's, and follow its log where that is wanted."""
        was_replica = await self.replicas.stop(number)
        stays = number in self._followed
        if number in self._holdings.held and not (was_replica and stays):
            await self._holdings.close(number)
        if stays:
            self.replicas.start(number)

    async def _take(self, number: int) -> None:
        # 1. Its rows; a replica has them.
        await self.replicas.stop(number)
        if number not in self._holdings.held:
            await self._holdings.open(number)
        owner = self._holdings.held[number].owner
        owner.is_settled, owner.heard_at = self._is_settled, self._heard_at
        # 2. The rows of global indexes. The group's offset for the indexes' log may be ahead of
        # what a power cut left in the store, so the store says where to go on.
        store = self._holdings.stores[number]
        async with aclosing(
            read_to_end(
                self._address,
                self._topics.indexes,
                number,
                store.index_offset,
                self._holdings.logs.rows,
            )
        ) as batches:
            async for batch in batches:
                await store.until_writable()
                self._apply_index_records(number, batch)
        if number not in self._assigned:
            return
        # 3. Its changes, and the term.
        self._opened[number].set()
        try:
            await self._holdings.held[number].take_over()
        except BaseException:
            self._opened[number].clear()
            raise
        for told in self.on_taken:
            told(number)

    # Following

    def _receive(self, found: Mapping[TP, Sequence[Any]]) -> None:
        """Have what came applied in gulps, each shard's by itself.

        So a shard that waits, because its term has to start anew or its store can't be written,
        holds up nobody else; what it is sent meanwhile is kept, up to the size of a gulp.
        """
        for partition, records in found.items():
            theirs = self._gulps.get(partition)
            if theirs is None:
                if partition.partition not in self._assigned:
                    continue
                theirs = self._gulps[partition] = self._start_gulps(partition)
            theirs[0].add(records)
            if theirs[0].full:
                self._intake.pause(partition)

    def _start_gulps(self, partition: TP) -> tuple[Gulps, asyncio.Task[None]]:
        apply = partial(self._follows[partition.topic], partition.partition)
        gulps = Gulps(partial(self._persist, apply), partial(self._pass, partition), self._fail)
        return gulps, asyncio.create_task(gulps.run())

    def _drop_gulps(self, number: int) -> None:
        """Forget what has come of a shard that goes; whoever gets it is sent that again."""
        for topic in self._follows:
            gulps = self._gulps.pop(TP(topic, number), None)
            if gulps is not None:
                gulps[1].cancel()

    def _pass(self, partition: TP, following: int) -> None:
        """Take note that all records before an offset are applied."""
        self._passed[partition] = following
        self._intake.resume(partition)

    async def _keep_committing(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_INTERVAL_S)
            if self._app.crashed:
                self._fail(LogUnavailable(f"the group of the nodes: {self._app.crash_reason!r}"))
                return
            await self._commit()

    async def _commit(self) -> None:
        """Tell the group what has been applied; if that fails, it is told later."""
        passed, self._passed = self._passed, {}
        if not passed:
            return
        try:
            await self._intake.commit(passed)
        except Exception as error:  # noqa: BLE001 - the store knows what it has
            logger.debug("the tables' offsets are not committed: %r", error)
            self._passed = passed | self._passed

    @staticmethod
    async def _persist(apply: Callable[[list[Any]], Awaitable[None]], messages: list[Any]) -> None:
        """Apply messages, again and again while the store can't be written."""
        while True:
            try:
                await apply(messages)
            except StateUnavailable as error:
                logger.warning("the tables wait: %s", error)
                await asyncio.sleep(_RETRY_S)
            else:
                return

    async def _apply_changes(self, number: int, messages: list[Any]) -> None:
        found: list[LogRecord] = []
        for message in messages:
            record = LogRecord.from_consumer(message)
            # After a rebalance what was delivered comes again.
            if not found or record.offset > found[-1].offset:
                found.append(record)
        await self._opened[number].wait()
        async with self.between[number]:
            await self._holdings.held[number].owner.follow(found)
            await self._sender.follow(number, found)

    async def _apply_index_rows(self, target: int, messages: list[Any]) -> None:
        await self._opened[target].wait()
        await self._holdings.stores[target].until_writable()
        self._apply_index_records(target, messages)

    def _apply_index_records(self, target: int, records: Sequence[Any]) -> None:
        if not records:
            return
        found = [read(record) for record in records]
        store = self._holdings.stores[target]
        store.apply_index(found, records[-1].offset + 1)
        for source in {source for source, _ in found}:
            self._holdings.held[target].index_rows.applied(source, store.indexed(source))
