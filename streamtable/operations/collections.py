"""The sizes of item collections, measured where they are."""

import asyncio
from typing import Any, Final

from streamtable.core.operations.item_collections import collection_metrics, collection_ranges
from streamtable.core.operations.writes import Write
from streamtable.streams.shard import Shard

__all__ = ["measure_collection"]

# So many rows are measured before others have their turn.
_ROWS: Final = 1000


async def measure_collection(write: Write, shard: Shard) -> dict[str, Any]:
    """Return the ItemCollectionMetrics of the collection that a write belongs to.

    It reads the whole collection, so it takes its time for a large one.
    """
    size_bytes = 0
    rows = 0
    for start, end in collection_ranges(write):
        for _, image in shard.scan(start, end):
            size_bytes += image.size_bytes
            rows += 1
            if rows % _ROWS == 0:
                await asyncio.sleep(0)
    return collection_metrics(write, size_bytes)
