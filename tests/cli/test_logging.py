"""What a node's log lines and its monitoring pages are, as a collector reads them."""

import json
import urllib.error
import urllib.request
from pathlib import Path

import boto3
import pytest

from tests.support.server import Server, client_settings
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory):
    options = ["--log-format", "json", "--log-level", "debug"]
    running = Server(tmp_path_factory.mktemp("node") / "data", *options).start()
    yield running
    running.stop()


def log_lines(node: Server) -> list[dict]:  # type: ignore[type-arg]
    *lines, _unfinished = node.output().split("\n")
    return [json.loads(line) for line in lines if line.startswith("{")]


def read(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_each_line_is_an_object_and_tells_of_its_request(node):
    client = boto3.client(**client_settings(node.endpoint))
    answer = client.list_tables()
    client.close()
    [line] = wait_until(
        lambda: [each for each in log_lines(node) if each.get("operation") == "ListTables"],
        "the line of the request",
    )
    assert {"time", "level", "logger", "message"} <= set(line)
    assert line["request_id"] == answer["ResponseMetadata"]["RequestId"]
    assert line["status"] == 200
    assert line["level"] == "DEBUG"


def test_a_node_is_ready_and_has_metrics(node):
    assert read(f"{node.endpoint}/healthz") == (200, "ok\n")
    assert read(f"{node.endpoint}/readyz") == (200, "ready\n")
    status, text = read(f"{node.endpoint}/metrics")
    assert status == 200
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    ours = {name for name in names if name.startswith("streamtable_")}
    assert {name for name in ours if f"`{name}`" not in page} == set()
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("streamtable_shard_serving{")] == [
        f'streamtable_shard_serving{{shard="{number}"}} 1.0' for number in range(4)
    ]
    assert any(
        line.startswith('streamtable_request_seconds_count{operation="List') for line in lines
    )
