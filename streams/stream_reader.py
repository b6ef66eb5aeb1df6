"""Reading one table's changes out of the log, for the Streams API.

The log holds every table's commits, and commits that are void. A reader passes over the others by
their headers, without parsing them, and what one consumer has read is there for the next.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from streamtable.core.changes import Change
from streamtable.core.stream_records import record_size
from streamtable.streams.epochs import EpochFilter, EpochSource
from streamtable.streams.fetcher import Fetched, Fetches
from streamtable.streams.layout import Layout
from streamtable.streams.segments import Segment, SegmentCache

__all__ = ["Page", "StreamReader", "Wanted"]

_CACHE_BYTES: Final = 32 * 1024 * 1024
_FETCH_BYTES: Final = 1024 * 1024
# How much of the log one call goes through at most once it has found something.
_PASSED_BYTES: Final = 16 * 1024 * 1024
# How long one call goes on when it has found nothing.
_SEARCH_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which changes a reader wants.

    Attributes:
        table: name of the table.
        table_id: its id.
        view_type: the stream's StreamViewType, by which records are sized.
        first_ms: changes that were accepted then or later, milliseconds since 1970.
        last_ms: changes that were accepted then or earlier; None for all later ones.
        end: the offset at which a closed stream's shard ends; None for an open one.
    """

    table: str
    table_id: str
    view_type: str
    first_ms: int
    last_ms: int | None = None
    end: int | None = None

    def has(self, change: Change) -> bool:
        """Say whether a change is wanted."""
        return (
            change.table_id == self.table_id
            and self.first_ms <= change.created_ms
            and (self.last_ms is None or change.created_ms <= self.last_ms)
        )


@dataclass(frozen=True, slots=True)
class Page:
    """What a call found.

    Attributes:
        changes: offset and index of each change, and the change.
        next: offset and index at which the next call goes on.
        at_end: the log has nothing more for now.
    """

    changes: list[tuple[int, int, Change]]
    next: tuple[int, int]
    at_end: bool


class StreamReader:
    """Reads changes of one table at any position of the log, for many consumers at once.

    Args:
        log: reads the log.
        epochs: tells which commits are void, where reading starts in the middle.
        layout: the log's shards.
        cache_bytes: about how much memory the parts read last may take.
        search_s: how long a call looks for a first change before it returns without one.
    """

    def __init__(
        self,
        log: Fetches,
        epochs: EpochSource,
        layout: Layout,
        cache_bytes: int = _CACHE_BYTES,
        search_s: float = _SEARCH_S,
    ) -> None:
        self.layout = layout
        self._search_s = search_s
        self._log = log
        self._epochs = epochs
        self._cache = SegmentCache(cache_bytes)
        self._loading: dict[tuple[int, int], asyncio.Task[Segment | None]] = {}

    async def read(
        self, shard: int, start: tuple[int, int], wanted: Wanted, *, limit: int, max_bytes: int
    ) -> Page:
        """Return the wanted changes from a position on, in the log's order.

        Many clients take an empty page for the end of the log, so a call that has found nothing
        goes on for a while. Only where other tables fill more of the log than can be passed over
        in that time does it find nothing and still have moved on.

        Args:
            shard: the shard.
            start: offset and index of the first change to look at.
            wanted: which changes.
            limit: how many at most.
            max_bytes: how much at most, by the sizes of their records; one is always returned.

        Raises:
            LogTrimmed: the log starts after `start`.
            LogUnavailable: the brokers do not answer.
        """
        offset, index = start
        found: list[tuple[int, int, Change]] = []
        size_bytes = passed_bytes = 0
        search_until = time.monotonic() + self._search_s
        while wanted.end is None or offset < wanted.end:
            segment = await self._segment(shard, offset)
            if segment is None:
                return Page(found, (offset, index), at_end=True)
            for entry in segment.entries_from(offset):
                if wanted.end is not None and entry.offset >= wanted.end:
                    break
                if wanted.table not in entry.tables:
                    continue
                for position, change in enumerate(entry.changes()):
                    if (entry.offset == offset and position < index) or not wanted.has(change):
                        continue
                    size_bytes += record_size(change, wanted.view_type)
                    if len(found) == limit or (found and size_bytes > max_bytes):
                        return Page(found, (entry.offset, position), at_end=False)
                    found.append((entry.offset, position, change))
            passed_bytes += segment.log_bytes
            offset, index = segment.end, 0
            if len(found) == limit or (found and passed_bytes >= _PASSED_BYTES):
                return Page(found, (offset, index), at_end=False)
            if not found and time.monotonic() >= search_until:
                return Page(found, (offset, index), at_end=False)
            # What is in memory is gone through without waiting: let the others have their turn.
            await asyncio.sleep(0)
        return Page(found, (offset, index), at_end=True)

    async def bounds(self, shard: int) -> tuple[int, int]:
        """Return the offsets of the first record kept, and of the next one to come.

        Raises:
            LogUnavailable: the brokers do not answer.
        """
        return await self._log.bounds(shard)

    async def offset_at(self, shard: int, timestamp_ms: int) -> int:
        """Return the offset of the first record appended at that time or later, or the log's end.

        Raises:
            LogUnavailable: the brokers do not answer.
        """
        # The end first: what is appended meanwhile is later than the time, or lies after it.
        _, end = await self._log.bounds(shard)
        offset = await self._log.offset_at(shard, timestamp_ms)
        return end if offset is None else offset

    async def _segment(self, shard: int, offset: int) -> Segment | None:
        """Return the segment with an offset, None at the log's end.

        Readers that want the same one at the same time share one request.
        """
        segment = self._cache.find(shard, offset)
        if segment is not None:
            return segment
        loading = self._loading.get((shard, offset))
        if loading is None:
            loading = asyncio.create_task(self._load(shard, offset))
            self._loading[shard, offset] = loading
            loading.add_done_callback(lambda _: self._loading.pop((shard, offset)))
        # Shielded: the one who asked first may go away, the others still wait.
        return await asyncio.shield(loading)

    async def _load(self, shard: int, offset: int) -> Segment | None:
        fetched = await self._log.fetch(shard, offset, _FETCH_BYTES)
        if fetched.next <= offset:
            return None
        before = self._cache.find_end(shard, offset)
        if before is None:
            epoch, barrier = await self._epochs.epoch(shard, offset)
        else:
            epoch, barrier = before.epoch, before.barrier
        found = self._cache.find(shard, offset)
        if found is not None:
            return found
        end = self._cache.room(shard, offset)
        if end is not None and end < fetched.next:
            records = [record for record in fetched.records if record.offset < end]
            fetched = Fetched(records, end, fetched.size_bytes)
        segment = Segment(offset, fetched, EpochFilter(epoch, barrier))
        self._cache.add(shard, segment)
        return segment
