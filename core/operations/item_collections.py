"""Item collections: what ReturnItemCollectionMetrics tells of a table with local indexes.

An item collection is all items of one partition key, in the table and in its local indexes.
Source: API_ItemCollectionMetrics.
"""

from typing import Any, Final

from streamtable.core.operations.writes import Write

__all__ = ["collection_metrics"]

_GB: Final = 1024**3


def collection_metrics(write: Write, size_bytes: int) -> dict[str, Any]:
    """Return the ItemCollectionMetrics of a collection of that size."""
    name = write.table.key_names[0]
    below = float(size_bytes // _GB)
    return {
        "ItemCollectionKey": {name: write.key[name]},
        "SizeEstimateRangeGB": [below, below + 1.0],
    }
