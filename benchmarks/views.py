"""Measure how fast a view and an aggregate are built anew, and how fast they follow a log.

    python -m benchmarks.views
    python -m benchmarks.views --rows 50000

The node runs on core 0 and the worker on core 1, both as users run them. One thing is done at a
time: nothing is written meanwhile, and the other view stands still. Rows have about 200 bytes; the
aggregate has a count, a sum and a maximum for each of 100 days.
"""

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.servers import streamtable
from streamtable.core.errors import StreamtableError
from streamtable.triggers.endpoint import Endpoint

NODE_CORE, WORKER_CORE = 0, 1
TIMEOUT_S = 120
LOOK_S = 0.2
CONNECTIONS = 16
BATCH = 25
APP = """
from streamtable import App, Count, Max, Sum

app = App("bench")


@app.view("orders_by_status", source="orders", key=("status", "id"))
def orders_by_status(order):
    return {"status": order["status"], "id": order["id"], "total": order["total"]}


@app.aggregate("revenue_by_day", source="orders", key="day", measures={
    "orders": Count(), "revenue": Sum("total"), "largest": Max("total")})
def revenue_by_day(order):
    return {"day": order["day"], "total": order["total"]}
"""
VIEWS = ("orders_by_status", "revenue_by_day")


class Process:
    """A process on a core of its own."""

    def __init__(self, core: int, command: list[str], log: Path) -> None:
        with log.open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        cores = os.cpu_count() or 1
        os.sched_setaffinity(self._process.pid, {core % cores})

    def cpu_s(self) -> float:
        """Return the CPU time that it has had."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """End it in good order."""
        self._process.terminate()
        self._process.wait()


class Bench:
    """A node with a table of orders, and a worker that runs the views."""

    def __init__(self, node: Endpoint, processes: dict[str, Process]) -> None:
        self._node = node
        self._processes = processes

    async def create(self) -> None:
        """Make the table, as soon as the node answers."""
        body = {
            "TableName": "orders",
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "BillingMode": "PAY_PER_REQUEST",
        }
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                try:
                    await self._node.call("CreateTable", body)
                except StreamtableError:
                    await asyncio.sleep(0.1)
                else:
                    return

    async def put(self, first: int, count: int) -> None:
        """Put so many orders."""
        starts = iter(range(first, first + count, BATCH))

        async def writer() -> None:
            for start in starts:
                requests = [{"PutRequest": {"Item": order(n)}} for n in range(start, start + BATCH)]
                await self._node.call("BatchWriteItem", {"RequestItems": {"orders": requests}})

        await asyncio.gather(*(writer() for _ in range(CONNECTIONS)))

    async def standing(self, view: str) -> dict[str, Any]:
        """Return where a view stands; nothing before a worker has registered it."""
        page = await self._node.get("/_streamtable/consumers")
        found: dict[str, dict[str, Any]] = {each["name"]: each for each in page["consumers"]}
        return found.get(view, {})

    async def change(self, view: str, action: str, **more: Any) -> None:
        """Have the node pause, resume or rebuild a view."""
        body = {"app": "bench", "name": view, "action": action, **more}
        await self._node.post("/_streamtable/consumers/change", body)

    async def until(self, view: str, state: str, count: int = 0) -> float:
        """Wait until a view has nothing left to do and is in this state.

        Args:
            view: the view.
            state: the state.
            count: how many changes it follows meanwhile, if it is not built.

        Returns:
            The rows or changes a second, from the first look at which it had moved: not counted is
            how long it takes to begin.
        """
        looks: list[tuple[float, int]] = []
        lags: list[tuple[float, int]] = []
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                found = await self.standing(view)
                idle = state == "paused" or not found.get("lag")
                if found and idle and found["state"] == state and found["request"] is None:
                    break
                progress = found.get("progress") or {}
                if progress.get("phase") == "rows":
                    looks.append((time.perf_counter(), progress["done"]))
                lags.append((time.perf_counter(), found.get("lag", 0)))
                await asyncio.sleep(LOOK_S)
        most = max((lag for _, lag in lags), default=0)
        if count and most:
            # Before it is known where the view stands, it seems to be at the log's end.
            known = lags[[lag for _, lag in lags].index(most) :]
            looks = [(when, count * (most - lag) // most) for when, lag in known]
            looks.append((time.perf_counter(), count))
        moved = [look for look in looks if look[1]]
        if len(moved) < 2:
            return 0.0
        (began, first), (ended, last) = moved[0], moved[-1]
        return (last - first) / (ended - began)

    async def measure(self, what: str, count: int, view: str) -> None:
        """Tell how fast a view does what it has left to do, and what that costs."""
        cpu = {name: process.cpu_s() for name, process in self._processes.items()}
        began = time.perf_counter()
        rate = await self.until(view, "running", count if what == "follow" else 0)
        took = time.perf_counter() - began
        used = ", ".join(
            f"{name} {(process.cpu_s() - cpu[name]) / count * 1e6:.1f}"
            for name, process in self._processes.items()
        )
        print(
            f"{what:8} {view:17} {rate or count / took:9,.0f} rows/s, {took:.1f} s for {count:,}; "
            f"us of CPU a row: {used}"
        )


def order(number: int) -> dict[str, Any]:
    """Return an order."""
    return {
        "id": {"S": f"order-{number}"},
        "customer": {"S": f"customer-{number % 1000}"},
        "day": {"S": f"day-{number % 100:02}"},
        "status": {"S": ("open", "paid", "sent")[number % 3]},
        "total": {"N": str(number % 977)},
        "note": {"S": "x" * 110},
    }


@contextmanager
def started(folder: Path) -> Iterator[tuple[str, dict[str, Process]]]:
    """Run a node; yields its URL, and the processes that are measured."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = {
        "node": Process(NODE_CORE, streamtable().command(port, folder / "data"), folder / "node")
    }
    try:
        yield f"http://127.0.0.1:{port}", processes
    finally:
        for process in reversed(processes.values()):
            process.end()


def start_worker(folder: Path, url: str) -> Process:
    """Run the app's worker."""
    (folder / "bench.py").write_text(APP)
    start = "from streamtable.cli import main; main()"
    app = f"{folder / 'bench.py'}:app"
    command = [sys.executable, "-c", start, "worker", app, "--endpoint", url]
    return Process(WORKER_CORE, command, folder / "worker")


@asynccontextmanager
async def only(bench: Bench, view: str) -> AsyncIterator[None]:
    """Have the other view stand still."""
    others = [each for each in VIEWS if each != view]
    for other in others:
        await bench.change(other, "pause")
        await bench.until(other, "paused")
    yield
    for other in others:
        await bench.change(other, "resume")


async def run(rows: int) -> None:
    """Measure all."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with started(folder) as (url, processes):
            async with Endpoint(url) as node:
                bench = Bench(node, processes)
                await bench.create()
                await bench.put(0, rows)
                processes["worker"] = start_worker(folder, url)
                written = rows
                for view in VIEWS:
                    await bench.until(view, "running")
                for view in VIEWS:
                    async with only(bench, view):
                        request = {"id": f"{view}-{written}", "kind": "rebuild"}
                        await bench.change(view, "request", request=request)
                        await bench.measure("rebuild", written, view)
                        await bench.change(view, "pause")
                        await bench.until(view, "paused")
                        await bench.put(written, rows)
                        written += rows
                        await bench.change(view, "resume")
                        await bench.measure("follow", rows, view)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000, help="orders for each measurement")
    uvloop.run(run(parser.parse_args().rows // BATCH * BATCH))


if __name__ == "__main__":
    main()
