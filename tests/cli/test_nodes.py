"""`streamtable init`, `shards` and `drain`."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from aiokafka.errors import TopicAuthorizationFailedError

from streamtable.cli.brokers import brokers_needed
from streamtable.cli.output import Failure
from streamtable.cli.reshard import _step
from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.group_offsets import GroupOffsets
from tests.support.commands import error_line, run
from tests.support.server import Server, client_settings


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("nodes") / "data").start()
    try:
        yield running
    finally:
        running.stop()


def test_shards_tells_what_is_written_to_them(server: Server) -> None:
    client: Any = boto3.client(**client_settings(server.endpoint))
    client.create_table(
        TableName="users",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for number in range(10):
        client.put_item(TableName="users", Item={"id": {"S": "ada"}, "n": {"N": str(number)}})
    code, out, err = run("shards", "--json", "--endpoint", server.endpoint)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert [each["shard"] for each in found] == [0, 1, 2, 3]
    assert all(each["serving"] and each["error"] is None and each["epoch"] for each in found)
    [written] = [each for each in found if each["busiest"]]
    assert written["busiest"] == [{"table": "users", "keys": {"id": {"S": "ada"}}, "share": 1.0}]
    assert written["writes_per_s"] == 1.0
    assert written["last"] == written["barrier"] + 10
    code, out, _ = run("shards", "--endpoint", server.endpoint)
    assert code == 0
    assert "users id=ada 100%" in " ".join(out.split())


def test_a_node_that_is_alone_has_nobody_to_hand_over_to(server: Server) -> None:
    line = error_line("drain", "--endpoint", server.endpoint)
    assert "there is no other node" in line


async def test_init_makes_the_topics_once(tmp_path: Path) -> None:
    broker = Broker(BrokerSettings(data=tmp_path / "broker", port=0))
    await broker.start()
    try:
        how = ("init", "--kafka", broker.address, "--region", "north")
        code, out, err = await asyncio.to_thread(run, *how, "--shards", "7")
        assert (code, err) == (0, "")
        assert out == "the region north has a change log of 7 shards: north.changelog\n"
        assert await asyncio.to_thread(run, *how) == (0, out, "")
        line = await asyncio.to_thread(error_line, *how, "--shards", "8")
        assert "has 7 shards, not 8" in line
    finally:
        await broker.stop()


def test_init_without_a_broker() -> None:
    line = error_line("init", "--kafka", "127.0.0.1:9")
    assert "no Kafka broker answers at 127.0.0.1:9: Connection refused" in line


def test_init_takes_no_name_that_serve_would_not_take() -> None:
    line = error_line("init", "--kafka", "127.0.0.1:9", "--region", "Europe")
    assert "--region Europe: " in line


async def test_a_node_that_can_not_start_leaves_the_group(tmp_path: Path, server: Server) -> None:
    """Started again and again, it would keep its shards from the others."""
    broker = Broker(BrokerSettings(data=tmp_path / "broker", port=0))
    await broker.start()
    group = GroupOffsets(broker.address, "local.changelog")
    try:
        used = server.endpoint.rpartition(":")[2]
        how = ("serve", "--data", str(tmp_path / "data"), "--kafka", broker.address, "--port", used)
        assert "is taken" in await asyncio.to_thread(error_line, *how)
        assert await group.members("local.tables") == 0
    finally:
        await group.stop()
        await broker.stop()


async def test_what_brokers_refuse_is_told_in_a_line() -> None:
    with pytest.raises(Failure, match=r"Kafka at a:1 refuses what is needed.*local\.changelog"):
        async with brokers_needed("a:1", None):
            raise TopicAuthorizationFailedError("local.changelog")


def test_what_reshard_says_where_there_is_nothing_to_do(server: Server) -> None:
    at = ("--endpoint", server.endpoint)
    assert run("reshard", "--shards", "4", *at) == (0, "the region has 4 shards\n", "")
    assert run("reshard", "--cancel", *at) == (0, "nothing is under way\n", "")
    line = error_line("reshard", "--shards", "6", *at)
    assert "can be made a multiple of that" in line
    assert "8, 12, 16 and so on. It can't be made 6." in line
    assert "goes without --shards" in error_line("reshard", "--cancel", "--shards", "8", *at)


def test_reshard_says_what_a_new_shard_waits_for() -> None:
    found = {"shards": 8, "reshard": None, "failed": None, "waiting": False, "cleaning": 0}
    errors = ["shard 5 is not served: no rows", "no checkpoint: away"]
    assert _step({**found, "errors": errors}) == "waiting: " + "; ".join(errors)
    assert _step({**found, "errors": []}) == ""
