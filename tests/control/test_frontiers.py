import asyncio

import pytest

from streamtable.control import frontiers as module
from streamtable.control.frontiers import Frontiers
from streamtable.streams.log import LogUnavailable
from tests.support.waiting import until


class Committed:
    """What a group has committed; counts how often it was asked."""

    def __init__(self):
        self.offsets = {}
        self.asked = 0
        self.error = None

    async def __call__(self, key, generation):
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.offsets


@pytest.fixture
def committed():
    return Committed()


@pytest.fixture
def frontiers(committed):
    return Frontiers(committed)


async def waiting(frontiers, targets, generation=1, timeout_s=20):
    """A task that waits, and has begun to."""
    task = asyncio.create_task(frontiers.reached("shop/rows", generation, targets, timeout_s))
    await asyncio.sleep(0)
    return task


async def test_what_is_past_already_is_not_waited_for(frontiers, committed):
    frontiers.note("shop/rows", 1, {0: 8, 1: 5})
    assert await frontiers.reached("shop/rows", 1, {0: 7, 1: 4}, 0)
    assert not await frontiers.reached("shop/rows", 1, {0: 8}, 0)
    assert not await frontiers.reached("shop/rows", 1, {2: 0}, 0)
    assert committed.asked == 0


async def test_it_returns_when_every_shard_has_got_there(frontiers):
    frontiers.note("shop/rows", 1, {0: 5, 1: 5})
    task = await waiting(frontiers, {0: 7, 1: 6})
    frontiers.note("shop/rows", 1, {0: 8})
    await asyncio.sleep(0)
    assert not task.done()
    frontiers.note("shop/rows", 1, {1: 7})
    assert await task


async def test_what_comes_again_after_a_crash_was_there_before(frontiers):
    frontiers.note("shop/rows", 1, {0: 9})
    frontiers.note("shop/rows", 1, {0: 3})
    assert frontiers.next("shop/rows", 1) == {0: 9}


async def test_without_reports_it_asks_what_is_committed(frontiers, committed, monkeypatch):
    monkeypatch.setattr(module, "_ASK_S", 0.001)
    task = await waiting(frontiers, {0: 7})
    committed.error = LogUnavailable("away")
    await until(lambda: committed.asked >= 3, "it to ask")
    committed.error = None
    committed.offsets = {0: 8}
    assert await task


async def test_another_generation_begins_anew(frontiers):
    frontiers.note("shop/rows", 1, {0: 9})
    task = await waiting(frontiers, {0: 50})
    frontiers.note("shop/rows", 2, {0: 1})
    assert not await task
    frontiers.note("shop/rows", 1, {0: 99})
    assert frontiers.next("shop/rows", 1) == {}
    assert frontiers.next("shop/rows", 2) == {0: 1}
    assert not await frontiers.reached("shop/rows", 1, {0: 1}, 20)


async def test_one_that_is_removed_is_forgotten(frontiers):
    frontiers.note("shop/rows", 1, {0: 9})
    frontiers.forget("shop/rows")
    assert frontiers.next("shop/rows", 1) == {}
