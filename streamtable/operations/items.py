"""GetItem, PutItem, UpdateItem and DeleteItem: the hot path from a request to its shard."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import orjson

from streamtable.core.capacity import ConsumedCapacity, read_units
from streamtable.core.context import Handler, RequestContext
from streamtable.core.images import Image
from streamtable.core.operations.delete import plan_delete
from streamtable.core.operations.get import PlannedGet, plan_get
from streamtable.core.operations.item_collections import collection_metrics
from streamtable.core.operations.put import plan_put
from streamtable.core.operations.update import plan_update
from streamtable.core.operations.write_answers import answer_write
from streamtable.core.operations.writes import Write
from streamtable.core.tables import Table
from streamtable.operations.lookup import item_lookup, write_lookup
from streamtable.streams.catalog import Catalog
from streamtable.streams.commit import NotWritten
from streamtable.streams.shards import Shards

__all__ = [
    "WRITE_PLANS",
    "PlanWrite",
    "answer_get",
    "answer_plainly",
    "carry_out",
    "is_plain",
    "item_handlers",
]

PlanWrite: TypeAlias = Callable[[dict[str, Any], Callable[[str], Table]], Write]
"""Checks a request and returns the write that it asks for; given how to find a table by name."""

WRITE_PLANS: Final[Mapping[str, PlanWrite]] = {
    "PutItem": plan_put,
    "UpdateItem": plan_update,
    "DeleteItem": plan_delete,
}
"""How the operations that write one item are planned."""


def item_handlers(catalog: Catalog, shards: Shards) -> dict[str, Handler]:
    """Return the handlers of the operations on one item."""
    find, find_written = item_lookup(catalog), write_lookup(catalog)

    def get_item(body: dict[str, Any], _context: RequestContext) -> Awaitable[bytes]:
        return answer_get(plan_get(body, find), body, shards)

    def writer(plan: PlanWrite) -> Handler:
        # Planned before anything is awaited, so that the body is let go of while the write waits.
        def execute(body: dict[str, Any], context: RequestContext) -> Awaitable[bytes]:
            return carry_out(plan(body, find_written), context, shards)

        return execute

    return {
        "GetItem": get_item,
        **{operation: writer(plan) for operation, plan in WRITE_PLANS.items()},
    }


async def carry_out(write: Write, context: RequestContext, shards: Shards) -> bytes:
    """Carry a planned write out, and return its answer."""
    shard = shards.of(write.hash)
    begun = shard.begin(write, context)
    if begun is not None:
        commit, old, new = begun
        try:
            offset = -1 if commit is None else await commit.outcome()
        except NotWritten:
            begun = None
    if begun is None:
        old, new, offset, _ = await shard.write(write, context)
    if offset >= 0:
        context.written[shard.number] = offset
    metrics = (
        collection_metrics(write, await shard.measure_collection(write)) if write.collects else None
    )
    return answer_write(write, old, new, metrics)


async def answer_get(planned: PlannedGet, body: dict[str, Any], shards: Shards) -> bytes:
    """Carry a planned GetItem out, and return its answer."""
    shard = shards.of(planned[1])
    consistent = body.get("ConsistentRead", False)
    near = shard.at_hand(consistent=consistent)
    if near is not None:
        return _answer_get(planned, body, near.get(planned[2]))
    return _answer_get(planned, body, await shard.read(planned[2], consistent=consistent))


def is_plain(planned: PlannedGet, body: dict[str, Any]) -> bool:
    """Whether a GetItem asks for an item as it is, and for nothing beside it."""
    return planned[3] is None and body.get("ReturnConsumedCapacity", "NONE") == "NONE"


def answer_plainly(image: Image | None) -> bytes:
    """Return the answer of a GetItem that is plain."""
    return b"{}" if image is None else b'{"Item":' + image.json + b"}"


def _answer_get(planned: PlannedGet, body: dict[str, Any], image: Image | None) -> bytes:
    if is_plain(planned, body):
        return answer_plainly(image)
    projection = planned[3]
    if image is None:
        members = b""
    elif projection is None:
        members = b'"Item":' + image.json
    else:
        members = b'"Item":' + orjson.dumps(projection.project(image.item))
    wanted = body.get("ReturnConsumedCapacity", "NONE")
    if wanted != "NONE":
        size = 0 if image is None else image.size_bytes
        consistent = body.get("ConsistentRead", False)
        capacity = ConsumedCapacity(body["TableName"], read_units(size, consistent=consistent))
        report = b'"ConsumedCapacity":' + orjson.dumps(capacity.report(wanted))
        members = members + b"," + report if members else report
    return b"{" + members + b"}"
