"""kill -9 in the middle of everything: items, indexes, streams and transactions stay exact."""

import asyncio

import pytest

from tests.faults.conftest import ROUNDS
from tests.support.audit import check_indexes, check_stream, read_all
from tests.support.load import AsyncConnection, Load, create_table, key_of
from tests.support.server import Server

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(120 + 60 * ROUNDS)]

TABLE = "exact"


async def audit(server: Server, load: Load) -> None:
    """Compare items, indexes and stream with what was answered, and with one another."""
    async with AsyncConnection(server.endpoint) as connection:
        stored = {key_of(item): item for item in await read_all(connection, TABLE)}
        history = load.settle(stored)
        await check_indexes(connection, TABLE)
        await check_stream(connection, TABLE, history)


def test_items_indexes_and_stream_are_exact_after_each_kill_9(new_server, chance):
    async def run() -> None:
        load = Load(TABLE, 64, chance)
        async with AsyncConnection(new_server.start().endpoint) as connection:
            await create_table(connection, TABLE)
        for _ in range(ROUNDS):
            await load.run(new_server.endpoint, chance.randint(300, 3000), new_server.kill)
            new_server.start()
            await audit(new_server, load)
        print(f"{ROUNDS} kills, {load.answered} answered requests")

    asyncio.run(run())
