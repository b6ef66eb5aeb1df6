"""Fetch: batches out, at once when there are enough, or when there are, or when time is up."""

import asyncio
import logging
import struct
from collections.abc import Coroutine, Sequence
from typing import Final, NamedTuple

from streamtable.streams.broker.codes import Code
from streamtable.streams.broker.connection import Call
from streamtable.streams.broker.log import FileRead, OffsetOutOfRange, PartitionLog
from streamtable.streams.broker.settings import BrokerSettings
from streamtable.streams.broker.tail import Found
from streamtable.streams.broker.topics import Topics
from streamtable.streams.broker.wire import Buffer, Malformed

__all__ = ["FIRST_VERSION", "LAST_VERSION", "Fetches"]

logger = logging.getLogger(__name__)

FIRST_VERSION: Final = 4
LAST_VERSION: Final = 11

_SESSIONS_SINCE: Final = 7
_RACKS_SINCE: Final = 11

_SHORT: Final = struct.Struct(">h")
_INT: Final = struct.Struct(">i")
_HEAD: Final = struct.Struct(">iiiib")
_SESSION: Final = struct.Struct(">ii")
_WANTED: Final = {
    4: struct.Struct(">iqi"),
    5: struct.Struct(">iqqi"),
    9: struct.Struct(">iiqqi"),
}
_ANSWER_HEAD: Final = struct.Struct(">ihi")
_ANSWERED: Final = {
    4: struct.Struct(">ihqqii"),
    5: struct.Struct(">ihqqqii"),
    11: struct.Struct(">ihqqqiii"),
}
_NO_LIST: Final = -1
_NO_REPLICA: Final = -1
_NOTHING: Final = Found([], 0, more=False)


class _Wanted(NamedTuple):
    """One partition of a request."""

    topic: str
    partition: int
    offset: int
    max_bytes: int
    leader_epoch: int


class _Answer(NamedTuple):
    """What one partition is answered with."""

    partition: int
    code: Code
    log: PartitionLog | None
    found: Found


class _Fetch:
    """One request, while it waits."""

    __slots__ = (
        "_call",
        "_fetches",
        "_logs",
        "_max_bytes",
        "_min_bytes",
        "_missing",
        "_timer",
        "_topics",
        "_wait_ms",
    )

    def __init__(
        self,
        call: Call,
        fetches: "Fetches",
        limits: tuple[int, int, int],
        topics: list[tuple[bytes, list[_Wanted]]],
    ) -> None:
        self._call = call
        self._fetches = fetches
        self._wait_ms, self._min_bytes, self._max_bytes = limits
        self._topics = topics
        self._timer: asyncio.TimerHandle | None = None
        self._missing = 0
        self._logs: list[PartitionLog] = []

    def go(self, *, last: bool) -> None:
        """Read what there is; answer if that is enough, or if this is the last try."""
        answers: list[_Answer | tuple[_Wanted, PartitionLog, FileRead]] = []
        size = 0
        enough = last
        from_disk = False
        for _, wanted in self._topics:
            for one in wanted:
                answer = self._fetches.read(one, self._max_bytes - size, first=size == 0)
                if isinstance(answer, _Answer):
                    size += answer.found.size
                    enough = enough or answer.code != Code.NONE or answer.found.more
                else:
                    size += one.max_bytes
                    from_disk = True
                answers.append(answer)
        if from_disk:
            self._call.on_close = None
            self._fetches.run(self._finish(answers))
        elif enough or size >= self._min_bytes or self._wait_ms <= 0:
            self._answer([one for one in answers if isinstance(one, _Answer)])
        else:
            self._wait(self._min_bytes - size)

    def _wait(self, missing: int) -> None:
        self._missing = missing
        self._timer = asyncio.get_running_loop().call_later(self._wait_ms / 1000, self._time_up)
        self._call.on_close = self._stop_waiting
        for _, wanted in self._topics:
            for one in wanted:
                log = self._fetches.log(one)
                if log is not None:
                    log.watchers[self] = self._risen
                    self._logs.append(log)

    def _risen(self, _: PartitionLog, size: int) -> None:
        self._missing -= size
        if self._missing <= 0:
            self._time_up()

    def _time_up(self) -> None:
        self._stop_waiting()
        self.go(last=True)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for log in self._logs:
            log.watchers.pop(self, None)
        self._logs.clear()

    async def _finish(
        self, answers: list[_Answer | tuple[_Wanted, PartitionLog, FileRead]]
    ) -> None:
        """Wait for the device, then answer."""
        done: list[_Answer] = []
        left = self._max_bytes
        for answer in answers:
            one = answer if isinstance(answer, _Answer) else await _from_disk(*answer)
            if one.found.size > left and any(other.found.size for other in done):
                one = one._replace(found=_NOTHING)
            left -= one.found.size
            done.append(one)
        self._answer(done)

    def _answer(self, answers: Sequence[_Answer]) -> None:
        if self._wait_ms > 0 and any(one.code == Code.KAFKA_STORAGE_ERROR for one in answers):
            # Clients ask again at once, and would find the disk as it is.
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._wait_ms / 1000, self._send, answers)
            self._call.on_close = self._timer.cancel
        else:
            self._send(answers)

    def _send(self, answers: Sequence[_Answer]) -> None:
        version = self._call.version
        head = bytearray()
        if version >= _SESSIONS_SINCE:
            head += _ANSWER_HEAD.pack(0, Code.NONE, 0)
        else:
            head += _INT.pack(0)
        head += _INT.pack(len(self._topics))
        parts: list[Buffer] = []
        size = 0
        remaining = iter(answers)
        for name, wanted in self._topics:
            head += _SHORT.pack(len(name))
            head += name
            head += _INT.pack(len(wanted))
            for _ in wanted:
                answer = next(remaining)
                head += _encode(answer, version)
                if answer.found.batches:
                    size += len(head) + answer.found.size
                    parts.append(head)
                    parts += answer.found.batches
                    head = bytearray()
        if head:
            parts.append(head)
            size += len(head)
        self._call.answer_raw(parts, size)


async def _from_disk(wanted: _Wanted, log: PartitionLog, read: FileRead) -> _Answer:
    try:
        return _Answer(wanted.partition, Code.NONE, log, await log.finish_read(read))
    except OSError as error:
        # A disk's error needs no trace.
        logger.error("%s-%d could not be read: %s", log.topic, log.index, error)  # noqa: TRY400
        return _Answer(wanted.partition, Code.KAFKA_STORAGE_ERROR, log, _NOTHING)


def _encode(answer: _Answer, version: int) -> bytes:
    log = answer.log
    high, start = (log.high, log.start) if log is not None else (-1, -1)
    size = answer.found.size
    if version >= _RACKS_SINCE:
        return _ANSWERED[11].pack(
            answer.partition, answer.code, high, high, start, _NO_LIST, _NO_REPLICA, size
        )
    if version >= 5:
        return _ANSWERED[5].pack(answer.partition, answer.code, high, high, start, _NO_LIST, size)
    return _ANSWERED[4].pack(answer.partition, answer.code, high, high, _NO_LIST, size)


class Fetches:
    """The handler of Fetch."""

    def __init__(self, topics: Topics, settings: BrokerSettings) -> None:
        self._topics = topics
        self._max_bytes = settings.max_fetch_bytes
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, call: Call, data: Buffer, at: int, end: int) -> None:
        """Answer a request now, or let it wait.

        Raises:
            Malformed: the bytes are no Fetch request.
        """
        version = call.version
        _, wait_ms, min_bytes, max_bytes, _ = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        session = 0
        if version >= _SESSIONS_SINCE:
            session, _ = _SESSION.unpack_from(data, at)
            at += _SESSION.size
        topics, at = _parse_topics(version, data, at)
        if version >= _SESSIONS_SINCE:
            at = _skip_forgotten(data, at)
        if version >= _RACKS_SINCE:
            (length,) = _SHORT.unpack_from(data, at)
            at += 2 + max(length, 0)
        if at != end:
            raise Malformed(f"Fetch v{version}: it ends {end - at} bytes off")
        if session:  # none is ever given, so every request is a full one
            answer = _ANSWER_HEAD.pack(0, Code.FETCH_SESSION_ID_NOT_FOUND, 0) + _INT.pack(0)
            call.answer_raw([answer], len(answer))
            return
        max_bytes = min(max_bytes, self._max_bytes)
        _Fetch(call, self, (wait_ms, min(min_bytes, max_bytes), max_bytes), topics).go(last=False)

    def log(self, wanted: _Wanted) -> PartitionLog | None:
        """Return the log that a partition of a request names."""
        return self._topics.partition(wanted.topic, wanted.partition)

    def read(
        self, wanted: _Wanted, left: int, *, first: bool
    ) -> _Answer | tuple[_Wanted, PartitionLog, FileRead]:
        """Read one partition, as far as that needs no device."""
        log = self.log(wanted)
        if log is None:
            return _Answer(wanted.partition, Code.UNKNOWN_TOPIC_OR_PARTITION, None, _NOTHING)
        if wanted.leader_epoch > 0:
            return _Answer(wanted.partition, Code.UNKNOWN_LEADER_EPOCH, log, _NOTHING)
        if left <= 0 and not first:
            return _Answer(wanted.partition, Code.NONE, log, _NOTHING)
        try:
            found = log.read(wanted.offset, min(wanted.max_bytes, left))
        except OffsetOutOfRange:
            return _Answer(wanted.partition, Code.OFFSET_OUT_OF_RANGE, log, _NOTHING)
        except OSError as error:
            # A disk's error needs no trace.
            logger.error("%s-%d could not be read: %s", log.topic, log.index, error)  # noqa: TRY400
            return _Answer(wanted.partition, Code.KAFKA_STORAGE_ERROR, log, _NOTHING)
        if isinstance(found, FileRead):
            return wanted, log, found
        if found.size > left and not first:
            found = _NOTHING
        return _Answer(wanted.partition, Code.NONE, log, found)

    def run(self, work: Coroutine[None, None, None]) -> None:
        """Run what waits for the device."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _skip_forgotten(data: Buffer, at: int) -> int:
    """Return the position after the partitions that a session is to forget: there is none."""
    (topics,) = _INT.unpack_from(data, at)
    at += 4
    for _ in range(topics):
        (length,) = _SHORT.unpack_from(data, at)
        at += 2 + length
        (partitions,) = _INT.unpack_from(data, at)
        at += 4 + 4 * partitions
    return at


def _parse_topics(
    version: int, data: Buffer, at: int
) -> tuple[list[tuple[bytes, list[_Wanted]]], int]:
    layout = _WANTED[9 if version >= 9 else 5 if version >= 5 else 4]
    (count,) = _INT.unpack_from(data, at)
    at += 4
    topics = []
    for _ in range(count):
        (length,) = _SHORT.unpack_from(data, at)
        at += 2
        name = bytes(data[at : at + length])
        at += length
        topic = name.decode()
        (partitions,) = _INT.unpack_from(data, at)
        at += 4
        wanted = []
        for _ in range(partitions):
            fields = layout.unpack_from(data, at)
            at += layout.size
            epoch = fields[1] if version >= 9 else -1
            offset = fields[2] if version >= 9 else fields[1]
            wanted.append(_Wanted(topic, fields[0], offset, fields[-1], epoch))
        topics.append((name, wanted))
    return topics, at
