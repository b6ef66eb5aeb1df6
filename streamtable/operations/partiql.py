"""ExecuteStatement, BatchExecuteStatement and ExecuteTransaction: PartiQL on the shards."""

import asyncio
from typing import Any, Final, cast

import orjson

from streamtable.core.capacity import ConsumedCapacity, add_by_table, read_units
from streamtable.core.context import Handler, RequestContext
from streamtable.core.errors import (
    ApiError,
    ConditionalCheckFailed,
    DuplicateItem,
    ItemCollectionSizeLimitExceeded,
    RequestLimitExceeded,
    ResourceNotFound,
    ThrottlingError,
    TransactionConflict,
    ValidationError,
)
from streamtable.core.images import Image
from streamtable.core.operations.write_answers import answer_write, write_capacity
from streamtable.core.operations.writes import Write
from streamtable.core.partiql.batches import BatchEntry, plan_batch, plan_transaction
from streamtable.core.partiql.next_token import next_token
from streamtable.core.partiql.parameters import fill
from streamtable.core.partiql.select import Get, SelectPlan, plan_select
from streamtable.core.partiql.statements import Select
from streamtable.core.partiql.writes import plan_write
from streamtable.core.tables import Table
from streamtable.core.values import Item
from streamtable.operations.lookup import item_lookup
from streamtable.operations.reads import consumed, read_rows
from streamtable.operations.transactions import TransactionRunner, note_written, used_token
from streamtable.streams.catalog import Catalog
from streamtable.streams.shard import Outcome
from streamtable.streams.shards import Shards
from streamtable.streams.snapshots import Read

__all__ = ["partiql_handlers"]

# How the statements of a batch name their errors; what is not here is the service's fault.
_CODES: Final = {
    ConditionalCheckFailed: "ConditionalCheckFailed",
    DuplicateItem: "DuplicateItem",
    ItemCollectionSizeLimitExceeded: "ItemCollectionSizeLimitExceeded",
    RequestLimitExceeded: "RequestLimitExceeded",
    ResourceNotFound: "ResourceNotFound",
    ThrottlingError: "ThrottlingError",
    TransactionConflict: "TransactionConflict",
    ValidationError: "ValidationError",
}


def partiql_handlers(
    catalog: Catalog, shards: Shards, transactions: TransactionRunner
) -> dict[str, Handler]:
    """Return the handlers of the PartiQL operations."""
    find = item_lookup(catalog)

    async def execute_statement(body: dict[str, Any], context: RequestContext) -> bytes:
        filled = fill(body)
        statement = filled.statement
        if isinstance(statement, Select):
            return await _select(plan_select(statement, filled, body, find), body, shards)
        write = plan_write(filled, body, find)
        return _written(write, await _carry_out(write, shards, context))

    async def batch_execute_statement(body: dict[str, Any], context: RequestContext) -> bytes:
        entries = plan_batch(body["Statements"], find)
        results = await asyncio.gather(*(_run(entry, shards, context) for entry in entries))
        units = _Units(body)
        for entry, result in zip(entries, results, strict=True):
            _count(units, entry, result)
        responses = [
            _response(entry, result) for entry, result in zip(entries, results, strict=True)
        ]
        return orjson.dumps({"Responses": responses, **units.report()})

    async def execute_transaction(body: dict[str, Any], context: RequestContext) -> bytes:
        plans = plan_transaction(body["TransactStatements"], find)
        units = _Units(body)
        if isinstance(plans[0], Get):
            images = await transactions.read([Read(get.hash, get.row_key) for get in plans])
            for get, image in zip(plans, images, strict=True):
                units.add_read(get.table, image, transactional=True)
            responses = [_item(get.answer(image)) for get, image in zip(plans, images, strict=True)]
            return orjson.dumps({"Responses": responses, **units.report()})
        outcomes = await transactions.write(plans, used_token(body, "TransactStatements"), context)
        note_written(plans, outcomes, shards, context)
        for position, write in enumerate(plans):
            if outcomes is None:
                # Done before: now the items were only looked at.
                units.add_read(write.table, None, transactional=True)
            else:
                outcome = outcomes[position]
                units.add_write(write.table, outcome.old, outcome.new, transactional=True)
        return orjson.dumps({"Responses": [{} for _ in plans], **units.report()})

    return {
        "ExecuteStatement": execute_statement,
        "BatchExecuteStatement": batch_execute_statement,
        "ExecuteTransaction": execute_transaction,
    }


async def _select(plan: SelectPlan, body: dict[str, Any], shards: Shards) -> bytes:
    reading = plan.reading
    page = reading.page
    more = False
    parts = plan.parts(shards.count)
    for position, (number, start, end) in enumerate(parts, 1):
        goes_on = await read_rows(
            reading, shards[number], start, end, reverse=plan.reverse, ahead=plan.exact
        )
        if goes_on is not None:
            more = position < len(parts) or goes_on
            break
    members = [page.members()[0]]
    if more:
        last = page.key(reading.names)
        assert last is not None
        members.append(b'"NextToken":' + orjson.dumps(next_token(body, last)))
        members.append(b'"LastEvaluatedKey":' + orjson.dumps(last))
    if reading.capacity != "NONE":
        report = consumed(reading).report(reading.capacity)
        members.append(b'"ConsumedCapacity":' + orjson.dumps(report))
    return b"{" + b",".join(members) + b"}"


def _written(write: Write, outcome: Outcome) -> bytes:
    answer = orjson.loads(answer_write(write, outcome.old, outcome.new))
    attributes = answer.pop("Attributes", None)
    return orjson.dumps({"Items": [] if attributes is None else [attributes], **answer})


async def _carry_out(write: Write, shards: Shards, context: RequestContext) -> Outcome:
    shard = shards.of(write.hash)
    outcome = await shard.write(write, context)
    context.note_written(shard.number, outcome.offset)
    return outcome


async def _run(
    entry: BatchEntry, shards: Shards, context: RequestContext
) -> Image | Outcome | ApiError | None:
    """Carry out one statement of a batch; its error is its result."""
    plan = entry.plan
    if isinstance(plan, ApiError):
        return plan
    try:
        if isinstance(plan, Get):
            shard = shards.of(plan.hash)
            return await shard.read(plan.row_key, consistent=entry.consistent)
        return await _carry_out(plan, shards, context)
    except ApiError as error:
        return error


def _response(entry: BatchEntry, result: Image | Outcome | ApiError | None) -> dict[str, Any]:
    response: dict[str, Any] = {}
    if isinstance(result, ApiError):
        code = next(
            (code for kind, code in _CODES.items() if isinstance(result, kind)),
            "InternalServerError",
        )
        response["Error"] = {"Code": code, "Message": result.message, **result.members}
    if entry.table is not None:
        response["TableName"] = entry.table
    plan = entry.plan
    if isinstance(plan, Get) and not isinstance(result, ApiError):
        response.update(_item(plan.answer(cast("Image | None", result))))
    elif isinstance(plan, Write) and not isinstance(result, ApiError):
        outcome = cast("Outcome", result)
        answer = orjson.loads(answer_write(plan, outcome.old, outcome.new))
        response.update(_item(answer.get("Attributes")))
    return response


def _item(item: Item | None) -> dict[str, Any]:
    return {} if item is None else {"Item": item}


class _Units:
    """The units that a request consumed, table by table."""

    def __init__(self, body: dict[str, Any]) -> None:
        self._wanted = body.get("ReturnConsumedCapacity", "NONE")
        self._tables: dict[str, ConsumedCapacity] = {}

    def add_read(
        self,
        table: Table,
        image: Image | None,
        *,
        consistent: bool = True,
        transactional: bool = False,
    ) -> None:
        size = 0 if image is None else image.size_bytes
        units = read_units(size, consistent=consistent, transactional=transactional)
        capacity = ConsumedCapacity(table.name, units)
        if transactional:
            capacity.transaction = "Read"
        add_by_table(self._tables, capacity)

    def add_write(
        self,
        table: Table,
        old: Image | None,
        new: Image | None,
        *,
        transactional: bool = False,
    ) -> None:
        if self._wanted == "NONE":
            return
        units = write_capacity(table, old, new)
        if transactional:
            units.add(write_capacity(table, old, new))
            units.transaction = "Write"
        add_by_table(self._tables, units)

    def report(self) -> dict[str, Any]:
        if self._wanted == "NONE":
            return {}
        reports = [units.report(self._wanted) for units in self._tables.values()]
        return {"ConsumedCapacity": reports}


def _count(units: _Units, entry: BatchEntry, result: Image | Outcome | ApiError | None) -> None:
    plan = entry.plan
    if isinstance(result, ApiError) or isinstance(plan, ApiError):
        return
    if isinstance(plan, Get):
        image = cast("Image | None", result)
        units.add_read(plan.table, image, consistent=entry.consistent)
    else:
        outcome = cast("Outcome", result)
        units.add_write(plan.table, outcome.old, outcome.new)
