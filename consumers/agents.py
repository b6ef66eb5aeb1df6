"""The Faust agents of a node: what materializes tables and indexes from the logs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Final

from streamtable.consumers.indexes.messages import decode
from streamtable.consumers.indexes.reader import read_to_end
from streamtable.consumers.indexes.sender import IndexSender
from streamtable.consumers.tables.store import ShardStore
from streamtable.core.errors import StreamtableError
from streamtable.streams.group import Group
from streamtable.streams.gulps import Gulps, fetch_in_gulps
from streamtable.streams.owner import StateUnavailable
from streamtable.streams.records import LogRecord
from streamtable.streams.shard import Shard
from streamtable.streams.topics import Topics

__all__ = ["Agents"]

logger = logging.getLogger(__name__)

_BUFFER_RECORDS: Final = 8192
_FETCH_BYTES: Final = 4 * 1024 * 1024
_COMMIT_INTERVAL_S: Final = 1.0
_START_S: Final = 60.0
_RETRY_S: Final = 0.5


class Agents:
    """Follows the logs for the shards that Faust assigned to this node.

    An event is acknowledged to Kafka only after its rows are in the shard's store, and the index
    rows that follow from it are in the indexes' log. Store and target know their own positions,
    so a redelivered event is passed over.

    Args:
        address: the brokers, `host:port,...`.
        topics: the region's topics.
        node: this node's name in the group; a node that comes back gets its shards back at once.
        shards: every shard by number.
        stores: their stores.
        sender: sends index rows.
        fail: told of an error after which the node can't go on.

    Attributes:
        between: for each shard, held while a batch of its changes is applied and its index rows
            are sent.
    """

    def __init__(
        self,
        *,
        address: str,
        topics: Topics,
        node: str,
        shards: Mapping[int, Shard],
        stores: Mapping[int, ShardStore],
        sender: IndexSender,
        fail: Callable[[BaseException], None],
    ) -> None:
        self.between = {number: asyncio.Lock() for number in shards}
        self._address = address
        self._topics = topics
        self._shards = shards
        self._stores = stores
        self._sender = sender
        self._fail = fail
        self._assigned: set[int] = set()
        self._indexes_followed = {number: asyncio.Event() for number in shards}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []
        self._app = Group(
            f"{topics.region}.tables",
            address,
            consumer_group_instance_id=node,
            consumer_max_fetch_size=_FETCH_BYTES,
            broker_commit_interval=_COMMIT_INTERVAL_S,
            stream_buffer_maxsize=_BUFFER_RECORDS,
        )
        fetch_in_gulps(self._app)
        self._follow(topics.changelog, self._apply_changes)
        self._follow(topics.indexes, self._apply_index_rows)
        # Its types want a plain function; a coroutine is awaited.
        self._app.on_partitions_assigned.connect(self._on_assigned)  # type: ignore[arg-type]

    @property
    def assigned(self) -> frozenset[int]:
        """The shards that are this node's."""
        return frozenset(self._assigned)

    async def start(self) -> None:
        """Join the group; returns when this node's shards serve.

        Raises:
            StreamtableError: a shard can't be taken over.
        """
        self._app.finalize()
        await self._app.start()
        async with asyncio.timeout(_START_S):
            await self._ready

    async def stop(self) -> None:
        """Leave the group."""
        await self._app.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _follow(self, topic: str, apply: Callable[[int, list[Any]], Awaitable[None]]) -> None:
        """Have an agent apply the topic's messages in gulps, each shard's by itself.

        So a shard that waits, because its term has to start anew or its store can't be written,
        holds up nobody else; what it is sent meanwhile is kept, up to the size of a gulp.
        """
        gulps: dict[int, Gulps] = {}

        def start(number: int) -> Gulps:
            made = Gulps(partial(self._persist, partial(apply, number)), self._fail)
            self._tasks.append(asyncio.create_task(made.run()))
            return made

        async def run(stream: Any) -> None:
            async for event in stream.noack().events():
                number = event.message.partition
                theirs = gulps.get(number)
                if theirs is None:
                    theirs = gulps[number] = start(number)
                await theirs.add(event)

        channel = self._app.topic(topic, value_type=bytes, value_serializer="raw")
        self._app.agent(channel, name=f"{topic}.follow")(run)

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

    async def _on_assigned(self, _app: Any, assigned: Any, **_: Any) -> None:
        numbers = {one.partition for one in assigned if one.topic == self._topics.changelog}
        for number in self._assigned - numbers:
            self._shards[number].owner.step_down()
        new, self._assigned = numbers - self._assigned, numbers
        try:
            await asyncio.gather(*(self._take_over(number) for number in sorted(new)))
        except StreamtableError as error:
            if self._ready.done():
                self._fail(error)
            else:
                self._ready.set_exception(error)
        else:
            if not self._ready.done():
                self._ready.set_result(None)

    async def _take_over(self, number: int) -> None:
        # The group's offset for the indexes' log may be ahead of what a power cut left in the
        # store, so the store says where to go on.
        self._indexes_followed[number] = asyncio.Event()
        store = self._stores[number]
        topic = self._topics.indexes
        async with aclosing(
            read_to_end(self._address, topic, number, store.index_offset)
        ) as batches:
            async for batch in batches:
                self._apply_index_values(number, batch)
        self._indexes_followed[number].set()
        await self._shards[number].take_over()

    async def _apply_changes(self, number: int, messages: list[Any]) -> None:
        found: list[LogRecord] = []
        for message in messages:
            record = LogRecord.from_faust(message)
            # After a rebalance what was delivered comes again.
            if not found or record.offset > found[-1].offset:
                found.append(record)
        async with self.between[number]:
            await self._shards[number].owner.follow(found)
            await self._sender.follow(number, found)

    async def _apply_index_rows(self, target: int, messages: list[Any]) -> None:
        await self._indexes_followed[target].wait()
        values = [(message.offset, message.value) for message in messages]
        self._apply_index_values(target, values)

    def _apply_index_values(self, target: int, values: Sequence[tuple[int, bytes]]) -> None:
        if not values:
            return
        found = [decode(value) for _, value in values]
        store = self._stores[target]
        store.apply_index(found, values[-1][0] + 1)
        for source in {source for source, _ in found}:
            self._shards[target].index_rows.applied(source, store.indexed(source))
