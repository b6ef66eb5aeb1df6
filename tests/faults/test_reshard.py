"""More shards while everything goes on: nothing is lost, doubled, out of order or in two places."""

import asyncio
import json
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest

from streamtable.core.operations.expire import EXPIRY_SERVICE
from streamtable.core.visibility import AFTER_HEADER, POSITION_HEADER, WAIT_HEADER
from tests.support.audit import check_indexes, check_stream, read_all, stream_records
from tests.support.commands import BIN, Background, run
from tests.support.load import (
    INDEXES,
    AsyncConnection,
    Item,
    Key,
    Load,
    State,
    create_table,
    key_of,
)
from tests.support.reshard import page, resharded
from tests.support.server import Server, client_settings
from tests.support.topics import read_topic
from tests.support.waiting import until, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

TABLE = "grown"
OTHER = "filled"
PAINTS = "paints"
PAINTERS = {"red": "Ada", "green": "Grace"}
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

@app.join("grown_painted", left="grown", right="paints", on=("color", "color"),
          key=("color", "item"))
def painted(item: dict, paint: dict) -> dict:
    return {"color": paint["color"], "item": item["owner"] + "/" + item["n"], "by": paint["by"]}
"""


async def make_tables(endpoint: str) -> None:
    """Make the load's table, and the one that it is joined with: some colors have no paint."""
    async with AsyncConnection(endpoint) as connection:
        await create_table(connection, TABLE)
        await connection.ok(
            "CreateTable",
            TableName=PAINTS,
            KeySchema=[{"AttributeName": "color", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "color", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        for color, by in PAINTERS.items():
            paint = {"color": {"S": color}, "by": {"S": by}}
            await connection.ok("PutItem", TableName=PAINTS, Item=paint)


class Followers:
    """A worker with a trigger, a view, an aggregate and a join on the table."""

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
        colored = [
            (each["color"]["S"], "/".join(key_of(each))) for each in items if "color" in each
        ]
        colors = Counter(color for color, _ in colored)
        joined = {(color, key, PAINTERS[color]) for color, key in colored if color in PAINTERS}

        async def views_are_right() -> bool:
            rows = await _rows(connection, "grown_by_op")
            counts = await _rows(connection, "grown_colors")
            pairs = await _rows(connection, "grown_painted")
            return (
                {(row["op"]["S"], row["key"]["S"]) for row in rows} == ops
                and {row["color"]["S"]: int(row["items"]["N"]) for row in counts} == colors
                and {tuple(row[name]["S"] for name in ("color", "item", "by")) for row in pairs}
                == joined
            )

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
        await make_tables(server.start().endpoint)
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
        # Of a node that has lost its disk the logs alone are left, over both splits.
        server.kill()
        server.options = ()
        for lost in ("shards", "checkpoints"):
            shutil.rmtree(server.data / lost)
        server.start()
        assert await audit(server.endpoint, load) == history

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


def test_what_was_there_before_a_split_is_there_after_it(server, followers):
    """Expiry, an index that is filled, positions, tokens, an item's history, copies, streams."""
    asyncio.run(_tables(server.start().endpoint))
    server.kill()
    # It looks once for what has expired, as it starts, and knows all expiry rows from then on.
    server.options = (*server.options, "--ttl-interval-s", "3600")
    client = boto3.client(**client_settings(server.start().endpoint))
    followers.start(server.endpoint)
    for number in range(40):
        client.put_item(TableName=OTHER, Item=_item(number, due={"N": str(int(time.time()) - 9)}))
    stream = {"TableName": TABLE, "StreamArn": "arn:aws:kinesis:eu-central-1:000000000000:stream/a"}
    client.enable_kinesis_streaming_destination(**stream)
    written = [_put(client, number) for number in range(9)]
    positions = [each["ResponseMetadata"]["HTTPHeaders"][POSITION_HEADER] for each in written]
    index = {**INDEXES["by-color"], "Projection": {"ProjectionType": "ALL"}}
    client.update_table(
        TableName=OTHER,
        AttributeDefinitions=[{"AttributeName": "color", "AttributeType": "S"}],
        GlobalSecondaryIndexUpdates=[{"Create": index}],
    )
    page(server.endpoint, "reshard", {"shards": AFTER})
    asyncio.run(resharded(server.endpoint, AFTER))
    [filled] = client.describe_table(TableName=OTHER)["Table"]["GlobalSecondaryIndexes"]
    assert filled["IndexStatus"] == "ACTIVE"
    # Nothing has expired so far.
    assert client.scan(TableName=OTHER, IndexName="by-color")["Count"] == 40
    # A view shows what was written before the split to whoever names that.
    client.meta.events.register(
        "before-call.dynamodb",
        lambda params, **_: params["headers"].update({
            AFTER_HEADER: ",".join(positions), WAIT_HEADER: "10000"
        }),
    )  # fmt: skip
    wait_until(lambda: _is_active(client, "grown_by_op"), "the view")
    assert client.scan(TableName="grown_by_op")["Count"] == 9
    moved = _moved(server.endpoint)
    assert moved
    _check_history(server.endpoint, client, moved[0])
    told = {f"owner {number}": [f"before {number}"] for number in range(9)}
    told[f"owner {moved[0]}"].append("after")
    wait_until(lambda: _copied(server.broker) == told, "the copy for Kafka's tools")
    server.kill()
    followers.kill()
    server.options = ("--ttl-interval-s", "0.2")
    client = boto3.client(**client_settings(server.start().endpoint))
    wait_until(lambda: not client.scan(TableName=OTHER)["Count"], "all to expire")
    asyncio.run(_check_removals(server.endpoint))


async def _tables(endpoint: str) -> None:
    await make_tables(endpoint)
    async with AsyncConnection(endpoint) as connection:
        await create_table(connection, OTHER, indexes=False)
        await connection.ok(
            "UpdateTimeToLive",
            TableName=OTHER,
            TimeToLiveSpecification={"Enabled": True, "AttributeName": "due"},
        )


def _item(number: int, **more: Any) -> Item:
    keys = {"owner": {"S": f"owner {number}"}, "n": {"S": "0"}}
    return {**keys, "op": {"S": f"before {number}"}, "color": {"S": "red"}, **more}


def _put(client: Any, number: int) -> Any:
    """Put an item in a transaction with a token: the same again changes nothing."""
    put = {"TableName": TABLE, "Item": _item(number)}
    return client.transact_write_items(
        TransactItems=[{"Put": put}], ClientRequestToken=f"token {number}"
    )


def _is_active(client: Any, table: str) -> bool:
    if table not in client.list_tables()["TableNames"]:
        return False
    return bool(client.describe_table(TableName=table)["Table"]["TableStatus"] == "ACTIVE")


def _moved(endpoint: str) -> list[int]:
    """Which of the table's items are on a shard that was split off another."""
    asked = {n: f"why?table={TABLE}&key=owner%3Downer+{n}+n%3D0" for n in range(9)}
    return [n for n, query in asked.items() if page(endpoint, query)["then"] is not None]


def _check_history(endpoint: str, client: Any, number: int) -> None:
    """An item's changes of before and after the split are told in one."""
    client.put_item(TableName=TABLE, Item=_item(number, op={"S": "after"}))
    # Its token is known where the item is now: this is no new put.
    _put(client, number)
    key = [f"owner=owner {number}", "n=0"]
    code, out, error = run("log", "why", TABLE, *key, "--json", "--endpoint", endpoint)
    assert code == 0, error
    changes = [json.loads(line) for line in out.splitlines()]
    said = [change["dynamodb"]["NewImage"]["op"]["S"] for change in changes]
    assert said == [f"before {number}", "after"]
    parent, child = [change["shard"] for change in changes]
    assert parent == child % BEFORE != child


def _copied(kafka: str) -> dict[str, list[str]]:
    """What the copy of the table for Kafka's tools tells of each item, in order."""
    found: dict[str, list[str]] = {}
    for message in asyncio.run(read_topic(kafka, f"local.table.{TABLE}")):
        image = message.value["dynamodb"]["NewImage"]
        found.setdefault(image["owner"]["S"], []).append(image["op"]["S"])
    return found


async def _check_removals(endpoint: str) -> None:
    """Each item was removed once, by the service, on the shard that it has gone to."""
    async with AsyncConnection(endpoint) as connection:
        shards = await stream_records(connection, OTHER)
        parents, children = shards[:BEFORE], shards[BEFORE:]
        removed = [each for records in children for each in records]
        assert {each["eventName"] for records in parents for each in records} == {"INSERT"}
        assert {each["eventName"] for each in removed} == {"REMOVE"}
        assert {each["userIdentity"]["PrincipalId"] for each in removed} == {EXPIRY_SERVICE}
        assert sorted(key_of(each["dynamodb"]["Keys"])[0] for each in removed) == sorted(
            f"owner {number}" for number in range(40)
        )
        await check_ends(connection)


async def check_ends(connection: AsyncConnection) -> None:
    """Who reads a shard that was split comes to its end; the others go on."""
    [listed] = (await connection.ok("ListStreams", TableName=OTHER))["Streams"]
    arn = listed["StreamArn"]
    stream = (await connection.ok("DescribeStream", StreamArn=arn))["StreamDescription"]
    for shard in stream["Shards"]:
        ends = "EndingSequenceNumber" in shard["SequenceNumberRange"]
        asked = {"StreamArn": arn, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        iterator = (await connection.ok("GetShardIterator", **asked))["ShardIterator"]
        for _ in range(10):
            answer = await connection.ok("GetRecords", ShardIterator=iterator)
            iterator = answer.get("NextShardIterator")
            if iterator is None:
                break
        assert (iterator is None) == ends


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
    await make_tables(endpoints[0])
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
