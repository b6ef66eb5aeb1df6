"""The log of one partition: appended in memory of the kernel, synced in groups, read by offset.

What the log promises:

- A batch is acknowledged, and visible to consumers, only after its bytes are on the device: the
  high watermark is the synced end. One fdatasync covers every batch that was written before it
  began; batches that arrive meanwhile wait for the next one.
- A batch that could not be written or synced is taken out again, the file cut back to the last
  synced position, its offset given to the next batch. It is never acknowledged. After a failed
  fdatasync nothing that was waiting is trusted, since the kernel may have dropped those pages.
- Offsets are contiguous and never reused for acknowledged records.

All methods run in the event loop unless they say otherwise.
"""

import contextlib
import logging
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from streamtable.streams.broker import batches, disk
from streamtable.streams.broker.batches import Batch
from streamtable.streams.broker.codes import Code
from streamtable.streams.broker.configs import LogConfig
from streamtable.streams.broker.errors import DamagedSegment
from streamtable.streams.broker.producers import NO_PRODUCER, PartitionProducers, Producer, Refused
from streamtable.streams.broker.segment import Segment
from streamtable.streams.broker.tail import Found, Tail
from streamtable.streams.broker.wire import Buffer

__all__ = ["FileRead", "OffsetOutOfRange", "PartitionLog"]

logger = logging.getLogger(__name__)

_INLINE_READ_BYTES = 256 << 10

Done = Callable[[Code, int], None]
"""Called once with (code, base offset) when a batch is durable or given up."""


class OffsetOutOfRange(LookupError):
    """An offset in front of the log's start or behind its end."""


class FileRead(NamedTuple):
    """A read that has to wait for the device: `PartitionLog.finish_read` carries it out."""

    segment: Segment
    offset: int
    max_bytes: int
    end: int


_EVERYTHING = 1 << 62
"""More bytes than anybody waits for."""

_NOTHING = Found([], 0, more=False)


class _Pending(NamedTuple):
    """An append that waits for the disk."""

    end: int
    base_offset: int
    producer_id: int
    before: Producer | None
    max_timestamp: int
    segment: Segment
    position: int
    done: Done


class PartitionLog:
    """One partition.

    Attributes:
        topic: the topic's name.
        index: the partition's number.
        start: the first offset that can be read.
        end: the offset that the next record gets.
        high: the high watermark: records below it are durable and visible.
        watchers: called after the high watermark rose, with (log, bytes that became visible).
    """

    def __init__(
        self,
        topic: str,
        index: int,
        folder: Path,
        *,
        threads: disk.Disk,
        config: LogConfig,
        fences: dict[int, int],
    ) -> None:
        self.topic = topic
        self.index = index
        self.folder = folder
        self.config = config
        self.start = self.end = self.high = 0
        self.watchers: dict[object, Callable[[PartitionLog, int], None]] = {}
        self._disk = threads
        self._producers = PartitionProducers(fences)
        self._segments: list[Segment] = []
        self._synced_segment = self._synced_position = 0
        self._pending: deque[_Pending] = deque()
        self._syncing = False
        self._new_file = False
        self._dirty = False
        self._closed = False
        self._tail = Tail()

    # Start and stop

    def load(self, start: int) -> None:
        """Read the segments back, cut a torn tail, sync the rest. Blocking: call it from a thread.

        Raises:
            DamagedSegment: acknowledged bytes are not what was stored.
            OSError: the folder can't be read or written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        segments = Segment.all_in(self.folder)
        found = self._found
        while len(segments) > 1 and segments[1].base_offset <= start:
            segments.pop(0).unlink()
        next_offset = segments[0].base_offset if segments else start
        for segment in segments:
            if segment.base_offset != next_offset:
                raise DamagedSegment(segment.path, 0, f"the segment of {next_offset} is missing")
            last = segment is segments[-1]
            next_offset = segment.load(last=last, found=found)
            if not last:
                segment.seal()
        if not segments:
            segments.append(Segment(self.folder, start))
        self._segments = segments
        active = segments[-1]
        disk.sync_all([active.open()], self.folder)
        self.end = self.high = next_offset
        self.start = min(max(start, segments[0].base_offset), self.end)
        self._synced_segment = len(segments) - 1
        self._synced_position = active.size

    def _found(self, batch: Batch) -> None:
        if batch.producer_id != NO_PRODUCER:
            self._producers.add(batch, batch.base_offset)

    def remove(self) -> None:
        """Answer everybody who waits that the partition is gone, and close the files."""
        pending, watchers = list(self._pending), list(self.watchers.values())
        self.close()
        for append in pending:
            append.done(Code.UNKNOWN_TOPIC_OR_PARTITION, -1)
        for watch in watchers:
            watch(self, _EVERYTHING)

    def close(self) -> None:
        """Close the files. What was not synced yet is given up without an answer."""
        self._closed = True
        self._pending.clear()
        self.watchers.clear()
        for segment in self._segments:
            segment.seal()

    # Appending

    def append(self, batch: Batch, data: Buffer, at: int, done: Done) -> None:
        """Append a checked batch that starts at `at` in `data`.

        `done` is called once: at once with an error, or with NONE and the base offset when the
        batch is durable. A repeated batch is answered with the offset that it has, once durable.
        """
        if batch.producer_id != NO_PRODUCER:
            try:
                duplicate = self._producers.check(batch)
            except Refused as refused:
                logger.info("%s-%d refused a batch: %s", self.topic, self.index, refused)
                done(refused.code, -1)
                return
            if duplicate is not None:
                self._answer_again(duplicate.base_offset, duplicate.last_offset, done)
                return
        base_offset = self.end
        placed = batches.place(data, at, batch.size, base_offset)
        try:
            if self._dirty:
                self._repair()
            segment = self._segment_for(batch.size)
            position, max_timestamp = segment.size, segment.max_timestamp
            segment.append(placed, batch, base_offset)
        except OSError as error:
            # A disk's error needs no trace.
            logger.error("%s-%d could not write: %s", self.topic, self.index, error)  # noqa: TRY400
            self._dirty = True
            with contextlib.suppress(OSError):
                self._repair()
            done(Code.KAFKA_STORAGE_ERROR, -1)
            return
        before = None
        if batch.producer_id != NO_PRODUCER:
            before = self._producers.add(batch, base_offset)
        self.end = base_offset + batch.last_delta + 1
        self._pending.append(
            _Pending(
                self.end,
                base_offset,
                batch.producer_id,
                before,
                max_timestamp,
                segment,
                position,
                done,
            )
        )
        self._tail.add(base_offset, placed, self.config.cache_bytes)
        if not self._syncing:
            self._sync()

    def _answer_again(self, base_offset: int, last_offset: int, done: Done) -> None:
        """Answer a batch that is stored already, now or when its own sync has ended."""
        if last_offset < self.high:
            done(Code.NONE, base_offset)
            return
        for place, waiting in enumerate(self._pending):
            if waiting.end > last_offset:

                def both(code: Code, offset: int, first: Done = waiting.done) -> None:
                    first(code, offset)
                    done(code, offset)

                self._pending[place] = waiting._replace(done=both)
                return

    def _segment_for(self, size: int) -> Segment:
        """Return the segment to append to; a new one if the active one is full or old.

        A segment is left only when all of it is synced, so that a torn tail is always in the last
        one; a log that is never idle leaves it at twice its size.
        """
        active = self._segments[-1]
        config = self.config
        now_ms = time.time() * 1000
        if active.size:
            full = active.size + size > config.segment_bytes
            old = now_ms - active.begun_ms >= config.segment_ms
            if ((full or old) and not self._pending) or (
                active.size + size > 2 * config.segment_bytes
            ):
                active = self._roll()
        active.written_ms = now_ms
        return active

    def _roll(self) -> Segment:
        segment = Segment(self.folder, self.end)
        segment.open()
        self._segments[-1].seal()
        self._segments.append(segment)
        self._new_file = True
        return segment

    def roll(self, now_ms: float) -> None:
        """Begin a new segment if the active one is old; retention can then remove it."""
        active = self._segments[-1]
        idle = active.size and not self._pending and not self._dirty
        if idle and now_ms - active.begun_ms >= self.config.segment_ms:
            try:
                self._roll()
                self._sync()
            except OSError as error:
                logger.warning("%s-%d could not begin a segment: %s", self.topic, self.index, error)

    # Syncing

    def _sync(self) -> None:
        """Sync everything that is written so far, away from the loop."""
        self._syncing = True
        active = self._segments[-1]
        unsynced = self._segments[self._synced_segment :]
        for segment in unsynced:
            segment.acquire()
        done = partial(self._synced, unsynced, active.size, self.end)
        if len(unsynced) == 1 and not self._new_file:
            self._disk.sync(active.open(), done)
        else:
            self._new_file = False
            fds = [segment.open() for segment in unsynced]
            self._disk.submit(partial(disk.sync_all, fds, self.folder), done)

    def _synced(
        self,
        segments: list[Segment],
        position: int,
        end: int,
        _: object,
        error: BaseException | None,
    ) -> None:
        self._syncing = False
        for segment in segments:
            segment.release()
        if self._closed:
            return
        if error is not None:
            self._roll_back(error)
            return
        rise = self._rise(segments, position)
        self._synced_segment = self._segments.index(segments[-1])
        self._synced_position = position
        self.high = end
        pending = self._pending
        while pending and pending[0].end <= end:
            append = pending.popleft()
            append.done(Code.NONE, append.base_offset)
        if pending:
            self._sync()
        if self.watchers:
            for watch in tuple(self.watchers.values()):
                watch(self, rise)

    def _rise(self, segments: list[Segment], position: int) -> int:
        """Return how many bytes became visible with a sync up to `position` of the last segment."""
        whole = sum(segment.size for segment in segments[:-1])
        return whole + position - self._synced_position

    def _roll_back(self, error: BaseException) -> None:
        """Give up everything that is not synced.

        1. Take it out of the segments, drop those that were begun since.
        2. Take it out of the producers' states, newest first, and out of the cache.
        3. Cut the file, now or before the next append.
        4. Answer those who wait with the storage error.
        """
        logger.error(
            "%s-%d could not be synced: %s; %d unacknowledged batches are given up",
            self.topic,
            self.index,
            error,
            len(self._pending),
        )
        given_up = list(self._pending)
        self._pending.clear()
        for segment in self._segments[self._synced_segment + 1 :]:
            segment.unlink()
            segment.seal()
            self._new_file = True  # the folder changed
        del self._segments[self._synced_segment + 1 :]
        active = self._segments[-1]
        active.sealed = False
        for append in reversed(given_up):
            if append.segment is active:
                active.forget(append.position, append.max_timestamp)
            if append.producer_id != NO_PRODUCER:
                self._producers.restore(append.producer_id, append.before)
        self.end = self.high
        self._tail.cut(self.high)
        self._dirty = True
        with contextlib.suppress(OSError):
            self._repair()
        for append in given_up:
            append.done(Code.KAFKA_STORAGE_ERROR, -1)

    def _repair(self) -> None:
        self._segments[-1].cut()
        self._dirty = False

    # Reading

    def read(self, offset: int, max_bytes: int) -> Found | FileRead:
        """Return whole batches from the one that holds `offset` on, up to the high watermark.

        The first batch is returned whatever its size. Nothing at the high watermark.

        Raises:
            OffsetOutOfRange: the offset is not in the log, nor the next one.
            OSError: the file can't be read.
        """
        high = self.high
        if offset == high:
            return _NOTHING
        if not self.start <= offset < high:
            raise OffsetOutOfRange
        if self._tail.holds(offset):
            return self._tail.read(offset, max_bytes, high)
        return self._read_file(offset, max_bytes)

    def _read_file(self, offset: int, max_bytes: int) -> Found | FileRead:
        number = bisect_right(self._segments, offset, key=lambda one: one.base_offset) - 1
        segment = self._segments[number]
        end = segment.size if number < self._synced_segment else self._synced_position
        segment.acquire()
        if max_bytes <= _INLINE_READ_BYTES:
            try:
                data = segment.read(offset, max_bytes, end, wait=False)
            except BlockingIOError:
                pass
            except OSError:
                segment.release()
                raise
            else:
                segment.release()
                return Found([data], len(data), more=True)
        return FileRead(segment, offset, max_bytes, end)

    async def finish_read(self, read: FileRead) -> Found:
        """Carry out a read that waits for the device.

        Raises:
            OSError: the file can't be read.
        """
        try:
            data = await self._disk.run(
                partial(read.segment.read, read.offset, read.max_bytes, read.end, wait=True)
            )
        finally:
            read.segment.release()
        return Found([data], len(data), more=True)

    # Searching by time, removing

    async def find_time(self, timestamp: int) -> tuple[int, int] | None:
        """Return (offset, timestamp) of the first durable record at or after a time, or None.

        Raises:
            OSError: a file can't be read.
        """
        parts = [
            (segment, segment.size if number < self._synced_segment else self._synced_position)
            for number, segment in enumerate(self._segments[: self._synced_segment + 1])
            if segment.max_timestamp >= timestamp
        ]
        start = self.start

        def find() -> tuple[int, int] | None:
            for segment, end in parts:
                found = segment.find_time(timestamp, end, start)
                if found is not None:
                    return found
            return None

        for segment, _ in parts:
            segment.acquire()
        try:
            return await self._disk.run(find)
        finally:
            for segment, _ in parts:
                segment.release()

    @property
    def max_timestamp(self) -> int:
        """The newest time of any record, in ms; -1 if there is none."""
        return max(segment.max_timestamp for segment in self._segments)

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self._segments)

    def move_start(self, offset: int) -> list[Segment]:
        """Let the log begin at `offset` and return the segments that are in front of it.

        The caller has made the new start durable, and deletes the files.
        """
        self.start = max(self.start, min(offset, self.high))
        gone = 0
        while gone < self._synced_segment and self._segments[gone + 1].base_offset <= self.start:
            gone += 1
        removed = self._segments[:gone]
        del self._segments[:gone]
        self._synced_segment -= gone
        return removed

    def expired(self, now_ms: float) -> int:
        """Return the offset that retention lets the log begin at; whole closed segments only."""
        config = self.config
        start = self.start
        size = self.size
        for number in range(self._synced_segment):
            segment = self._segments[number]
            too_old = config.retention_ms >= 0 and now_ms - segment.newest_ms > config.retention_ms
            too_much = config.retention_bytes >= 0 and size - segment.size >= config.retention_bytes
            if not (too_old or too_much):
                break
            size -= segment.size
            start = self._segments[number + 1].base_offset
        return start

    def forget_producers(self, before_ms: int) -> None:
        """Forget producers that wrote nothing since a time and have no record left."""
        self._producers.expire(before_ms, self.start)
