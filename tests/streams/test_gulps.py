"""How a log is followed in gulps: applied together, told when it can't be."""

import asyncio
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from streamtable.streams import gulps as module
from streamtable.streams.gulps import Gulps
from tests.support.waiting import until


def records(*offsets: int) -> list[ConsumerRecord[Any, Any]]:
    return [
        ConsumerRecord("log", 0, offset, 0, 0, None, b"value", None, 0, 5, ()) for offset in offsets
    ]


async def test_what_comes_together_is_applied_together_and_then_done() -> None:
    applied: list[list[int]] = []
    done: list[int] = []
    told: list[BaseException] = []
    gate = asyncio.Event()

    async def apply(found: list[Any]) -> None:
        applied.append([one.offset for one in found])
        await gate.wait()

    gulps = Gulps(apply, done.append, told.append)
    task = asyncio.create_task(gulps.run())
    gulps.add(records(0, 1))
    gulps.add(records(2))
    await until(lambda: applied, "them to be applied")
    assert applied == [[0, 1, 2]]
    assert not done
    gate.set()
    await until(lambda: done, "them to be done")
    assert done == [3]
    task.cancel()


async def test_what_could_not_be_applied_is_told_and_not_done() -> None:
    done: list[int] = []
    told: list[BaseException] = []

    async def apply(_found: list[Any]) -> None:
        raise RuntimeError("the disk is gone")

    gulps = Gulps(apply, done.append, told.append)
    gulps.add(records(1))
    await gulps.run()
    assert "the disk is gone" in str(told[0])
    assert not done


async def test_no_more_is_wanted_than_a_gulp_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    async def apply(_found: list[Any]) -> None:
        pass

    for limit, most in (("_MOST", 2), ("_MOST_BYTES", 2 * len(b"value"))):
        with monkeypatch.context() as patched:
            patched.setattr(module, limit, most)
            gulps = Gulps(apply, lambda _: None, lambda _: None)
            gulps.add(records(0))
            assert not gulps.full
            gulps.add(records(1))
            assert gulps.full
