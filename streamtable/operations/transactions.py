"""TransactWriteItems and TransactGetItems: many items at once, all or none."""

from collections.abc import Awaitable, Sequence
from hashlib import blake2b
from typing import Any, Protocol

import orjson

from streamtable.core.capacity import ConsumedCapacity, add_by_table, read_units
from streamtable.core.context import Handler, RequestContext
from streamtable.core.images import Image
from streamtable.core.operations.check import Check
from streamtable.core.operations.item_collections import add_metrics
from streamtable.core.operations.transact_get import TransactGet, plan_transact_get
from streamtable.core.operations.transact_write import plan_transact_write
from streamtable.core.operations.transactions import check_transaction_size
from streamtable.core.operations.write_answers import write_capacity
from streamtable.core.operations.writes import Write
from streamtable.operations.lookup import item_lookup, write_lookup
from streamtable.streams.catalog import Catalog
from streamtable.streams.shard import Outcome
from streamtable.streams.shards import Shards
from streamtable.streams.snapshots import Read
from streamtable.streams.transactions import UsedToken

__all__ = ["TransactionRunner", "note_written", "transaction_handlers", "used_token"]


class TransactionRunner(Protocol):
    """What carries out transactions: `streams.transactions.Transactions`."""

    async def write(
        self, writes: Sequence[Write], token: UsedToken | None, context: RequestContext
    ) -> list[Outcome] | None:
        """Carry out all writes or none; None if the token says that it was done before."""

    async def read(self, reads: Sequence[Read]) -> list[Image | None]:
        """Read items as of one point in the order of all transactions."""


def transaction_handlers(
    catalog: Catalog, shards: Shards, transactions: TransactionRunner
) -> dict[str, Handler]:
    """Return the handlers of the operations on transactions."""
    find, find_written = item_lookup(catalog), write_lookup(catalog)

    def transact_write_items(body: dict[str, Any], context: RequestContext) -> Awaitable[bytes]:
        # Planned before anything is awaited, so that the body is let go of while it waits.
        writes = plan_transact_write(body, find_written)
        token = used_token(body, "TransactItems")
        wanted = body.get("ReturnConsumedCapacity", "NONE")
        measured = body.get("ReturnItemCollectionMetrics") == "SIZE"
        return carry_out(writes, token, wanted, context, measured=measured)

    async def carry_out(
        writes: list[Write],
        token: UsedToken | None,
        wanted: str,
        context: RequestContext,
        *,
        measured: bool,
    ) -> bytes:
        outcomes = await transactions.write(writes, token, context)
        note_written(writes, outcomes, shards, context)
        answer: dict[str, Any] = {}
        if wanted != "NONE":
            if outcomes is None:
                consumed = await _looked_at(writes, shards)
            else:
                consumed = _written(writes, outcomes)
            answer["ConsumedCapacity"] = [units.report(wanted) for units in consumed.values()]
        if measured and outcomes is not None:
            metrics = await _measured(writes, shards)
            if metrics:
                answer["ItemCollectionMetrics"] = metrics
        return orjson.dumps(answer) if answer else b"{}"

    async def transact_get_items(body: dict[str, Any], _context: RequestContext) -> bytes:
        gets = plan_transact_get(body, find)
        images = await transactions.read([Read(get.hash, get.row_key) for get in gets])
        check_transaction_size(sum(image.size_bytes for image in images if image is not None))
        responses = [_item(get, image) for get, image in zip(gets, images, strict=True)]
        answer = b'{"Responses":[' + b",".join(responses) + b"]"
        wanted = body.get("ReturnConsumedCapacity", "NONE")
        if wanted != "NONE":
            consumed: dict[str, ConsumedCapacity] = {}
            for get, image in zip(gets, images, strict=True):
                add_by_table(consumed, _read_capacity(get.named, image))
            reports = [units.report(wanted) for units in consumed.values()]
            answer += b',"ConsumedCapacity":' + orjson.dumps(reports)
        return answer + b"}"

    return {
        "TransactWriteItems": transact_write_items,
        "TransactGetItems": transact_get_items,
    }


def note_written(
    writes: Sequence[Write],
    outcomes: Sequence[Outcome] | None,
    shards: Shards,
    context: RequestContext,
) -> None:
    """Note where a transaction's writes are in the log; nowhere if they were done before."""
    for write, outcome in zip(writes, outcomes or (), strict=False):
        context.note_written(write.hash % shards.count, outcome.offset)


def used_token(body: dict[str, Any], actions: str) -> UsedToken | None:
    """Return a request's client token with the digest of its actions, None if it has no token.

    The digest says whether two requests want the same done; what they want to be told of it, such
    as ReturnConsumedCapacity, is not in it.

    Args:
        body: the request.
        actions: the name of the member that has its actions.
    """
    token = body.get("ClientRequestToken")
    if token is None:
        return None
    said = orjson.dumps(body[actions], option=orjson.OPT_SORT_KEYS)
    return UsedToken(token, blake2b(said, digest_size=16).hexdigest())


def _item(get: TransactGet, image: Image | None) -> bytes:
    if image is None:
        return b"{}"
    if get.projection is None:
        return b'{"Item":' + image.json + b"}"
    found = get.projection.project(image.item)
    # Other than a GetItem's. Source: API_TransactGetItems, Responses
    return b'{"Item":' + orjson.dumps(found) + b"}" if found else b"{}"


def _written(writes: list[Write], outcomes: list[Outcome]) -> dict[str, ConsumedCapacity]:
    """Return the units of each table: every action costs what it costs by itself, twice."""
    consumed: dict[str, ConsumedCapacity] = {}
    for write, outcome in zip(writes, outcomes, strict=True):
        units = write_capacity(write.table, outcome.old, outcome.new, named=write.named)
        units.transaction = "Write"
        units.add(units)
        add_by_table(consumed, units)
    return consumed


async def _looked_at(writes: list[Write], shards: Shards) -> dict[str, ConsumedCapacity]:
    """Return the units of a transaction that was done before: its items are read."""
    consumed: dict[str, ConsumedCapacity] = {}
    for write in writes:
        image = await shards.of(write.hash).read(write.row_key, consistent=False)
        add_by_table(consumed, _read_capacity(write.named, image))
    return consumed


def _read_capacity(named: str, image: Image | None) -> ConsumedCapacity:
    size = 0 if image is None else image.size_bytes
    units = read_units(size, consistent=True, transactional=True)
    return ConsumedCapacity(named, units, transaction="Read")


async def _measured(writes: list[Write], shards: Shards) -> dict[str, list[dict[str, Any]]]:
    """Return the ItemCollectionMetrics, by table, of the collections that were written to."""
    metrics: dict[str, list[dict[str, Any]]] = {}
    for write in writes:
        if write.table.has_collections and not isinstance(write, Check):
            size_bytes = await shards.of(write.hash).measure_collection(write)
            add_metrics(metrics, write.named, write, size_bytes)
    return metrics
