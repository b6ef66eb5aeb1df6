"""More shards while everything goes on: nothing is lost, doubled, out of order or in two places."""

import asyncio
import json
import os
import random
import shutil
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.audit import check_indexes, check_stream, read_all
from tests.support.commands import BIN, Background, run
from tests.support.load import AsyncConnection, Item, Key, Load, State, create_table, key_of
from tests.support.server import Server
from tests.support.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

TABLE = "grown"
BEFORE = 2
AFTER = 6

APP = """
import json, os
from streamtable import App, Change, Count

app = App("follow")
out = open(os.environ["NOTES"], "a")

@app.trigger("grown")
async def note(change: Change) -> None:
    at, new = change.position, change.new
    said = None if new is None else str(new.get("op", new.get("added")))
    seen = [[at.shard, at.offset, at.index], change.keys["owner"], change.keys["n"], said]
    out.write(json.dumps(seen) + "\\n")
    out.flush()

@app.view("grown_by_op", source="grown", key=("op", "key"))
def by_op(item: dict) -> dict | None:
    if "op" not in item:
        return None
    return {"op": item["op"], "key": item["owner"] + "/" + item["n"]}

@app.aggregate("grown_colors", source="grown", key="color", measures={"items": Count()})
def colors(item: dict) -> dict | None:
    return {"color": item["color"]} if "color" in item else None
"""


def page(endpoint: str, name: str, body: dict[str, Any] | None = None) -> Any:
    """Ask a node's page, or have it do something."""
    request = urllib.request.Request(
        f"{endpoint}/_streamtable/{name}",
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


async def resharded(endpoint: str, shards: int) -> dict[str, Any]:
    """Wait until a region has so many shards, and each only its own rows."""

    def done() -> Any:
        found = page(endpoint, "reshard")
        assert found["failed"] is None, found
        left = found["reshard"] or found["waiting"] or found["cleaning"]
        return found if found["shards"] == shards and not left else None

    return await until(lambda: asyncio.to_thread(done), f"{shards} shards", 60)


class Followers:
    """A worker with a trigger, a view and an aggregate on the table."""

    def __init__(self, folder: Path) -> None:
        self._notes = folder / "notes"
        self._notes.touch()
        self._folder = folder
        (folder / "follow.py").write_text(APP)
        self._running: Background | None = None

    def start(self, endpoint: str) -> None:
        self._running = Background(
            [str(BIN / "streamtable"), "worker", f"{self._folder}/follow.py:app",
             "--endpoint", endpoint],
            self._folder / "worker.log",
            env={**os.environ, "NOTES": str(self._notes)},
        )  # fmt: skip

    def kill(self) -> None:
        if self._running is not None:
            self._running.kill()

    def seen(self) -> dict[Key, list[str | None]]:
        """What the trigger was told of each item, in order; what came again only once."""
        found: dict[Key, list[str | None]] = {}
        known = set()
        for line in self._notes.read_text().split("\n")[:-1]:
            at, owner, n, said = json.loads(line)
            if tuple(at) not in known:
                known.add(tuple(at))
                found.setdefault((owner, n), []).append(said)
        return found

    async def check(self, connection: AsyncConnection, history: dict[Key, list[State]]) -> None:
        """Wait until all of them have come to what the table's history says."""
        expected = {key: [_said(state) for state in states] for key, states in history.items()}
        expected = {key: states for key, states in expected.items() if states}
        count = sum(map(len, expected.values()))
        await until(
            lambda: sum(map(len, self.seen().values())) >= count, f"{count} changes to be seen"
        )
        assert self.seen() == expected
        items = await read_all(connection, TABLE)
        ops = {(each["op"]["S"], "/".join(key_of(each))) for each in items if "op" in each}
        colors: dict[str, int] = {}
        for each in items:
            if "color" in each:
                colors[each["color"]["S"]] = colors.get(each["color"]["S"], 0) + 1

        async def views_are_right() -> bool:
            rows = await _rows(connection, "grown_by_op")
            counts = await _rows(connection, "grown_colors")
            shown = {(row["op"]["S"], row["key"]["S"]) for row in rows}
            return shown == ops and colors == {
                row["color"]["S"]: int(row["items"]["N"]) for row in counts
            }

        await until(views_are_right, "the views to be what the table implies")


def _said(state: State) -> str | None:
    if state is None:
        return None
    return state["op"]["S"] if "op" in state else str(state["added"]["N"])


async def _rows(connection: AsyncConnection, table: str) -> list[Item]:
    status, found = await connection.call("DescribeTable", {"TableName": table})
    there = status == 200 and found["Table"]["TableStatus"] == "ACTIVE"
    return await read_all(connection, table) if there else []


async def audit(endpoint: str, load: Load) -> dict[Key, list[State]]:
    """Compare items, indexes and stream with what was answered, and with one another."""
    async with AsyncConnection(endpoint) as connection:
        stored = {key_of(item): item for item in await read_all(connection, TABLE)}
        history = load.settle(stored)
        await check_indexes(connection, TABLE)
        await check_stream(connection, TABLE, history)
    return history


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "data", "--shards", str(BEFORE))
    yield made
    if made.endpoint:
        made.kill()


@pytest.fixture
def followers(tmp_path: Path) -> Iterator[Followers]:
    made = Followers(tmp_path)
    yield made
    made.kill()


def test_shards_are_split_under_load(server, followers, chance):
    async def going_on() -> None:
        async with AsyncConnection(server.start().endpoint) as connection:
            await create_table(connection, TABLE)
        followers.start(server.endpoint)
        load = Load(TABLE, 16, chance)

        async def reshard(count: int) -> None:
            command = ["reshard", "--shards", str(count), "--endpoint", server.endpoint]
            code, out, error = await asyncio.to_thread(run, *command)
            assert code == 0, error
            print(out)
            assert f"the region has {count} shards" in out

        await load.run(server.endpoint, 600, partial(reshard, AFTER))
        async with AsyncConnection(server.endpoint) as connection:
            await check_lineage(connection)
        await load.run(server.endpoint, 300, partial(reshard, 2 * AFTER))
        await load.run(server.endpoint, 200, lambda: None)
        assert not load.unanswered
        history = await audit(server.endpoint, load)
        async with AsyncConnection(server.endpoint) as connection:
            await followers.check(connection, history)

    asyncio.run(going_on())


async def check_lineage(connection: AsyncConnection) -> None:
    """The stream's old shards are closed, and the new ones name them."""
    [listed] = (await connection.ok("ListStreams", TableName=TABLE))["Streams"]
    arn = listed["StreamArn"]
    stream = (await connection.ok("DescribeStream", StreamArn=arn))["StreamDescription"]
    shards = {each["ShardId"]: each for each in stream["Shards"]}
    parents = [name for name, each in shards.items() if "ParentShardId" not in each]
    assert len(parents) == BEFORE
    assert len(shards) == BEFORE + AFTER
    for name, shard in shards.items():
        numbers = shard["SequenceNumberRange"]
        assert ("EndingSequenceNumber" in numbers) == (name in parents)
        if name not in parents:
            end = shards[shard["ParentShardId"]]["SequenceNumberRange"]["EndingSequenceNumber"]
            assert end < numbers["StartingSequenceNumber"]
    for parent in parents:
        answer = await connection.ok(
            "DescribeStream",
            StreamArn=arn,
            ShardFilter={"Type": "CHILD_SHARDS", "ShardId": parent},
        )
        children = answer["StreamDescription"]["Shards"]
        assert {each["ParentShardId"] for each in children} == {parent}
        assert len(children) == AFTER // BEFORE


def test_a_node_that_is_killed_in_each_phase_goes_on_by_itself(server, chance):
    async def killed(phase: str) -> None:
        """Kill it some moments after it has come to a phase, or past it."""

        def is_there() -> bool:
            found = page(server.endpoint, "reshard")
            reshard = found["reshard"]
            return found["shards"] == AFTER or (reshard is not None and reshard["phase"] == phase)

        await until(lambda: asyncio.to_thread(is_there), phase)
        await asyncio.sleep(chance.random() * 0.1)
        server.kill()

    async def begun() -> None:
        page(server.endpoint, "reshard", {"shards": AFTER})
        await killed("copying")

    async def going_on() -> None:
        async with AsyncConnection(server.start().endpoint) as connection:
            await create_table(connection, TABLE)
        load = Load(TABLE, 16, chance)
        await load.run(server.endpoint, 300, begun)
        # How many there are is for the catalog to say.
        server.options = ()
        for phase in ("swapping", "swapped"):
            server.start()
            async with AsyncConnection(server.endpoint) as connection:
                load.settle({key_of(item): item for item in await read_all(connection, TABLE)})
            await load.run(server.endpoint, 50, partial(killed, phase))
        server.start()
        await resharded(server.endpoint, AFTER)
        await audit(server.endpoint, load)
        server.kill()
        forget_what_came_after_the_split(server.data)
        server.start()
        await resharded(server.endpoint, AFTER)
        await audit(server.endpoint, load)

    asyncio.run(going_on())


def forget_what_came_after_the_split(data: Path) -> None:
    """Leave the log, and the checkpoints that were taken before the split."""
    shutil.rmtree(data / "shards")
    manifests = list((data / "checkpoints").glob("**/manifests/*.json"))
    old = [each for each in manifests if json.loads(each.read_text())["shards"] == BEFORE]
    assert len({each.parent for each in old}) == BEFORE
    for each in manifests:
        if each not in old:
            each.unlink()


async def grow(endpoints: list[str], chance: random.Random, followers: Followers | None) -> None:
    """Make the number of shards larger under load on several nodes, and compare everything."""
    async with AsyncConnection(endpoints[0]) as connection:
        await create_table(connection, TABLE)
    if followers is not None:
        followers.start(endpoints[-1])
    load = Load(TABLE, 16, chance)

    async def reshard() -> None:
        page(endpoints[-1], "reshard", {"shards": AFTER})
        found = await resharded(endpoints[0], AFTER)
        print(f"requests waited {found['paused_s'] * 1000:.0f} ms")

    await load.run(endpoints, 400, reshard)
    await load.run(endpoints, 200, lambda: None)
    assert not load.unanswered
    for endpoint in endpoints:
        history = await audit(endpoint, load)
    if followers is not None:
        async with AsyncConnection(endpoints[0]) as connection:
            await followers.check(connection, history)


@pytest.mark.kafka
def test_several_nodes_change_the_number_together(apache, tmp_path, followers, chance, table_name):
    nodes = [
        Server(
            tmp_path / f"node-{number}",
            "--kafka", apache.address, "--region", table_name, "--shards", str(BEFORE),
            "--checkpoints", str(tmp_path / "checkpoints"),
        )
        for number in range(3)
    ]  # fmt: skip
    try:
        endpoints = [node.start().endpoint for node in nodes]
        asyncio.run(grow(endpoints, chance, followers))
    finally:
        for node in nodes:
            if node.endpoint:
                node.kill()


def test_the_processes_of_one_node_change_the_number_together(tmp_path, chance):
    server = Server(tmp_path / "data", "--shards", str(BEFORE), "--workers", "2")
    try:
        asyncio.run(grow([server.start().endpoint], chance, None))
    finally:
        if server.endpoint:
            server.kill()
