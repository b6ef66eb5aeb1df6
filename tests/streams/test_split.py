"""A shard's split record: nothing is written behind it until it is known what became of it."""

import asyncio
from pathlib import Path

import pytest

from streamtable.core.errors import ServiceUnavailable
from streamtable.streams.epochs import SPLIT, EpochFilter
from streamtable.streams.formats import check_format
from streamtable.streams.owner import Moved
from streamtable.streams.records import Headers, SplitMark, split
from streamtable.streams.shard import Shard
from tests.streams.shards import CONTEXT, MemoryLog, PutWrite, follow, make_shard, until


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def shard(tmp_path: Path, log: MemoryLog) -> Shard:
    made = make_shard(tmp_path / "first", log, exclusive=False)
    await made.take_over()
    return made


async def put(shard: Shard, key: str) -> int:
    return (await shard.write(PutWrite(key, 1), CONTEXT)).offset


async def test_what_is_under_way_comes_before_it_and_nothing_after(
    shard: Shard, log: MemoryLog
) -> None:
    log.gate.clear()
    before = asyncio.create_task(put(shard, "a"))
    await until(lambda: shard.owner.overlay.slot(PutWrite("a", 1).row_key) is not None)
    shard.owner.hold()
    after = asyncio.create_task(put(shard, "b"))
    log.gate.set()
    await shard.owner.settled()
    offset = await shard.owner.split("one", 7)
    assert await before == offset - 1
    assert [record.kind for record in log.records] == ["barrier", "commit", SPLIT]
    assert not after.done()
    await follow(shard, log)
    assert shard.state.split == SplitMark(offset, "one", 7)
    shard.owner.release(split=False)
    assert await after == offset + 1


async def test_who_waits_is_told_to_look_for_the_shard_again(shard: Shard) -> None:
    shard.owner.hold()
    waiting = asyncio.create_task(put(shard, "a"))
    for _ in range(5):
        await asyncio.sleep(0)
    await shard.owner.split("one", 7)
    shard.owner.release(split=True)
    with pytest.raises(Moved):
        await waiting
    assert await put(shard, "a") > 0


async def test_reads_go_on(shard: Shard) -> None:
    await put(shard, "a")
    shard.owner.hold()
    await shard.owner.split("one", 7)
    assert await shard.read(PutWrite("a", 1).row_key, consistent=True) is not None


async def test_a_shard_that_is_not_held_is_not_split(shard: Shard, log: MemoryLog) -> None:
    with pytest.raises(ServiceUnavailable):
        await shard.owner.split("one", 7)
    assert len(log.records) == 1


async def test_an_owner_that_was_overtaken_splits_nothing(
    shard: Shard, log: MemoryLog, tmp_path: Path
) -> None:
    shard.owner.hold()
    log.before.append(log.foreign_barrier)
    with pytest.raises(Moved):
        await shard.owner.split("one", 7)
    # The record is there, and void for whoever reads it.
    assert log.records[-1].kind == SPLIT
    other = make_shard(tmp_path / "second", log, exclusive=False)
    await other.take_over()
    assert other.state.split is None
    assert not other.owner.held


async def test_a_record_of_a_term_that_is_over_by_then_is_none(
    shard: Shard, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = log.append

    async def append_late(value: bytes, headers: Headers) -> int:
        monkeypatch.setattr(log, "append", append)
        # The group gives the shard away, and back.
        shard.owner.step_down()
        await shard.take_over()
        return await append(value, headers)

    monkeypatch.setattr(log, "append", append_late)
    shard.owner.hold()
    with pytest.raises(Moved):
        await shard.owner.split("one", 7)
    assert [record.kind for record in log.records] == ["barrier", "barrier", SPLIT]
    await follow(shard, log)
    assert shard.state.split is None


async def test_whoever_takes_the_shard_over_waits_until_it_is_decided(
    shard: Shard, log: MemoryLog, tmp_path: Path
) -> None:
    shard.owner.hold()
    await shard.owner.split("one", 7)
    other = make_shard(tmp_path / "second", log, exclusive=False)
    asked: list[SplitMark] = []

    def is_decided(mark: SplitMark) -> bool:
        asked.append(mark)
        return False

    other.owner.is_decided = is_decided
    await other.take_over()
    assert asked == [SplitMark(1, "one", 7)]
    waiting = asyncio.create_task(put(other, "a"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    assert len(log.records) == 3
    other.owner.release(split=False)
    assert await waiting == 3


async def test_a_split_counts_by_its_epoch_and_carries_no_change() -> None:
    epochs = EpochFilter("one", 0)
    assert not epochs.admit(SPLIT, "one", 1)
    assert epochs.admit("commit", "one", 2)


def test_who_knows_only_commits_and_barriers_does_not_read_on() -> None:
    _, headers = split("one", "attempt", 7)
    with pytest.raises(ValueError, match="has format 2"):
        check_format(headers, 1, "the change log", 0, 5)
