"""kill -9, stopped processes, torn files: items, indexes, streams and transactions stay exact."""

import asyncio
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from streamtable.streams.broker import batches
from tests.faults.conftest import ROUNDS
from tests.support.audit import check_indexes, check_stream, read_all
from tests.support.commands import BIN
from tests.support.load import INDEXES, AsyncConnection, Load, create_table, key_of
from tests.support.server import Server

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(180 + 60 * ROUNDS)]

TABLE = "exact"


async def audit(server: Server, load: Load, *indexes: str) -> None:
    """Compare items, indexes and stream with what was answered, and with one another."""
    async with AsyncConnection(server.endpoint) as connection:
        stored = {key_of(item): item for item in await read_all(connection, TABLE)}
        history = load.settle(stored)
        await check_indexes(connection, TABLE, *indexes)
        await check_stream(connection, TABLE, history)


async def start(server: Server, chance: random.Random, workers: int = 64) -> Load:
    async with AsyncConnection(server.start().endpoint) as connection:
        await create_table(connection, TABLE)
    return Load(TABLE, workers, chance)


def test_items_indexes_and_stream_are_exact_after_each_kill_9(new_server, chance):
    async def run() -> None:
        load = await start(new_server, chance)
        for _ in range(ROUNDS):
            await load.run(new_server.endpoint, chance.randint(300, 3000), new_server.kill)
            new_server.start()
            await audit(new_server, load)
        print(f"{ROUNDS} kills, {load.answered} answered requests")

    asyncio.run(run())


def test_a_server_that_is_stopped_and_goes_on_has_lost_nothing(new_server, chance, tmp_path):
    def stop_and_go_on() -> None:
        os.kill(new_server.pid, signal.SIGSTOP)
        try:
            # Its folder is its own still.
            refused = subprocess.run(
                [BIN / "streamtable", "serve", "--port", "0", "--broker-port", "0",
                 "--data", new_server.data],
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
        finally:
            os.kill(new_server.pid, signal.SIGCONT)
        assert refused.returncode == 1
        said = " ".join(refused.stderr.split())
        assert "is in use by another process" in said
        assert "Traceback" not in said

    async def run() -> None:
        load = await start(new_server, chance)
        for _ in range(ROUNDS):
            await load.run(new_server.endpoint, 1000, stop_and_go_on)
            await audit(new_server, load)
        assert not load.unanswered
        new_server.kill()
        new_server.start()
        await audit(new_server, load)

    asyncio.run(run())


def scribble(files: list[Path], chance: random.Random) -> None:
    """Write what a write that was cut short leaves behind the last batch."""
    for path in files:
        end = 0
        for at, size, _ in batches.spans(path.read_bytes()):
            end = at + size
        with path.open("r+b") as file:
            file.seek(end)
            file.write(chance.choice([b"\0" * 100, chance.randbytes(300)]))


def newest_segments(data: Path) -> list[Path]:
    folders = {file.parent for file in data.glob("broker/**/*.log")}
    return [max(folder.glob("*.log")) for folder in folders]


def test_a_torn_tail_of_the_log_is_cut_off(new_server, chance):
    async def run() -> None:
        load = await start(new_server, chance)
        for _ in range(ROUNDS):
            await load.run(new_server.endpoint, chance.randint(300, 2000), new_server.kill)
            torn = newest_segments(new_server.data)
            assert torn
            scribble(torn, chance)
            new_server.start()
            await audit(new_server, load)

    asyncio.run(run())


def test_a_backfill_that_is_killed_goes_on(new_server, chance):
    async def add_index(connection: AsyncConnection) -> None:
        index = INDEXES["by-group"]
        await connection.ok(
            "UpdateTable",
            TableName=TABLE,
            AttributeDefinitions=[
                {"AttributeName": "group", "AttributeType": "S"},
                {"AttributeName": "rank", "AttributeType": "N"},
                {"AttributeName": "score", "AttributeType": "N"},
                {"AttributeName": "owner", "AttributeType": "S"},
                {"AttributeName": "n", "AttributeType": "S"},
            ],
            GlobalSecondaryIndexUpdates=[{"Create": index}],
        )

    async def index_status(connection: AsyncConnection) -> str:
        table = (await connection.ok("DescribeTable", TableName=TABLE))["Table"]
        [index] = table["GlobalSecondaryIndexes"]
        return str(index["IndexStatus"])

    async def fill(connection: AsyncConnection, count: int) -> None:
        for number in range(0, count, 25):
            items = [
                {"owner": {"S": f"old {n % 50}"}, "n": {"S": str(n)},
                 "group": {"S": f"group {n % 7}"}, "rank": {"N": str(n % 13)}}
                for n in range(number, number + 25)
            ]  # fmt: skip
            await connection.ok(
                "BatchWriteItem",
                RequestItems={TABLE: [{"PutRequest": {"Item": item}} for item in items]},
            )

    async def run() -> None:
        async with AsyncConnection(new_server.start().endpoint) as connection:
            await create_table(connection, TABLE, indexes=False)
            await fill(connection, 5000)
        load = Load(TABLE, 16, chance)
        async with AsyncConnection(new_server.endpoint) as connection:
            await add_index(connection)
            interrupted = 0
            while True:
                started = load.answered
                await load.run(new_server.endpoint, chance.randint(20, 200), new_server.kill)
                assert load.answered > started
                await connection.close()
                new_server.start()
                async with AsyncConnection(new_server.endpoint) as again:
                    stored = {key_of(item): item for item in await read_all(again, TABLE)}
                    load.settle(stored)
                    if await index_status(again) == "ACTIVE" or interrupted == ROUNDS:
                        break
                    interrupted += 1
            print(f"killed {interrupted} times while the index was filled")
        async with AsyncConnection(new_server.endpoint) as connection:
            while await index_status(connection) != "ACTIVE":  # noqa: ASYNC110 - it is asked for
                await asyncio.sleep(0.05)
            await check_indexes(connection, TABLE, "by-group", "by-score")

    asyncio.run(run())
