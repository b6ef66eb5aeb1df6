"""A slow disk below the log: writes wait for it, reads don't, and nothing answered is lost."""

import asyncio
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.audit import check_indexes, check_stream, read_all
from tests.support.load import AsyncConnection, Load, create_table, key_of
from tests.support.server import Server
from tests.support.slow_disks import SlowDisk
from tests.support.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.slow]

TABLE = "exact"


@pytest.fixture
def disk(tmp_path: Path) -> SlowDisk:
    return SlowDisk(tmp_path / "disk", tmp_path / "data" / "broker")


@pytest.fixture
def server(tmp_path: Path, disk: SlowDisk) -> Iterator[Server]:
    made = Server(tmp_path / "data")
    made.environment = disk.environment
    yield made
    if made.endpoint:
        made.kill()


def settled(server: Server) -> bool:
    """Whether no transaction waits for its decision."""
    with urllib.request.urlopen(f"{server.endpoint}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    found = re.findall(r"^streamtable_shard_prepared_transactions\{.*\} (\S+)$", text, re.MULTILINE)
    assert found
    return not sum(map(float, found))


async def audit(server: Server, load: Load) -> None:
    await until(lambda: settled(server), "what was prepared to be settled")
    async with AsyncConnection(server.endpoint) as connection:
        stored = {key_of(item): item for item in await read_all(connection, TABLE)}
        history = load.settle(stored)
        await check_indexes(connection, TABLE)
        await check_stream(connection, TABLE, history, probes="probe")


def test_a_slow_disk_makes_writes_slow_and_fails_none(server, disk, chance):
    async def run() -> None:
        async with AsyncConnection(server.start().endpoint) as connection:
            await create_table(connection, TABLE)
        load = Load(TABLE, 32, chance)
        with disk.slow(50, 200):
            await load.run(server.endpoint, 100, lambda: None)
            assert load.unanswered == []
            await load.run(server.endpoint, 50, server.kill)
        server.start()
        await audit(server, load)

    asyncio.run(run())


def test_reads_go_on_while_the_disk_stands_still(server, disk, chance):
    async def run() -> None:
        async with AsyncConnection(server.start().endpoint) as connection:
            await create_table(connection, TABLE)
            load = Load(TABLE, 8, chance)
            await load.run(server.endpoint, 200, lambda: None)
            stored = {key_of(item): item for item in await read_all(connection, TABLE)}
            async with AsyncConnection(server.endpoint) as writing:
                item = {"owner": {"S": "probe"}, "n": {"S": "0"}}
                with disk.standing_still():
                    put = asyncio.create_task(writing.ok("PutItem", TableName=TABLE, Item=item))
                    assert {key_of(one): one for one in await read_all(connection, TABLE)} == stored
                    found = await connection.ok(
                        "GetItem", TableName=TABLE, Key=item, ConsistentRead=True
                    )
                    # What is not on the disk is not there.
                    assert "Item" not in found
                    assert not put.done()
                await put
        await audit(server, load)

    asyncio.run(run())
