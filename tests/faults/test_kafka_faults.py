"""A node on Apache Kafka: node and broker are killed in the middle of load."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import ROUNDS
from tests.support.apache_kafka import ApacheKafka, running
from tests.support.audit import check_indexes, check_stream, read_all
from tests.support.load import AsyncConnection, Load, create_table, key_of
from tests.support.server import Server

pytestmark = [
    pytest.mark.faults,
    pytest.mark.kafka,
    pytest.mark.slow,
    pytest.mark.timeout(300 + 120 * ROUNDS),
]

TABLE = "exact"


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[ApacheKafka]:
    yield from running(tmp_path / "kafka")


@pytest.fixture
def node(kafka: ApacheKafka, tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "data", "--kafka", kafka.address)
    yield made
    if made.endpoint:
        made.kill()


async def serves_again(endpoint: str) -> None:
    """Wait until every shard takes writes again, each by itself."""
    async with AsyncConnection(endpoint) as connection:
        for number in range(32):
            item = {"owner": {"S": f"probe {number}"}, "n": {"S": "0"}}
            deadline = asyncio.get_running_loop().time() + 90
            while True:
                status, answer = await connection.call(
                    "PutItem", {"TableName": TABLE, "Item": item}
                )
                if status == 200:
                    break
                assert status >= 500, answer
                assert asyncio.get_running_loop().time() < deadline, answer
            await connection.ok("DeleteItem", TableName=TABLE, Key=item)


async def audit(endpoint: str, load: Load) -> None:
    async with AsyncConnection(endpoint) as connection:
        stored = {key_of(item): item for item in await read_all(connection, TABLE)}
        history = load.settle(stored)
        await check_indexes(connection, TABLE)
        await check_stream(connection, TABLE, history, probes="probe")


@pytest.mark.parametrize("killed", ["node", "broker", "broker for long"])
def test_nothing_answered_is_lost_when_one_is_killed(node, kafka, chance, killed):
    async def run() -> None:
        async with AsyncConnection(node.start().endpoint) as connection:
            await create_table(connection, TABLE)
        load = Load(TABLE, 64, chance)

        async def restart_broker() -> None:
            kafka.kill()
            if killed == "broker for long":
                # Until requests are told that the log does not answer.
                while not load.unanswered:  # noqa: ASYNC110 - the workers tell nobody
                    await asyncio.sleep(0.1)
            kafka.start()

        # A broker takes its time to come back.
        for _ in range((ROUNDS + 1) // 2):
            load.unanswered.clear()
            target = chance.randint(300, 1500)
            if killed == "node":
                await load.run(node.endpoint, target, node.kill)
                node.start()
            else:
                await load.run(node.endpoint, target, restart_broker)
                await serves_again(node.endpoint)
            await audit(node.endpoint, load)
        print(f"{load.answered} answered, {len(load.unanswered)} not: {load.unanswered[:2]}")

    asyncio.run(run())
