"""Copies of tables' changes in Kafka topics of their own, for Kafka's own tools.

What EnableKinesisStreamingDestination asks for. A destination that is on is a consumer group on
the change log; the table's document in the catalog says in what state it is, and so what there is
to do after a restart.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

import orjson
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from streamtable.core.changes import Change
from streamtable.core.documents import DestinationDocument
from streamtable.core.errors import ResourceNotFound
from streamtable.core.positions import Position
from streamtable.core.stream_records import kinesis_record
from streamtable.core.tables import Table
from streamtable.streams.admin import open_admin
from streamtable.streams.catalog import Catalog, ChangedMeanwhile
from streamtable.streams.epochs import EpochSource
from streamtable.streams.follower import Follower, Sequential, Source
from streamtable.streams.log import CLIENT_ERRORS, LogUnavailable
from streamtable.streams.producers import close_producer, open_producer
from streamtable.streams.records import LogRecord
from streamtable.streams.topics import Topics

__all__ = ["Bounds", "Destinations"]

logger = logging.getLogger(__name__)

_RETRY_S: Final = 1.0
_LOOK_S: Final = 0.1
_SEND_S: Final = 10.0
_ON: Final = ("ENABLING", "ACTIVE", "DISABLING")


class Bounds(Protocol):
    """Knows where a shard's log starts and ends."""

    async def bounds(self, shard: int) -> tuple[int, int]:
        """Return the offsets of the first record kept, and of the next one to come."""


class Destinations:
    """Copies the changes of each table that has a destination, for as long as it is on.

    Each change that was accepted between enabling and disabling is in the topic at least once,
    those of one item in order; void commits never are. What the log has lost while nothing was
    copied for a day is left out, with a warning.

    Args:
        address: the brokers, `host:port,...`.
        topics: the region's topics.
        shards: how many shards the change log has.
        catalog: the region's tables; the states of destinations are written back to it.
        epochs: tells which commits are void, where reading starts in the middle.
        log: says where the log ends.
    """

    def __init__(
        self,
        *,
        address: str,
        topics: Topics,
        catalog: Catalog,
        epochs: EpochSource,
        log: Bounds,
    ) -> None:
        self._address = address
        self._topics = topics
        self._layout = catalog.layout
        self._catalog = catalog
        self._log = log
        self._epochs = epochs
        self._copies: dict[str, _Copy] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping = False

    def start(self) -> None:
        """Go on with every destination that is on; returns at once."""
        for table in self._catalog.tables():
            self._look(None, table)
        self._catalog.on_change(self._look)

    async def stop(self) -> None:
        """Let go of the log; what is not copied yet is copied after the next start."""
        self._stopping = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _look(self, before: Table | None, after: Table | None) -> None:
        """Start what is on and is not copied yet, and tell the others what has changed."""
        if self._stopping:
            return
        now = _destinations(after)
        for key, destination in now.items():
            if key in self._copies:
                assert after is not None
                self._copies[key].tell(after, destination)
            elif after is not None and destination.status in _ON:
                copy = self._copies[key] = _Copy(after, destination)
                self._tasks[key] = asyncio.create_task(self._keep(copy))
        for key in _destinations(before).keys() - now.keys():
            if key in self._copies and not self._goes_on(key):
                self._copies[key].end()

    def _goes_on(self, key: str) -> bool:
        """Say whether a destination has another table now: that of a view that was built anew."""
        return any(key in _destinations(table) for table in self._catalog.tables())

    async def _keep(self, copy: "_Copy") -> None:
        """Carry out one destination from where it stands, however often the brokers go away."""
        key = copy.destination.id
        try:
            while True:
                try:
                    await self._carry_out(copy)
                except Exception as error:  # noqa: BLE001 - it must go on, whatever it was
                    logger.warning("the copy of %s tries again: %r", copy.table.name, error)
                    await asyncio.sleep(_RETRY_S)
                else:
                    return
        finally:
            del self._copies[key], self._tasks[key]

    async def _carry_out(self, copy: "_Copy") -> None:
        # 1. The topic, also where somebody has removed it.
        try:
            await self._topics.create_copy(self._address, copy.table.name, self._layout.count)
        except KafkaError as error:
            if error.retriable or copy.destination.status != "ENABLING":
                raise
            await self._set(copy, status="ENABLE_FAILED", reason=str(error))
            return
        if copy.destination.status == "ENABLING":
            await self._set(copy, status="ACTIVE")
        # 2. The copy, until it is to end and has all that belongs to it.
        while not await self._follow(copy):
            logger.info("the copy of %s goes on with more shards", copy.table.name)
        # 3. The end.
        await self._set(copy, status="DISABLED")

    async def _follow(self, copy: "_Copy") -> bool:
        """Copy until all that belongs to the copy is there, or there are more shards.

        Returns:
            Whether all is there.
        """
        group = f"{self._topics.region}.destination.{copy.table.name}.{copy.destination.id}"
        producer = await open_producer(self._address)
        try:
            topic = self._topics.table(copy.table.name)

            async def deliver(record: LogRecord) -> None:
                await _send(producer, topic, copy, record)

            layout = self._layout.document
            source = Source(self._address, self._topics.changelog, self._epochs, layout)
            follower = Follower(
                source,
                group,
                wants=lambda tables: copy.table.name in tables,
                sink=Sequential(deliver),
                skip_lost=True,
            )
            following = asyncio.create_task(follower.run())
            ending = asyncio.create_task(self._wait_complete(copy, group))
            growing = asyncio.create_task(self._layout.grown(layout.count))
            tasks = {following, ending, growing}
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            for task in tasks:
                if not task.cancelled():
                    task.result()
            return growing.cancelled()
        finally:
            await close_producer(producer)

    async def _wait_complete(self, copy: "_Copy", group: str) -> None:
        """Return when the destination has ended and everything up to then is copied."""
        await copy.ending.wait()
        # What was answered before it ended is in the log by now.
        ends = {}
        for shard in self._layout:
            first, end = await self._log.bounds(shard)
            if first < end:
                ends[TopicPartition(self._topics.changelog, shard)] = end
        async with open_admin(self._address) as admin:
            while True:
                found = await admin.list_consumer_group_offsets(group, partitions=list(ends))
                if all(found[each].offset >= end for each, end in ends.items()):
                    return
                await asyncio.sleep(_LOOK_S)

    async def _set(self, copy: "_Copy", **changes: Any) -> None:
        """Write a destination's state, unless the table or the destination is gone."""
        while True:
            table = self._catalog.by_id(copy.table.id)
            current = _destinations(table).get(copy.destination.id)
            if table is None or current is None:
                return
            # Another node may have been here before.
            if current.status == changes["status"] or current.status not in _ON:
                return
            changed = current.model_copy(update=changes)
            try:
                await self._catalog.update(table.document.with_destination(changed))
            except ChangedMeanwhile:
                await asyncio.sleep(_LOOK_S)
            except ResourceNotFound:
                return
            else:
                return


class _Copy:
    """One destination while it is on.

    Attributes:
        table: its table, as the catalog has it now.
        destination: what the catalog has of it.
        ending: set when nothing new is to be copied any more.
    """

    def __init__(self, table: Table, destination: DestinationDocument) -> None:
        self.ending = asyncio.Event()
        self.tell(table, destination)

    def tell(self, table: Table, destination: DestinationDocument) -> None:
        """Take over what the catalog has now."""
        self.table = table
        self.destination = destination
        if destination.status not in ("ENABLING", "ACTIVE"):
            self.end()

    def end(self) -> None:
        """Copy what there is, and no more."""
        self.ending.set()

    def has(self, change: Change) -> bool:
        """Say whether a change belongs to the copy."""
        destination = self.destination
        return (
            (change.table_id == self.table.id or change.table_id in destination.former_ids)
            and change.created_ms >= destination.enabled_ms
            and (destination.disabled_ms is None or change.created_ms <= destination.disabled_ms)
        )


async def _send(producer: AIOKafkaProducer, topic: str, copy: _Copy, record: LogRecord) -> None:
    """Append the changes of a commit to the copy; they are durable when this returns.

    Raises:
        LogUnavailable: the brokers do not answer.
    """
    sent = []
    try:
        async with asyncio.timeout(_SEND_S):
            for index, change in enumerate(record.changes()):
                if not copy.has(change):
                    continue
                position = Position(record.shard, record.offset, index)
                value = kinesis_record(change, position, copy.destination.precision)
                sent.append(
                    await producer.send(
                        topic,
                        orjson.dumps(value),
                        key=orjson.dumps(change.keys),
                        timestamp_ms=change.created_ms,
                    )
                )
            await asyncio.gather(*sent)
    except CLIENT_ERRORS as error:
        raise LogUnavailable(f"{topic}: {error!r}") from error


def _destinations(table: Table | None) -> Mapping[str, DestinationDocument]:
    found: Iterable[DestinationDocument] = () if table is None else table.document.destinations
    return {each.id: each for each in found}
