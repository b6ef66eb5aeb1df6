"""Replicas: shards of other nodes that this node materializes, too.

A replica follows its shard's log a moment behind. It answers reads that need not see the newest
write, and when its owner is lost it takes over without loading anything.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
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
from streamtable.streams.pacing import pace, set_next
from streamtable.streams.partitions import open_consumer
from streamtable.streams.records import LogRecord
from streamtable.streams.shard import Shard
from streamtable.streams.topics import Topics

__all__ = ["Following", "Replicas"]

logger = logging.getLogger(__name__)

_POLL_MS: Final = 500
_RETRY_S: Final = 1.0
# A replica that has not reached the logs' ends for so long answers nothing.
_FRESH_S: Final = 2.0
_LOGS: Final = 2


class Replicas:
    """Follows the logs of the shards that this node is to have a replica of.

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
        following.task = asyncio.create_task(self._run(number, following))

    async def stop(self, number: int) -> bool:
        """Follow a shard no more; return whether it was followed. It stays open."""
        following = self._following.pop(number, None)
        if following is None:
            return False
        await following.end()
        return True

    async def stop_all(self) -> None:
        """Follow nothing more."""
        for number in list(self._following):
            await self.stop(number)

    async def _run(self, number: int, following: "Following") -> None:
        while True:
            try:
                if number not in self._holdings.held:
                    await self._holdings.open(number)
                await self._follow(number, following)
            except OffsetOutOfRangeError:
                # It was away for longer than the log is kept: a checkpoint has to help.
                logger.warning("the replica of shard %d is too old, it is loaded anew", number)
                await self._holdings.close(number)
            except NewerFormat as error:
                self._fail(error)
                return
            except (StreamtableError, *CLIENT_ERRORS) as error:
                logger.warning("the replica of shard %d waits: %r", number, error)
                await asyncio.sleep(_RETRY_S)

    async def _follow(self, number: int, following: "Following") -> None:
        store = self._holdings.stores[number]
        changes = TopicPartition(self._topics.changelog, number)
        rows = TopicPartition(self._topics.indexes, number)
        consumer = await open_consumer(self._address, [changes, rows])
        try:
            consumer.seek(changes, store.applied + 1)
            consumer.seek(rows, store.index_offset)
            while True:
                found = await consumer.getmany(timeout_ms=_POLL_MS)
                await store.until_writable()
                following_fetch = pace(sum(map(len, found.values())), _LOGS, idle_ms=_POLL_MS)
                set_next(consumer, following_fetch)
                self._apply(number, found.get(changes, ()), found.get(rows, ()))
                following.look(consumer, changes, store.applied + 1)
                following.look(consumer, rows, store.index_offset)
                if found and following_fetch.pause_s:
                    await asyncio.sleep(following_fetch.pause_s)
        finally:
            with suppress(*CLIENT_ERRORS):
                await consumer.stop()

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
        task: follows the logs.
    """

    def __init__(self) -> None:
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
