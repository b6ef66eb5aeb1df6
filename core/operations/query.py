"""Query: the items of one partition of a table or an index, in the order of the sort key."""

from collections.abc import Callable
from typing import Any, Final

from streamtable.core.errors import ResourceNotFound, ValidationError
from streamtable.core.expressions.condition import bind
from streamtable.core.expressions.key_condition import KeyRange, bind_key_condition
from streamtable.core.expressions.legacy import compile_key_conditions
from streamtable.core.expressions.parser import parse_condition
from streamtable.core.expressions.placeholders import Placeholders, Scope
from streamtable.core.keys import KeySchema, partition_hash, row_key
from streamtable.core.operations.conditions import plan_filter
from streamtable.core.operations.pages import Page
from streamtable.core.operations.ranges import Reading, check_start, start_schema
from streamtable.core.operations.selections import check_index, check_select, find_index
from streamtable.core.tables import Table

__all__ = ["PlannedQuery", "plan_query"]

_EXPRESSIONS: Final = ("ProjectionExpression", "FilterExpression", "KeyConditionExpression")
# KeyConditions goes with every other expression: these are older than KeyConditionExpression.
_LEGACY: Final = ("AttributesToGet", "QueryFilter", "ConditionalOperator")
_LEGACY_BESIDE_KEY_CONDITION: Final = (*_LEGACY, "KeyConditions")
_KEY_CONDITION: Final = "KeyConditionExpression"

PlannedQuery = tuple[Reading, int, bytes, bytes, bool]
"""What is read, the partition's hash, first row key and end, and whether to read backwards."""


def plan_query(body: dict[str, Any], find: Callable[[str], Table]) -> PlannedQuery:
    """Check a Query request; return what is read and where. Source: API_Query.

    Args:
        body: the request, its shape already validated.
        find: returns the table of a name, or raises ResourceNotFound.

    Raises:
        ValidationError: one of DynamoDB's rules is broken.
        ResourceNotFound: there is no such table.
    """
    check_select(body)
    text = body.get(_KEY_CONDITION)
    legacy = _LEGACY if text is None else _LEGACY_BESIDE_KEY_CONDITION
    condition, projection, placeholders = plan_filter(body, _EXPRESSIONS, legacy, "QueryFilter")
    if text is not None:
        node = placeholders.take(parse_condition(text, _KEY_CONDITION))
    elif "KeyConditions" not in body:
        raise ValidationError(
            "Either the KeyConditions or KeyConditionExpression parameter must be specified in "
            "the request."
        )
    placeholders.check_unused()
    if "ExclusiveStartKey" in body:
        check_start(body)
    try:
        table = find(body["TableName"])
    except ResourceNotFound:
        # Whatever can be said of the request without the table comes first.
        if text is not None:
            bind(node, Scope(_KEY_CONDITION, placeholders))
        raise
    index = find_index(table, body)
    keys = table.keys if index is None else index.keys
    fetches = False
    if index is not None:
        fetches = check_index(index, body, None if projection is None else projection.paths)
    wanted = _key_range(body, placeholders, keys)
    if condition is not None:
        what = "QueryFilter" if "QueryFilter" in body else "Filter Expression"
        condition.check_filter(keys.names, what)
    page = Page(
        limit=body.get("Limit"),
        condition=condition,
        projection=projection,
        counting=body.get("Select") == "COUNT",
    )
    reading = Reading(table, index, page, body, fetches=fetches)
    partition = keys.encode_partition(wanted.partition)
    start, end = wanted.encoded_bounds(row_key(reading.prefix, partition))
    reverse = not body.get("ScanIndexForward", True)
    if "ExclusiveStartKey" in body:
        after = _start(body["ExclusiveStartKey"], reading, wanted, (start, end))
        if reverse:
            end = after
        else:
            # No row key begins with another one, so this is the smallest key after it.
            start = after + b"\x00"
    return reading, partition_hash(partition), start, end, reverse


def _key_range(body: dict[str, Any], placeholders: Placeholders, keys: KeySchema) -> KeyRange:
    text = body.get(_KEY_CONDITION)
    if text is None:
        return compile_key_conditions(body["KeyConditions"], keys)
    return bind_key_condition(text, placeholders, keys)


def _start(
    raw: dict[str, Any], reading: Reading, wanted: KeyRange, bounds: tuple[bytes, bytes]
) -> bytes:
    """Return the row key of an ExclusiveStartKey that lies in the range that is read."""
    try:
        key = start_schema(reading.table, reading.index).parse_key(raw)
    except ValidationError:
        raise ValidationError("The provided starting key is invalid") from None
    if any(key[name] != value for name, value in wanted.partition.items()):
        raise ValidationError(
            "The provided starting key is outside query boundaries based on provided conditions"
        )
    _, after = reading.locate(key)
    if not bounds[0] <= after < bounds[1]:
        raise ValidationError("The provided starting key does not match the range key predicate")
    return after
