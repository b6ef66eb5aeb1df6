"""Query and Scan: a page of items from one shard, or from shard after shard."""

from collections.abc import Iterator
from typing import Any

import orjson

from streamtable.core.capacity import ConsumedCapacity, read_units
from streamtable.core.context import Handler, RequestContext
from streamtable.core.images import Image
from streamtable.core.operations.query import plan_query
from streamtable.core.operations.ranges import Reading
from streamtable.core.operations.scan import plan_scan
from streamtable.operations.lookup import item_lookup
from streamtable.streams.catalog import Catalog
from streamtable.streams.shard import Shard
from streamtable.streams.shards import Shards

__all__ = ["consumed", "fetched", "read_handlers"]


def read_handlers(catalog: Catalog, shards: Shards) -> dict[str, Handler]:
    """Return the handlers of Query and Scan."""
    find = item_lookup(catalog)

    async def query(body: dict[str, Any], _context: RequestContext) -> bytes:
        reading, number, start, end, reverse = plan_query(body, find)
        if start < end:
            shard = shards.of(number)
            await shard.ready(consistent=reading.consistent)
            rows = shard.scan(start, end, reverse=reverse)
            reading.page.read(fetched(reading, shard, rows) if reading.fetches else rows)
        return _answer(reading)

    async def scan(body: dict[str, Any], _context: RequestContext) -> bytes:
        reading, interval = plan_scan(body, find, shards.count)
        for number, start, end in interval.parts():
            shard = shards[number]
            await shard.ready(consistent=reading.consistent)
            rows = shard.scan(start, end)
            if reading.page.read(fetched(reading, shard, rows) if reading.fetches else rows):
                break
        return _answer(reading)

    return {"Query": query, "Scan": scan}


def fetched(
    reading: Reading, shard: Shard, rows: Iterator[tuple[bytes, Image]]
) -> Iterator[tuple[bytes, Image]]:
    """Yield for each row of a local index the table's item, which is on the same shard."""
    table = reading.table
    for row_key, image in rows:
        _, item_row = table.keys.locate(table.prefix, image.item)
        whole = shard.get(item_row)
        if whole is not None:
            reading.count_fetch(image.size_bytes, whole.size_bytes)
            yield row_key, whole


def _answer(reading: Reading) -> bytes:
    page = reading.page
    members = page.members()
    last = page.key(reading.names)
    if last is not None:
        members.append(b'"LastEvaluatedKey":' + orjson.dumps(last))
    if reading.capacity != "NONE":
        report = consumed(reading).report(reading.capacity)
        members.append(b'"ConsumedCapacity":' + orjson.dumps(report))
    return b"{" + b",".join(members) + b"}"


def consumed(reading: Reading) -> ConsumedCapacity:
    """Return the units that reading the page consumed.

    What a local index lacks is fetched from the table, item by item, and counts there.
    """
    size = reading.index_bytes if reading.fetches else reading.page.size_bytes
    units = read_units(size, consistent=reading.consistent)
    capacity = ConsumedCapacity(reading.named)
    index = reading.index
    if index is None:
        capacity.table = units
    elif index.is_global:
        capacity.global_indexes[index.name] = units
    else:
        capacity.local_indexes[index.name] = units
        capacity.table = reading.fetched_units
    return capacity
