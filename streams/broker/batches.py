"""Kafka's record batches (magic 2), read as far as a broker needs to.

A batch is stored as the producer sent it; only its first 16 bytes (base offset, length, leader
epoch) are the broker's, and its checksum starts behind them. Source:
https://kafka.apache.org/documentation/#recordbatch.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from aiokafka.record.memory_records import MemoryRecords
from crc32c import crc32c

from streamtable.streams.broker.codes import Code
from streamtable.streams.broker.wire import Buffer

__all__ = [
    "HEADER_BYTES",
    "LEADER_EPOCH",
    "Batch",
    "InvalidBatch",
    "first_at_or_after",
    "parse",
    "place",
    "resume_point",
    "size_at",
    "spans",
]

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES: Final = _HEADER.size
_PLACE: Final = struct.Struct(">qii")
_MAGIC: Final = 2
_BEFORE_LENGTH: Final = 12
_CRC_START: Final = 21
_MAGIC_AT: Final = 16
_COMPRESSION: Final = 0x07
_LAST_CODEC: Final = 4
_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20

LEADER_EPOCH: Final = 0
"""A single broker never elects another leader."""

_MARK: Final = struct.pack(">ib", LEADER_EPOCH, _MAGIC)
_MARK_AT: Final = 12


class InvalidBatch(ValueError):
    """Bytes that are no record batch, or none that may be stored.

    Attributes:
        code: what a producer is answered.
    """

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Batch(NamedTuple):
    """A batch's header, without what the broker has no use for.

    `size` is that of the whole batch in bytes, `last_delta` the last record's offset less the base
    offset; timestamps are in milliseconds of the epoch.
    """

    base_offset: int
    size: int
    last_delta: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    transactional: bool
    control: bool


def parse(data: Buffer, at: int, end: int, *, trusted: bool = False) -> Batch:
    """Read the batch that starts at `at` and check its length, form and checksum.

    Args:
        data: has the batch.
        at: where it begins.
        end: where what may be of it ends.
        trusted: its checksum was made in this process just now, and needs no check.

    Raises:
        InvalidBatch: there is no whole and valid batch there.
    """
    if end - at < HEADER_BYTES:
        raise InvalidBatch(Code.CORRUPT_MESSAGE, "less than a batch's header is there")
    (
        base_offset,
        length,
        _,
        magic,
        crc,
        attributes,
        last_delta,
        _,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        count,
    ) = _HEADER.unpack_from(data, at)
    size = length + _BEFORE_LENGTH
    if magic != _MAGIC:
        raise InvalidBatch(Code.CORRUPT_MESSAGE, f"magic {magic} where 2 was expected")
    if size < HEADER_BYTES or size > end - at:
        raise InvalidBatch(Code.CORRUPT_MESSAGE, f"a batch of {size} bytes in {end - at}")
    if not trusted and crc32c(memoryview(data)[at + _CRC_START : at + size]) != crc:
        raise InvalidBatch(Code.CORRUPT_MESSAGE, "the checksum does not match")
    if count < 1 or last_delta != count - 1:
        raise InvalidBatch(
            Code.INVALID_RECORD, f"{count} records with a last offset delta of {last_delta}"
        )
    if attributes & _COMPRESSION > _LAST_CODEC:
        raise InvalidBatch(Code.INVALID_RECORD, "an unknown compression")
    return Batch(
        base_offset,
        size,
        last_delta,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        bool(attributes & _TRANSACTIONAL),
        bool(attributes & _CONTROL),
    )


def place(data: Buffer, at: int, size: int, base_offset: int) -> bytes:
    """Return a copy of a batch with the broker's base offset and leader epoch in it."""
    head = _PLACE.pack(base_offset, size - _BEFORE_LENGTH, LEADER_EPOCH)
    return b"".join((head, memoryview(data)[at + _MAGIC_AT : at + size]))


def size_at(data: bytes, at: int) -> int:
    """Return the size in bytes of the batch whose header starts at `at`, unchecked."""
    length: int = struct.unpack_from(">i", data, at + 8)[0]
    return length + _BEFORE_LENGTH


def spans(data: bytes, at: int = 0) -> Iterator[tuple[int, int, int]]:
    """Yield (position, size, last offset) of each whole batch of stored bytes, unchecked."""
    end = len(data)
    while at + HEADER_BYTES <= end:
        base_offset, length = struct.unpack_from(">qi", data, at)
        (last_delta,) = struct.unpack_from(">i", data, at + 23)
        size = length + _BEFORE_LENGTH
        if at + size > end or size < HEADER_BYTES:
            return
        yield at, size, base_offset + last_delta
        at += size


def resume_point(data: Buffer, at: int, next_offset: int) -> int | None:
    """Find a valid batch anywhere after `at` that could follow `next_offset`, or None.

    This tells a damaged middle from a torn tail.
    """
    raw = bytes(data[at:])
    mark = raw.find(_MARK, 1 + _MARK_AT)
    while mark >= 0:
        start = mark - _MARK_AT
        try:
            batch = parse(raw, start, len(raw))
        except InvalidBatch:
            pass
        else:
            if batch.base_offset >= next_offset:
                return at + start
        mark = raw.find(_MARK, mark + 1)
    return None


def first_at_or_after(batch: bytes, timestamp: int, start: int) -> tuple[int, int] | None:
    """Return (offset, timestamp) of a batch's first record from `start` on not older, or None.

    The records are decompressed for it. Where their codec is not installed the answer is the base
    offset with the time that was asked for: early by less than a batch, never late.
    """
    base_offset: int = struct.unpack_from(">q", batch)[0]
    try:
        for one in iter(MemoryRecords(batch).next_batch, None):
            for record in one:
                if record.timestamp >= timestamp and record.offset >= start:
                    return record.offset, record.timestamp
    except Exception:  # noqa: BLE001 - a producer may have compressed anything
        return max(base_offset, start), timestamp
    return None
