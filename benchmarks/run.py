"""Measure streamtable beside other servers that speak DynamoDB's protocol.

    python -m benchmarks.run                          # everything, about 40 minutes
    python -m benchmarks.run --servers streamtable --workloads put,get --connections 64
    python -m benchmarks.run --against HEAD~1         # this work tree beside a commit

The server runs on core 0 and the load generator (Go, benchmarks/load) on core 1. Each workload gets
a fresh server with an empty folder, so that neither memory nor files are left over from the one
before. Servers take turns within a workload: a machine that gets slower over time slows all alike.
"""

import argparse
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.report import Measurement, markdown, ratios, table
from benchmarks.servers import CACHE, PEERS, ROOT, Server, Unavailable, streamtable_at

WORKLOADS = [
    "put",
    "put-if-not-exists",
    "update-add",
    "get",
    "get-consistent",
    "query-10x100b",
    "query-10x1kb",
    "batch-write-25",
    "transact-write-4",
]
START_TIMEOUT_S = 60
SERVER_CORE, LOAD_CORE = 0, 1

# Wide enough for the table in a file or a pipe, where rich would take 80 columns.
console = Console(width=None if sys.stdout.isatty() else 120)


@dataclass(frozen=True)
class Plan:
    """What to run, from the command line."""

    workloads: list[str]
    connections: str
    seconds: float
    warm_seconds: float
    keys: int
    partitions: int


def build_load() -> Path:
    """Compile the load generator; Go does nothing when it is up to date."""
    go = shutil.which("go")
    if go is None:
        sys.exit("The load generator needs Go 1.21 or newer, and there is no 'go' here.")
    program = CACHE / "load"
    CACHE.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"CGO_ENABLED": "0"}
    source = ROOT / "benchmarks" / "load"
    subprocess.run([go, "build", "-o", str(program), "."], cwd=source, env=environment, check=True)
    return program


def pin(core: int) -> list[str]:
    """Return the words that start a command on one core; none on a machine that can't."""
    cores = os.cpu_count() or 1
    return ["taskset", "-c", str(core)] if cores > core and shutil.which("taskset") else []


def free_port() -> int:
    """Return a port that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int, workers: int = 1) -> bool:
    """Say whether a server answers on the port, whatever it answers.

    Args:
        port: the port.
        workers: with more than one, each is to have as many of the shards.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/" if workers == 1 else "/_streamtable/shards")
        answer = connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    if workers == 1:
        return True
    shards = Counter(shard["owner"] for shard in json.loads(answer).get("shards", ()))
    return len(shards) == workers and len(set(shards.values())) == 1


@contextmanager
def started(server: Server) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a server on core 0, or on all if it is not to be pinned, with an empty folder.

    The folder is on the same disk as the work tree.
    """
    with tempfile.TemporaryDirectory(dir=CACHE, ignore_cleanup_errors=True) as name:
        folder, port = Path(name), free_port()
        cores = pin(SERVER_CORE) if server.pinned else []
        command = cores + server.command(port, folder / "data")
        (folder / "data").mkdir()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | server.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not answers(port, server.workers):
                if process.poll() is not None or time.monotonic() > deadline:
                    tail = (folder / "log").read_text(errors="replace")[-2000:]
                    message = f"{server.name} did not start ({' '.join(command)}):\n{tail}"
                    raise Unavailable(message)
                time.sleep(0.05)
            yield process, port
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def measure(load: Path, server: Server, workload: str, plan: Plan) -> Iterator[Measurement]:
    """Run one workload on one fresh server, over all numbers of connections."""
    cores = pin(LOAD_CORE) if server.pinned else []
    with started(server) as (process, port):
        command = [
            *(*cores, str(load), "-address", f"127.0.0.1:{port}"),
            *("-pid", str(process.pid), "-workloads", workload),
            *("-connections", plan.connections, "-window", f"{plan.seconds}s"),
            *("-warm", f"{plan.warm_seconds}s"),
            *("-keys", str(plan.keys), "-partitions", str(plan.partitions)),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            for line in running.stdout:
                yield Measurement(server=server.name, **json.loads(line))
        if running.returncode:
            message = f"{workload} on {server.name} ended with {running.returncode}"
            raise Unavailable(message)


def find_servers(names: list[str], against: str | None) -> list[Server]:
    """Install what is asked for; say why a server that can't be had is skipped."""
    servers = []
    for name in names:
        try:
            with console.status(f"installing {name}"):
                servers.append(PEERS[name]())
        except Unavailable as error:
            console.print(f"[yellow]skipped {name}: {error}[/]")
    if against is not None:
        servers.append(streamtable_at(against))
    return servers


def run(servers: list[Server], plan: Plan, out: Path) -> list[Measurement]:
    """Measure all and append each measurement to `out` as a line of JSON."""
    load = build_load()
    results = []
    with out.open("a") as file:
        for workload in plan.workloads:
            for server in servers:
                try:
                    for measurement in measure(load, server, workload, plan):
                        results.append(measurement)
                        file.write(json.dumps(asdict(measurement)) + "\n")
                        file.flush()
                        console.print(measurement.line(), highlight=False)
                except Unavailable as error:
                    console.print(f"[yellow]skipped: {error}[/]")
    return results


def names(text: str, known: list[str]) -> list[str]:
    """Split a comma-separated option and check each name.

    Raises:
        argparse.ArgumentTypeError: a name is not known.
    """
    chosen = [name for name in text.split(",") if name]
    for name in chosen:
        if name not in known:
            message = f"{name!r} is none of {', '.join(known)}"
            raise argparse.ArgumentTypeError(message)
    return chosen


def main() -> None:
    """Read the command line, measure, and print the tables."""
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--servers",
        type=lambda text: names(text, list(PEERS)),
        help=f"comma-separated, of {', '.join(PEERS)} (default: all; with --against: streamtable)",
    )
    parser.add_argument(
        "--workloads", type=lambda text: names(text, WORKLOADS), default=WORKLOADS, metavar="NAMES"
    )
    parser.add_argument("--connections", default="1,16,64")
    parser.add_argument("--seconds", type=float, default=10, help="measured time of each cell")
    parser.add_argument("--warm-seconds", type=float, default=2)
    parser.add_argument("--keys", type=int, default=10_000, help="items stored before reads")
    parser.add_argument("--partitions", type=int, default=1000, help="of ten items, for queries")
    parser.add_argument("--against", metavar="REV", help="also measure streamtable at a commit")
    parser.add_argument("--out", type=Path, default=CACHE / "results.jsonl")
    parser.add_argument("--markdown", action="store_true", help="print the README's table too")
    options = parser.parse_args()

    chosen = options.servers or (["streamtable"] if options.against else list(PEERS))
    if not pin(LOAD_CORE):
        console.print("[yellow]not pinned: this needs two cores and taskset[/]")
    CACHE.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        options.workloads,
        options.connections,
        options.seconds,
        options.warm_seconds,
        options.keys,
        options.partitions,
    )
    try:
        servers = find_servers(chosen, options.against)
    except Unavailable as error:
        sys.exit(str(error))
    results = run(servers, plan, options.out)
    if not results:
        sys.exit("nothing was measured")
    console.print(table(results))
    if options.against is not None and len(servers) > 1:
        console.print(ratios(results, servers[0].name, servers[-1].name))
    if options.markdown:
        print(markdown(results))
    console.print(f"written to {options.out}")


if __name__ == "__main__":
    main()
