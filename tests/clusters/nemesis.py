"""Several faults at once, in any order: what one of them leaves behind meets the next one."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Final

from tests.clusters.region import NODES, Region
from tests.support.apache_kafka import ApacheKafka
from tests.support.server import Server

__all__ = ["LEFT", "Nemesis"]

LEFT: Final = "They are left to the other nodes"
"""What a node says of its shards that ends because it does not reach a broker."""

_AT_ONCE: Final = 3
_APART_S: Final = 8.0
# Some are over before anybody has noticed, others last for longer than a session.
_SHORTEST_S: Final = 0.2
_LONGEST_S: Final = 15.0
_LOOKS_S: Final = 5.0

_Fault = Callable[[float], Awaitable[None]]
"""Brings itself about, and is over after so many seconds."""


class Nemesis:
    """Brings faults about.

    A node is in one of them at a time, and so is Kafka: two copies of each record stay, and a node
    that starts reaches the brokers.

    Args:
        region: what they happen to.
        chance: decides which ones, when, and for how long.
    """

    def __init__(self, region: Region, chance: random.Random) -> None:
        self._region = region
        self._chance = chance

    async def strike(self) -> None:
        """Bring a few faults about; return when all of them are over."""
        places = self._chance.sample([*range(NODES), None], _AT_ONCE)
        found = [self._of_kafka() if place is None else self._of_node(place) for place in places]
        await asyncio.gather(*(self._later(*self._chance.choice(some)) for some in found))

    async def _later(self, name: str, fault: _Fault) -> None:
        await asyncio.sleep(self._chance.uniform(0, _APART_S))
        lasts_s = self._chance.uniform(_SHORTEST_S, _LONGEST_S)
        print(f"{name} for {lasts_s:.1f} s")
        await fault(lasts_s)

    def _of_node(self, number: int) -> list[tuple[str, _Fault]]:
        region = self._region
        node = region.nodes[number]
        found: list[tuple[str, _Fault]] = [
            (f"node {number} is killed", partial(_killed, node)),
            (f"node {number} is stopped", partial(_stopped, node)),
            (f"node {number} stands still", _while(partial(region.standing_still, number))),
        ]
        if number == 0:
            found += [
                ("node 0 has a slow disk", _while(partial(region.disk.slow, 20, 200))),
                ("node 0 has no disk", _while(region.disk.standing_still)),
            ]
        if number == NODES - 1:
            found += [
                (f"node {number} is without brokers", _while(region.last_without_brokers)),
                (f"node {number} is without a broker", self._without_one),
                (f"node {number} is not reached", _while(region.last_unreachable)),
            ]
        return found

    async def _without_one(self, lasts_s: float) -> None:
        region = self._region
        with region.last_without_brokers(self._chance.randrange(len(region.kafka.brokers))):
            await asyncio.sleep(lasts_s)
        # It may be about to find out, and to leave its shards to the others.
        await asyncio.sleep(_LOOKS_S)
        last = region.nodes[-1]
        if LEFT in last.output():
            assert await asyncio.to_thread(last.ended, 60) == 1
            await asyncio.to_thread(last.start)

    def _of_kafka(self) -> list[tuple[str, _Fault]]:
        kafka = self._region.kafka
        broker = self._chance.choice(kafka.brokers)
        number = kafka.brokers.index(broker) + 1
        return [
            (f"broker {number} is killed", partial(_killed, broker)),
            (f"broker {number} stands still", _while(broker.standing_still)),
            ("a broker has a slow disk", _while(partial(kafka.disk.slow, 20, 200))),
            ("a broker has no disk", _while(kafka.disk.standing_still)),
        ]


async def _killed(process: Server | ApacheKafka, lasts_s: float) -> None:
    process.kill()
    await asyncio.sleep(lasts_s)
    await asyncio.to_thread(process.start)


async def _stopped(node: Server, lasts_s: float) -> None:
    code = await asyncio.to_thread(node.stop)
    assert code == 0, node.output()
    await asyncio.sleep(lasts_s)
    await asyncio.to_thread(node.start)


def _while(made: Callable[[], AbstractContextManager[None]]) -> _Fault:
    async def held(lasts_s: float) -> None:
        with made():
            await asyncio.sleep(lasts_s)

    return held
