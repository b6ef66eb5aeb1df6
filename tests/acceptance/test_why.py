"""`streamtable log why` on a real node, beside a real worker whose triggers do all they can do."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.support.commands import BIN, Background, run
from tests.support.server import Server, client_settings
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

APP = """
from streamtable import App, Change
from streamtable.where import new

app = App("why_of_test")

@app.trigger("things")
async def fine(change: Change) -> None:
    pass

@app.trigger("things", on="REMOVE")
async def mourner(change: Change) -> None:
    pass

@app.trigger("things", where=new.n > 5)
async def big(change: Change) -> None:
    pass

@app.trigger("things", start="LATEST")
async def late(change: Change) -> None:
    pass

@app.trigger("things")
async def stubborn(change: Change) -> None:
    if change.new is not None and change.new["n"] == 1:
        raise ValueError("not this one")

@app.trigger("things", retries=1)
async def strict(change: Change) -> None:
    if change.new is not None and change.new["n"] == 1:
        raise ValueError("never this one")

@app.view("things_by_n", source="things", key=("n", "id"), types={"n": "N"})
def things_by_n(thing: dict) -> dict:
    return {"n": thing["n"], "id": thing["id"]}
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path / "data").start()
    yield running
    running.stop()


def outcomes(node: Server, *key: str) -> list[dict[str, dict[str, Any]]]:
    """By change, by consumer, what became of it."""
    options = ("--json", "--endpoint", node.endpoint)
    code, out, err = run("log", "why", "things", *key, *options)
    assert (code, err) == (0, "")
    return [
        {each["consumer"].partition("/")[2]: each for each in json.loads(line)["consumers"]}
        for line in out.splitlines()
    ]


def test_what_became_of_each_change(node: Server, tmp_path: Path) -> None:
    client = boto3.client(**client_settings(node.endpoint))
    client.create_table(
        TableName="things",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )

    def put(key: str, n: int) -> None:
        client.put_item(TableName="things", Item={"id": {"S": key}, "n": {"N": str(n)}})

    put("a", 1)
    put("a", 2)
    path = tmp_path / "why_app.py"
    path.write_text(APP)
    command = [str(BIN / "streamtable"), "worker", f"{path}:app", "--endpoint", node.endpoint]

    with Background(command, tmp_path / "worker.log"):

        def settled() -> list[dict[str, dict[str, Any]]] | None:
            found = outcomes(node, "id=a")
            last = found[-1]
            if found[0].get("strict", {}).get("outcome") != "dead letter" or len(last) < 7:
                return None
            names = ("fine", "strict", "things_by_n")
            parked = found[0]["stubborn"]["outcome"] == last["stubborn"]["outcome"] == "parked"
            done = all(last[name]["outcome"] == "done" for name in names)
            return found if parked and done else None

        first, second = wait_until(settled, "the worker to have done what it can", 60)
        assert {name: each["outcome"] for name, each in first.items()} == {
            "fine": "done",
            "mourner": "filtered",
            "big": "filtered",
            "late": "before its start",
            "stubborn": "parked",
            "strict": "dead letter",
            "things_by_n": "done",
        }
        assert first["stubborn"]["attempts"] >= 1
        assert first["stubborn"]["error"]["message"] == "not this one"
        assert first["strict"]["attempts"] == 2
        assert first["strict"]["error"]["message"] == "never this one"
        # It waits behind the first change of its item.
        assert second["stubborn"]["attempts"] == 0
        assert second["strict"]["outcome"] == "done"

    code, _, err = run("triggers", "pause", "why_of_test/fine", "--endpoint", node.endpoint)
    assert code == 0, err
    put("a", 7)
    _, _, third = outcomes(node, "id=a")
    assert third["fine"]["outcome"] == "not there yet"
    assert third["fine"]["paused"] is True
    assert third["big"]["outcome"] == "not there yet"
    assert third["mourner"]["outcome"] == "filtered"
    assert third["things_by_n"]["outcome"] == "not there yet"
    code, out, _ = run("log", "why", "things", "id=a", "--endpoint", node.endpoint)
    assert code == 0
    assert "why_of_test/strict" in out
    assert "dead letter, 2 attempts: ValueError: never this one (why_of_test/strict/" in out
    client.close()
