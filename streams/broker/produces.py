"""Produce: batches in, one answer when all of them are durable."""

import struct
from collections.abc import Callable
from functools import partial
from typing import Final

from streamtable.streams.broker import batches
from streamtable.streams.broker.batches import InvalidBatch
from streamtable.streams.broker.codes import Code
from streamtable.streams.broker.connection import Call
from streamtable.streams.broker.log import PartitionLog
from streamtable.streams.broker.topics import Topics
from streamtable.streams.broker.wire import Buffer, Malformed

__all__ = ["FIRST_VERSION", "LAST_VERSION", "Produces"]

FIRST_VERSION: Final = 3
LAST_VERSION: Final = 8

_SHORT: Final = struct.Struct(">h")
_INT: Final = struct.Struct(">i")
_ACKS: Final = struct.Struct(">hii")
_PARTITION: Final = struct.Struct(">ii")
_PLAIN: Final = struct.Struct(">ihqq")
_WITH_START: Final = struct.Struct(">ihqqq")
_WITH_ERRORS: Final = struct.Struct(">ihqqqih")
_NO_THROTTLE: Final = _INT.pack(0)
_NO_TIME: Final = -1
_ALL: Final = -1

Done = Callable[[Code, int, int], None]


class _Produce:
    """One request that waits for its partitions."""

    __slots__ = ("_answers", "_call", "_topics", "_waiting", "acks")

    def __init__(self, call: Call, acks: int) -> None:
        self.acks = acks
        self._call = call
        self._topics: list[tuple[bytes, list[int]]] = []
        self._answers: list[tuple[int, Code, int, int]] = []
        self._waiting = 1

    def topic(self, name: bytes) -> None:
        self._topics.append((name, []))

    def partition(self, index: int) -> int:
        """Begin a partition's answer and return its number."""
        number = len(self._answers)
        self._topics[-1][1].append(number)
        self._answers.append((index, Code.NONE, -1, -1))
        self._waiting += 1
        return number

    def done(self, number: int, code: Code, base_offset: int, start: int) -> None:
        """Note a partition's outcome; the last one sends the answer."""
        self._answers[number] = (self._answers[number][0], code, base_offset, start)
        self.end()

    def end(self) -> None:
        """Count down; called once more when the request is read to its end."""
        self._waiting -= 1
        if self._waiting:
            return
        if self.acks:
            answer = self._encode()
            self._call.answer_raw([answer], len(answer))
        else:
            self._call.no_answer()

    def _encode(self) -> bytearray:
        version = self._call.version
        out = bytearray(_INT.pack(len(self._topics)))
        for name, numbers in self._topics:
            out += _SHORT.pack(len(name))
            out += name
            out += _INT.pack(len(numbers))
            for number in numbers:
                index, code, base_offset, start = self._answers[number]
                if version >= 8:
                    out += _WITH_ERRORS.pack(index, code, base_offset, _NO_TIME, start, 0, -1)
                elif version >= 5:
                    out += _WITH_START.pack(index, code, base_offset, _NO_TIME, start)
                else:
                    out += _PLAIN.pack(index, code, base_offset, _NO_TIME)
        out += _NO_THROTTLE
        return out


class Produces:
    """The handler of Produce."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    def __call__(self, call: Call, data: Buffer, at: int, end: int) -> None:
        """Append every batch of a request; it is answered when all of them are durable.

        Raises:
            Malformed: the bytes are no Produce request.
        """
        (length,) = _SHORT.unpack_from(data, at)
        at += 2 + max(length, 0)
        acks, _, topics = _ACKS.unpack_from(data, at)
        at += _ACKS.size
        produce = _Produce(call, acks)
        for _ in range(topics):
            (length,) = _SHORT.unpack_from(data, at)
            at += 2
            name = bytes(data[at : at + length])
            at += length
            (partitions,) = _INT.unpack_from(data, at)
            at += 4
            produce.topic(name)
            topic = name.decode()
            for _ in range(partitions):
                index, size = _PARTITION.unpack_from(data, at)
                at += 8
                stop = at + max(size, 0)
                if stop > end:
                    raise Malformed("records pass the end of the frame")
                self._append(produce, topic, index, data, at, stop)
                at = stop
        if at != end:
            raise Malformed(f"Produce: {end - at} bytes after its end")
        produce.end()

    def _append(  # noqa: PLR0917 - called in one place, for every batch
        self, produce: _Produce, topic: str, index: int, data: Buffer, at: int, end: int
    ) -> None:
        number = produce.partition(index)
        done = partial(produce.done, number)
        self._store(topic, index, (data, at, end), produce.acks, done, trusted=False)

    def append(self, topic: str, index: int, batch: bytes, done: Done) -> None:
        """Append a batch that was made in this process just now.

        Args:
            topic: the topic's name.
            index: the partition's number.
            batch: the batch.
            done: called once with the outcome, the batch's base offset and the log's start.
        """
        self._store(topic, index, (batch, 0, len(batch)), _ALL, done, trusted=True)

    def _store(
        self,
        topic: str,
        index: int,
        place: tuple[Buffer, int, int],
        acks: int,
        done: Done,
        *,
        trusted: bool,
    ) -> None:
        data, at, end = place
        log = self._topics.partition(topic, index)
        if log is None:
            done(Code.UNKNOWN_TOPIC_OR_PARTITION, -1, -1)
            return
        try:
            batch = batches.parse(data, at, end, trusted=trusted)
        except InvalidBatch as error:
            done(error.code, -1, -1)
            return
        code = _refusal(batch, end - at, log, acks)
        if code:
            done(code, -1, -1)
            return
        log.append(batch, data, at, lambda code, base_offset: done(code, base_offset, log.start))


def _refusal(batch: batches.Batch, size: int, log: PartitionLog, acks: int) -> Code:
    """Tell why a valid batch is not stored; NONE if it is."""
    if acks not in (-1, 0, 1):
        return Code.INVALID_REQUIRED_ACKS
    if batch.size != size:  # one batch a partition, as Kafka has it since magic 2
        return Code.INVALID_RECORD
    if size > log.config.max_message_bytes:
        return Code.MESSAGE_TOO_LARGE
    if batch.control:
        return Code.INVALID_RECORD
    if batch.transactional:
        return Code.INVALID_TXN_STATE
    return Code.NONE
