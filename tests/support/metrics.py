"""The metrics that a node has, by the names that an expression of Prometheus uses."""

import re
from pathlib import Path

from prometheus_client import ProcessCollector

__all__ = ["metrics_in", "produced"]

_PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def produced() -> set[str]:
    """Return them: those of the page, which a test holds against the node, and the process's."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", _PAGE.read_text(), re.MULTILINE)
    assert rows
    found = {name for name, kind in rows if kind != "histogram"}
    for name, kind in rows:
        if kind == "histogram":
            found |= {f"{name}_{part}" for part in ("bucket", "count", "sum")}
    for family in ProcessCollector(registry=None).collect():
        found |= {sample.name for sample in family.samples}
    return found


def metrics_in(expression: str) -> set[str]:
    """Return the metrics that an expression is about."""
    return set(re.findall(r"\b((?:streamtable|process)_\w+|up\b)", expression))
