"""Measure what two processes behind one port do beside one: `streamtable serve --workers`.

    python -m benchmarks.workers
    python -m benchmarks.workers --workloads get,put --rounds 5

By the clock: one process on core 0 with the load generator on core 1, then two processes, and their
parent, which has the broker, on both cores, of which the load generator takes its part. That is
less than two cores of their own would do. So what an operation costs is counted too, in CPU time of
all of them together, and compared with what it costs one process that has as little of the machine
for itself: one of two at a time that know nothing of each other, each with a load of its own.
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import median

from rich.table import Table

from benchmarks.report import Measurement
from benchmarks.run import Plan, build_load, console, measure, names
from benchmarks.servers import CACHE, Server, streamtable, streamtable_workers

WORKLOADS = ["get", "put", "query-10x1kb", "batch-write-25"]
CORES = 2


def cpu_us(found: Measurement) -> list[float]:
    """Return what an operation costs each process, microseconds: the broker's parent first."""
    return [percent * 10_000 / found.ops_per_s for percent in found.server_cpu_percents]


def rate(found: Sequence[Measurement]) -> float:
    """Return the operations a second, the median of all rounds."""
    return median(each.ops_per_s for each in found)


def cost_us(found: Sequence[Measurement]) -> float:
    """Return what an operation costs all processes together, the median of all rounds."""
    return median(sum(cpu_us(each)) for each in found)


def row(
    alone: Sequence[Measurement], beside: Sequence[Measurement], two: Sequence[Measurement]
) -> list[str]:
    """Return what the table says of a workload."""
    parts = [median(part) for part in zip(*map(cpu_us, two), strict=True)]
    return [
        f"{rate(alone):,.0f}",
        f"{rate(two):,.0f}",
        f"{rate(two) / rate(alone):.2f}",
        f"{cost_us(alone):.1f}",
        f"{cost_us(beside):.1f}",
        f"{cost_us(two):.1f}",
        " + ".join(f"{part:.1f}" for part in parts),
        f"{CORES * cost_us(beside) / cost_us(two):.2f}",
        str(sum(each.errors for each in [*alone, *beside, *two])),
    ]


def main() -> None:
    """Read the command line, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--workloads", type=lambda text: names(text, WORKLOADS), default=WORKLOADS, metavar="NAMES"
    )
    parser.add_argument("--connections", type=int, default=64, help="to each process that answers")
    parser.add_argument("--seconds", type=float, default=5, help="measured time of each cell")
    parser.add_argument("--rounds", type=int, default=3, help="how often; the medians are told")
    given = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    load = build_load()
    one, workers = streamtable(), streamtable_workers(CORES)
    freely = replace(one, name="one of two", pinned=False)

    def found(server: Server, workload: str) -> Measurement:
        connections = str(given.connections * server.workers)
        plan = Plan([], connections, given.seconds, warm_seconds=2, keys=10_000, partitions=1000)
        (measurement,) = measure(load, server, workload, plan)
        console.print(measurement.line(), highlight=False)
        return measurement

    report = Table(title="two processes beside one, CPU in µs an operation")
    report.add_column("workload", no_wrap=True)
    for name in ["1: ops/s", "2: ops/s", "by clock", "1: CPU", "1 beside 1: CPU", "2: CPU"]:
        report.add_column(name, justify="right")
    report.add_column("broker + each", justify="right", no_wrap=True)
    for name in ["by CPU", "errors"]:
        report.add_column(name, justify="right")
    with ThreadPoolExecutor(CORES) as at_once:
        for workload in given.workloads:
            alone: list[Measurement] = []
            beside: list[Measurement] = []
            two: list[Measurement] = []
            for _ in range(given.rounds):
                alone.append(found(one, workload))
                beside += at_once.map(found, [freely] * CORES, [workload] * CORES)
                two.append(found(workers, workload))
            report.add_row(workload, *row(alone, beside, two))
    console.print(report)


if __name__ == "__main__":
    main()
