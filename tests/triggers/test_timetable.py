"""Schedules against a real node: who calls is settled by its table."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import datetime
from uuid import uuid4

import pytest

from streamtable.triggers.app import App
from streamtable.triggers.endpoint import Endpoint
from streamtable.triggers.node_clock import NodeClock
from streamtable.triggers.patience import PatientCalls
from streamtable.triggers.timetable import Timetable
from tests.support.waiting import until

EVERY_MS = 200


class Times:
    """A clock that a test sets, in milliseconds."""

    def __init__(self, ms: float = 0) -> None:
        self.ms = ms

    def seconds(self) -> float:
        return self.ms / 1000


@pytest.fixture
async def node(endpoint: str) -> AsyncIterator[Endpoint]:
    async with Endpoint(endpoint) as opened:
        report = {"worker": "w", "app": "a", "consumers": {}}
        await opened.post("/_streamtable/workers/report", report)
        yield opened


@pytest.fixture
def make(node):
    """A function that makes a timetable of a worker, for a schedule that notes its times."""
    app_name = f"app-{uuid4().hex[:12]}"

    def made(worker, function, clock=None, every_s=EVERY_MS / 1000, **names):
        app = App(app_name)
        app.every(every_s, **{"name": "tick", **names})(function)
        return Timetable(
            app_name,
            app.schedules.values(),
            call=PatientCalls(node),
            clock=NodeClock() if clock is None else clock,
            worker_id=worker,
        )

    return made


async def stop(*tasks):
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def slots(times):
    return [round(time.timestamp() * 1000) // EVERY_MS for time in times]


async def test_each_time_is_called_for_once_by_one_of_the_workers(make):
    called: dict[str, list[datetime]] = {"w1": [], "w2": []}
    running = [
        asyncio.create_task(make(worker, times.append).run()) for worker, times in called.items()
    ]
    await until(lambda: sum(map(len, called.values())) >= 8, "8 calls")
    await stop(*running)
    found = sorted(slots(called["w1"] + called["w2"]))
    assert len(set(found)) == len(found)
    assert all(time.timestamp() * 1000 % EVERY_MS == 0 for time in called["w1"] + called["w2"])


async def test_a_call_that_has_not_ended_leaves_out_the_next_time(make):
    times, go_on = [], asyncio.Event()

    async def tick(due):
        times.append(due)
        await go_on.wait()

    running = [asyncio.create_task(make(worker, tick).run()) for worker in ("w1", "w2")]
    await until(lambda: bool(times), "a call")
    await asyncio.sleep(3 * EVERY_MS / 1000)
    assert len(times) == 1
    go_on.set()
    await until(lambda: len(times) >= 2, "the next call")
    await stop(*running)
    first, second, *_ = slots(times)
    assert second >= first + 3


async def test_a_function_that_fails_is_called_for_the_next_time(make, caplog):
    times = []

    def tick(due):
        times.append(due)
        raise SystemExit(3) if len(times) == 1 else ValueError("no")

    with caplog.at_level(logging.ERROR, "streamtable"):
        running = asyncio.create_task(make("w1", tick).run())
        await until(lambda: len(times) >= 3, "three calls")
        await stop(running)
    assert "the schedule tick failed for" in caplog.text
    assert "ValueError: no" in caplog.text


async def test_a_stop_waits_for_the_function_that_runs(make):
    begun, go_on, ended = asyncio.Event(), asyncio.Event(), []

    async def tick():
        begun.set()
        await go_on.wait()
        ended.append(True)

    running = asyncio.create_task(make("w1", tick).run())
    await begun.wait()
    running.cancel()
    await asyncio.sleep(0.05)
    assert not running.done()
    go_on.set()
    await asyncio.wait({running})
    assert ended == [True]


async def test_who_dies_in_a_call_is_taken_over_from_when_its_lease_is_over(make, node):
    times = Times(1_000_000)
    hang = asyncio.Event()
    called: list[datetime] = []

    async def die():
        await hang.wait()

    def clock():
        made = NodeClock(times.seconds, times.seconds)
        made.note(int(times.ms))
        return made

    dying = make("w1", die, clock(), every_s=3600)
    assert await dying._claim(dying._schedules[0], 0)
    heir = make("w2", called.append, clock(), every_s=3600)
    assert not await heir._claim(heir._schedules[0], 0)
    times.ms += 10_001
    running = asyncio.create_task(heir.run())
    await until(lambda: bool(called), "the call to be made again")
    await stop(running)
    assert [time.timestamp() for time in called] == [0]
    # It is done now: nobody has that time again, but everybody may have a later one.
    assert not await dying._claim(dying._schedules[0], 0)
    assert await dying._claim(dying._schedules[0], 1)


async def test_a_renamed_schedule_goes_on_beside_workers_with_the_old_name(make):
    times = Times(1_000_000)

    def table(worker, function, **names):
        clock = NodeClock(times.seconds, times.seconds)
        made = make(worker, function, clock, every_s=3600, **names)
        return made, made._schedules[0]

    old, tick = table("w1", lambda: None)
    both, renamed = table("w2", lambda: None, name="tock", was="tick")
    new, alone = table("w3", lambda: None, name="tock")
    assert await old._claim(tick, 0)
    await old._finish(tick, 0)
    assert not await both._claim(renamed, 0)
    assert await both._claim(renamed, 1)
    assert not await old._claim(tick, 1)
    assert not await new._claim(alone, 1)
    await both._finish(renamed, 1)
    assert await new._claim(alone, 2)
    assert not await both._claim(renamed, 2)
    await new._finish(alone, 2)
    # Who died in a call under the old name is taken over from under the new one.
    assert await old._claim(tick, 3)
    times.ms += 10_001
    found = await both._find(renamed)
    assert (found.slot, found.done) == (3, False)
    assert await both._claim(renamed, 3)


async def test_a_clock_that_was_far_ahead_does_not_stop_a_schedule(make):
    times = Times(1_000_000)
    clock = NodeClock(times.seconds, times.seconds)
    table = make("w1", lambda: None, clock)
    [schedule] = table._schedules
    assert await table._claim(schedule, 1000)
    await table._finish(schedule, 1000)
    # A small step back is no reason to call for a time twice.
    assert not await table._claim(schedule, 999)
    assert await table._claim(schedule, 10)


def test_the_nodes_clock():
    host = Times(5_000)
    clock = NodeClock(host.seconds, lambda: 100.0)
    assert clock.now_ms() == 100_000
    clock.note(200_000)
    host.ms += 250
    assert clock.now_ms() == 200_250
