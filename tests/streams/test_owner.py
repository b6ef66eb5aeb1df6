"""An owner that steps down: who waits is told, and what is in flight is settled by the log."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import pytest

from streamtable.core.errors import InternalServerError, ServiceUnavailable
from streamtable.streams import owner
from streamtable.streams.owner import Moved
from streamtable.streams.shard import Outcome, Shard
from tests.streams.shards import CONTEXT, MemoryLog, PutWrite, follow, make_shard, until


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def shard(tmp_path: Path, log: MemoryLog) -> Shard:
    shard = make_shard(tmp_path, log, exclusive=False)
    await shard.take_over()
    return shard


def write(shard: Shard, key: str, value: int = 1) -> asyncio.Task[Outcome]:
    return asyncio.create_task(shard.write(PutWrite(key, value), CONTEXT))


async def sent(log: MemoryLog, task: asyncio.Task[Outcome]) -> None:
    """Let a write get as far as the log, whose gate is shut."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()


async def test_nothing_is_served_after_it(shard: Shard) -> None:
    await shard.write(PutWrite("a", 1), CONTEXT)
    shard.owner.step_down()
    assert not shard.owner.wanted
    assert not shard.owner.serving
    row = PutWrite("a", 1).row_key
    for asked in (
        shard.write(PutWrite("a", 2), CONTEXT),
        shard.write_many([PutWrite("a", 2)], CONTEXT),
        shard.read(row, consistent=True),
        shard.read(row, consistent=False),
        shard.read_many([row], consistent=False),
        shard.look([row]),
    ):
        with pytest.raises(Moved):
            await asked


async def test_who_waits_for_the_term_is_told(tmp_path: Path, log: MemoryLog) -> None:
    shard = make_shard(tmp_path, log)
    waiting = [
        write(shard, "a"),
        asyncio.create_task(shard.read(b"\x01", consistent=True)),
    ]
    for _ in range(5):
        await asyncio.sleep(0)
    shard.owner.step_down()
    for each in waiting:
        with pytest.raises(Moved):
            await each


async def test_who_waits_for_a_proof_is_told(
    shard: Shard, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def end() -> int:
        # As where the connection to the brokers is closed meanwhile.
        asked.set()
        never: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        return await never

    monkeypatch.setattr(log, "end", end)
    row = PutWrite("a", 1).row_key
    first = asyncio.create_task(shard.read(row, consistent=True))
    await asked.wait()
    second = asyncio.create_task(shard.read(row, consistent=True))
    await asyncio.sleep(0)
    shard.owner.step_down()
    async with asyncio.timeout(5):
        for waiting in (first, second):
            with pytest.raises(Moved):
                await waiting


async def test_a_commit_in_flight_that_is_acknowledged_is_written(
    shard: Shard, log: MemoryLog
) -> None:
    log.gate.clear()
    first = write(shard, "a")
    await sent(log, first)
    behind = write(shard, "b")
    await sent(log, behind)
    shard.owner.step_down()
    log.gate.set()
    assert (await first).offset == 1
    # What was not sent is for the next owner.
    with pytest.raises(Moved):
        await behind
    await shard.owner.settled()
    assert len(log.records) == 2


async def test_a_commit_without_an_answer_that_landed_before_the_barrier_is_written(
    shard: Shard, log: MemoryLog
) -> None:
    log.gate.clear()
    log.hide = 1
    asked = write(shard, "a")
    await sent(log, asked)
    shard.owner.step_down()
    log.gate.set()
    await until(lambda: len(log.records) == 2)
    log.foreign_barrier()
    assert (await asked).offset == 1


async def test_a_commit_without_an_answer_that_is_not_there_before_the_barrier_moves(
    shard: Shard, log: MemoryLog
) -> None:
    log.gate.clear()
    log.lose = 1
    asked = write(shard, "a")
    await sent(log, asked)
    shard.owner.step_down()
    log.gate.set()
    await until(lambda: log.lose == 0)
    log.foreign_commit()
    assert not asked.done()
    log.foreign_barrier()
    with pytest.raises(Moved):
        await asked


async def test_a_commit_that_lands_behind_the_barrier_moves(shard: Shard, log: MemoryLog) -> None:
    log.gate.clear()
    log.before.append(log.foreign_barrier)
    asked = write(shard, "a")
    await sent(log, asked)
    shard.owner.step_down()
    log.gate.set()
    with pytest.raises(Moved):
        await asked


async def test_who_has_stepped_down_does_not_wait_for_the_group(
    shard: Shard, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "_YIELD_S", 3600)
    log.gate.clear()
    log.before.append(log.foreign_barrier)
    asked = write(shard, "a")
    await sent(log, asked)
    log.gate.set()
    # The append tells that another node has begun a term; then the group says so too.
    await until(lambda: len(log.records) == 3)
    await until(lambda: not shard.owner.serving)
    assert not asked.done()
    shard.owner.step_down()
    with pytest.raises(Moved):
        await asked


async def test_closing_settles_a_commit_without_an_answer(shard: Shard, log: MemoryLog) -> None:
    log.gate.clear()
    log.hide = 1
    asked = write(shard, "a")
    await sent(log, asked)
    closing = asyncio.create_task(shard.close())
    await asyncio.sleep(0)
    log.gate.set()
    await until(lambda: len(log.records) == 2)
    log.foreign_barrier()
    await closing
    assert (await asked).offset == 1


async def test_closing_leaves_nobody_waiting(
    shard: Shard, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has taken the shard over, and the append had no answer: the outcome stays unknown."""
    monkeypatch.setattr(owner, "WAIT_S", 0.2)
    log.gate.clear()
    log.lose = 1
    asked = write(shard, "a")
    await sent(log, asked)
    log.gate.set()
    started = time.monotonic()
    await shard.close()
    with pytest.raises(InternalServerError, match="not known"):
        await asked
    assert time.monotonic() - started < 10


async def test_a_shard_that_comes_back_serves_what_others_wrote(
    shard: Shard, log: MemoryLog
) -> None:
    await shard.write(PutWrite("a", 1), CONTEXT)
    await follow(shard, log)
    shard.owner.step_down()
    log.foreign_barrier()
    log.foreign_commit()
    # What comes from the log meanwhile waits for the term, also behind a gap.
    following = asyncio.create_task(shard.owner.follow(log.records[3:]))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not following.done()
    await shard.take_over()
    await following
    assert (await shard.write(PutWrite("a", 2, expect=1), CONTEXT)).offset == 5


async def test_nothing_is_appended_beside_the_barrier_of_a_shard_that_comes_back(
    shard: Shard, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the term that ends just then was begun by the owner itself, and serves already."""
    opened, begun, held = log.open, asyncio.Event(), asyncio.Event()

    async def open_late() -> None:
        begun.set()
        await held.wait()
        await opened()

    monkeypatch.setattr(log, "open", open_late)
    log.lose = 1
    lost = write(shard, "a")
    await begun.wait()
    shard.owner.step_down()
    taking = asyncio.create_task(shard.take_over())
    await asyncio.sleep(0)
    waiting = write(shard, "b")
    log.before = [log.gate.clear]
    held.set()
    await until(lambda: log.sending > 0)
    for _ in range(20):
        await asyncio.sleep(0)
    log.gate.set()
    await taking
    assert (await waiting).offset == len(log.records) - 1
    with suppress(Moved):
        await lost
    assert not log.overlapping


async def test_who_is_fenced_takes_nothing_back_before_the_group_answers_it(
    shard: Shard, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off from the group alone, it would take the shard from its new owner again and again."""
    monkeypatch.setattr(owner, "_YIELD_S", 0)
    monkeypatch.setattr(owner, "WAIT_S", 0.2)
    monkeypatch.setattr(owner, "_RETRY_S", 0.01)
    heard_at = 0.0
    shard.owner.heard_at = lambda: heard_at
    log.foreign_barrier()
    with pytest.raises(ServiceUnavailable):
        await write(shard, "a")
    assert not shard.owner.serving
    taken = len(log.records)
    heard_at = time.monotonic()
    await until(lambda: shard.owner.serving)
    assert log.records[taken].kind == "barrier"
    await write(shard, "b")
