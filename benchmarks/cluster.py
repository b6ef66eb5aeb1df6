"""Measure a region on three brokers of Apache Kafka, all of it on this machine.

    python -m benchmarks.cluster
    python -m benchmarks.cluster --nodes 3 --workloads put,get-consistent --connections 16,64

Every record is on all three brokers, and is acknowledged when two have it. One node, then three, of
which the load generator knows one: two thirds of the items are other nodes' then, and what it asks
is passed on. Brokers, nodes and the load generator share the machine's cores, so what this shows is
what a request costs all of them together, rather than what machines of their own would do.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.report import Measurement
from benchmarks.run import WORKLOADS, build_load, console, names
from benchmarks.servers import CACHE
from tests.support.apache_kafka import KafkaCluster, missing
from tests.support.ports import free_ports
from tests.support.server import Server

SHARDS = 6


def measure(load: Path, nodes: int, workload: str, given: argparse.Namespace) -> Iterator[str]:
    """Run one workload on a fresh region of so many nodes; yield lines to print."""
    with ExitStack() as running:
        folder = Path(
            running.enter_context(
                tempfile.TemporaryDirectory(dir=CACHE, ignore_cleanup_errors=True)
            )
        )
        kafka = KafkaCluster(folder / "kafka")
        running.callback(kafka.stop)
        kafka.start()
        started: list[Server] = []
        for number, port in enumerate(free_ports(nodes)):
            options = ["--kafka", kafka.address, "--advertise", f"127.0.0.1:{port}"]
            node = Server(folder / f"node-{number}", *options, "--shards", str(SHARDS))
            started.append(node.start())
            running.callback(node.kill)
        first = started[0]
        command = [
            *(str(load), "-address", first.endpoint.removeprefix("http://")),
            *("-pid", str(first.pid), "-workloads", workload),
            *("-connections", given.connections, "-window", f"{given.seconds}s"),
            *("-warm", f"{given.warm_seconds}s"),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                yield Measurement(server=f"nodes: {nodes}", **json.loads(line)).line()


def main() -> None:
    """Read the command line, measure, and print a line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--nodes", default="1,3", help="how many, comma-separated")
    parser.add_argument(
        "--workloads", type=lambda text: names(text, WORKLOADS), default=["put"], metavar="NAMES"
    )
    parser.add_argument("--connections", default="16")
    parser.add_argument("--seconds", type=float, default=10, help="measured time of each cell")
    parser.add_argument(
        "--warm-seconds", type=float, default=10, help="brokers that have just started are slow"
    )
    given = parser.parse_args()
    why = missing()
    if why is not None:
        sys.exit(why)
    CACHE.mkdir(parents=True, exist_ok=True)
    load = build_load()
    for nodes in map(int, given.nodes.split(",")):
        for workload in given.workloads:
            for line in measure(load, nodes, workload, given):
                console.print(line, highlight=False)


if __name__ == "__main__":
    main()
