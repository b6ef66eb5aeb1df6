"""A trigger sees each change at least once, in order for each item, whoever is killed."""

import asyncio

import pytest

from tests.faults.conftest import ROUNDS
from tests.support.audit import read_all, stream_records
from tests.support.load import AsyncConnection, Load, create_table, key_of
from tests.support.witness import Witness

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(240 + 90 * ROUNDS)]

TABLE = "watched"


def test_a_trigger_sees_each_change_whoever_is_killed(new_server, chance, tmp_path):
    witness = Witness(tmp_path, TABLE)

    async def settle(load: Load) -> None:
        """Find out what was written; then wait until the trigger has seen all of it."""
        async with AsyncConnection(new_server.endpoint) as connection:
            load.settle({key_of(item): item for item in await read_all(connection, TABLE)})
            shards = await stream_records(connection, TABLE)
        await witness.check(shards)

    async def run() -> None:
        async with AsyncConnection(new_server.start().endpoint) as connection:
            await create_table(connection, TABLE)
        load = Load(TABLE, 32, chance)
        for _ in range(ROUNDS):
            witness.start(new_server.endpoint)
            await load.run(new_server.endpoint, chance.randint(300, 1500), lambda: None)
            order = [new_server.kill, witness.kill]
            chance.shuffle(order)
            order[0]()
            order[1]()
            witness.start(new_server.start().endpoint)
            await load.run(new_server.endpoint, chance.randint(100, 600), witness.kill)
            witness.start(new_server.endpoint)
            await settle(load)
            witness.kill()
        print(f"{len(witness.seen())} deliveries")

    try:
        asyncio.run(run())
    finally:
        witness.kill()
