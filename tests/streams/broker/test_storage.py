"""A disk that is full, or fails: no record is acknowledged that is not stored, and it goes on."""

import asyncio
import errno
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from kio.schema.errors import ErrorCode

from streamtable.streams.broker import Broker, BrokerSettings, disk
from streamtable.streams.broker.log import PartitionLog
from tests.streams.broker.behaviour import LATEST, create, new_producer
from tests.support.kafka_wire import KafkaWire, batch

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Faults:
    """Makes the writes and syncs of segment files fail, or wait, as a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.write_fails_after: int | None = None
        self.sync_fails = False
        self.syncs = 0
        self.gate = threading.Event()
        self.gate.set()
        self._write, self._sync = disk.write_all, disk.sync_file
        monkeypatch.setattr(disk, "write_all", self.write_all)
        monkeypatch.setattr(disk, "sync_file", self.sync_file)

    def write_all(self, fd: int, data: bytes, position: int) -> None:
        if self.write_fails_after is not None:
            self._write(fd, data[: self.write_fails_after], position)
            raise FULL
        self._write(fd, data, position)

    def sync_file(self, fd: int) -> None:
        self.gate.wait(20)
        self.syncs += 1
        if self.sync_fails:
            raise FULL
        self._sync(fd)


@pytest.fixture
def settings(settings: BrokerSettings) -> BrokerSettings:
    """Syncs in threads, where a test can hold them."""
    return settings.model_copy(update={"kernel_syncs": False})


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    made = Faults(monkeypatch)
    yield made
    made.gate.set()


@pytest.fixture
async def wire(broker: Broker):
    async with await KafkaWire.connect(broker.address) as connected:
        yield connected


async def stored(wire: KafkaWire, topic: str) -> bytes:
    end = (await wire.list_offset(topic, LATEST)).offset
    data = b""
    for offset in range(end):
        data += (await wire.fetch(topic, offset, max_bytes=1)).records
    return data


class TestFailedWrite:
    @pytest.mark.parametrize("written", [0, 1, 40, 70])
    async def test_is_answered_with_the_storage_error_and_undone(
        self, faults, broker, wire, settings, written
    ):
        topic = await create(wire)
        producer = await new_producer(wire)
        assert (await wire.produce(topic, batch(b"a", producer=(*producer, 0)))).base_offset == 0
        faults.write_fails_after = written
        answer = await wire.produce(topic, batch(b"lost", producer=(*producer, 1)))
        assert answer.error_code is ErrorCode.kafka_storage_error
        assert (await wire.list_offset(topic, LATEST)).offset == 1
        faults.write_fails_after = None
        again = await wire.produce(topic, batch(b"kept", producer=(*producer, 1)))
        assert (again.error_code, again.base_offset) == (ErrorCode.none, 1)
        await broker.stop()
        restarted = Broker(settings)
        await restarted.start()
        async with await KafkaWire.connect(restarted.address) as after:
            data = await stored(after, topic)
        assert (data.count(b"kept"), data.count(b"lost")) == (1, 0)
        await restarted.stop()

    async def test_a_commit_that_cannot_be_stored_is_refused(self, faults, wire):
        topic = await create(wire)
        partition = {
            "partition_index": 0,
            "committed_offset": 3,
            "committed_leader_epoch": -1,
            "committed_metadata": None,
        }
        commit = {
            "group_id": "g",
            "generation_id_or_member_epoch": -1,
            "member_id": "",
            "group_instance_id": None,
            "topics": [{"name": topic, "partitions": [partition]}],
        }
        faults.write_fails_after = 5
        answer = await wire.call(8, 9, **commit)
        refused = answer.topics[0].partitions[0].error_code
        assert refused is ErrorCode.coordinator_not_available
        faults.write_fails_after = None
        answer = await wire.call(8, 9, **commit)
        assert answer.topics[0].partitions[0].error_code is ErrorCode.none

    async def test_a_topic_that_cannot_be_stored_is_refused(self, faults, wire):
        faults.write_fails_after = 3
        topic = {
            "name": "t",
            "num_partitions": 1,
            "replication_factor": 1,
            "assignments": [],
            "configs": [],
        }
        wanted = {"topics": [topic], "timeout": 1000, "validate_only": False}
        answer = await wire.call(19, 7, **wanted)
        assert answer.topics[0].error_code is ErrorCode.kafka_storage_error
        faults.write_fails_after = None
        answer = await wire.call(19, 7, **wanted)
        assert answer.topics[0].error_code is ErrorCode.none


async def test_a_failed_read_is_answered_when_the_time_is_up(broker, wire, monkeypatch):
    topic = await create(wire)
    await wire.produce(topic, batch(b"a"))
    with monkeypatch.context() as broken:
        broken.setattr(PartitionLog, "read", Mock(side_effect=OSError(errno.EIO, "no disk")))
        began = time.monotonic()
        answer = await wire.fetch(topic, 0, wait_ms=200)
        assert time.monotonic() - began >= 0.2
        assert answer.error_code is ErrorCode.kafka_storage_error
        # Who is gone meanwhile is not answered.
        async with await KafkaWire.connect(broker.address) as other:
            other.send_fetch(topic, 0, wait_ms=50)
            await other.drain()
        await wire.fetch(topic, 0, wait_ms=100)
    assert (await wire.fetch(topic, 0)).error_code is ErrorCode.none


class TestFailedSync:
    async def test_everything_that_waits_is_given_up(self, faults, broker, wire, settings):
        topic = await create(wire)
        producer = await new_producer(wire)
        await wire.produce(topic, batch(b"kept", producer=(*producer, 0)))
        faults.gate.clear()
        faults.sync_fails = True
        sent = [
            wire.send_produce(topic, batch(b"lost", producer=(*producer, sequence)))
            for sequence in range(1, 4)
        ]
        async with await KafkaWire.connect(broker.address) as other:
            assert (await other.list_offset(topic, LATEST)).offset == 1
            assert (await other.fetch(topic, 1)).records == b""
        faults.gate.set()
        for one in sent:
            answer = (await wire.receive(0, 8, one)).responses[0].partition_responses[0]
            assert answer.error_code is ErrorCode.kafka_storage_error
        faults.sync_fails = False
        again = await wire.produce(topic, batch(b"new", producer=(*producer, 1)))
        assert (again.error_code, again.base_offset) == (ErrorCode.none, 1)
        await broker.stop()
        restarted = Broker(settings)
        await restarted.start()
        async with await KafkaWire.connect(restarted.address) as after:
            data = await stored(after, topic)
        assert (data.count(b"kept"), data.count(b"new"), data.count(b"lost")) == (1, 1, 0)
        await restarted.stop()

    async def test_segments_begun_since_are_dropped(self, faults, broker, wire):
        topic = await create(wire, segment_bytes="1024")
        await wire.produce(topic, batch(b"kept"))
        faults.gate.clear()
        faults.sync_fails = True
        sent = [wire.send_produce(topic, batch(bytes(900))) for _ in range(6)]
        async with await KafkaWire.connect(broker.address) as other:
            await other.list_offset(topic, LATEST)
        faults.gate.set()
        for one in sent:
            answer = (await wire.receive(0, 8, one)).responses[0].partition_responses[0]
            assert answer.error_code is ErrorCode.kafka_storage_error
        faults.sync_fails = False
        for number in range(6):
            answer = await wire.produce(topic, batch(bytes(900)))
            assert (answer.error_code, answer.base_offset) == (ErrorCode.none, 1 + number)
        assert len(await stored(wire, topic)) == len(batch(b"kept")) + 6 * len(batch(bytes(900)))


class TestGroupSync:
    async def test_one_sync_serves_all_that_wait(self, faults, broker, wire):
        topic = await create(wire)
        faults.gate.clear()
        before = faults.syncs
        sent = [wire.send_produce(topic, batch(b"x")) for _ in range(20)]
        async with await KafkaWire.connect(broker.address) as other:
            assert (await other.list_offset(topic, LATEST)).offset == 0
        faults.gate.set()
        for one in sent:
            await wire.receive(0, 8, one)
        assert 1 <= faults.syncs - before <= 3

    async def test_a_repeated_batch_waits_for_the_sync_of_the_first(self, faults, broker, wire):
        topic = await create(wire)
        producer = await new_producer(wire)
        faults.gate.clear()
        wire.send_produce(topic, batch(b"x", producer=(*producer, 0)))
        async with await KafkaWire.connect(broker.address) as other:
            sent = other.send_produce(topic, batch(b"x", producer=(*producer, 0)))
            answer = asyncio.ensure_future(other.receive(0, 8, sent))
            async with await KafkaWire.connect(broker.address) as third:
                await third.list_offset(topic, LATEST)
            assert not answer.done()
            faults.gate.set()
            partition = (await answer).responses[0].partition_responses[0]
        assert (partition.error_code, partition.base_offset) == (ErrorCode.none, 0)

    async def test_a_sync_of_one_partition_does_not_hold_up_another(self, broker, monkeypatch):
        """One thread waits for the disk; the others serve."""
        async with await KafkaWire.connect(broker.address) as wire:
            topic = await create(wire, 2)
            gate, real, first = threading.Event(), disk.sync_file, threading.Lock()

            def sync_file(fd: int) -> None:
                if first.acquire(blocking=False):
                    gate.wait(20)
                real(fd)

            monkeypatch.setattr(disk, "sync_file", sync_file)
            sent = wire.send_produce(topic, batch(b"x"), partition=0)
            async with await KafkaWire.connect(broker.address) as other:
                assert (await other.produce(topic, batch(b"y"), partition=1)).base_offset == 0
            gate.set()
            await wire.receive(0, 8, sent)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small file system can't be mounted here: that needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.faults
async def test_a_full_disk_refuses_and_goes_on_when_there_is_space(small_disk: Path):
    settings = BrokerSettings(data=small_disk / "data", port=0)
    broker = Broker(settings)
    await broker.start()
    async with await KafkaWire.connect(broker.address) as wire:
        topic = await create(wire)
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(400_000))
        acknowledged = 0
        while True:
            answer = await wire.produce(topic, batch(bytes(10_000)))
            if answer.error_code is not ErrorCode.none:
                break
            assert answer.base_offset == acknowledged
            acknowledged += 1
        assert answer.error_code is ErrorCode.kafka_storage_error
        assert acknowledged > 10
        answer = await wire.produce(topic, batch(bytes(10_000)))
        assert answer.error_code is ErrorCode.kafka_storage_error
        ballast.unlink()
        for _ in range(10):
            answer = await wire.produce(topic, batch(bytes(10_000)))
            assert (answer.error_code, answer.base_offset) == (ErrorCode.none, acknowledged)
            acknowledged += 1
    await broker.stop()
    restarted = Broker(settings)
    await restarted.start()
    async with await KafkaWire.connect(restarted.address) as wire:
        assert (await wire.list_offset(topic, LATEST)).offset == acknowledged
    await restarted.stop()


@pytest.fixture
def failing_disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 file system of 64 MB on a device that can store only some of them."""
    below, folder = tmp_path / "below", tmp_path / "failing"
    below.mkdir()
    folder.mkdir()
    image = below / "image"
    commands = [
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(below)],
        ["truncate", "-s", "64M", str(image)],
        ["mkfs.ext4", "-q", "-F", str(image)],
        ["mount", "-o", "loop", str(image), str(folder)],
    ]
    done = 0
    try:
        for command in commands:
            if os.geteuid() != 0 or subprocess.run(command, check=False).returncode:
                pytest.skip("a device that fails can't be made here: that needs root and loop")
            done += 1
        yield folder
    finally:
        for mounted in [folder][: done == len(commands)] + [below][: done > 0]:
            subprocess.run(["umount", "-l", str(mounted)], check=True)


@pytest.mark.faults
@pytest.mark.parametrize("kernel_syncs", [True, False])
async def test_a_device_that_fails_in_a_sync_acknowledges_nothing(
    failing_disk: Path, kernel_syncs: bool
):
    broker = Broker(BrokerSettings(data=failing_disk / "data", port=0, kernel_syncs=kernel_syncs))
    await broker.start()
    async with await KafkaWire.connect(broker.address) as wire:
        topic = await create(wire)
        acknowledged = 0
        for _ in range(20):
            answer = await wire.produce(topic, batch(os.urandom(1 << 20)))
            if answer.error_code is not ErrorCode.none:
                break
            acknowledged += 1
        assert answer.error_code is ErrorCode.kafka_storage_error
        assert 0 < acknowledged < 20
        assert (await wire.list_offset(topic, LATEST)).offset == acknowledged
    await broker.stop()
