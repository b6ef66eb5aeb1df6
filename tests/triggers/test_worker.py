"""`streamtable worker` as a process of its own, against a node as a process of its own."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.support.ports import free_port
from tests.support.server import Server
from tests.support.waiting import wait_until
from tests.support.worker import FOLLOW, Worker, create_table, put


@pytest.fixture
def table(client: Any, table_name: str) -> str:
    create_table(client, table_name)
    return table_name


@pytest.fixture
def make_worker(tmp_path: Path, endpoint: str, table: str) -> Callable[[str], Worker]:
    def make(code: str) -> Worker:
        return Worker(tmp_path, endpoint, table, code)

    return make


def test_each_change_in_order_and_only_once_after_a_stop(
    client: Any, table: str, make_worker: Callable[[str], Worker]
) -> None:
    worker = make_worker(FOLLOW)
    put(client, table, "a")
    with worker.start() as running:
        worker.wait_noted(1)
        put(client, table, "a", age={"N": "3"})
        client.delete_item(TableName=table, Key={"id": {"S": "a"}})
        worker.wait_noted(3)
        assert running.stop() == 0, running.text()
    with worker.start() as running:
        put(client, table, "b")
        assert worker.wait_noted(4) == ["INSERT a", "MODIFY a", "REMOVE a", "INSERT b"]
        assert running.stop() == 0, running.text()


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize(
    "end", ["os._exit(9)", "asyncio.get_running_loop().call_soon(os._exit, 9)"]
)
def test_a_change_comes_again_when_the_process_ends_before_its_position_is_committed(
    client: Any, table: str, make_worker: Callable[[str], Worker], end: str
) -> None:
    """Once inside the function, once right after it has returned."""
    worker = make_worker(f"""
        @app.trigger(TABLE)
        async def follow(change: Change) -> None:
            first = not OUT.exists()
            note(change.keys["id"])
            if first:
                {end}
        """)
    put(client, table, "a")
    running = worker.start()
    assert running.process.wait(60) == 9
    with worker.start():
        assert worker.wait_noted(2) == ["a", "a"]


@pytest.mark.faults
def test_a_change_that_fails_holds_up_its_item_and_nothing_else_also_after_kill_9(
    client: Any, table: str, make_worker: Callable[[str], Worker]
) -> None:
    code = """
        @app.trigger(TABLE)
        async def careful(change: Change) -> None:
            if change.keys["id"] == "poison" and {fails}:
                note("failed")
                raise ValueError("no mail for you")
            note(change.event_name, change.keys["id"])

        @app.trigger(TABLE)
        async def other(change: Change) -> None:
            pass
        """
    worker = make_worker(code.format(fails=True))
    put(client, table, "poison")
    put(client, table, "poison", n={"N": "2"})
    with worker.start() as running:
        worker.wait_noted(3)
        put(client, table, "a")
        wait_until(lambda: "INSERT a" in worker.noted(), "the other item")
        state = worker.consumer("careful")
        wait_until(lambda: worker.consumer("careful")["parked"] == 2, "both to be parked")
        wait_until(lambda: worker.consumer("careful")["lag"] == 0, "the position to pass them")
        [failing, *_] = worker.consumer("careful")["failing"]
        assert failing["keys"] == {"id": {"S": "poison"}}
        assert failing["error"]["message"] == "no mail for you"
        assert state["state"] == "running"
        running.kill()
    assert worker.consumer("careful")["parked"] == 2
    worker.change_code(code.format(fails=False))
    with worker.start():
        wait_until(lambda: "MODIFY poison" in worker.noted(), "the changes to come again", 60)
    # What the kill kept from being committed comes again.
    done = dict.fromkeys(line for line in worker.noted() if line != "failed")
    assert [*done] == ["INSERT a", "INSERT poison", "MODIFY poison"]


def test_an_item_that_does_not_fit_goes_to_the_dead_letters_with_the_whole_change(
    client: Any, table: str, make_worker: Callable[[str], Worker]
) -> None:
    worker = make_worker("""
        class User(BaseModel):
            id: str
            email: str

        @app.trigger(TABLE)
        def welcome(change: Change[User]) -> None:
            note("called", change.new.id)
        """)
    put(client, table, "a", email={"N": "1"})
    put(client, table, "b", email={"S": "b@example.com"})
    with worker.start():
        assert worker.wait_noted(1) == ["called b"]
        [letter] = wait_until(worker.letters, "the dead letter")
    assert letter["consumer"] == "welcome"
    assert letter["reason"] == "rejected"
    assert letter["change"]["dynamodb"]["NewImage"]["email"] == {"N": "1"}
    assert "email" in letter["error"]["message"]
    assert "Input should be a valid string" in letter["error"]["message"]


def test_a_graceful_stop_waits_for_the_function_that_runs(
    client: Any, table: str, make_worker: Callable[[str], Worker]
) -> None:
    worker = make_worker("""
        @app.trigger(TABLE)
        def slow(change: Change) -> None:
            note("begun", change.keys["id"])
            time.sleep(1.5)
            note("done", change.keys["id"])
        """)
    put(client, table, "a")
    with worker.start() as running:
        worker.wait_noted(1)
        assert running.stop() == 0, running.text()
    assert worker.noted() == ["begun a", "done a"]
    put(client, table, "b")
    with worker.start():
        assert worker.wait_noted(3)[2] == "begun b"


@pytest.mark.faults
@pytest.mark.slow
def test_kill_9_of_the_worker_loses_nothing_and_keeps_each_items_order(
    client: Any, table: str, make_worker: Callable[[str], Worker]
) -> None:
    worker = make_worker("""
        @app.trigger(TABLE)
        async def follow(change: Change) -> None:
            note(change.keys["id"], change.new["n"])
        """)
    for round_number in range(2):
        running = worker.start()
        for number in range(40):
            put(client, table, f"i{number % 8}", n={"N": str(round_number * 40 + number)})
        worker.wait_noted(1 + 20 * round_number)
        running.kill()
    with worker.start():
        expected = {f"i{number % 8} {number}" for number in range(80)}
        wait_until(lambda: expected <= set(worker.noted()), "every change")
    for item in range(8):
        numbers = [int(n) for name, n in map(str.split, worker.noted()) if name == f"i{item}"]
        # What comes again is a repetition of a stretch, never a change before its predecessor.
        seen = -1
        for number in numbers:
            assert number <= (item if seen < 0 else seen + 8)
            seen = max(seen, number)


def test_a_table_that_is_not_there_yet_is_warned_of(
    client: Any, endpoint: str, table_name: str, tmp_path: Path
) -> None:
    worker = Worker(tmp_path, endpoint, table_name, FOLLOW)
    with worker.start() as running:
        running.wait_for(f"there is no table {table_name} yet: follow waits")
        create_table(client, table_name)
        put(client, table_name, "a")
        assert worker.wait_noted(1) == ["INSERT a"]


@pytest.mark.faults
@pytest.mark.slow
def test_waits_for_the_node_and_goes_on_after_it_was_killed(tmp_path: Path) -> None:
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    server = Server(tmp_path / "data", "--port", str(port), "--broker-port", str(free_port()))
    client = boto3.client(
        "dynamodb",
        endpoint_url=endpoint,
        region_name="local",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    worker = Worker(tmp_path, endpoint, "users", FOLLOW)
    with worker.start() as running:
        running.wait_for(f"no node answers at {endpoint}: waiting for it")
        server.start()
        create_table(client, "users")
        put(client, "users", "a")
        worker.wait_noted(1)
        server.kill()
        wait_until(lambda: running.text().count("waiting for it") == 2, "the node to be missed")
        server.start()
        put(client, "users", "b")
        found = worker.wait_noted(2, 60)
        assert list(dict.fromkeys(found)) == ["INSERT a", "INSERT b"]
        wait_until(lambda: running.text().count("answers\n") == 2, "the node to be found")
        server.kill()
        wait_until(lambda: running.text().count("waiting for it") == 3, "the node to be missed")
        assert running.stop() == 0, running.text()
    assert "Traceback" not in running.text()
    client.close()


def test_a_signal_while_it_waits_for_the_node_ends_it(tmp_path: Path) -> None:
    worker = Worker(tmp_path, f"http://127.0.0.1:{free_port()}", "users", FOLLOW)
    running = worker.start()
    running.wait_for("waiting for it")
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(60) == 0
