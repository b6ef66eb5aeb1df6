"""`streamtable triggers`, `deadletters` and `lag`, with workers as processes of their own."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_commands import run  # type: ignore[attr-defined]
from tests.support.waiting import wait_until
from tests.support.worker import FOLLOW, Worker, create_table, put


@pytest.fixture
def table(client: Any, table_name: str) -> str:
    create_table(client, table_name)
    return table_name


@pytest.fixture
def worker(tmp_path: Path, endpoint: str, table: str) -> Iterator[Worker]:
    made = Worker(tmp_path, endpoint, table, FOLLOW)
    yield made
    for each in command(made, "triggers", "list", "--all"):
        if each["app"] == made.app:
            remove = ["triggers", "remove", each["key"], "--endpoint", endpoint]
            wait_until(lambda remove=remove: run(*remove)[0] == 0, "its group to be empty")  # type: ignore[misc]


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


def listed(worker: Worker, name: str = "follow") -> dict[str, Any]:
    [found] = [
        each
        for each in command(worker, "triggers", "list")
        if each["key"] == f"{worker.app}/{name}"
    ]
    return dict(found)


def until_listed(worker: Worker, what: Callable[[dict[str, Any]], Any], why: str) -> None:
    # By the node's page: a command for each look would take the machine from those it waits for.
    wait_until(lambda: what(worker.consumer("follow")), why)


def test_pausing_keeps_the_position_and_resuming_goes_on_there(client: Any, worker: Worker) -> None:
    key = f"{worker.app}/follow"
    put(client, worker.table, "a")
    with worker.start() as running:
        worker.wait_noted(1)
        assert command(worker, "triggers", "pause", key)["paused"] is True
        assert listed(worker)["state"] == "paused"
        put(client, worker.table, "b")
        until_listed(worker, lambda found: found["lag"] > 0, "the change to be behind")
        running.wait_for("follow is paused")
        assert worker.noted() == ["INSERT a"]
        [lag] = [each for each in command(worker, "lag") if each["key"] == key]
        assert lag["lag"] > 0
        assert lag["lag_s"] > 0
        command(worker, "triggers", "resume", key)
        assert worker.wait_noted(2) == ["INSERT a", "INSERT b"]
        until_listed(worker, lambda found: found["lag"] == 0, "it to be at the end")
        assert len(listed(worker)["workers"]) == 1
    assert listed(worker)["state"] == "no worker"
    with worker.start():
        put(client, worker.table, "c")
        assert worker.wait_noted(3)[2] == "INSERT c"


def test_a_reset_has_changes_again_or_leaves_them_out(client: Any, worker: Worker) -> None:
    key = f"{worker.app}/follow"
    for item in "ab":
        put(client, worker.table, item)
    with worker.start():
        worker.wait_noted(2)
        err = refused(worker, "triggers", "reset", key, "--to", "yesterday")
        assert "'yesterday' is no start: write LATEST, TRIM_HORIZON, a time" in err
        found = command(worker, "triggers", "reset", key, "--to", "TRIM_HORIZON")
        assert (found["generation"], found["paused"]) == (2, False)
        assert sorted(worker.wait_noted(4)[2:]) == ["INSERT a", "INSERT b"]
    command(worker, "triggers", "pause", key)
    put(client, worker.table, "c")
    found = command(worker, "triggers", "reset", key, "--to", "LATEST")
    assert (found["generation"], found["paused"]) == (3, True)
    put(client, worker.table, "d")
    command(worker, "triggers", "resume", key)
    with worker.start():
        assert worker.wait_noted(5)[4:] == ["INSERT d"]


def test_a_reset_waits_for_the_function_that_runs_but_not_for_ever(
    client: Any, worker: Worker
) -> None:
    worker.change_code("""
        @app.trigger(TABLE)
        def follow(change: Change) -> None:
            note("begun", change.keys["id"])
            while not (OUT.parent / "go").exists():
                time.sleep(0.05)
            note("done", change.keys["id"])
        """)
    put(client, worker.table, "a")
    key = f"{worker.app}/follow"
    with worker.start():
        worker.wait_noted(1)
        reset = ["triggers", "reset", key, "--to", "TRIM_HORIZON"]
        err = refused(worker, *reset, "--wait", "0.5")
        assert f"{key} still runs after 0.5 s, and stays where it is" in err
        assert listed(worker)["generation"] == 1
        assert "a function that runs is waited for" in refused(
            worker, "triggers", "pause", key, "--wait", "0.5"
        )
        command(worker, "triggers", "resume", key)
        (worker.folder / "go").touch()
        command(worker, *reset)
        assert worker.wait_noted(4) == ["begun a", "done a", "begun a", "done a"]


def test_a_name_is_found_alone_where_it_is_the_only_one(client: Any, worker: Worker) -> None:
    worker.change_code(FOLLOW.replace("def follow", f"def f_{worker.table.replace('-', '_')}"))
    name = f"f_{worker.table.replace('-', '_')}"
    with worker.start() as running:
        running.wait_for("is new and begins at TRIM_HORIZON")
    assert command(worker, "triggers", "pause", name)["name"] == name
    err = refused(worker, "triggers", "pause", "nobody")
    assert err.startswith("error: there is no nobody; there is ")
    code, out, err = run("triggers", "pause", name, "--endpoint", worker.endpoint)
    assert (code, out, err) == (0, "", f"{worker.app}/{name} is paused\n")


def test_the_list_for_people(client: Any, worker: Worker) -> None:
    put(client, worker.table, "a")
    with worker.start():
        worker.wait_noted(1)
        until_listed(worker, lambda found: found["lag"] == 0, "it to be at the end")
        code, out, err = run("triggers", "list", "--endpoint", worker.endpoint)
        assert (code, err) == (0, "")
        head, *lines = out.splitlines()
        assert head.split() == [
            *["name", "state", "position", "lag", "behind", "retrying", "parked", "workers"]
        ]
        [line] = [line for line in lines if line.startswith(f"{worker.app}/follow")]
        assert line.split()[1] == "running"
        assert line.split()[2].startswith("0/")
        assert line.endswith(" 1")
        code, out, err = run("lag", "--endpoint", worker.endpoint)
        assert (code, err) == (0, "")
        assert any(f"{worker.app}/follow" in line for line in out.splitlines())


def test_one_that_a_worker_runs_is_not_removed(client: Any, worker: Worker) -> None:
    key = f"{worker.app}/follow"
    with worker.start() as running:
        running.wait_for("is new and begins at TRIM_HORIZON")
        until_listed(worker, lambda found: found["state"] == "running", "it to run")
        err = refused(worker, "triggers", "remove", key)
        assert f"run {key}: take it out of the app, or stop them, first" in err


class TestDeadLetters:
    CODE = """
        @app.trigger(TABLE, retries=1)
        async def follow(change: Change) -> None:
            if "bad" in change.keys["id"] and not (OUT.parent / "healed").exists():
                raise ValueError("no " + change.keys["id"])
            note(change.event_name, change.keys["id"])
        """

    def letters(self, worker: Worker, *arguments: str) -> list[dict[str, Any]]:
        found = command(worker, "deadletters", "list", *arguments)
        return [each for each in found if each["app"] == worker.app]

    def test_they_are_shown_sent_back_in_order_and_dropped(
        self, client: Any, worker: Worker
    ) -> None:
        worker.change_code(self.CODE)
        key = f"{worker.app}/follow"
        for number, item in enumerate(("bad1", "bad2", "bad1", "good")):
            put(client, worker.table, item, n={"N": str(number)}, s={"S": item})
        client.delete_item(TableName=worker.table, Key={"id": {"S": "bad1"}})
        with worker.start():
            wait_until(lambda: len(worker.letters()) == 4, "the dead letters")
            assert worker.wait_noted(1) == ["INSERT good"]
            first, *_ = [each for each in self.letters(worker) if "bad1" in str(each["keys"])]
            assert self.letters(worker, "--trigger", key) == self.letters(worker)
            assert (first["reason"], first["attempts"]) == ("retries", 2)
            code, out, err = run("deadletters", "show", first["id"], "--endpoint", worker.endpoint)
            assert (code, err) == (0, "")
            assert "INSERT" in out
            assert '+ s: "bad1"' in out
            assert "ValueError: no bad1" in out
            assert "after 2 attempts" in out
            code, out, err = run("deadletters", "list", "--endpoint", worker.endpoint)
            assert (code, err) == (0, "")
            assert first["id"] in out
            # As long as it is not healed they come back.
            assert command(worker, "deadletters", "redrive", first["id"])["done"] == [first["id"]]
            wait_until(
                lambda: any(
                    each["id"] == first["id"] and each["failed_ms"] > first["failed_ms"]
                    for each in worker.letters()
                ),
                "it to be given up again",
            )
            again = command(worker, "deadletters", "show", first["id"])
            assert again["failed_ms"] > first["failed_ms"]
            assert len(self.letters(worker)) == 4
            (worker.folder / "healed").touch()
            [second] = [each for each in self.letters(worker) if "bad2" in str(each["keys"])]
            assert command(worker, "deadletters", "drop", second["id"])["refused"] == {}
            done = command(worker, "deadletters", "redrive", "--trigger", key)
            assert len(done["done"]) == 3
            noted = worker.wait_noted(4)
            assert noted == ["INSERT good", "INSERT bad1", "MODIFY bad1", "REMOVE bad1"]
            assert self.letters(worker) == []
            until_listed(worker, lambda found: found["parked"] == 0, "nothing to be parked")

    def test_they_are_sent_back_while_no_worker_runs(self, client: Any, worker: Worker) -> None:
        worker.change_code(self.CODE)
        put(client, worker.table, "bad")
        with worker.start():
            wait_until(worker.letters, "the dead letter")
        (worker.folder / "healed").touch()
        [letter] = self.letters(worker)
        code, _, err = run("deadletters", "redrive", letter["id"], "--endpoint", worker.endpoint)
        assert (code, err) == (0, "1 letter sent back\n")
        assert self.letters(worker) == []
        assert listed(worker)["parked"] == 1
        with worker.start():
            assert worker.wait_noted(1) == ["INSERT bad"]

    def test_what_can_not_be_done(self, worker: Worker) -> None:
        err = refused(worker, "deadletters", "show", "a/b/0-0-0")
        assert err == "error: there is no dead letter a/b/0-0-0\n"
        err = refused(worker, "deadletters", "redrive")
        assert err == "error: say which: ids, or --trigger NAME, or --all\n"
        err = refused(worker, "deadletters", "drop", "a/b/0-0-0")
        assert "a/b/0-0-0: there is no such letter" in err
        assert "error: 1 could not be dropped" in err
