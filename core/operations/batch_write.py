"""BatchWriteItem: up to 25 puts and deletes, each for itself."""

from collections.abc import Callable
from typing import Any

import orjson

from streamtable.core.errors import ValidationError
from streamtable.core.limits import BATCH_WRITE_ITEMS
from streamtable.core.operations.delete import Delete
from streamtable.core.operations.put import ItemPut, Put
from streamtable.core.operations.writes import Write
from streamtable.core.tables import Table
from streamtable.core.values import Item, check_item_size, parse_item

__all__ = ["BatchedWrite", "plan_batch_write", "unprocessed"]

BatchedWrite = tuple[str, Write]
"""The table as the request names it, and the plan of the write."""


def plan_batch_write(body: dict[str, Any], find: Callable[[str], Table]) -> list[BatchedWrite]:
    """Check a BatchWriteItem request and plan its writes. Source: API_BatchWriteItem.

    Args:
        body: the request, its shape already validated.
        find: returns the table of a name, or raises ResourceNotFound.

    Raises:
        ValidationError: one of DynamoDB's rules is broken.
        ResourceNotFound: one of the tables does not exist.
    """
    requests: dict[str, list[dict[str, Any]]] = body["RequestItems"]
    if not requests:
        raise ValidationError("The requestItems parameter is required for BatchWriteItem")
    if sum(map(len, requests.values())) > BATCH_WRITE_ITEMS:
        raise ValidationError("Too many items requested for the BatchWriteItem call")
    parsed = [
        (name, request, _parse(request)) for name, part in requests.items() for request in part
    ]
    wanted = ("ReturnConsumedCapacity", "ReturnItemCollectionMetrics")
    asked = {name: body[name] for name in wanted if name in body}
    tables = {name: (find(name), {"TableName": name, **asked}) for name in requests}
    writes: list[BatchedWrite] = []
    seen: set[bytes] = set()
    for name, request, put in parsed:
        table, named = tables[name]
        write: Write
        if put is None:
            located = table.locate_key(request["DeleteRequest"]["Key"])
            source = ("DeleteItem", {**named, **request["DeleteRequest"]})
            write = Delete(table, located, None, source)
        else:
            item, size = put
            located = _located(table, item)
            if table.indexes:
                table.check_index_keys(item)
            write = ItemPut(table, item, size, located, None, ("PutItem", named))
        if write.row_key in seen:
            raise ValidationError("Provided list of item keys contains duplicates")
        seen.add(write.row_key)
        writes.append((name, write))
    return writes


def unprocessed(write: Write) -> dict[str, Any]:
    """Return a write that was planned as its request had it, its item as an `orjson.Fragment`."""
    if isinstance(write, Put):
        return {"PutRequest": {"Item": orjson.Fragment(write.json)}}
    return {"DeleteRequest": {"Key": write.key}}


def _located(table: Table, item: Item) -> tuple[Item, int, bytes]:
    """Return where an item is to be; a batch does not say what its key lacks, as a PutItem does."""
    try:
        return table.locate_item(item)
    except ValidationError:
        table.keys.parse_key({name: item[name] for name in table.key_names if name in item})
        raise


def _parse(request: dict[str, Any]) -> tuple[dict[str, Any], int] | None:
    """Return the item of a put and its size, None for a delete."""
    put, delete = request.get("PutRequest"), request.get("DeleteRequest")
    if put is not None and delete is not None:
        raise ValidationError(
            "Supplied AttributeValue has more than one datatypes set, must contain exactly one of "
            "the supported datatypes"
        )
    if put is not None:
        item, size = parse_item(put["Item"])
        check_item_size(size)
        return item, size
    if delete is None:
        raise ValidationError(
            "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"
        )
    parse_item(delete["Key"])
    return None
