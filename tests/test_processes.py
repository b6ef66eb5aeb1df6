"""`streamtable serve --workers`: one region in several processes behind one port."""

import os
import resource
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import boto3
import pytest
from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnection
from botocore.exceptions import EndpointConnectionError as NoEndpoint

from tests.support.commands import error_line
from tests.support.server import Server, client_settings
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

KEYS = [f"item-{number}" for number in range(40)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # As processes have it on most systems.
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1024), hard))
    try:
        running = Server(tmp_path / "data", "--workers", "2").start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        yield running
    finally:
        running.kill()


def client(server: Server) -> Any:
    """A client with a connection of its own: the system says which process has it."""
    return boto3.client(**client_settings(server.endpoint))


def get(server: Server, path: str) -> list[str]:
    """The lines of a page."""
    with urlopen(server.endpoint + path) as answer:
        return list(answer.read().decode().splitlines())


def children(server: Server) -> list[int]:
    """The process ids of a node's processes."""
    found = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
    return sorted(map(int, found.split()))


def runs(pid: int) -> bool:
    """Whether a process is there, and more than a name that nobody has asked about."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def fill(server: Server) -> None:
    client(server).create_table(
        TableName="users",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for key in KEYS:
        client(server).put_item(TableName="users", Item={"id": {"S": key}, "n": {"N": "1"}})


def all_there(server: Server) -> bool:
    try:
        found = client(server).scan(TableName="users", ConsistentRead=True)["Items"]
    except (ClientError, NoConnection, HTTPClientError):
        return False
    return sorted(item["id"]["S"] for item in found) == sorted(KEYS)


def test_any_process_answers_for_any_item(server: Server) -> None:
    fill(server)
    assert len(children(server)) == 2
    for pid in (server.pid, *children(server)):  # the broker's as well
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        assert soft == hard
    for _ in range(8):
        assert all_there(server)
    shards = client(server)
    shards.transact_write_items(
        TransactItems=[
            {
                "Update": {
                    "TableName": "users",
                    "Key": {"id": {"S": key}},
                    "UpdateExpression": "ADD n :one",
                    "ExpressionAttributeValues": {":one": {"N": "1"}},
                }
            }
            for key in KEYS
        ]
    )
    gets = [{"Get": {"TableName": "users", "Key": {"id": {"S": key}}}} for key in KEYS]
    found = client(server).transact_get_items(TransactItems=gets)["Responses"]
    assert {answer["Item"]["n"]["N"] for answer in found} == {"2"}
    # And whoever is asked tells of both.
    puts = 'streamtable_request_seconds_count{operation="PutItem",status="200",worker="%d"}'
    page = get(server, "/metrics")
    counted = [float(line.split()[-1]) for n in range(2) for line in page if puts % n in line]
    assert sum(counted) == len(KEYS)
    assert sum("streamtable_node_info" in line and "worker=" in line for line in page) == 2
    assert get(server, "/readyz") == ["ready"]


def test_a_process_that_is_killed_is_started_again(server: Server) -> None:
    fill(server)
    first, second = children(server)
    os.kill(second, signal.SIGKILL)
    wait_until(
        lambda: len(children(server)) == 2 and second not in children(server), "another process"
    )
    # Each connection may be either's.
    wait_until(lambda: all(all_there(server) for _ in range(6)), "all items, whoever is asked")
    assert first in children(server)
    assert get(server, "/readyz") == ["ready"]


def test_processes_end_with_their_parent(server: Server) -> None:
    fill(server)
    theirs = children(server)
    # Only it: `Server.kill` ends all of them.
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(runs, theirs)), "the processes to end")
    server.kill()
    # And what was answered is there, also for one process alone.
    server.options = ()
    assert all_there(server.start())


def test_one_of_its_processes_does_not_go_alone(server: Server) -> None:
    line = error_line("drain", "--endpoint", server.endpoint)
    assert "several processes" in line
    assert get(server, "/readyz") == ["ready"]
    first, second = children(server)
    os.kill(second, signal.SIGTERM)
    wait_until(
        lambda: len(children(server)) == 2 and second not in children(server), "another process"
    )
    assert first in children(server)


def test_it_stops_in_good_order(server: Server) -> None:
    fill(server)
    theirs = children(server)
    answered: list[int] = []

    def ask() -> str:
        """Write items of both processes until that is not answered; return what came instead."""
        asking = client(server)
        try:
            for key in cycle(KEYS):
                asking.put_item(TableName="users", Item={"id": {"S": key}})
                answered.append(1)
        except NoEndpoint:
            return ""
        except (ClientError, NoConnection, HTTPClientError) as error:
            return repr(error)
        raise AssertionError

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        wait_until(lambda: len(answered) > 100, "100 answers")
        assert server.stop() == 0
        # Nobody listens any more; what was sent before has been answered.
        assert [each.result() for each in asking] == [""] * 4
    assert not any(map(runs, theirs))


def test_options_that_do_not_go_together(tmp_path: Path) -> None:
    line = error_line("serve", "--workers", "2", "--advertise", "a:1", "--data", str(tmp_path))
    assert "--advertise is for one process" in line
