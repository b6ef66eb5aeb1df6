"""Segments: what is written is found again, by offset and by time, whatever the sizes."""

import errno
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtable.streams.broker import batches, disk
from streamtable.streams.broker.errors import DamagedSegment
from streamtable.streams.broker.segment import Segment
from tests.support.kafka_wire import batch

shapes = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 6000), st.integers(0, 50)), min_size=1, max_size=40
)

reserved = st.sampled_from([0, 1, 100, 20_000])
"""How many zeros stand behind the last batch."""


def written(folder: Path, shape: list[tuple[int, int, int]]) -> tuple[Segment, list[bytes], int]:
    """A segment of batches of (records, bytes a record, time), the batches, and the next offset."""
    segment = Segment(folder, 100)
    stored = []
    offset = 100
    for count, size, timestamp in shape:
        data = batch(*[bytes(size)] * count, timestamps=(timestamp,) * count)
        parsed = batches.parse(data, 0, len(data))
        placed = batches.place(data, 0, parsed.size, offset)
        segment.append(placed, parsed, offset)
        stored.append(placed)
        offset += count
    return segment, stored, offset


def offsets(stored: list[bytes]) -> list[tuple[int, int]]:
    return [
        (parsed.base_offset, parsed.base_offset + parsed.last_delta)
        for parsed in (batches.parse(one, 0, len(one)) for one in stored)
    ]


@settings(max_examples=60, deadline=None)
@given(shape=shapes, max_bytes=st.integers(0, 60_000), data=st.data())
def test_a_read_begins_with_the_batch_of_its_offset_and_ends_at_a_border(shape, max_bytes, data):
    with TemporaryDirectory() as folder:
        segment, stored, end = written(Path(folder), shape)
        offset = data.draw(st.integers(100, end - 1))
        read = segment.read(offset, max_bytes, segment.size, wait=True)
        first = next(
            number for number, (low, high) in enumerate(offsets(stored)) if low <= offset <= high
        )
        whole = [b"".join(stored[first : last + 1]) for last in range(first, len(stored))]
        assert read in whole
        assert len(read) <= max_bytes or read == whole[0]
        segment.seal()


@settings(max_examples=60, deadline=None)
@given(shape=shapes, timestamp=st.integers(0, 60))
def test_the_first_record_not_older_than_a_time_is_found(shape, timestamp):
    with TemporaryDirectory() as folder:
        segment, stored, _ = written(Path(folder), shape)
        expected = next(
            (
                (low, time)
                for (low, _), (_, _, time) in zip(offsets(stored), shape, strict=True)
                if time >= timestamp
            ),
            None,
        )
        assert segment.find_time(timestamp, segment.size, 0) == expected
        segment.seal()


@settings(max_examples=60, deadline=None)
@given(shape=shapes, data=st.data())
def test_a_file_cut_anywhere_loads_up_to_its_last_whole_batch(shape, data):
    with TemporaryDirectory() as folder:
        segment, stored, _ = written(Path(folder), shape)
        segment.seal()
        cut = data.draw(st.integers(0, segment.size))
        with segment.path.open("r+b") as file:
            file.truncate(cut)
            file.truncate(cut + data.draw(reserved))
        left = segment.path.read_bytes()
        whole = max(
            number
            for number in range(len(stored) + 1)
            if left.startswith(b"".join(stored[:number]))
        )
        found: list[batches.Batch] = []
        again = Segment(Path(folder), 100)
        next_offset = again.load(last=True, found=found.append)
        assert len(found) == whole
        assert next_offset == 100 + sum(count for count, _, _ in shape[:whole])
        assert again.path.stat().st_size == again.size == sum(map(len, stored[:whole]))
        again.seal()


@settings(max_examples=100, deadline=None)
@given(shape=shapes, data=st.data())
def test_a_changed_byte_is_noticed_and_never_skipped(shape, data):
    """Only the leader epoch is outside of every check: nobody reads it."""
    with TemporaryDirectory() as folder:
        segment, stored, end = written(Path(folder), shape)
        segment.seal()
        number = data.draw(st.integers(0, len(stored) - 1))
        inside = [*range(12), *range(16, len(stored[number]))]
        byte = data.draw(st.sampled_from(inside))
        start = sum(len(one) for one in stored[:number])
        raw = bytearray(segment.path.read_bytes())
        raw[start + byte] ^= data.draw(st.integers(1, 255))
        segment.path.write_bytes(raw + bytes(data.draw(reserved)))
        again = Segment(Path(folder), 100)
        if number == len(stored) - 1:
            assert again.load(last=True, found=lambda _: None) == end - shape[-1][0]
        else:
            with pytest.raises(DamagedSegment) as raised:
                again.load(last=True, found=lambda _: None)
            assert raised.value.position == start
        again.seal()


@settings(max_examples=60, deadline=None)
@given(shape=shapes)
def test_what_was_reserved_is_no_part_of_the_segment(shape):
    with TemporaryDirectory() as folder:
        segment, stored, end = written(Path(folder), shape)
        on_disk = segment.path.read_bytes()
        assert on_disk == b"".join(stored).ljust(len(on_disk), b"\0")
        again = Segment(Path(folder), 100)
        assert again.load(last=True, found=lambda _: None) == end
        assert again.path.stat().st_size == again.size == segment.size
        again.seal()
        segment.seal()


def test_a_small_batch_is_written_within_the_file_and_a_sealed_file_ends_with_its_batches():
    with TemporaryDirectory() as folder:
        segment, _, end = written(Path(folder), [(1, 100, 1)])
        length = segment.path.stat().st_size
        assert length > segment.size
        more = batch(bytes(100))
        segment.append(more, batches.parse(more, 0, len(more)), end)
        assert segment.path.stat().st_size == length
        segment.seal()
        assert segment.path.stat().st_size == segment.size == 2 * len(more)


def test_zeros_at_the_end_of_a_closed_segment_are_cut_off(caplog):
    """The machine may stop between the first record of the next one and the cut."""
    with TemporaryDirectory() as folder:
        segment, _, end = written(Path(folder), [(1, 100, 1)])
        again = Segment(Path(folder), 100)
        assert again.load(last=False, found=lambda _: None) == end
        assert again.path.stat().st_size == again.size == segment.size
        assert not caplog.records
        segment.seal()


def test_a_disk_that_has_no_room_to_reserve_takes_what_it_has_room_for(monkeypatch):
    real = disk.write_all

    def write_all(fd: int, data: bytes, position: int) -> None:
        if position + len(data) > 4096:
            real(fd, data[: 4096 - position], position)
            raise OSError(errno.ENOSPC, "no space left on the device")
        real(fd, data, position)

    monkeypatch.setattr(disk, "write_all", write_all)
    with TemporaryDirectory() as folder:
        segment, stored, end = written(Path(folder), [(1, 100, 1)] * 3)
        assert segment.path.read_bytes() == b"".join(stored)
        large = batch(bytes(5000))
        with pytest.raises(OSError, match="no space"):
            segment.append(large, batches.parse(large, 0, len(large)), end)
        segment.cut()
        assert segment.path.read_bytes() == b"".join(stored)
        segment.seal()


@settings(max_examples=100, deadline=None)
@given(garbage=st.binary(max_size=300))
def test_garbage_is_cut_off_or_refused_never_taken_for_records(garbage):
    with TemporaryDirectory() as folder:
        segment, stored, end = written(Path(folder), [(1, 10, 1), (1, 10, 2)])
        segment.seal()
        with segment.path.open("ab") as file:
            file.write(garbage)
        again = Segment(Path(folder), 100)
        assert again.load(last=True, found=lambda _: None) == end
        assert again.size == sum(map(len, stored))
        again.seal()


def test_offsets_of_what_is_written_are_contiguous():
    with TemporaryDirectory() as folder:
        segment, stored, _ = written(Path(folder), [(3, 5, 1), (1, 5, 1), (2, 5, 1)])
        assert all(high + 1 == low for (_, high), (low, _) in pairwise(offsets(stored)))
        segment.seal()
