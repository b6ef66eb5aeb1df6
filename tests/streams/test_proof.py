"""What a strongly consistent read rests on where the log is on several brokers.

One of them that was cut off together with this node, or stood still with it, takes itself for the
log's leader when it wakes, and says that the log ends where it did.
"""

import asyncio
from pathlib import Path

import pytest

from streamtable.core.errors import ServiceUnavailable
from streamtable.streams import owner
from streamtable.streams.log import LogUnavailable
from streamtable.streams.shard import Shard
from tests.streams.shards import CONTEXT, MemoryLog, PutWrite, make_shard, until

ROW = PutWrite("a", 1).row_key
LATER_S = 5.5


class Clock:
    """Tells the time that was set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(owner, "now", made)
    return made


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def shard(tmp_path: Path, log: MemoryLog, clock: Clock) -> Shard:
    made = make_shard(tmp_path, log, exclusive=False, one_broker=False)
    await made.take_over()
    return made


async def value(shard: Shard) -> str | None:
    image = await shard.read(ROW, consistent=True)
    return None if image is None else str(image.item["n"]["N"])


async def test_the_logs_end_is_enough_for_a_while_after_an_append(
    shard: Shard, log: MemoryLog, clock: Clock
) -> None:
    assert await value(shard) is None
    clock.now += LATER_S
    await shard.write(PutWrite("a", 1), CONTEXT)
    for _ in range(3):
        assert await value(shard) == "1"
    assert len(log.records) == 2


async def test_a_log_whose_end_is_not_told_begins_a_term(
    shard: Shard, log: MemoryLog, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is written nobody else finds out that the shard can't be served."""

    async def end() -> int:
        raise LogUnavailable("no answer")

    with monkeypatch.context() as away:
        away.setattr(log, "end", end)
        with pytest.raises(ServiceUnavailable):
            await value(shard)
    assert await value(shard) is None
    assert [record.kind for record in log.records] == ["barrier", "barrier"]


async def test_after_that_a_record_is_appended_that_has_nothing(
    shard: Shard, log: MemoryLog, clock: Clock
) -> None:
    await shard.write(PutWrite("a", 1), CONTEXT)
    clock.now += LATER_S
    assert set(await asyncio.gather(*(value(shard) for _ in range(20)))) == {"1"}
    assert len(log.records) == 3
    assert list(log.records[2].changes()) == []
    assert log.records[2].tables == frozenset()
    assert await value(shard) == "1"
    assert len(log.records) == 3


async def test_while_the_group_gives_shards_anew_each_read_needs_one(
    shard: Shard, log: MemoryLog
) -> None:
    shard.owner.is_settled = lambda: False
    await value(shard)
    await value(shard)
    assert len(log.records) == 3


async def test_where_nothing_is_appended_nothing_is_read(
    shard: Shard, log: MemoryLog, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker says that nothing was written; those that would know are not reached."""
    monkeypatch.setattr(owner, "WAIT_S", 0.3)
    await shard.write(PutWrite("a", 1), CONTEXT)
    clock.now += LATER_S
    log.lose = 1000
    with pytest.raises(ServiceUnavailable):
        await value(shard)
    log.lose = 0
    await until(lambda: shard.owner.serving)
    assert await value(shard) == "1"


async def test_what_another_owner_wrote_is_read_where_the_shard_comes_back(
    shard: Shard, log: MemoryLog, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "_YIELD_S", 0)
    await shard.write(PutWrite("a", 1), CONTEXT)
    clock.now += LATER_S

    def wake() -> None:
        """The others are reached again just as the record is sent."""
        log.foreign_barrier()
        log.foreign_commit()

    log.before = [wake]
    assert await value(shard) == "1"
    assert shard.owner.began > 3


async def test_a_split_under_way_is_waited_for(shard: Shard, log: MemoryLog, clock: Clock) -> None:
    await shard.write(PutWrite("a", 1), CONTEXT)
    clock.now += LATER_S
    shard.owner.hold()
    reading = asyncio.create_task(value(shard))
    for _ in range(5):
        await asyncio.sleep(0)
    await shard.owner.split("one", 7)
    assert len(log.records) == 3
    shard.owner.release(split=False)
    assert await reading == "1"
    assert len(log.records) == 4


async def test_one_broker_always_knows_the_logs_end(
    tmp_path: Path, log: MemoryLog, clock: Clock
) -> None:
    shard = make_shard(tmp_path, log, exclusive=False)
    await shard.take_over()
    clock.now += LATER_S
    assert await value(shard) is None
    assert len(log.records) == 1
