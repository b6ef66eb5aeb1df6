"""Replicas: shards of other nodes that this node materializes, too.

A replica follows its shard's log a moment behind. It answers reads that need not see the newest
write, and when its owner is lost it takes over without loading anything.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from streamtable.consumers.holdings import Holdings
from streamtable.consumers.indexes.messages import read
from streamtable.core.errors import StreamtableError
from streamtable.core.formats import NewerFormat
from streamtable.streams.log import CLIENT_ERRORS
from streamtable.streams.overlay import Overlay
from streamtable.streams.owner import StateUnavailable
from streamtable.streams.pacing import longest_fetch_ms, pace, set_next
from streamtable.streams.partitions import open_consumer
from streamtable.streams.records import LogRecord
from streamtable.streams.shard import Shard
from streamtable.streams.topics import Topics

__all__ = ["Following", "Replicas"]

logger = logging.getLogger(__name__)

_IDLE_MS: Final = 500
_RETRY_S: Final = 1.0
# A replica that has not reached the logs' ends for so long answers nothing.
_FRESH_S: Final = 2.0
_FRESH_LOOK_S: Final = 0.25
_LOOK_S: Final = 0.01
_LOGS: Final = 2


class Replicas:
    """Follows the logs of the shards that this node is to have a replica of.

    One consumer fetches for all of them: each of its own would have connections of its own to every
    broker, and ask them all the time.

    Args:
        address: the brokers, `host:port,...`.
        topics: the region's topics.
        holdings: opens and closes shards.
        fail: told of an error after which the node can't go on.
    """

    def __init__(
        self,
        address: str,
        topics: Topics,
        holdings: Holdings,
        fail: Callable[[BaseException], None],
    ) -> None:
        self._address = address
        self._topics = topics
        self._holdings = holdings
        self._fail = fail
        self._following: dict[int, Following] = {}
        self._feeding: asyncio.Task[None] | None = None
        self._fetched: set[int] = set()
        # Set when others are to be fetched than are.
        self._changed = asyncio.Event()

    def fresh(self, number: int) -> Shard | None:
        """The replica of a shard, if it was at the end of its logs a moment ago."""
        following = self._following.get(number)
        if following is None or time.monotonic() - following.fresh_at > _FRESH_S:
            return None
        return self._holdings.held.get(number)

    def lags(self) -> Mapping[int, int]:
        """By shard, how many records its replica here lacks, as far as it knows."""
        return {number: each.lag for number, each in self._following.items()}

    def start(self, number: int) -> None:
        """Follow a shard; it is opened in the background, if it is not yet."""
        following = self._following[number] = Following()
        following.task = asyncio.create_task(self._prepare(number, following))
        if self._feeding is None:
            self._feeding = asyncio.create_task(self._feed())

    async def stop(self, number: int) -> bool:
        """Follow a shard no more; return whether it was followed. It stays open."""
        following = self._following.pop(number, None)
        if following is None:
            return False
        self._changed.set()
        await following.end()
        return True

    async def stop_all(self) -> None:
        """Follow nothing more."""
        for number in list(self._following):
            await self.stop(number)
        if self._feeding is not None:
            self._feeding.cancel()
            await asyncio.wait([self._feeding])
            self._feeding = None

    async def _prepare(
        self, number: int, following: "Following", error: BaseException | None = None
    ) -> None:
        """Have a shard open, and then followed.

        Args:
            number: the shard's number.
            following: how it is followed.
            error: why it is not followed any more, if it was.
        """
        while True:
            if isinstance(error, OffsetOutOfRangeError):
                # It was away for longer than the log is kept: a checkpoint has to help.
                logger.warning("the replica of shard %d is too old, it is loaded anew", number)
                await self._holdings.close(number)
            elif error is not None:
                logger.warning("the replica of shard %d waits: %r", number, error)
                await asyncio.sleep(_RETRY_S)
            try:
                if number not in self._holdings.held:
                    await self._holdings.open(number)
            except NewerFormat as newer:
                self._fail(newer)
                return
            except (StreamtableError, *CLIENT_ERRORS) as failure:
                error = failure
            else:
                following.open = True
                self._changed.set()
                return

    def _set_aside(self, number: int, error: BaseException) -> None:
        """Follow a shard no more until what is wrong with it is over."""
        following = self._following.get(number)
        if following is not None and following.open:
            following.open = False
            self._changed.set()
            following.task = asyncio.create_task(self._prepare(number, following, error))

    # Fetching

    async def _feed(self) -> None:
        while True:
            try:
                await self._follow()
            except CLIENT_ERRORS as error:
                logger.warning("the replicas wait: %r", error)
                await asyncio.sleep(_RETRY_S)
            except Exception as error:  # noqa: BLE001 - nobody else would hear of it
                self._fail(error)
                return

    async def _follow(self) -> None:
        consumer = await open_consumer(self._address, [])
        try:
            self._changed.set()
            looked_at = -math.inf
            while True:
                if self._changed.is_set():
                    self._assign(consumer)
                if not self._fetched:
                    await self._changed.wait()
                    continue
                found = await self._fetch(consumer)
                partitions = _LOGS * len(self._fetched)
                idle_ms = max(_IDLE_MS, longest_fetch_ms(partitions))
                upcoming = pace(sum(map(len, found.values())), partitions, idle_ms)
                set_next(consumer, upcoming)
                for number in {partition.partition for partition in found}:
                    await self._take(consumer, number, found)
                if time.monotonic() - looked_at > _FRESH_LOOK_S:
                    looked_at = time.monotonic()
                    for number in self._fetched:
                        self._look(consumer, number)
                if found and upcoming.pause_s:
                    await asyncio.sleep(upcoming.pause_s)
        finally:
            with suppress(*CLIENT_ERRORS):
                await consumer.stop()

    def _assign(self, consumer: AIOKafkaConsumer) -> None:
        """Have those fetched that are open, each from where its store is."""
        self._changed.clear()
        self._fetched = {number for number, each in self._following.items() if each.open}
        consumer.assign([each for number in self._fetched for each in self._logs(number)])
        for number in self._fetched:
            changes, rows = self._logs(number)
            store = self._holdings.stores[number]
            consumer.seek(changes, store.applied + 1)
            consumer.seek(rows, store.index_offset)

    def _logs(self, number: int) -> tuple[TopicPartition, TopicPartition]:
        changes = TopicPartition(self._topics.changelog, number)
        return changes, TopicPartition(self._topics.indexes, number)

    async def _fetch(self, consumer: AIOKafkaConsumer) -> Mapping[TopicPartition, Sequence[Any]]:
        try:
            found: Mapping[TopicPartition, Sequence[Any]]
            found = await consumer.getmany(timeout_ms=_IDLE_MS)
        except OffsetOutOfRangeError as error:
            for partition in error.args[0]:
                self._set_aside(partition.partition, error)
            return {}
        return found

    async def _take(
        self,
        consumer: AIOKafkaConsumer,
        number: int,
        found: Mapping[TopicPartition, Sequence[Any]],
    ) -> None:
        """Apply what has come of a shard.

        Where others are to be followed than when it was fetched it is dropped: it is fetched again
        from where the stores are then.
        """
        if self._changed.is_set():
            return
        changes, rows = self._logs(number)
        store = self._holdings.stores[number]
        while not store.writable:
            await asyncio.sleep(_LOOK_S)
            if self._changed.is_set():
                return  # the store may be closed
        try:
            self._apply(number, found.get(changes, ()), found.get(rows, ()))
        except NewerFormat:
            raise
        except StreamtableError as error:
            self._set_aside(number, error)
        else:
            self._look(consumer, number)

    def _look(self, consumer: AIOKafkaConsumer, number: int) -> None:
        if not self._changed.is_set():
            changes, rows = self._logs(number)
            store, following = self._holdings.stores[number], self._following[number]
            following.look(consumer, changes, store.applied + 1)
            following.look(consumer, rows, store.index_offset)

    def _apply(self, number: int, changes: Any, rows: Any) -> None:
        store = self._holdings.stores[number]
        records = [LogRecord.from_consumer(each) for each in changes]
        records = [record for record in records if record.offset > store.applied]
        if records:
            if records[0].offset != store.applied + 1:
                raise StateUnavailable(
                    f"the log of shard {number} went on at offset {records[0].offset}, its replica "
                    f"needs {store.applied + 1}"
                )
            store.apply(records, Overlay())
        if rows:
            read_rows = [read(each) for each in rows]
            store.apply_index(read_rows, rows[-1].offset + 1)
            # What this node's own shards have shown here before their rows came by the log.
            shown = self._holdings.held[number].index_rows
            for source in {source for source, _ in read_rows}:
                shown.applied(source, store.indexed(source))


class Following:
    """One replica.

    Attributes:
        open: whether its logs are to be fetched.
        task: opens it.
    """

    def __init__(self) -> None:
        self.open = False
        self.task: asyncio.Task[None] | None = None
        self._lags: dict[str, int] = {}
        self._heard: dict[str, int] = {}
        self._at_end: dict[str, float] = {}

    @property
    def lag(self) -> int:
        """How many records it lacked when it looked last; 1 before."""
        return sum(self._lags.values()) if len(self._lags) == _LOGS else 1

    @property
    def fresh_at(self) -> float:
        """When it was last at the end of each log, on the monotonic clock; -inf before."""
        return min(self._at_end.values()) if len(self._at_end) == _LOGS else -math.inf

    def look(self, consumer: AIOKafkaConsumer, partition: TopicPartition, reached: int) -> None:
        """Note whether the replica is at a log's end, if the brokers have told it since.

        Args:
            consumer: reads the log.
            partition: the shard's part of it.
            reached: the next offset that the replica needs.
        """
        heard = consumer.last_poll_timestamp(partition)
        end = consumer.highwater(partition)
        if heard is None or end is None or heard == self._heard.get(partition.topic):
            return
        self._heard[partition.topic] = heard
        lag = self._lags[partition.topic] = max(0, end - reached)
        if not lag:
            self._at_end[partition.topic] = time.monotonic()

    async def end(self) -> None:
        """Follow no more."""
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task])
