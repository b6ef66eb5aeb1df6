import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamtable.metrics.backups import BackupMetrics
from streamtable.metrics.meters import Meters
from streamtable.metrics.pages import NodePages
from streamtable.metrics.shards import ShardMetrics
from streamtable.metrics.storage import StorageMetrics
from streamtable.streams.log import LogUnavailable

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()

CONSUMER = {
    "key": "shop/welcome",
    "kind": "trigger",
    "state": "running",
    "shards": {"0": {"lag": 3, "lag_s": 1.5, "parked": 1, "lost": 0}},
}


class Node:
    """What the pages ask."""

    def __init__(self) -> None:
        self.meters = Meters()
        self.broken = False
        self.failed = False
        self.leaving = False
        self.waiting: list[int] = []
        none: Any = {}
        shards = ShardMetrics(
            assigned=lambda: (),
            shards={},
            stores={},
            replica_lags=lambda: {3: 7},
            sender=none,
            checkpointed_ms=lambda _number: None,
            now_ms=lambda: 0,
        )
        backups = BackupMetrics(backups=lambda: (), tables=lambda: (), now_s=lambda: 0)
        self.pages = NodePages(
            info={"region": "local"},
            collectors=[self.meters.registry, shards, StorageMetrics(None), backups],
            in_flight=lambda: 7,
            consumers=self.consumers,
            failed=lambda: self.failed,
            waiting=lambda: self.waiting,
            leaving=lambda: self.leaving,
        ).pages

    async def consumers(self) -> list[dict[str, Any]]:
        if self.broken:
            raise LogUnavailable("no broker")
        return [CONSUMER]

    async def get(self, path: str) -> Any:
        return await self.pages[path]({})

    async def families(self) -> dict[str, Any]:
        text = (await self.get("/metrics")).body.decode()
        return {family.name: family for family in text_string_to_metric_families(text)}


@pytest.fixture
def node() -> Node:
    return Node()


def sample(families: dict[str, Any], name: str, **labels: str) -> float:
    [found] = [
        each.value
        for family in families.values()
        for each in family.samples
        if each.name == name and each.labels == labels
    ]
    return float(found)


async def test_requests_are_counted_by_operation_and_status(node):
    for status, seconds in ((200, 0.004), (200, 0.4), (400, 0.001)):
        node.meters.request("PutItem", status, seconds)
    families = await node.families()
    name = "streamtable_request_seconds"
    labels = {"operation": "PutItem", "status": "200"}
    assert sample(families, f"{name}_count", **labels) == 2
    assert sample(families, f"{name}_sum", **labels) == 0.404
    assert sample(families, f"{name}_bucket", **labels, le="0.005") == 1
    assert sample(families, f"{name}_count", operation="PutItem", status="400") == 1
    assert sample(families, "streamtable_requests_in_flight") == 7


async def test_commits_are_counted_by_shard(node):
    count = node.meters.appends(2)
    count(5, 0.01)
    count(1, 0.02)
    families = await node.families()
    assert sample(families, "streamtable_commit_changes_sum", shard="2") == 6
    assert sample(families, "streamtable_append_seconds_count", shard="2") == 2


async def test_consumers(node):
    families = await node.families()
    labels = {"consumer": "shop/welcome", "kind": "trigger"}
    assert sample(families, "streamtable_consumer_running", **labels) == 1
    assert sample(families, "streamtable_consumer_paused", **labels) == 0
    assert sample(families, "streamtable_consumer_lag_records", **labels, shard="0") == 3
    assert sample(families, "streamtable_consumer_lag_seconds", **labels, shard="0") == 1.5
    assert sample(families, "streamtable_consumers_known") == 1


async def test_brokers_that_do_not_answer_keep_nothing_else_back(node):
    node.broken = True
    families = await node.families()
    assert sample(families, "streamtable_consumers_known") == 0
    assert "streamtable_consumer_running" not in families
    assert sample(families, "streamtable_requests_in_flight") == 7


async def test_health_and_readiness(node):
    assert (await node.get("/healthz")).status == 200
    assert (await node.get("/readyz")).status == 200
    node.waiting = [1, 3]
    assert (await node.get("/healthz")).status == 200
    answer = await node.get("/readyz")
    assert (answer.status, answer.body) == (503, b"shards that do not serve: 1, 3\n")
    node.failed = True
    node.waiting = []
    for path in ("/healthz", "/readyz"):
        answer = await node.get(path)
        assert (answer.status, answer.body) == (503, b"failed\n")


async def test_each_metric_is_documented_and_each_that_is_documented_is_there(node):
    rows = re.findall(r"^\| `(streamtable_\w+)` \| (\w+) \|", PAGE, re.MULTILINE)
    # In the text format an info is a gauge, and its name has no ending.
    documented = {re.sub("_info$", "", name): kind.replace("info", "gauge") for name, kind in rows}
    found = {
        re.sub("_info$", "", name): family.type
        for name, family in (await node.families()).items()
        if not name.startswith("process_")
    }
    assert found == documented
