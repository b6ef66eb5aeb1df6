"""Finding the changes of one item in its shard's log.

The log is read once, from front to end, so what is not about the item has to be cheap. Parts of
the log that do not have the item's key in them are not even taken apart; of the others, records
of other tables are passed over by their headers. Only what has the key in its text is parsed.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol

import orjson

from streamtable.core.changes import Change
from streamtable.core.positions import Position
from streamtable.core.values import Item
from streamtable.streams.epochs import BARRIER, EpochFilter, EpochSource
from streamtable.streams.fetcher import Fetched

__all__ = ["HistoryPage", "ItemHistory", "Searches", "SoughtItem"]

# Little more is taken apart for a key that was found than the record that has it.
_FETCH_BYTES: Final = 256 * 1024
_PAGE_BYTES: Final = 8 * 1024 * 1024
_PAGE_CHANGES: Final = 1000
_SEARCH_S: Final = 2.0


class Searches(Protocol):
    """Searches a shard's log; `LogFetcher`, or what stands for it in a test."""

    async def search(
        self, shard: int, offset: int, max_bytes: int, texts: Collection[bytes]
    ) -> Fetched:
        """Return the records from an offset on, or none where no text occurs."""

    async def bounds(self, shard: int) -> tuple[int, int]:
        """Return the offsets of the first record kept, and of the next one to come."""

    async def offset_at(self, shard: int, timestamp_ms: int) -> int | None:
        """Return the offset of the first record of that time or later, None if there is none."""


@dataclass(frozen=True, slots=True)
class SoughtItem:
    """Which item's changes are sought.

    Attributes:
        tables: the names that its table has, or had, in the log.
        table_id: the table's id; a table of the same name that was there before is another.
        keys: the item's key, canonical, the partition key first.
        shard: the shard that it is on.
    """

    tables: tuple[str, ...]
    table_id: str
    keys: Item
    shard: int


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """What a call found.

    Attributes:
        changes: the item's changes in their order, none of void commits.
        start: the offset at which the search began.
        next: the offset at which the next call goes on.
        end: the log's end when the call began; with `next` there, everything was looked at.
    """

    changes: list[tuple[Position, Change]]
    start: int
    next: int
    end: int


class ItemHistory:
    """Finds the changes of single items in the log.

    Args:
        log: the log.
        epochs: tells the epoch in force where a search begins, so that void commits are known.
    """

    def __init__(self, log: Searches, epochs: EpochSource) -> None:
        self._log = log
        self._epochs = epochs

    async def start(self, shard: int, since_ms: int) -> int:
        """Return the offset of a shard's first record of that time or later.

        Raises:
            LogUnavailable: the brokers do not answer.
        """
        # The end first: what is appended meanwhile is later than the time.
        first, end = await self._log.bounds(shard)
        found = await self._log.offset_at(shard, since_ms)
        return end if found is None else max(first, found)

    async def read(
        self, item: SoughtItem, start: int, *, search_s: float = _SEARCH_S
    ) -> HistoryPage:
        """Look for an item's changes from an offset on, up to the log's end as it is now.

        Args:
            item: the item.
            start: where to begin.
            search_s: about how long to look; also when very much was found, the page ends early.

        Raises:
            LogTrimmed: the log starts after `start`.
            LogUnavailable: the brokers do not answer, or what the tables have applied is so far
                behind that it can't be told which commits count.
        """
        until = time.monotonic() + search_s
        _, end = await self._log.bounds(item.shard)
        found: list[tuple[Position, Change]] = []
        if start >= end:
            return HistoryPage(found, start, start, end)
        epochs = EpochFilter(*await self._epochs.epoch(item.shard, start))
        # As commits have it, see `core.changes.Change.encode`.
        key = b'"Keys":' + orjson.dumps(item.keys)
        texts = (key, BARRIER.encode())
        size_bytes, offset = 0, start
        while offset < end:
            fetched = await self._log.search(item.shard, offset, _FETCH_BYTES, texts)
            if fetched.next <= offset:
                break
            for record in fetched.records:
                if not epochs.admit(record.kind, record.epoch, record.offset):
                    continue
                if record.tables.isdisjoint(item.tables) or key not in record.value:
                    continue
                for index, change in enumerate(record.changes()):
                    if change.table_id == item.table_id and change.keys == item.keys:
                        found.append((Position(item.shard, record.offset, index), change))
                        size_bytes += len(record.value)
            offset = fetched.next
            if size_bytes > _PAGE_BYTES or len(found) > _PAGE_CHANGES:
                break
            if time.monotonic() >= until:
                break
        return HistoryPage(found, start, offset, end)
