"""Traces: what is sampled, and what a collector gets of a write and of what follows from it."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from streamtable.tracing import Traces
from tests.support.collector import Collector, collecting
from tests.support.ports import free_port
from tests.support.server import Server, client_settings
from tests.support.worker import Worker, create_table, put

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01".encode()
NOT_SAMPLED = f"00-{TRACE}-{SPAN}-00".encode()

APP = """
@app.trigger(TABLE)
async def welcome(change: Change) -> None:
    note(change.keys["id"])

@app.view(name=f"{TABLE}-names", source=TABLE, key="id")
def names(item):
    return {"id": item["id"]}
"""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    # Spans are sent after five seconds unless told.
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    with collecting() as running:
        yield running


@pytest.fixture
def server(tmp_path: Path, collector: Collector) -> Iterator[Server]:
    """A node that traces what asks for it."""
    running = Server(tmp_path / "data", "--traces", collector.url, "--trace-ratio", "0").start()
    yield running
    assert running.stop() == 0, running.output()


def test_a_write_is_one_trace_from_request_to_trigger(
    tmp_path: Path, collector, server, table_name
):
    client = boto3.client(**client_settings(server.endpoint))
    create_table(client, table_name)
    worker = Worker(tmp_path, server.endpoint, table_name, APP)
    with worker.start("--traces", collector.url) as running:
        running.wait_for("follows the table")
        put(client, table_name, "not traced")
        worker.wait_noted(1)
        client.meta.events.register("before-send.dynamodb.PutItem", bring_trace)
        put(client, table_name, "traced")
        worker.wait_noted(2)
        [called] = collector.wait(f"trigger {worker.app}/welcome")
        view = f"local.view.{worker.app}.{table_name}-names.1"
        [followed] = collector.wait(view)
    [request] = collector.wait("PutItem")
    [commit] = collector.wait("commit")
    client.close()
    spans = [request, commit, called, followed]
    assert {span.trace for span in collector.spans} == {TRACE}
    assert [span.parent for span in spans] == [SPAN, request.id, commit.id, commit.id]
    services = [span.service for span in spans]
    assert services == ["streamtable", "streamtable", "streamtable-worker", "streamtable-worker"]
    assert request.attributes["http.response.status_code"] == 200
    assert commit.attributes["changes"] == 1
    assert followed.attributes["offset"] == commit.attributes["offset"]


def test_a_write_that_another_process_carries_out_is_one_trace(tmp_path, collector, table_name):
    options = ["--workers", "2", "--traces", collector.url, "--trace-ratio", "1"]
    server = Server(tmp_path / "data", *options).start()
    client = boto3.client(**client_settings(server.endpoint))
    create_table(client, table_name)
    for number in range(20):
        put(client, table_name, str(number))
    client.close()
    requests = {span.id: span for span in collector.wait("PutItem", 20)}
    commits = collector.wait("commit", 20)
    assert server.stop() == 0, server.output()
    causes = [requests[commit.parent] for commit in commits]
    assert [cause.trace for cause in causes] == [commit.trace for commit in commits]
    elsewhere = [
        cause
        for cause, commit in zip(causes, commits, strict=True)
        if cause.process != commit.process
    ]
    assert elsewhere


def bring_trace(request, **_):
    """Have a request of boto3 say that it is part of a trace."""
    request.headers["traceparent"] = SAMPLED.decode()


def traces(collector: Collector, ratio: float = 0.5, chance: float = 0.7) -> Traces:
    return Traces(collector.url, "test", {}, ratio=ratio, chance=lambda: chance)


@pytest.mark.parametrize(
    ("headers", "chance", "sampled"),
    [
        ({}, 0.7, False),
        ({}, 0.3, True),
        ({b"traceparent": SAMPLED}, 0.7, True),
        ({b"traceparent": NOT_SAMPLED}, 0.3, False),
        ({b"traceparent": b"nonsense"}, 0.3, True),
        ({b"traceparent": b"nonsense"}, 0.7, False),
        ({b"traceparent": b"\xff\xfe"}, 0.7, False),
    ],
)
async def test_what_is_sampled(collector, headers, chance, sampled):
    made = traces(collector, chance=chance)
    step = made.request("GetItem", headers)
    assert (step is not None) == sampled
    if step is not None:
        step.answered("ID", 500)
    await made.close()
    assert [span.failed for span in collector.spans] == [True] * sampled
    if sampled and headers.get(b"traceparent") == SAMPLED:
        assert (collector.spans[0].trace, collector.spans[0].parent) == (TRACE, SPAN)


async def test_what_follows_from_several_is_part_of_the_first(collector):
    made = traces(collector, ratio=1)
    first, second = made.request("PutItem", {}), made.request("PutItem", {})
    assert first is not None
    assert second is not None
    made.begin("commit", [first.trace, second.trace], {"shard": 3}).end(ValueError("no"), offset=7)
    await made.close()
    [commit] = collector.spans
    assert first.trace.startswith(f"00-{commit.trace}-{commit.parent}-")
    [(trace, span)] = commit.links
    assert second.trace.startswith(f"00-{trace}-{span}-")
    assert commit.attributes == {"shard": 3, "offset": 7}
    assert commit.failed


async def test_without_a_collector_nobody_waits_for_it():
    made = Traces(f"http://127.0.0.1:{free_port()}", "test", {})
    step = made.request("PutItem", {})
    assert step is not None
    step.answered("ID", 200)
    async with asyncio.timeout(30):
        await made.close()


def test_a_variable_without_a_value_names_no_collector(tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    server = Server(tmp_path / "data").start()
    assert server.stop() == 0, server.output()


def test_opentelemetry_is_not_loaded_where_nothing_is_traced():
    code = "import sys, streamtable.node, streamtable.cli.worker, streamtable.triggers.worker; "
    code += "sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
