"""SELECT: planned as a query of one or more partitions, as a scan, or as the read of one item.

Source: "PartiQL select statements for DynamoDB", developer guide; API_ExecuteStatement.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from streamtable.core.errors import ValidationError
from streamtable.core.expressions import nodes
from streamtable.core.expressions.condition import Condition, bind
from streamtable.core.expressions.placeholders import Scope
from streamtable.core.expressions.projection import Projection
from streamtable.core.images import Image
from streamtable.core.keys import KeySchema, partition_hash, row_key
from streamtable.core.operations.pages import Page
from streamtable.core.operations.ranges import Reading, ScanRange, start_schema
from streamtable.core.operations.selections import check_index, find_index
from streamtable.core.partiql.columns import project_columns
from streamtable.core.partiql.keys import KeyAccess, check_key_paths, find_access, find_key
from streamtable.core.partiql.next_token import read_token
from streamtable.core.partiql.parameters import Filled
from streamtable.core.partiql.statements import Order, Select
from streamtable.core.tables import Index, Table
from streamtable.core.values import Item

__all__ = ["Get", "Part", "SelectPlan", "plan_get", "plan_select"]

_FILTER: Final = "FilterExpression"

_PAGE_ITEMS: Final = 10
"""Items of a page that reads several partitions. Source: "PartiQL operators", IN."""


class Part(NamedTuple):
    """A range of row keys on one shard; the end is not in it."""

    shard: int
    start: bytes
    end: bytes


class _Span(NamedTuple):
    """A range of row keys in one partition."""

    partition: bytes
    start: bytes
    end: bytes


@dataclass(frozen=True, slots=True)
class SelectPlan:
    """What a SELECT reads.

    Attributes:
        reading: what is read, with the page that takes it in.
        spans: ranges in the order in which they are read, none for a scan.
        scans: it is a scan.
        reverse: each range is read backwards.
        exact: when the page is full after the last row of the last range, there is no more.
        start: the LastEvaluatedKey to go on after, or None.
    """

    reading: Reading
    spans: tuple[_Span, ...]
    scans: bool
    reverse: bool
    exact: bool
    start: Item | None

    def parts(self, shards: int) -> list[Part]:
        """Return where to read, in order.

        Args:
            shards: number of shards.

        Raises:
            ValidationError: the token is not from this statement.
        """
        if self.scans:
            interval = ScanRange(self.reading, shards, 0, 1, self.start)
            return [Part(*part) for part in interval.parts()]
        parts = [
            Part(partition_hash(span.partition) % shards, span.start, span.end)
            for span in self.spans
        ]
        if self.start is None:
            return parts
        _, after = self.reading.locate(self.start)
        for position, part in enumerate(parts):
            if part.start <= after < part.end:
                # No row key begins with another one, so this is the smallest key after it.
                cut = (
                    part._replace(end=after)
                    if self.reverse
                    else part._replace(start=after + b"\x00")
                )
                return [cut, *parts[position + 1 :]]
        raise ValidationError("Invalid NextToken")


@dataclass(frozen=True, slots=True)
class Get:
    """The read of one item.

    Attributes:
        table: the table.
        key: the item's key.
        hash: hash of the partition key; decides the shard.
        row_key: where the item is in the store.
        condition: what must hold for it, or None.
        projection: what is answered of it, None for all.
    """

    table: Table
    key: Item
    hash: int
    row_key: bytes
    condition: Condition | None
    projection: Projection | None

    def answer(self, image: Image | None) -> Item | None:
        """Return what is answered of an image, None if there is none or it does not match."""
        if image is None:
            return None
        item = image.item
        if self.condition is not None and not self.condition.matches(item):
            return None
        return item if self.projection is None else self.projection.project(item)


def plan_select(
    select: Select, filled: Filled, request: dict[str, Any], find: Callable[[str], Table]
) -> SelectPlan:
    """Plan a SELECT of ExecuteStatement.

    Args:
        select: the statement.
        filled: the statement with the request's parameters.
        request: the request.
        find: returns the table of a name, or raises ResourceNotFound.

    Raises:
        ValidationError: one of DynamoDB's rules is broken.
        ResourceNotFound: there is no such table.
    """
    table = find(select.table)
    index = find_index(table, _index_request(select, request))
    keys = table.keys if index is None else index.keys
    scope = Scope(_FILTER, filled.placeholders)
    projection = project_columns(select.columns, scope)
    fetches = False
    if index is not None:
        wanted = None if projection is None else frozenset(projection.paths)
        fetches = check_index(index, {}, wanted)
    check_key_paths(select.where, keys)
    access = find_access(select.where, keys, scope)
    # What is wrong with a condition is wrong wherever it is tested.
    whole = _bound(select.where, scope)
    condition, partitions = whole, 0
    spans: tuple[_Span, ...] = ()
    if access is not None:
        if access.rest is not select.where:
            condition = _bound(access.rest, scope)
        spans = _spans(access, table, index)
        partitions = len({keys.encode_partition(found.partition) for found in access.ranges})
    reverse, spans = _ordered(select, keys, spans, partitions)
    limit = request.get("Limit")
    if partitions > 1:
        limit = min(limit or _PAGE_ITEMS, _PAGE_ITEMS)
    page = Page(limit=limit, condition=condition, projection=projection, counting=False)
    reading = Reading(table, index, page, request, fetches=fetches)
    exact = partitions > 1 or (
        access is not None
        and index is None
        and all(len(found.sort) == len(keys.sort) for found in access.ranges)
    )
    start = read_token(request, start_schema(table, index))
    return SelectPlan(reading, spans, access is None, reverse, exact, start)


def plan_get(select: Select, filled: Filled, find: Callable[[str], Table], operation: str) -> Get:
    """Plan a SELECT that has to be of one item.

    Args:
        select: the statement.
        filled: the statement with the request's parameters.
        find: returns the table of a name, or raises ResourceNotFound.
        operation: the operation that wants it so, for the message.

    Raises:
        ValidationError: it is not of one item, or breaks another one of DynamoDB's rules.
        ResourceNotFound: there is no such table.
    """
    table = find(select.table)
    scope = Scope(_FILTER, filled.placeholders)
    check_key_paths(select.where, table.keys)
    found = None if select.index else find_key(select.where, table.keys, scope)
    if found is None:
        raise ValidationError(
            f"Select statements within {operation} must specify the primary key in the where "
            "clause."
        )
    key, rest = found
    projection = project_columns(select.columns, scope)
    return Get(table, *table.locate_key(key), _bound(rest, scope), projection)


def _index_request(select: Select, request: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a Query that say the same about the index."""
    if select.index is None:
        return {}
    return {"IndexName": select.index, "ConsistentRead": request.get("ConsistentRead", False)}


def _bound(condition: nodes.Condition | None, scope: Scope) -> Condition | None:
    if condition is None:
        return None
    return Condition(bind(condition, scope), scope.attributes)


def _spans(access: KeyAccess, table: Table, index: Index | None) -> tuple[_Span, ...]:
    """Return the ranges of row keys, those of a partition together, in order and apart."""
    keys, prefix = (table.keys, table.prefix) if index is None else (index.keys, index.prefix)
    partitions: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for found in access.ranges:
        partition = keys.encode_partition(found.partition)
        bounds = found.encoded_bounds(row_key(prefix, partition))
        partitions.setdefault(partition, []).append(bounds)
    spans: list[_Span] = []
    for partition, ranges in partitions.items():
        last: _Span | None = None
        for start, end in sorted(ranges):
            if start >= end:
                continue
            if last is not None and start <= last.end:
                last = spans[-1] = last._replace(end=max(last.end, end))
            else:
                last = _Span(partition, start, end)
                spans.append(last)
    return tuple(spans)


def _ordered(
    select: Select, keys: KeySchema, spans: tuple[_Span, ...], partitions: int
) -> tuple[bool, tuple[_Span, ...]]:
    """Return whether to read backwards, and the ranges in the order of ORDER BY."""
    if not select.order:
        return False, spans
    _check_order(select, keys, partitions)
    partition_names = {attribute.name for attribute in keys.partition}
    by_partition = [order for order in select.order if order.name in partition_names]
    by_sort = [order for order in select.order if order.name not in partition_names]
    reverse = _descending(by_sort)
    if partitions > 1:
        descending = _descending(by_partition)
        groups: dict[bytes, list[_Span]] = {}
        for span in spans:
            groups.setdefault(span.partition, []).append(span)
        ordered = [groups[partition] for partition in sorted(groups, reverse=descending)]
    else:
        ordered = [list(spans)]
    step = -1 if reverse else 1
    return reverse, tuple(span for group in ordered for span in group[::step])


def _descending(orders: list[Order]) -> bool:
    descending = {order.descending for order in orders}
    if len(descending) > 1:
        raise ValidationError("Key attributes in ORDER BY clause must have the same direction")
    return True in descending


def _check_order(select: Select, keys: KeySchema, partitions: int) -> None:
    names = [order.name for order in select.order]
    if select.where is None:
        raise ValidationError("Must have WHERE clause in the statement when using ORDER BY clause.")
    if not partitions:
        raise ValidationError(
            "Must have at least one non-optional hash key condition in WHERE clause when using "
            "ORDER BY clause."
        )
    for name in names:
        if name not in keys.names:
            raise ValidationError(
                f"Variable reference {name} in ORDER BY clause must be part of the primary key"
            )
    if partitions > 1 and keys.partition[0].name not in names:
        raise ValidationError(
            "Must have hash key in ORDER BY clause when more than one hash key condition "
            "specified in WHERE clause."
        )
