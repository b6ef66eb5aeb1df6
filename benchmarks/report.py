"""What the bench prints."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table

__all__ = ["Measurement", "markdown", "ratios", "table"]


@dataclass(frozen=True)
class Measurement:
    """One workload on one server over one number of connections.

    Attributes:
        server_cpu_percent: of one core, over the measured time.
        server_cpu_percents: the same of each of its processes, first the one that was started.
        server_peak_mb: the most resident memory the server has had since its start.
        skipped: why nothing was measured; empty when something was.
    """

    server: str
    workload: str
    connections: int
    ops_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    errors: int
    server_cpu_percent: float
    server_peak_mb: float
    server_cpu_percents: Sequence[float] = ()
    first_error: str = ""
    skipped: str = ""

    def cells(self) -> list[str]:
        """Return the figures as text, in the order of the table's columns."""
        return [
            f"{self.ops_per_s:,.0f}",
            f"{self.p50_ms:.2f}",
            f"{self.p99_ms:.2f}",
            f"{self.server_cpu_percent:.0f} %",
            f"{self.server_peak_mb:,.0f} MB",
        ]

    def line(self) -> str:
        """Return the measurement as one line, for progress."""
        start = f"{self.workload:18} {self.connections:3} {self.server:16}"
        if self.skipped:
            return f"{start} skipped: {self.skipped}"
        rate, p50, p99, cpu, memory = self.cells()
        trouble = f"  {self.errors} errors: {self.first_error}" if self.errors else ""
        return (
            f"{start} {rate:>8} ops/s  p50 {p50:>7} ms  p99 {p99:>7} ms  "
            f"cpu {cpu:>5}  peak {memory:>8}{trouble}"
        )


def _cells(results: Iterable[Measurement]) -> dict[tuple[str, int], dict[str, Measurement]]:
    """Group by workload and connections, then by server, in the order measured."""
    grouped: dict[tuple[str, int], dict[str, Measurement]] = {}
    order = list(dict.fromkeys(result.workload for result in results))
    for result in sorted(results, key=lambda r: (order.index(r.workload), r.connections)):
        grouped.setdefault((result.workload, result.connections), {})[result.server] = result
    return grouped


def table(results: list[Measurement]) -> Table:
    """Return all figures as a table for the terminal."""
    report = Table(title="server on one core, load generator on another")
    for name in ["workload", "conn.", "server"]:
        report.add_column(name, no_wrap=True)
    for name in ["ops/s", "p50 ms", "p99 ms", "CPU", "peak memory", "errors"]:
        report.add_column(name, justify="right")
    for (workload, connections), servers in _cells(results).items():
        for result in servers.values():
            start = [workload, str(connections), result.server]
            if result.skipped:
                report.add_row(*start, "skipped")
            else:
                report.add_row(*start, *result.cells(), str(result.errors or ""))
        report.add_section()
    return report


def ratios(results: list[Measurement], now: str, before: str) -> Table:
    """Return the work tree's figures divided by those of the commit it is compared with."""
    report = Table(title=f"{now} / {before}: above 1 is more")
    report.add_column("workload")
    for name in ["conn.", "ops/s", "p50", "p99", "peak memory"]:
        report.add_column(name, justify="right")
    for (workload, connections), servers in _cells(results).items():
        if now not in servers or before not in servers:
            continue
        new, old = servers[now], servers[before]
        pairs = [
            (new.ops_per_s, old.ops_per_s),
            (new.p50_ms, old.p50_ms),
            (new.p99_ms, old.p99_ms),
            (new.server_peak_mb, old.server_peak_mb),
        ]
        cells = [f"{above / below:.2f}" if below else "-" for above, below in pairs]
        report.add_row(workload, str(connections), *cells)
    return report


def markdown(results: list[Measurement]) -> str:
    """Return ops/s and p99 as a Markdown table, a row a workload and a column a server."""
    servers = list(dict.fromkeys(result.server for result in results))
    lines = [
        "| workload | connections | " + " | ".join(servers) + " |",
        "|---|--:|" + "--:|" * len(servers),
    ]
    for (workload, connections), found in _cells(results).items():
        cells = []
        for server in servers:
            result = found.get(server)
            if result is None or result.skipped:
                cells.append("-")
            else:
                cells.append(f"{result.ops_per_s:,.0f} ({result.p99_ms:.1f})")
        lines.append(f"| {workload} | {connections} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
