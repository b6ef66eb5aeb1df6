"""Replicas: shards of other nodes that this node materializes, too.

A replica follows its shard's log a moment behind. It answers reads that need not see the newest
write, and when its owner is lost it takes over without loading anything.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from streamtable.consumers.holdings import Holdings
from streamtable.consumers.indexes.messages import read
from streamtable.core.errors import StreamtableError
from streamtable.core.formats import NewerFormat
from streamtable.streams.log import CLIENT_ERRORS
from streamtable.streams.overlay import Overlay
from streamtable.streams.owner import StateUnavailable
from streamtable.streams.partitions import open_consumer
from streamtable.streams.records import LogRecord
from streamtable.streams.shard import Shard
from streamtable.streams.topics import Topics

__all__ = ["Replicas"]

logger = logging.getLogger(__name__)

_POLL_MS: Final = 500
_RETRY_S: Final = 1.0
# A replica that has not reached the log's end for so long answers nothing.
_FRESH_S: Final = 2.0


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
        self._following: dict[int, _Following] = {}

    def fresh(self, number: int) -> Shard | None:
        """The replica of a shard, if it was at the end of the log a moment ago."""
        following = self._following.get(number)
        if following is None or time.monotonic() - following.fresh_at > _FRESH_S:
            return None
        return self._holdings.held.get(number)

    def lags(self) -> Mapping[int, int]:
        """By shard, how many records its replica here lacks, as far as it knows."""
        return {number: each.lag for number, each in self._following.items()}

    def start(self, number: int) -> None:
        """Follow a shard; it is opened in the background, if it is not yet."""
        following = self._following[number] = _Following()
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

    async def _run(self, number: int, following: "_Following") -> None:
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

    async def _follow(self, number: int, following: "_Following") -> None:
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
                self._apply(number, found.get(changes, ()), found.get(rows, ()))
                end = consumer.highwater(changes)
                if end is not None:
                    following.lag = max(0, end - store.applied - 1)
                if not following.lag:
                    following.fresh_at = time.monotonic()
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


class _Following:
    """One replica.

    Attributes:
        task: follows the log.
        fresh_at: when it was at the log's end last, on the monotonic clock.
        lag: how many records it lacked when it looked last.
    """

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.fresh_at = -_FRESH_S - 1
        self.lag = 1

    async def end(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task])
