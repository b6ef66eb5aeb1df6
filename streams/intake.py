"""Records straight from Faust's consumer, a whole fetch at a time.

Faust hands each record to its agent by itself, with a task and a queue for each: 80 µs a record.
Who follows a log has a way of its own of keeping what is handled and what is not, and takes the
fetches as they are. Membership, assignment, flow control and the consumer's thread stay Faust's.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, ConsumerStoppedError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP

from streamtable.streams.loops import Loop
from streamtable.streams.pacing import Next, Pace, set_next

__all__ = ["Intake"]

_WAIT_S: Final = 0.25
_RESUME_S: Final = 0.02
_LEAVE_S: Final = 4.0
_JOIN_S: Final = 0.5


def _at_once(_records: int, _partitions: int) -> Next:
    return Next()


class Intake:
    """Gives a Faust app's records to `receive`, in place of its agents.

    Create it before the app is finalized; the app needs no agent.

    Args:
        app: the app.
        topics: the topics that it follows.
        receive: called with the records of a fetch by partition, each partition's in order.
        pace: how often it fetches.
    """

    def __init__(
        self,
        app: faust.App,
        topics: Iterable[str],
        receive: Callable[[Mapping[TP, Sequence[Any]]], None],
        pace: Pace | None = None,
    ) -> None:
        self.receive = receive
        self.pace = _at_once if pace is None else pace
        self.term = 0
        """Grows when partitions are revoked: what was fetched in an older term is dropped."""
        self.heard_at = -math.inf
        """When the last heartbeat was sent that the group has answered, on the monotonic clock."""
        self._app = app
        self._full: set[TP] = set()
        self._assigned = 0
        self._room = asyncio.Event()
        transport = _Transport(app.conf.broker_consumer, app)
        transport.intake = self
        app.transport = transport
        for topic in topics:
            app.topics.add(app.topic(topic, value_type=bytes, value_serializer="raw"))

    def begin(self, partitions: frozenset[TP]) -> None:
        """Take note of what is assigned now, all of it with room."""
        self._assigned = len(partitions)
        self._full.clear()
        if partitions:
            self._room.set()

    def end(self) -> None:
        """Take note that nothing is assigned any more."""
        self.term += 1
        self._assigned = 0
        self._full.clear()
        self._room.clear()

    def pause(self, partition: TP) -> None:
        """Fetch no more of a partition for now."""
        self._full.add(partition)
        self._app.consumer.pause_partitions({partition})
        if len(self._full) == self._assigned:
            self._room.clear()

    def resume(self, partition: TP) -> None:
        """Fetch a paused partition again."""
        if partition in self._full:
            self._full.discard(partition)
            self._app.consumer.resume_partitions({partition})
            self._room.set()

    async def wait_for_room(self) -> None:
        """Return when something may be fetched."""
        await self._room.wait()

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit offsets for the group.

        Returns:
            False if this member has no say about them any more.
        """
        found: Any = self._app.consumer
        if not found.started or found.should_stop:
            # Its thread is not there, and would be waited for without end.
            return False
        done: bool = await found.commit_offsets(offsets)
        return done


class _Thread(AIOKafkaConsumerThread):
    logger = logging.getLogger("faust.transport")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, thread_loop=Loop(), **kwargs)
        self._brought = 0

    async def on_start(self) -> None:
        """Start, note when the group is heard, and join it again where aiokafka would not."""
        await super().on_start()
        assert self._consumer is not None
        coordinator: Any = self._consumer._coordinator  # noqa: SLF001 - aiokafka has no way to hear of it
        beat = coordinator._do_heartbeat  # noqa: SLF001 - as above

        async def noted() -> bool:
            sent = time.monotonic()
            heard: bool = await beat()
            if heard:
                _intake(self.transport).heard_at = sent
            return heard

        coordinator._do_heartbeat = noted  # noqa: SLF001 - as above
        coordinator._push_error_to_user = partial(  # noqa: SLF001 - as above
            self._join_again,
            coordinator,
            coordinator._push_error_to_user,  # noqa: SLF001 - as above
        )

    async def on_thread_stop(self) -> None:
        """Stop, whatever aiokafka has cancelled: who stops the thread waits for its end."""
        try:
            await super().on_thread_stop()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self.log.warning("the consumer is not closed in order: %r", error)

    async def _join_again(
        self, coordinator: Any, tell: Callable[[KafkaError], Awaitable[Any]], error: KafkaError
    ) -> None:
        """Join the group again after an error that aiokafka does not know.

        A broker that has just become the group's coordinator may answer with any error. aiokafka
        would have whoever fetches hear of it, and wait for that, while it believes to be a member;
        but during a rebalance nobody fetches.
        """
        if type(error) is not KafkaError or self.app.should_stop:
            await tell(error)
            return
        self.log.warning("joining the group again: %s", error)
        coordinator.request_rejoin()
        await asyncio.sleep(_JOIN_S)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit those of the offsets whose partitions are this member's.

        For Faust any failure is the end of the consumer, also that none is.
        """
        assigned = self.assignment()
        known = {
            TopicPartition(*partition): OffsetAndMetadata(offset, "")
            for partition, offset in offsets.items()
            if partition in assigned
        }
        if not known:
            return False
        try:
            await self._ensure_consumer().commit(known)
        except CommitFailedError:
            return False
        return True

    def close(self) -> None:
        """Have the connections closed soon: a rebalance has come while the app stops.

        Stopping closes them, when the group has been told that this member goes. But it may wait
        for the rebalance, which nobody carries out any more, and the member would stay for ever.
        Faust closes them at once, so that the others wait until the session is over; and in the
        app's loop: uvloop brings the process down when a connection is closed from another thread
        while it is read.
        """
        if self._consumer is not None:
            asyncio.run_coroutine_threadsafe(self._cut_off(self._consumer), self.thread_loop)

    @staticmethod
    async def _cut_off(consumer: AIOKafkaConsumer) -> None:
        await asyncio.sleep(_LEAVE_S)
        closing = consumer._coordinator._closing  # noqa: SLF001 - else it would connect, and join, again
        if not closing.done():
            closing.set_result(None)
        await consumer._client.close()  # noqa: SLF001 - as Faust does

    async def _fetch_records(self, consumer: AIOKafkaConsumer, *args: Any, **kwargs: Any) -> Any:
        # Who is no part of the group any more would not hear that its shards are another's.
        consumer._coordinator.check_errors()  # noqa: SLF001 - as aiokafka's own ways to fetch do
        self._look_ahead(consumer, self._brought)
        found = await super()._fetch_records(consumer, *args, **kwargs)
        self._brought = sum(map(len, found.values()))
        # The next fetch is sent before this is called again, as soon as this one is handed over.
        following = self._look_ahead(consumer, self._brought)
        if found and following.pause_s:
            await asyncio.sleep(following.pause_s)
        return found

    def _look_ahead(self, consumer: AIOKafkaConsumer, records: int) -> Next:
        """Set how the next fetch waits, as the pace says."""
        following = _intake(self.transport).pace(records, len(consumer.assignment()))
        set_next(consumer, following)
        return following


class _Consumer(Consumer):
    logger = logging.getLogger("faust.transport")

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def commit_offsets(self, offsets: Mapping[TP, int]) -> bool:
        return await self._commit(offsets)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Leave out Faust's watch over its agents: there are none."""

    async def _drain_messages(self, fetcher: Any) -> None:
        intake = _intake(self.transport)
        try:
            while not (self.should_stop or fetcher.should_stop):
                await intake.wait_for_room()
                if self.flow_active and not self._active_partitions:
                    # Faust resumes what was assigned in a moment, and would sleep for a second.
                    await asyncio.sleep(_RESUME_S)
                    continue
                term = intake.term
                records, _ = await self._wait_next_records(timeout=_WAIT_S)
                if not records:
                    await asyncio.sleep(0)
                elif self.flow_active and intake.term == term:
                    intake.receive({TP(*partition): found for partition, found in records.items()})
                else:
                    await self._seek_back(records)
        except ConsumerStoppedError:
            if not self.app.should_stop:
                raise

    async def _seek_back(self, dropped: Mapping[TP, Sequence[Any]]) -> None:
        """Have what was fetched during a rebalance, and is dropped, fetched again.

        Faust goes to what was committed. Where nothing was it stays behind what is dropped.
        """
        try:
            await self.perform_seek()
            for partition, records in dropped.items():
                first = records[0].offset
                if partition in self.assignment() and await self.position(partition) > first:
                    await self.seek(partition, first)
        except Exception as error:  # noqa: BLE001 - as Faust does: the next assignment seeks too
            self.log.debug("no seek during a rebalance: %r", error)


class _Transport(Transport):
    Consumer: ClassVar[Any] = _Consumer
    intake: Intake


def _intake(transport: Any) -> Intake:
    found: Intake = transport.intake
    return found
