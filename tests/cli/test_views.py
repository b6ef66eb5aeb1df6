"""`streamtable views`, with a worker as a process of its own."""

import asyncio
import json
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from tests.cli.test_commands import run  # type: ignore[attr-defined]
from tests.support.server import Server, client_settings
from tests.support.waiting import wait_until
from tests.support.worker import Worker, create_table, put

CODE = """
@app.view(TABLE + "-view", source=TABLE, key="id")
def rows(item):
    return {"id": item["id"], "n": item["n"]}
"""
ON_A_VIEW = """
@app.view(TABLE + "-view-of-view", source=TABLE + "-view", key="id")
def rows_of_rows(row):
    return {"id": row["id"]}
"""
NOTHING = """
@app.trigger(TABLE)
def follow(change: Change) -> None: ...
"""


@pytest.fixture
def table(client: Any, table_name: str) -> str:
    create_table(client, table_name)
    return table_name


@pytest.fixture
def worker(tmp_path: Path, endpoint: str, table: str) -> Worker:
    return Worker(tmp_path, endpoint, table, CODE)


def command(worker: Worker, *arguments: str) -> Any:
    """What a command prints with --json."""
    code, out, err = run(*arguments, "--json", "--endpoint", worker.endpoint)
    assert code == 0, err
    return json.loads(out)


def refused(worker: Worker, *arguments: str) -> str:
    """What a command says that can't do what it was asked to."""
    code, out, err = run(*arguments, "--endpoint", worker.endpoint)
    assert (code, out) == (1, "")
    return err


def rows(client: Any, table: str) -> dict[str, int]:
    items = client.scan(TableName=f"{table}-view")["Items"]
    return {item["id"]["S"]: int(item["n"]["N"]) for item in items}


def wait_rows(client: Any, table: str, expected: dict[str, int]) -> None:
    def there() -> bool:
        try:
            return rows(client, table) == expected
        except client.exceptions.ResourceNotFoundException:
            return False

    wait_until(there, f"the view to be {expected}")


def built_as(worker: Worker, generation: int) -> list[tuple[str, str, str | None]]:
    """The changes of the table that a generation was built in: event, item, `n` after it."""
    code, out, err = run("log", "tail", "--json", "--no-follow", "--endpoint", worker.endpoint)
    assert code == 0, err
    name = f"{worker.table}-view~{generation}"
    found = [json.loads(line) for line in out.splitlines()]
    return [
        (
            each["eventName"],
            each["dynamodb"]["Keys"]["id"]["S"],
            each["dynamodb"].get("NewImage", {}).get("n", {}).get("N"),
        )
        for each in found
        if each.get("table") == name
    ]


def test_a_rebuild_as_of_a_time_goes_through_what_came_then(client: Any, worker: Worker) -> None:
    table, key = worker.table, f"{worker.app}/{worker.table}-view"
    for item, n in (("changed", "1"), ("gone", "2"), ("same", "3")):
        put(client, table, item, n={"N": n})
    then = time.time() + 0.01
    wait_until(lambda: time.time() > then + 0.01, "the clock to move on")
    put(client, table, "changed", n={"N": "10"})
    put(client, table, "late", n={"N": "4"})
    client.delete_item(TableName=table, Key={"id": {"S": "gone"}})
    expected = {"changed": 10, "same": 3, "late": 4}
    with worker.start() as running:
        wait_rows(client, table, expected)
        as_of = datetime.fromtimestamp(then, UTC).isoformat()
        found = command(worker, "views", "rebuild", key, "--as-of", as_of)
        assert (found["key"], found["generation"]) == (key, 2)
        assert rows(client, table) == expected
        put(client, table, "after", n={"N": "5"})
        wait_rows(client, table, {**expected, "after": 5})
        err = refused(worker, "views", "rebuild", key, "--as-of", "yesterday")
        assert "--as-of yesterday: a time with its zone is wanted" in err
        err = refused(worker, "views", "rebuild", key, "--as-of", "2999-01-01T00:00:00Z")
        assert "--as-of 2999-01-01T00:00:00Z: that is in the future" in err
        assert key in refused(worker, "views", "rebuild", "nothing")  # the views that there are
        assert running.stop() == 0, running.text()
    assert sorted(built_as(worker, 1)) == [
        ("INSERT", "changed", "10"),
        ("INSERT", "late", "4"),
        ("INSERT", "same", "3"),
    ]
    built = built_as(worker, 2)
    assert [each for each in built if each[1] == "changed"] == [
        ("INSERT", "changed", "1"),
        ("MODIFY", "changed", "10"),
    ]
    assert [each for each in built if each[1] == "gone"] == [
        ("INSERT", "gone", "2"),
        ("REMOVE", "gone", None),
    ]
    assert "no worker runs" in refused(worker, "views", "rebuild", key)


def test_a_view_that_is_declared_otherwise_is_rebuilt_as_its_worker_says(
    client: Any, worker: Worker
) -> None:
    table, key = worker.table, f"{worker.app}/{worker.table}-view"
    put(client, table, "a", n={"N": "1"})
    worker.change_code(CODE + ON_A_VIEW)
    with worker.start() as running:
        wait_rows(client, table, {"a": 1})
        running.wait_for(f"{key}-of-view is built: generation 1")
        assert running.stop() == 0, running.text()
        # It waited for its source to be built.
        assert "made again" not in running.text()
    worker.change_code(CODE.replace('key="id"', 'key=("id", "n"), types={"n": "N"}'))
    with worker.start() as running:
        running.wait_for(f"Rebuild it: streamtable views rebuild {table}-view")
        put(client, table, "b", n={"N": "2"})
        wait_until(lambda: worker.consumer(f"{table}-view")["error"], "the node to know")
        assert rows(client, table) == {"a": 1}
        assert command(worker, "views", "rebuild", key)["generation"] == 2
        assert rows(client, table) == {"a": 1, "b": 2}
        assert running.stop() == 0, running.text()


def test_what_was_read_of_a_source_that_is_gone_is_never_served(
    client: Any, worker: Worker
) -> None:
    table, key = worker.table, f"{worker.app}/{worker.table}-view"
    worker.change_code("""
        @app.view(TABLE + "-view", source=TABLE, key="id")
        def rows(item):
            note("asked")
            while not (OUT.parent / "go").exists():
                time.sleep(0.05)
            return {"id": item["id"], "n": item["n"]}
        """)
    put(client, table, "a", n={"N": "1"})
    with worker.start() as running:
        worker.wait_noted(1)
        client.delete_table(TableName=table)
        create_table(client, table)
        (worker.folder / "go").touch()
        running.wait_for(f"{key} is built: generation 2")
        assert f"{key} is built: generation 1" not in running.text()
        assert rows(client, table) == {}
        assert running.stop() == 0, running.text()


def test_letters_of_a_view_are_settled_by_a_rebuild(client: Any, worker: Worker) -> None:
    table, key = worker.table, f"{worker.app}/{worker.table}-view"
    worker.change_code("""
        @app.view(TABLE + "-view", source=TABLE, key="id", on_error="deadletter")
        def rows(item):
            if item["id"] == "bad" and not (OUT.parent / "healed").exists():
                raise ValueError("not yet")
            return {"id": item["id"], "n": item["n"]}
        """)
    with worker.start() as running:
        put(client, table, "good", n={"N": "1"})
        wait_rows(client, table, {"good": 1})
        put(client, table, "bad", n={"N": "2"})
        wait_until(worker.letters, "the dead letter")
        [letter] = worker.letters()
        err = refused(worker, "deadletters", "redrive", letter["id"])
        assert f"{key} is a view: once its function is mended, streamtable views rebuild" in err
        assert worker.letters() == [letter]
        (worker.folder / "healed").touch()
        command(worker, "views", "rebuild", key)
        assert rows(client, table) == {"good": 1, "bad": 2}
        command(worker, "deadletters", "drop", "--trigger", key)
        assert worker.letters() == []
        assert running.stop() == 0, running.text()


def test_a_rebuild_as_of_a_time_that_the_log_has_lost(new_server: Server, tmp_path: Path) -> None:
    server = new_server.start()
    with closing(boto3.client(**client_settings(server.endpoint))) as client:
        create_table(client, "items")
        for n in ("1", "2"):
            put(client, "items", "a", n={"N": n})
        asyncio.run(cut(server))
        worker = Worker(tmp_path, server.endpoint, "items", CODE)
        with worker.start() as running:
            wait_rows(client, "items", {"a": 2})
            as_of = ("--as-of", "2020-01-01T00:00:00Z")
            err = refused(worker, "views", "rebuild", "items-view", *as_of)
            assert "does not reach back to 2020-01-01 00:00:00 UTC" in err
            assert command(worker, "views", "show", "items-view")["generation"] == 1
            assert command(worker, "views", "rebuild", "items-view")["generation"] == 2
            assert rows(client, "items") == {"a": 2}
            assert running.stop() == 0, running.text()
        # And when the log has lost what comes next in the view.
        for n in ("3", "4"):
            put(client, "items", "a", n={"N": n})
        asyncio.run(cut(server))
        with worker.start() as running:
            running.wait_for("records are gone")
            wait_rows(client, "items", {"a": 4})
            assert command(worker, "views", "show", "items-view")["generation"] == 3
            assert running.stop() == 0, running.text()


async def cut(server: Server) -> None:
    """Leave the last record of each shard in the change log, as retention may."""
    address, topic = server.broker, "local.changelog"
    partitions = [TopicPartition(topic, shard) for shard in range(server.node()["shards"])]
    consumer = AIOKafkaConsumer(bootstrap_servers=address)
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await consumer.start()
    await admin.start()
    ends = await consumer.end_offsets(partitions)
    await admin.delete_records(
        {partition: RecordsToDelete(before_offset=end - 1) for partition, end in ends.items()}
    )
    await admin.close()
    await consumer.stop()


def test_a_view_that_is_gone_from_the_code_is_dropped(client: Any, worker: Worker) -> None:
    table, key = worker.table, f"{worker.app}/{worker.table}-view"
    put(client, table, "a", n={"N": "1"})
    with worker.start() as running:
        wait_rows(client, table, {"a": 1})
        wait_until(
            lambda: command(worker, "views", "show", key)["workers"], "the worker to be known"
        )
        err = refused(worker, "views", "drop", key)
        assert f"run {key}: take it out of the app, or stop them, first" in err
        assert running.stop() == 0, running.text()
    err = refused(worker, "triggers", "remove", key)
    assert f"{key} is a view, and has a table: streamtable views drop {key} removes both" in err
    assert rows(client, table) == {"a": 1}
    worker.change_code(NOTHING)
    with worker.start() as running:
        running.wait_for("follow is new and begins")
        err = refused(worker, "views", "drop", f"{worker.app}/follow")
        assert "is a trigger, no view" in err
        assert command(worker, "views", "drop", key) == {"dropped": [f"{table}-view"]}
        assert f"there is no {key}" in refused(worker, "views", "show", key)
        wait_until(
            lambda: f"{table}-view" not in client.list_tables()["TableNames"], "its table to go"
        )
        assert running.stop() == 0, running.text()
    worker.change_code(CODE)
    with worker.start():
        wait_rows(client, table, {"a": 1})


def test_a_view_that_could_not_be_built_is_dropped_and_the_table_of_its_name_stays(
    client: Any, worker: Worker
) -> None:
    table = worker.table
    create_table(client, f"{table}-view")
    running = worker.start()
    assert running.process.wait(60) == 1
    assert f"{table}-view is a table, so the view" in running.text()
    assert command(worker, "views", "drop", f"{worker.app}/{table}-view") == {"dropped": []}
    assert rows(client, table) == {}
