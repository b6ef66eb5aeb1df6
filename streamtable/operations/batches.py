"""BatchGetItem and BatchWriteItem: many items at once, each for itself."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

import orjson

from streamtable.core.capacity import ConsumedCapacity, add_by_table, read_units
from streamtable.core.context import Handler, RequestContext
from streamtable.core.errors import ServiceUnavailable
from streamtable.core.images import Image
from streamtable.core.limits import BATCH_READ_BYTES
from streamtable.core.operations.batch_get import TableKeys, plan_batch_get
from streamtable.core.operations.batch_write import BatchedWrite, plan_batch_write, unprocessed
from streamtable.core.operations.item_collections import add_metrics
from streamtable.core.operations.write_answers import write_capacity
from streamtable.operations.lookup import item_lookup, write_lookup
from streamtable.streams.catalog import Catalog
from streamtable.streams.shard import Outcome
from streamtable.streams.shards import Shards

__all__ = ["batch_handlers"]


def batch_handlers(catalog: Catalog, shards: Shards) -> dict[str, Handler]:
    """Return the handlers of the batch operations."""
    find, find_written = item_lookup(catalog), write_lookup(catalog)

    async def batch_get_item(body: dict[str, Any], _context: RequestContext) -> bytes:
        wanted = plan_batch_get(body, find)
        # One question a shard, not one an item.
        by_shard: dict[int, list[bytes]] = {}
        proofs: dict[int, bool] = {}
        for part in wanted:
            for _, number, row_key in part.keys:
                shard = number % shards.count
                by_shard.setdefault(shard, []).append(row_key)
                proofs[shard] = proofs.get(shard, False) or part.consistent
        found = await asyncio.gather(
            *(
                shards[number].read_many(row_keys, consistent=proofs[number])
                for number, row_keys in by_shard.items()
            )
        )
        images = {
            row_key: image
            for row_keys, theirs in zip(by_shard.values(), found, strict=True)
            for row_key, image in zip(row_keys, theirs, strict=True)
        }
        return _read(wanted, images, body.get("ReturnConsumedCapacity", "NONE"))

    def batch_write_item(body: dict[str, Any], context: RequestContext) -> Awaitable[bytes]:
        # All of this before anything is awaited: the body is let go of while the writes wait.
        by_shard: dict[int, list[BatchedWrite]] = {}
        for entry in plan_batch_write(body, find_written):
            by_shard.setdefault(entry[1].hash % shards.count, []).append(entry)
        under_way = [
            shards[number].write_many([write for _, write in entries], context)
            for number, entries in by_shard.items()
        ]
        capacity = body.get("ReturnConsumedCapacity", "NONE")
        return answer_batch_write(by_shard, under_way, capacity, context)

    async def answer_batch_write(
        by_shard: dict[int, list[BatchedWrite]],
        under_way: list[Awaitable[list[Outcome]]],
        capacity: str,
        context: RequestContext,
    ) -> bytes:
        results: list[list[Outcome] | Exception] = []
        for writes in under_way:
            try:
                results.append(await writes)
            except Exception as error:  # noqa: BLE001 - the others have been carried out
                results.append(error)
        written = list(zip(by_shard.values(), results, strict=True))
        for number, outcomes in zip(by_shard, results, strict=True):
            if isinstance(outcomes, list):
                context.note_written(number, max(outcome.offset for outcome in outcomes))
        answer = _written(written, capacity)
        metrics: dict[str, list[dict[str, Any]]] = {}
        for entries, outcomes in written:
            for name, write in entries:
                if write.collects and isinstance(outcomes, list):
                    size_bytes = await shards.of(write.hash).measure_collection(write)
                    add_metrics(metrics, name, write, size_bytes)
        if metrics:
            answer["ItemCollectionMetrics"] = metrics
        return orjson.dumps(answer)

    return {"BatchGetItem": batch_get_item, "BatchWriteItem": batch_write_item}


def _read(wanted: list[TableKeys], images: Mapping[bytes, Image | None], capacity: str) -> bytes:
    total = 0
    responses = []
    left: dict[str, Any] = {}
    consumed = []
    for part in wanted:
        units = ConsumedCapacity(part.name)
        items = []
        for position, (_, _, row_key) in enumerate(part.keys):
            image = images[row_key]
            size = 0 if image is None else image.size_bytes
            if total + size > BATCH_READ_BYTES:
                rest = part.request["Keys"][position:]
                left[part.name] = {**part.request, "Keys": rest}
                break
            total += size
            units.table += read_units(size, consistent=part.consistent)
            if image is not None:
                projection = part.projection
                items.append(
                    image.json
                    if projection is None
                    else orjson.dumps(projection.project(image.item))
                )
        responses.append(orjson.dumps(part.name) + b":[" + b",".join(items) + b"]")
        consumed.append(units)
    members = [
        b'"Responses":{' + b",".join(responses) + b"}",
        b'"UnprocessedKeys":' + orjson.dumps(left),
    ]
    if capacity != "NONE":
        reports = [units.report(capacity) for units in consumed]
        members.append(b'"ConsumedCapacity":' + orjson.dumps(reports))
    return b"{" + b",".join(members) + b"}"


def _written(
    results: list[tuple[list[BatchedWrite], list[Outcome] | Exception]], capacity: str
) -> dict[str, Any]:
    """Answer what was written; what a shard could not take now is UnprocessedItems.

    Raises:
        ServiceUnavailable: no shard could take anything.
    """
    left: dict[str, list[dict[str, Any]]] = {}
    consumed: dict[str, ConsumedCapacity] = {}
    unavailable: ServiceUnavailable | None = None
    written = 0
    for entries, outcomes in results:
        if isinstance(outcomes, ServiceUnavailable):
            unavailable = outcomes
            for name, write in entries:
                left.setdefault(name, []).append(unprocessed(write))
        elif isinstance(outcomes, Exception):
            raise outcomes
        else:
            written += len(outcomes)
            if capacity != "NONE":
                for (name, write), outcome in zip(entries, outcomes, strict=True):
                    units = write_capacity(write.table, outcome.old, outcome.new, named=name)
                    add_by_table(consumed, units)
    if unavailable is not None and not written:
        raise unavailable
    answer: dict[str, Any] = {"UnprocessedItems": left}
    if capacity != "NONE":
        answer["ConsumedCapacity"] = [units.report(capacity) for units in consumed.values()]
    return answer
