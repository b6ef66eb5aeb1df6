"""A full disk: writes fail and may be tried again, reads go on, nothing answered is lost."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.audit import check_indexes, check_stream, read_all
from tests.support.load import AsyncConnection, Load, create_table, key_of
from tests.support.server import Server

pytestmark = [pytest.mark.faults, pytest.mark.slow]

TABLE = "exact"
LEFT_BYTES = 3 * 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", folder],
        capture_output=True, text=True, check=False,
    ) if os.geteuid() == 0 else None  # fmt: skip
    if mounted is None or mounted.returncode != 0:
        why = "this is not root" if mounted is None else mounted.stderr.strip()
        pytest.skip(f"a small file system can't be mounted here: {why}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(ballast: Path) -> None:
    """Leave only a little room beside the server's files."""
    free = os.statvfs(ballast.parent)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - LEFT_BYTES)


async def audit(endpoint: str, load: Load) -> None:
    async with AsyncConnection(endpoint) as connection:
        stored = {key_of(item): item for item in await read_all(connection, TABLE)}
        history = load.settle(stored)
        await check_indexes(connection, TABLE)
        await check_stream(connection, TABLE, history, probes="probe")


async def until_written(connection: AsyncConnection, key: str) -> None:
    """Write an item, as often as that takes."""
    deadline = asyncio.get_running_loop().time() + 60
    item = {"owner": {"S": key}, "n": {"S": "0"}}
    while True:
        status, answer = await connection.call("PutItem", {"TableName": TABLE, "Item": item})
        if status == 200:
            return
        assert status >= 500, answer
        assert asyncio.get_running_loop().time() < deadline, answer


def test_a_full_disk_refuses_writes_and_nothing_else(small_disk, tmp_path, chance):
    ballast = small_disk / "ballast"
    (small_disk / "data").mkdir()
    # What the server says goes beside it, where there is room.
    data = tmp_path / "data"
    data.symlink_to(small_disk / "data")
    server = Server(data)

    async def run() -> None:
        async with AsyncConnection(server.start().endpoint) as connection:
            await create_table(connection, TABLE)
        load = Load(TABLE, 32, chance)
        await load.run(server.endpoint, 500, lambda: None)
        fill(ballast)
        # Every connection ends with an answer that says: try again.
        with pytest.raises(AssertionError, match="no more answers"):
            await load.run(server.endpoint, 1_000_000, lambda: None)
        assert len(load.unanswered) == len(load.workers)
        # Or: a transaction that waits for a shard holds the item.
        again = ("500", "503", "TransactionConflictException")
        assert [said for said in load.unanswered if not said.startswith(again)] == []
        async with AsyncConnection(server.endpoint) as connection:
            for worker in load.workers:
                for key, item in worker.items.items():
                    if key not in worker.unsure:
                        found = await connection.ok(
                            "GetItem",
                            TableName=TABLE,
                            Key={"owner": {"S": key[0]}, "n": {"S": key[1]}},
                            ConsistentRead=True,
                        )
                        assert found["Item"]["op"] == item["op"]
            ballast.unlink()
            for number in range(32):
                await until_written(connection, f"probe {number}")
        await audit(server.endpoint, load)
        await load.run(server.endpoint, 500, server.kill)
        server.start()
        await audit(server.endpoint, load)

    try:
        asyncio.run(run())
    finally:
        if server.endpoint:
            print(server.output()[-5000:])
            server.kill()
