"""Nodes and brokers that die, stand still and don't reach each other, under load all the time.

What clients heard is linearizable for each item and serializable for transactions (porcupine says
so); each answered write is in the table, its indexes and its stream, and has come to the trigger.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.clusters.clients import Clients
from tests.clusters.region import NODES, Region
from tests.faults.conftest import ROUNDS
from tests.support.audit import check_indexes, check_stream
from tests.support.linearizable import wrong
from tests.support.load import AsyncConnection, create_table
from tests.support.waiting import until

pytestmark = [
    pytest.mark.clusters,
    pytest.mark.faults,
    pytest.mark.kafka,
    pytest.mark.slow,
    pytest.mark.timeout(120 + 120 * ROUNDS),
]

TABLE = "shared"

Fault = Callable[[Clients], Awaitable[None]]


@pytest.fixture(scope="module")
def table(region: Region) -> str:
    async def make() -> None:
        async with AsyncConnection(region.endpoints[0]) as connection:
            await create_table(connection, TABLE)

    asyncio.run(make())
    return TABLE


@pytest.fixture
def under_load(
    region: Region, table: str, chance: random.Random, checker: str, request: pytest.FixtureRequest
) -> Iterator[Callable[[Fault], None]]:
    """Bring a fault about under load, again and again, and compare everything with everything."""

    async def round_of(number: int, fault: Fault) -> None:
        clients = Clients(table, f"{request.node.name} {number}", region.endpoints, chance)
        async with clients:
            await fault(clients)
            await region.served(table)
            await clients.more(100)
        print(f"{clients.answered} answered, {len(clients.refused)} not: {clients.refused[:3]}")
        assert wrong(checker, clients.histories()) == ""
        asked = chance.randrange(NODES)
        async with AsyncConnection(region.endpoints[asked]) as connection:
            await check_indexes(connection, table, "by-group")
            clients.check_records(await check_stream(connection, table, {}, probes=""))
        await until(lambda: not region.prepared(), "prepared transactions to be settled")

    def run(fault: Fault) -> None:
        for number in range((ROUNDS + 1) // 2):
            asyncio.run(round_of(number, fault))

    return run


def test_a_node_is_killed(region, table, chance, under_load):
    async def kill(clients: Clients) -> None:
        victim = chance.randrange(NODES)
        killed = time.monotonic()
        region.nodes[victim].kill()
        other = region.endpoints[(victim + 1) % NODES]
        async with AsyncConnection(other) as connection:
            from tests.clusters.region import takes_writes
            await takes_writes(connection, table)
        print(f"every shard is served again {time.monotonic() - killed:.1f} s after the kill")
        await asyncio.to_thread(region.nodes[victim].start)

    under_load(kill)
