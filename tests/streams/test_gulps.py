"""How a log is followed in gulps: applied together, told when it can't be, rarely where idle."""

import asyncio
from typing import Any

from streamtable.streams.gulps import Gulps, longest_fetch_ms
from tests.support.waiting import until


class Event:
    """An event of an agent."""

    def __init__(self, message: int) -> None:
        self.message = message
        self.acknowledged = False

    def ack(self) -> None:
        self.acknowledged = True


async def test_what_comes_together_is_applied_together_and_then_acknowledged() -> None:
    applied: list[list[int]] = []
    told: list[BaseException] = []
    gate = asyncio.Event()

    async def apply(messages: list[Any]) -> None:
        applied.append(messages)
        await gate.wait()

    gulps = Gulps(apply, told.append)
    task = asyncio.create_task(gulps.run())
    events = [Event(number) for number in range(3)]
    for event in events:
        await gulps.add(event)
    await until(lambda: applied, "them to be applied")
    assert applied == [[0, 1, 2]]
    assert not any(event.acknowledged for event in events)
    gate.set()
    await until(lambda: all(event.acknowledged for event in events), "them to be acknowledged")
    task.cancel()


async def test_what_could_not_be_applied_is_told_and_not_acknowledged() -> None:
    told: list[BaseException] = []

    async def apply(_messages: list[Any]) -> None:
        raise RuntimeError("the disk is gone")

    gulps = Gulps(apply, told.append)
    event = Event(1)
    await gulps.add(event)
    await gulps.run()
    assert "the disk is gone" in str(told[0])
    assert not event.acknowledged


def test_a_consumer_of_many_partitions_asks_less_often() -> None:
    assert longest_fetch_ms(8) == longest_fetch_ms(64) == 50
    # Each second asks for 2000 partitions, however many there are.
    assert longest_fetch_ms(512) == 256
    assert longest_fetch_ms(2000) == 1000
