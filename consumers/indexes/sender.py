"""Sends index rows to the shards that hold them, in the order of the changes they follow from."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from aiokafka import AIOKafkaProducer

from streamtable.consumers.indexes.messages import Position, encode
from streamtable.core.index_rows import IndexRow, index_rows
from streamtable.core.tables import Table
from streamtable.streams.epochs import EpochFilter
from streamtable.streams.layout import Layout
from streamtable.streams.log import CLIENT_ERRORS
from streamtable.streams.producers import close_producer, open_producer
from streamtable.streams.records import LogRecord

__all__ = ["PARTS", "IndexSender"]

logger = logging.getLogger(__name__)

PARTS: Final = 1 << 20
"""How many numbers one position leaves for the parts of its rows."""

_RETRY_S: Final = 0.5
_PART_BYTES: Final = 1024 * 1024
_ROW_BYTES: Final = 300


class IndexSender:
    """Turns valid commits into rows of global indexes, and sends them on.

    What is sent twice is harmless: the target keeps, for each source shard, the highest position
    that it has applied. So after a crash the commits that were not acknowledged to Kafka are
    simply sent again.

    Args:
        address: the brokers, `host:port,...`.
        topic: the indexes' log.
        layout: the region's shards.
        tables: lists every table.
        find: returns the table of an id, None for one that was deleted.
        epoch_before: the epoch in force before an offset of a shard, and its barrier.
    """

    def __init__(
        self,
        *,
        address: str,
        topic: str,
        layout: Layout,
        tables: Callable[[], Iterable[Table]],
        find: Callable[[str], Table | None],
        epoch_before: Callable[[int, int], tuple[str, int] | None],
    ) -> None:
        self._address = address
        self._topic = topic
        self._layout = layout
        self._tables = tables
        self._find = find
        self._epoch_before = epoch_before
        self._filters: dict[int, EpochFilter] = {}
        self._sent: dict[int, int] = {}
        self._positions: dict[int, dict[int, Position]] = {}
        self._producer: AIOKafkaProducer | None = None
        # How many partitions there were when it was opened: it knows of no later ones.
        self._known = 0
        self._starting = asyncio.Lock()

    async def stop(self) -> None:
        """Let go of the brokers."""
        await self._discard(self._producer)

    def sent(self, shard: int) -> int:
        """Offset of the last record of a shard whose index rows are sent, -1 if not known."""
        return self._sent.get(shard, -1)

    def positions(self, source: int) -> dict[int, Position]:
        """The last position sent from a shard to each shard that was sent anything."""
        return dict(self._positions.get(source, {}))

    async def follow(self, shard: int, found: Sequence[LogRecord]) -> None:
        """Send what follows from a shard's records; they are contiguous and in order."""
        indexed = {
            name
            for table in self._tables()
            if table.has_global_indexes
            for name in table.document.logged_as
        }
        epochs = self._filters.get(shard)
        if epochs is None or self.sent(shard) + 1 != found[0].offset:
            epochs = EpochFilter(*(self._epoch_before(shard, found[0].offset) or (None, None)))
            self._filters[shard] = epochs
        entries: list[tuple[Position, list[IndexRow]]] = []
        for record in found:
            valid = epochs.admit(record.kind, record.epoch, record.offset)
            if valid and not indexed.isdisjoint(record.tables):
                rows = self._rows(record)
                if rows:
                    entries.append(((record.offset, 0), rows))
        await self.send(shard, entries)
        self._sent[shard] = found[-1].offset

    async def send(
        self, source: int, entries: Sequence[tuple[Position, Sequence[IndexRow]]]
    ) -> None:
        """Send rows to their shards; durable on return, however long that takes.

        Args:
            source: the shard that they follow from.
            entries: positions and rows, in order. What does not fit in one record is cut, and
                its parts count up from the position's number; `PARTS` of them at most.
        """
        by_target: dict[int, list[tuple[Position, Sequence[IndexRow]]]] = {}
        for position, rows in entries:
            targets: dict[int, list[IndexRow]] = {}
            for row in rows:
                targets.setdefault(row.hash % self._layout.count, []).append(row)
            for target, theirs in targets.items():
                by_target.setdefault(target, []).extend(_parts(position, theirs))
        values = [
            (target, encode(source, record))
            for target, theirs in by_target.items()
            for record in _records(theirs)
        ]
        while values:
            producer = None
            try:
                producer = await self._started_producer()
                sent = [
                    await producer.send(self._topic, value, partition=target)
                    for target, value in values
                ]
                await asyncio.gather(*sent)
            except CLIENT_ERRORS as error:
                logger.warning("index rows of shard %d wait: %r", source, error)
                await self._discard(producer)
                await asyncio.sleep(_RETRY_S)
            else:
                break
        last = {target: theirs[-1][0] for target, theirs in by_target.items()}
        self._positions.setdefault(source, {}).update(last)

    def _rows(self, record: LogRecord) -> list[IndexRow]:
        rows = []
        for change in record.changes():
            table = self._find(change.table_id)
            if table is not None and table.indexes:
                old = None if change.old is None else change.old.item
                rows += [row for row in index_rows(table, old, change.new) if row.index.is_global]
        return rows

    async def _started_producer(self) -> AIOKafkaProducer:
        """Return the producer that all shards share, or a new one after it failed."""
        async with self._starting:
            if self._known != self._layout.count:
                await self._discard(self._producer)
            if self._producer is None:
                self._known = self._layout.count
                self._producer = await open_producer(self._address)
            producer: AIOKafkaProducer = self._producer
            return producer

    async def _discard(self, producer: AIOKafkaProducer | None) -> None:
        """Let go of a producer; several shards may have seen it fail."""
        if producer is not None and self._producer is producer:
            self._producer = None
        if producer is not None:
            await close_producer(producer)


def _parts(
    position: Position, rows: Sequence[IndexRow]
) -> Iterator[tuple[Position, Sequence[IndexRow]]]:
    """Cut the rows of one place in the source's log into parts with positions of their own.

    A commit may make many times its size of index rows, more than one record may hold.
    """
    offset, number = position
    start = size_bytes = 0
    for end, row in enumerate(rows):
        row_bytes = _ROW_BYTES + (0 if row.image is None else len(row.image.json))
        if end > start and size_bytes + row_bytes > _PART_BYTES:
            yield (offset, number), rows[start:end]
            start, size_bytes, number = end, 0, number + 1
        size_bytes += row_bytes
    yield (offset, number), rows[start:]


def _records(
    entries: Sequence[tuple[Position, Sequence[IndexRow]]],
) -> Iterator[list[tuple[Position, Sequence[IndexRow]]]]:
    """Gather parts into records of about the size of a part."""
    record: list[tuple[Position, Sequence[IndexRow]]] = []
    size_bytes = 0
    for position, rows in entries:
        added = sum(_ROW_BYTES + (0 if one.image is None else len(one.image.json)) for one in rows)
        if record and size_bytes + added > _PART_BYTES:
            yield record
            record, size_bytes = [], 0
        record.append((position, rows))
        size_bytes += added
    if record:
        yield record
