"""Item collections: what ReturnItemCollectionMetrics tells of a table with local indexes.

An item collection is all items of one partition key, in the table and in its local indexes.
Source: API_ItemCollectionMetrics.
"""

from typing import Any, Final

from streamtable.core.operations.writes import Write

__all__ = ["add_metrics", "collection_metrics"]

_GB: Final = 1024**3


def collection_metrics(write: Write, size_bytes: int) -> dict[str, Any]:
    """Return the ItemCollectionMetrics of a collection of that size."""
    name = write.table.key_names[0]
    below = float(size_bytes // _GB)
    return {
        "ItemCollectionKey": {name: write.key[name]},
        "SizeEstimateRangeGB": [below, below + 1.0],
    }


def add_metrics(
    metrics: dict[str, list[dict[str, Any]]], named: str, write: Write, size_bytes: int
) -> None:
    """Add the collection that a write of a request was to; each is told once.

    Args:
        metrics: the answer's ItemCollectionMetrics, by the tables' names as the request has them.
        named: the name of the write's table there.
        write: the write.
        size_bytes: the collection's size after it.
    """
    measured = collection_metrics(write, size_bytes)
    found = metrics.setdefault(named, [])
    if measured not in found:
        found.append(measured)
