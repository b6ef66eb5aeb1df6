"""Parts of the log, parsed, kept for the next reader.

Many consumers of streams read the same part of the log at about the same time. A segment is a
contiguous part of one shard's log: its valid commits, and the epoch in force at its end, from
where the next segment goes on. Segments of a shard never overlap.
"""

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from typing import Final

from streamtable.core.changes import Change
from streamtable.core.images import Image
from streamtable.streams.epochs import EpochFilter
from streamtable.streams.fetcher import Fetched
from streamtable.streams.records import LogRecord

__all__ = ["Entry", "Segment", "SegmentCache"]

# A commit's JSON, its images once more when they are parsed out of it, and the objects around.
_COPIES: Final = 3
_ENTRY_BYTES: Final = 1024
_SEGMENT_BYTES: Final = 1024
# What is read at the log's end comes in small pieces; they are put together up to this size.
_JOINED_BYTES: Final = 1024 * 1024


class Entry:
    """A valid commit.

    Attributes:
        offset: its offset.
        tables: names of the tables that it touches.
        size_bytes: about what it takes in memory.
    """

    __slots__ = ("_changes", "_record", "offset", "size_bytes", "tables")

    def __init__(self, record: LogRecord) -> None:
        self.offset = record.offset
        self.tables = record.tables
        self.size_bytes = _ENTRY_BYTES + _COPIES * len(record.value)
        self._record: LogRecord | None = record
        self._changes: list[Change] = []

    def changes(self) -> list[Change]:
        """Return the commit's changes; they are parsed when they are first asked for."""
        if self._record is not None:
            self._changes = self._record.changes()
            for change in self._changes:
                change.old = _packed(change.old)
                change.new = _packed(change.new)
            self._record = None
        return self._changes


class Segment:
    """A contiguous part of a shard's log, from `start` up to but without `end`.

    Attributes:
        start: its first offset.
        end: the offset after it.
        epoch: the epoch in force at `end`.
        barrier: the offset of that epoch's barrier.
        size_bytes: about what it takes in memory.
        log_bytes: what it takes in the log.
    """

    __slots__ = (
        "barrier",
        "end",
        "entries",
        "epoch",
        "log_bytes",
        "offsets",
        "size_bytes",
        "start",
    )

    def __init__(self, start: int, fetched: Fetched, epochs: EpochFilter) -> None:
        self.start = start
        self.end = fetched.next
        self.entries = [
            Entry(record)
            for record in fetched.records
            if epochs.admit(record.kind, record.epoch, record.offset)
        ]
        self.offsets = [entry.offset for entry in self.entries]
        self.epoch = epochs.epoch
        self.barrier = epochs.barrier
        self.log_bytes = fetched.size_bytes
        self.size_bytes = _SEGMENT_BYTES + sum(entry.size_bytes for entry in self.entries)

    def entries_from(self, offset: int) -> list[Entry]:
        """Return the commits from an offset on."""
        return self.entries[bisect_left(self.offsets, offset) :]

    def join(self, following: "Segment") -> None:
        """Take in the segment that starts where this one ends."""
        assert following.start == self.end
        self.entries += following.entries
        self.offsets += following.offsets
        self.end = following.end
        self.epoch, self.barrier = following.epoch, following.barrier
        self.log_bytes += following.log_bytes
        self.size_bytes += following.size_bytes


class SegmentCache:
    """The segments read last, of all shards, within a bound.

    Args:
        limit_bytes: about how much memory they may take.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._segments: OrderedDict[tuple[int, int], Segment] = OrderedDict()
        self._starts: dict[int, list[int]] = {}
        self.size_bytes = 0

    def find(self, shard: int, offset: int) -> Segment | None:
        """Return the segment that has the offset, None if none has."""
        segment = self._before(shard, offset + 1)
        if segment is None or segment.end <= offset:
            return None
        self._segments.move_to_end((shard, segment.start))
        return segment

    def find_end(self, shard: int, offset: int) -> Segment | None:
        """Return the segment that ends at the offset, None if none does."""
        segment = self._before(shard, offset)
        return segment if segment is not None and segment.end == offset else None

    def room(self, shard: int, offset: int) -> int | None:
        """Return the next offset after `offset` at which a segment starts, None if none does."""
        starts = self._starts.get(shard, [])
        position = bisect_right(starts, offset)
        return starts[position] if position < len(starts) else None

    def add(self, shard: int, segment: Segment) -> None:
        """Keep a segment that overlaps no other, and let go of those not used for longest."""
        before = self.find_end(shard, segment.start)
        self.size_bytes += segment.size_bytes
        if before is not None and before.log_bytes + segment.log_bytes <= _JOINED_BYTES:
            before.join(segment)
            self._segments.move_to_end((shard, before.start))
        else:
            self._segments[shard, segment.start] = segment
            starts = self._starts.setdefault(shard, [])
            starts.insert(bisect_left(starts, segment.start), segment.start)
        while self.size_bytes > self._limit_bytes:
            (number, start), gone = self._segments.popitem(last=False)
            self._starts[number].remove(start)
            self.size_bytes -= gone.size_bytes

    def _before(self, shard: int, offset: int) -> Segment | None:
        """The last segment that starts before the offset."""
        starts = self._starts.get(shard, [])
        position = bisect_left(starts, offset)
        return self._segments[shard, starts[position - 1]] if position else None


def _packed(image: Image | None) -> Image | None:
    """The image without its parsed item, which takes several times the memory of its JSON."""
    if image is None:
        return None
    return Image(image.json, image.size_bytes, image.time, image.region)
