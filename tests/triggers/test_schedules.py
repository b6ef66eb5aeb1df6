"""Schedules: their intervals, and how their functions are called."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streamtable import App
from streamtable.triggers import InvalidDeclaration, InvalidHandler, Schedule

DUE = datetime(2026, 1, 1, tzinfo=UTC)


def schedule(function: Any, every: Any = 60, **options: Any) -> Schedule:
    app = App("shop")
    app.every(every, name="tick", **options)(function)
    return app.schedules["tick"]


async def test_a_schedule_calls_what_it_is_given() -> None:
    seen: list[Any] = []

    async def tick(due: datetime) -> None:
        seen.append((due, threading.current_thread() is threading.main_thread()))

    await schedule(tick).call(DUE)
    await schedule(lambda: seen.append(threading.current_thread() is threading.main_thread())).call(
        DUE
    )
    assert seen == [(DUE, True), False]


async def test_a_schedule_has_its_time() -> None:
    async def tick() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await schedule(tick, timeout_s=0.01).call(DUE)


def test_the_name_that_a_schedule_had_is_nobody_elses() -> None:
    with pytest.raises(InvalidDeclaration, match="was='tick' is the name that the schedule has"):
        schedule(lambda: None, was="tick")
    with pytest.raises(InvalidDeclaration, match="can't be the name of a schedule"):
        schedule(lambda: None, was="no name")
    app = App("shop")
    app.every(5, name="new", was="old")(lambda: None)
    with pytest.raises(InvalidDeclaration, match=r"'new' was 'old', .* still has a 'old'"):
        app.every(5, name="old")(lambda: None)
    assert list(app.schedules) == ["new"]
    app = App("shop")
    app.every(5, name="old")(lambda: None)
    with pytest.raises(InvalidDeclaration, match="remove was=, or the other one"):
        app.every(5, name="new", was="old")(lambda: None)


def test_an_interval_is_seconds_or_a_timedelta() -> None:
    assert schedule(lambda: None, 5).every_s == 5
    assert schedule(lambda: None, timedelta(minutes=2)).every_s == 120
    for every in (0, -1, True, timedelta(0), timedelta(days=400)):
        with pytest.raises(InvalidDeclaration):
            schedule(lambda: None, every)
    with pytest.raises(InvalidHandler, match="must take nothing"):
        schedule(lambda a, b: None)
