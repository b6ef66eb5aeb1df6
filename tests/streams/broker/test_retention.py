"""What retention removes, and what it never does."""

import asyncio
import time

import pytest

from streamtable.streams.broker import Broker
from tests.streams.broker.behaviour import EARLIEST, LATEST, create
from tests.support.kafka_wire import KafkaWire, batch
from tests.support.waiting import until

SIZE = len(batch(bytes(500)))


@pytest.fixture
async def wire(settings):
    broker = Broker(settings.model_copy(update={"retention_check_ms": 20}))
    await broker.start()
    async with await KafkaWire.connect(broker.address) as connected:
        yield connected
    await broker.stop()


def files(settings, topic: str) -> list[int]:
    return sorted(int(path.stem) for path in settings.data.glob(f"topics/{topic}~*/0/*.log"))


async def start_of(wire: KafkaWire, topic: str) -> int:
    return int((await wire.list_offset(topic, EARLIEST)).offset)


async def fill(wire: KafkaWire, topic: str, count: int, age_ms: int = 0) -> None:
    for _ in range(count):
        timestamp = int(time.time() * 1000) - age_ms
        await wire.produce(topic, batch(bytes(500), timestamps=(timestamp,)))


async def checked(wire: KafkaWire) -> None:
    """Wait until retention has been looked after, seen by what it does elsewhere."""
    probe = await create(wire, segment_bytes="1024", retention_bytes="1024")
    await fill(wire, probe, 10)

    async def moved() -> bool:
        return await start_of(wire, probe) > 0

    await until(moved, "retention")


async def test_by_size_whole_closed_segments_are_removed(wire, settings):
    topic = await create(wire, segment_bytes="2048", retention_bytes="6000")
    await fill(wire, topic, 40)

    # The last segment without which there is too little left.
    start = max(start for start in range(0, 40, 3) if (40 - start) * SIZE >= 6000)
    await until(lambda: files(settings, topic)[0] == start, "old segments to be removed")
    assert await start_of(wire, topic) == start > 0
    assert (await wire.fetch(topic, start)).records
    assert (await wire.fetch(topic, start - 1)).error_code.name == "offset_out_of_range"
    assert (await wire.list_offset(topic, LATEST)).offset == 40


async def test_by_time_old_segments_are_removed(wire, settings):
    topic = await create(wire, segment_bytes="2048", retention_ms="60000")
    await fill(wire, topic, 9, age_ms=120_000)
    await fill(wire, topic, 9)

    await until(lambda: files(settings, topic)[0] == 9, "old segments to be removed")
    assert await start_of(wire, topic) == 9


async def test_an_old_active_segment_is_closed_and_then_removed(wire, settings):
    topic = await create(wire, segment_ms="50", retention_ms="100")
    await fill(wire, topic, 3)

    async def moved() -> bool:
        return await start_of(wire, topic) == 3

    await until(moved, "the old segment to be removed")
    assert (await wire.produce(topic, batch(b"x"))).base_offset == 3


async def test_a_compacted_topic_is_kept_whole(wire, settings):
    topic = await create(
        wire, segment_bytes="2048", retention_bytes="1000", cleanup_policy="compact"
    )
    await fill(wire, topic, 20)
    await checked(wire)
    assert await start_of(wire, topic) == 0


async def test_without_limits_everything_is_kept(wire, settings):
    topic = await create(wire, segment_bytes="2048", retention_ms="-1", retention_bytes="-1")
    await fill(wire, topic, 20, age_ms=10**10)
    await checked(wire)
    assert await start_of(wire, topic) == 0


async def test_a_reader_of_a_segment_that_is_removed_gets_its_answer(wire, settings):
    topic = await create(wire, segment_bytes="2048", retention_bytes="2000")
    readers = [wire.fetch(topic, 0)]
    await fill(wire, topic, 5)
    answer = await asyncio.gather(*readers)
    assert answer[0].error_code.name in {"none", "offset_out_of_range"}


async def test_the_start_survives_a_restart(settings):
    fast = settings.model_copy(update={"retention_check_ms": 20})
    broker = Broker(fast)
    await broker.start()
    async with await KafkaWire.connect(broker.address) as wire:
        topic = await create(wire, segment_bytes="2048", retention_bytes="3000")
        await fill(wire, topic, 30)

        start = max(start for start in range(0, 30, 3) if (30 - start) * SIZE >= 3000)

        async def moved() -> bool:
            return await start_of(wire, topic) == start

        await until(moved, "retention")
    await broker.stop()
    broker = Broker(settings)
    await broker.start()
    async with await KafkaWire.connect(broker.address) as wire:
        assert await start_of(wire, topic) == start
        assert (await wire.produce(topic, batch(b"x"))).base_offset == 30
    await broker.stop()
