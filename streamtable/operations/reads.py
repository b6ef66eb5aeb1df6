"""Query and Scan: a page of items from one shard, or from shard after shard."""

from collections.abc import Iterator
from typing import Any

import orjson

from streamtable.core.capacity import ConsumedCapacity, read_units
from streamtable.core.context import Handler, RequestContext
from streamtable.core.images import Image
from streamtable.core.operations.query import PlannedQuery, plan_query
from streamtable.core.operations.ranges import Reading
from streamtable.core.operations.scan import plan_scan
from streamtable.operations.lookup import item_lookup
from streamtable.streams.catalog import Catalog
from streamtable.streams.shards import ShardAccess, Shards

__all__ = ["answer_query", "consumed", "read_handlers", "read_rows"]


def read_handlers(catalog: Catalog, shards: Shards) -> dict[str, Handler]:
    """Return the handlers of Query and Scan."""
    find = item_lookup(catalog)

    async def query(body: dict[str, Any], _context: RequestContext) -> bytes:
        return await answer_query(plan_query(body, find), shards)

    async def scan(body: dict[str, Any], _context: RequestContext) -> bytes:
        reading, interval = plan_scan(body, find, shards.count)
        for number, start, end in interval.parts():
            if await read_rows(reading, shards[number], start, end) is not None:
                break
        return _answer(reading)

    return {"Query": query, "Scan": scan}


async def answer_query(planned: PlannedQuery, shards: Shards) -> bytes:
    """Carry a planned Query out, and return its answer."""
    reading, number, start, end, reverse = planned
    if start < end:
        await read_rows(reading, shards.of(number), start, end, reverse=reverse)
    return _answer(reading)


async def read_rows(
    reading: Reading,
    shard: ShardAccess,
    start: bytes,
    end: bytes,
    *,
    reverse: bool = False,
    ahead: bool = False,
) -> bool | None:
    """Read rows of one shard into the page, until it is full.

    Args:
        reading: has the page.
        shard: the shard.
        start: the first row key.
        end: the one after the last.
        reverse: from the last one down.
        ahead: look whether there is more where the page ends.

    Returns:
        None where the page has room for more than the range had; else whether the range may go
        on after what the page has, and with `ahead` whether it does.
    """
    page = reading.page
    how = {"reverse": reverse, "consistent": reading.consistent, "limit": page.room}
    if reading.fetches:
        async for fetched in shard.fetched_chunks(reading.table, start, end, **how):
            items = _counted(reading, fetched.rows)
            if page.read(items):
                return not ahead or fetched.more or next(fetched.rows, None) is not None
        return None
    async for chunk in shard.chunks(start, end, **how):
        if page.read(chunk.rows):
            return not ahead or chunk.more or next(chunk.rows, None) is not None
    return None


def _counted(
    reading: Reading, rows: Iterator[tuple[bytes, Image, Image]]
) -> Iterator[tuple[bytes, Image]]:
    """Yield the items that rows of a local index are of, and count each as a fetch."""
    for row_key, image, whole in rows:
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
