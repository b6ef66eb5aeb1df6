"""Measure what a region costs that has many tables, many shards, many triggers, and no load.

    python -m benchmarks.scale
    python -m benchmarks.scale --parts shards --shards 16,1000
    python -m benchmarks.scale --parts tables --tables 2500

Each part starts `streamtable serve` on the embedded broker and an empty folder, and looks at the
process: its memory, its CPU time while nothing is asked of it, its threads and open files.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.run import free_port
from benchmarks.servers import CACHE, ROOT

READY_S = 600
IDLE_S = 5.0
SOME = 100
ITEMS = 5000
# Read, not checked.
HEADERS = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/local/dynamodb/aws4_request, "
    "SignedHeaders=host;x-amz-date, Signature=0",
    "X-Amz-Date": "20260101T000000Z",
    "Content-Type": "application/x-amz-json-1.0",
}


@dataclass(frozen=True)
class Look:
    """A process at one moment.

    Attributes:
        memory_mb: what is resident of it.
        cpu_s: the CPU time that it has had.
        threads: how many it has.
        files: how many it has open.
    """

    memory_mb: float
    cpu_s: float
    threads: int
    files: int


class Process:
    """A command that runs."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "streamtable", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def until_ready(self) -> float:
        """Wait until it says something; return how long that took, seconds."""
        began = time.perf_counter()
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            sys.exit(f"{self._process.args!r} did not start")
        return time.perf_counter() - began

    def look(self) -> Look:
        """Look at it."""
        folder = Path(f"/proc/{self._process.pid}")
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        return Look(
            int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6,
            (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
            int(fields[17]),
            len(list((folder / "fd").iterdir())),
        )

    def idle(self) -> float:
        """Return how much of a core it takes while nothing is asked of it, percent."""
        time.sleep(2)  # what the last requests have begun
        before = self.look()
        time.sleep(IDLE_S)
        return (self.look().cpu_s - before.cpu_s) / IDLE_S * 100

    def stop(self) -> None:
        """Stop it in good order."""
        self._process.terminate()
        self._process.communicate()


class Node(Process):
    """A node, and a connection to it."""

    def __init__(self, data: Path, shards: int) -> None:
        self.port = free_port()
        options = ["--data", str(data), "--port", str(self.port), "--shards", str(shards)]
        super().__init__("serve", "--broker-port", "0", "--checkpoints", "none", *options)
        self.start_s = self.until_ready()
        self._connection = HTTPConnection("127.0.0.1", self.port, timeout=READY_S)

    def running(self) -> int:
        """Return how many consumers run."""
        self._connection.request("GET", "/_streamtable/consumers")
        found = json.load(self._connection.getresponse())["consumers"]
        return sum(each["state"] == "running" for each in found)

    def ask(self, operation: str, **body: Any) -> dict[str, Any]:
        """Send a request and return its answer."""
        headers = {**HEADERS, "X-Amz-Target": f"DynamoDB_20120810.{operation}"}
        self._connection.request("POST", "/", json.dumps(body), headers)
        response = self._connection.getresponse()
        answer: dict[str, Any] = json.load(response)
        if response.status != 200:
            sys.exit(f"{operation}: {answer}")
        return answer

    def create(self, name: str) -> None:
        """Make a table."""
        self.ask(
            "CreateTable",
            TableName=name,
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )

    def put(self, table: str, count: int) -> None:
        """Put items of 200 bytes, which fall on all shards."""
        for first in range(0, count, 25):
            items = [
                {"id": {"S": f"item-{number}"}, "text": {"S": "x" * 180}}
                for number in range(first, first + 25)
            ]
            puts = [{"PutRequest": {"Item": item}} for item in items]
            self.ask("BatchWriteItem", RequestItems={table: puts})


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + READY_S
    while not condition():
        if time.monotonic() > end:
            sys.exit("waited in vain")
        time.sleep(0.1)


def cost(process: Process, ask: Any, count: int = SOME) -> tuple[float, float]:
    """Ask something again and again; return the median of what it took and its CPU time, ms."""
    before, took = process.look().cpu_s, []
    for number in range(count):
        began = time.perf_counter()
        ask(number)
        took.append((time.perf_counter() - began) * 1000)
    return median(took), (process.look().cpu_s - before) * 1000 / count


def tables(folder: Path, count: int) -> None:
    """Measure a node with many tables."""
    node = Node(folder, 4)
    empty = node.look()
    node.create("first")

    def put(number: int) -> None:
        item = {"id": {"S": f"item-{number}"}, "text": {"S": "x" * 180}}
        node.ask("PutItem", TableName="first", Item=item)

    cost(node, put)
    few = cost(node, put, 10 * SOME)
    made: dict[int, tuple[float, float]] = {}
    for first in range(0, count, SOME):
        made[first] = cost(node, lambda number, first=first: node.create(f"t{first + number:05}"))
    many = cost(node, put, 10 * SOME)
    listed = cost(node, lambda _: node.ask("ListTables", ExclusiveStartTableName="t00500"))
    described = cost(node, lambda number: node.ask("DescribeTable", TableName=f"t{number:05}"))
    full = node.look()
    idle = node.idle()
    node.stop()
    log = sum(path.stat().st_size for path in folder.glob("broker/topics/*catalog*/**/*.log"))
    again = Node(folder, 4)
    restarted = again.look()
    again.stop()
    print(f"{count} tables")
    for name, (took_ms, cpu_ms) in {
        "CreateTable, the first ones": made[0],
        "CreateTable, the last ones": made[max(made)],
        "ListTables, 100 names": listed,
        "DescribeTable": described,
        "PutItem, one table": few,
        "PutItem, all tables": many,
    }.items():
        print(f"  {name:30} {took_ms:8.2f} ms {cpu_ms:8.2f} ms of CPU")
    print(f"  memory      {(full.memory_mb - empty.memory_mb) * 1000 / count:8.1f} KB a table")
    print(f"  after start {(restarted.memory_mb - empty.memory_mb) * 1000 / count:8.1f} KB a table")
    print(f"  catalog     {log / 1000 / count:8.1f} KB a table")
    print(f"  start       {again.start_s:8.1f} s, without tables {node.start_s:.1f} s")
    print(f"  idle        {idle:8.1f} % of a core")


def shards(folder: Path, counts: Sequence[int]) -> None:
    """Measure nodes with more and more shards."""
    print("shards  start s  memory MB  with items  idle %  with items  threads  files  restart s")
    for count in counts:
        data = folder / str(count)
        node = Node(data, count)
        empty, idle = node.look(), node.idle()
        node.create("first")
        node.put("first", ITEMS)
        written = node.idle()
        full = node.look()
        node.stop()
        again = Node(data, count)
        again.stop()
        print(
            f"{count:6}  {node.start_s:7.1f}  {empty.memory_mb:9.0f}  {full.memory_mb:10.0f}  "
            f"{idle:6.1f}  {written:10.1f}  {full.threads:7}  {full.files:5}  {again.start_s:9.1f}"
        )
        shutil.rmtree(data)


def runs(node: Node, count: int) -> bool:
    """Whether so many consumers run."""
    return node.running() == count


def triggers(folder: Path, counts: Sequence[int]) -> None:
    """Measure workers with more and more triggers."""
    print("triggers  worker: memory MB  idle %  threads  files    node: memory MB  idle %")
    for count in counts:
        data = folder / f"triggers-{count}"
        node = Node(data, 4)
        node.create("first")
        module = folder / f"app_{count}.py"
        lines = ["from streamtable import App", 'app = App("bench")']
        for number in range(count):
            lines += ['@app.trigger("first")', f"def on_{number}(change):", "    pass"]
        module.write_text("\n".join(lines))
        worker = Process("worker", f"{module}:app", "--endpoint", f"http://127.0.0.1:{node.port}")
        until(partial(runs, node, count))
        node.put("first", SOME)
        idle, look = worker.idle(), worker.look()
        node_idle, node_look = node.idle(), node.look()
        worker.stop()
        node.stop()
        print(
            f"{count:8}  {look.memory_mb:17.0f}  {idle:6.1f}  {look.threads:7}  {look.files:5}  "
            f"{node_look.memory_mb:17.0f}  {node_idle:6.1f}"
        )


def numbers(text: str) -> list[int]:
    """Read numbers with commas between them."""
    return [int(each) for each in text.split(",")]


def main() -> None:
    """Measure, in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="tables,shards,triggers")
    parser.add_argument("--tables", type=int, default=2500)
    parser.add_argument("--shards", type=numbers, default=[4, 16, 64, 256])
    parser.add_argument("--triggers", type=numbers, default=[1, 10, 50])
    given = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    for part in given.parts.split(","):
        with tempfile.TemporaryDirectory(dir=CACHE, ignore_cleanup_errors=True) as folder:
            match part:
                case "tables":
                    tables(Path(folder), given.tables)
                case "shards":
                    shards(Path(folder), given.shards)
                case "triggers":
                    triggers(Path(folder), given.triggers)


if __name__ == "__main__":
    main()
