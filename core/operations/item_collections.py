"""Item collections: what ReturnItemCollectionMetrics tells of a table with local indexes.

An item collection is all items of one partition key, in the table and in its local indexes.
Source: API_ItemCollectionMetrics.
"""

from typing import Any, Final

from streamtable.core.keys import after_prefix, row_key
from streamtable.core.operations.writes import Write

__all__ = ["collection_metrics", "collection_ranges"]

_GB: Final = 1024**3


def collection_ranges(write: Write) -> list[tuple[bytes, bytes]]:
    """Return the ranges of row keys that hold the item collection of a write's item.

    They are all on the item's shard.
    """
    table = write.table
    partition = table.keys.encode_partition(write.key)
    prefixes = [table.prefix]
    prefixes += [index.prefix for index in table.indexes.values() if not index.is_global]
    starts = [row_key(prefix, partition) for prefix in prefixes]
    return [(start, after_prefix(start)) for start in starts]


def collection_metrics(write: Write, size_bytes: int) -> dict[str, Any]:
    """Return the ItemCollectionMetrics of a collection of that size."""
    name = write.table.key_names[0]
    below = float(size_bytes // _GB)
    return {
        "ItemCollectionKey": {name: write.key[name]},
        "SizeEstimateRangeGB": [below, below + 1.0],
    }
