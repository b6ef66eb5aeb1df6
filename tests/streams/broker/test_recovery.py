"""What the broker finds in its data folder when it starts."""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import pytest

from streamtable.streams.broker import (
    Broker,
    BrokerSettings,
    DamagedSegment,
    DataInUse,
    PortTaken,
)
from tests.streams.broker.behaviour import LATEST, create
from tests.support.kafka_wire import KafkaWire, batch

SIZE = len(batch(b"x" * 100))


async def filled(settings: BrokerSettings, count: int = 10) -> tuple[str, list[Path]]:
    """Run a broker, write records of one size, stop it; the topic and its segment files."""
    broker = Broker(settings)
    await broker.start()
    async with await KafkaWire.connect(broker.address) as wire:
        topic = await create(wire)
        for _ in range(count):
            await wire.produce(topic, batch(b"x" * 100))
    await broker.stop()
    return topic, sorted(settings.data.glob("topics/*/0/*.log"))


async def end_of(settings: BrokerSettings, topic: str) -> int:
    """Start the broker and return the offset that the next record of a topic gets."""
    broker = Broker(settings)
    await broker.start()
    try:
        async with await KafkaWire.connect(broker.address) as wire:
            answer = await wire.produce(topic, batch(b"next"))
            fetched = await wire.fetch(topic, answer.base_offset)
            assert fetched.records
            return int(answer.base_offset)
    finally:
        await broker.stop()


def damage(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)


class TestTornTail:
    @pytest.mark.parametrize("left", [1, 11, 12, 60, 61, SIZE - 1])
    async def test_is_cut_off(self, settings, caplog, left):
        topic, [segment] = await filled(settings)
        os.truncate(segment, 9 * SIZE + left)
        with caplog.at_level(logging.WARNING):
            assert await end_of(settings, topic) == 9
        # One byte is a zero, as those that are written in advance.
        assert (f"cut off at {9 * SIZE}" in caplog.text) == (left > 1)
        assert (str(segment) in caplog.text) == (left > 1)

    async def test_a_damaged_last_batch_is_one(self, settings):
        topic, [segment] = await filled(settings)
        damage(segment, 9 * SIZE + 70)
        assert await end_of(settings, topic) == 9

    async def test_zeros_behind_the_last_batch_are_one(self, settings):
        topic, [segment] = await filled(settings)
        os.truncate(segment, 10 * SIZE + 5000)
        assert await end_of(settings, topic) == 10

    async def test_a_log_without_one_is_left_as_it_is(self, settings, caplog):
        topic, _ = await filled(settings)
        with caplog.at_level(logging.WARNING):
            assert await end_of(settings, topic) == 10
        assert "cut off" not in caplog.text


class TestDamagedMiddle:
    @pytest.mark.parametrize("byte", [0, 7, 8, 11, 16, 17, 23, 60, SIZE - 1])
    async def test_is_refused_and_nothing_is_changed(self, settings, byte):
        _, [segment] = await filled(settings)
        damage(segment, 4 * SIZE + byte)
        before = segment.read_bytes()
        with pytest.raises(DamagedSegment) as raised:
            await Broker(settings).start()
        assert (raised.value.path, raised.value.position) == (segment, 4 * SIZE)
        assert str(segment) in str(raised.value)
        assert segment.read_bytes() == before

    async def test_in_a_closed_segment(self, settings):
        small = settings.model_copy(update={"segment_bytes": 1024})
        _, segments = await filled(small, 30)
        assert len(segments) > 3
        damage(segments[1], 70)
        with pytest.raises(DamagedSegment) as raised:
            await Broker(small).start()
        assert raised.value.path == segments[1]

    async def test_a_missing_segment(self, settings):
        small = settings.model_copy(update={"segment_bytes": 1024})
        _, segments = await filled(small, 30)
        segments[1].unlink()
        with pytest.raises(DamagedSegment) as raised:
            await Broker(small).start()
        assert raised.value.path == segments[2]

    async def test_cutting_the_file_where_the_error_says_makes_the_broker_start(self, settings):
        topic, [segment] = await filled(settings)
        damage(segment, 4 * SIZE + 70)
        with pytest.raises(DamagedSegment) as raised:
            await Broker(settings).start()
        os.truncate(segment, raised.value.position)
        assert await end_of(settings, topic) == 4

    async def test_a_damaged_journal(self, settings):
        await filled(settings)
        journal = settings.data / "topics.journal"
        damage(journal, 12)
        with pytest.raises(DamagedSegment) as raised:
            await Broker(settings).start()
        assert raised.value.path == journal


class TestRestart:
    async def test_a_torn_record_of_a_journal_is_cut_off(self, settings):
        topic, _ = await filled(settings)
        with (settings.data / "topics.journal").open("ab") as journal:
            journal.write(b"0123abcd {")
        assert await end_of(settings, topic) == 10

    async def test_a_folder_that_belongs_to_no_topic_is_left_alone(self, settings, caplog):
        topic, _ = await filled(settings)
        stray = settings.data / "topics" / "stray"
        stray.mkdir()
        with caplog.at_level(logging.WARNING):
            assert await end_of(settings, topic) == 10
        assert str(stray) in caplog.text
        assert stray.is_dir()

    async def test_segments_are_read_across_their_borders(self, settings):
        small = settings.model_copy(update={"segment_bytes": 1024})
        topic, _ = await filled(small, 30)
        broker = Broker(small)
        await broker.start()
        async with await KafkaWire.connect(broker.address) as wire:
            offset = 0
            while offset < 30:
                data = (await wire.fetch(topic, offset)).records
                assert int.from_bytes(data[:8], "big") <= offset
                assert len(data) % SIZE == 0
                offset = int.from_bytes(data[-SIZE:][:8], "big") + 1
        await broker.stop()

    async def test_producer_ids_are_not_given_twice(self, settings):
        seen = set()
        for _ in range(3):
            broker = Broker(settings)
            await broker.start()
            async with await KafkaWire.connect(broker.address) as wire:
                for _ in range(3):
                    answer = await wire.call(
                        22,
                        4,
                        transactional_id=None,
                        transaction_timeout=1000,
                        producer_id=-1,
                        producer_epoch=-1,
                    )
                    seen.add(answer.producer_id)
            await broker.stop()
        assert len(seen) == 9


class TestRefusals:
    async def test_a_folder_in_use(self, broker, settings):
        with pytest.raises(DataInUse, match="in use by another process"):
            await Broker(settings).start()

    async def test_a_folder_is_free_again_after_a_stop(self, settings):
        for _ in range(2):
            broker = Broker(settings)
            await broker.start()
            await broker.stop()

    async def test_a_port_that_is_taken(self, broker, settings, tmp_path):
        port = int(broker.address.rpartition(":")[2])
        other = settings.model_copy(update={"data": tmp_path / "other", "port": port})
        with pytest.raises(PortTaken, match=str(port)):
            await Broker(other).start()
        free = other.model_copy(update={"port": 0})
        started = Broker(free)
        await started.start()
        await started.stop()


SERVE = """
import asyncio, sys
from pathlib import Path
from streamtable.streams.broker import Broker, BrokerSettings

async def main():
    broker = Broker(BrokerSettings(data=Path(sys.argv[1]), port=0, segment_bytes=20_000))
    await broker.start()
    print(broker.address, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.faults
@pytest.mark.parametrize("number", range(3))
async def test_what_was_acknowledged_is_there_after_a_kill(settings, number):
    """Writers in several connections; the process is killed between two of their answers."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, str(settings.data), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    address = (await process.stdout.readline()).decode().strip()
    async with await KafkaWire.connect(address) as wire:
        topic = await create(wire, 2)
    acknowledged: dict[tuple[int, int], bytes] = {}
    enough = asyncio.Event()

    async def write(writer: int) -> None:
        async with await KafkaWire.connect(address) as wire:
            for record in range(100_000):
                value = b"%d-%d" % (writer, record) + bytes(200)
                answer = await wire.produce(topic, batch(value), partition=writer % 2)
                acknowledged[writer % 2, answer.base_offset] = value
                if len(acknowledged) > 1000 + 77 * number:
                    enough.set()

    writers = [asyncio.create_task(write(writer)) for writer in range(4)]
    await enough.wait()
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await asyncio.gather(*writers, return_exceptions=True)

    broker = Broker(settings)
    await broker.start()
    async with await KafkaWire.connect(broker.address) as wire:
        for partition in range(2):
            end = (await wire.list_offset(topic, LATEST, partition)).offset
            stored = b""
            offset = 0
            while offset < end:
                data = (await wire.fetch(topic, offset, partition=partition)).records
                stored += data
                offset = _next_offset(data)
            for (place, offset), value in acknowledged.items():
                if place == partition:
                    assert offset < end
                    assert value in stored
    await broker.stop()


def _next_offset(data: bytes) -> int:
    at = 0
    last = -1
    while at < len(data):
        last = int.from_bytes(data[at : at + 8], "big") + int.from_bytes(
            data[at + 23 : at + 27], "big"
        )
        at += 12 + int.from_bytes(data[at + 8 : at + 12], "big")
    return last + 1
