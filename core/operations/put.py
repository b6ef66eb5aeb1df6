"""PutItem: an item takes the place of the one with its key."""

from collections.abc import Callable
from typing import Any, Final

import orjson

from streamtable.core.errors import ValidationError
from streamtable.core.limits import ITEM_BYTES
from streamtable.core.operations.conditions import CONDITIONAL, plan_condition
from streamtable.core.operations.writes import Source, Write
from streamtable.core.tables import Table
from streamtable.core.values import Item, check_item_size, dump_item, parse_item

__all__ = ["ItemPut", "Put", "plan_put"]

_RETURN_VALUES: Final = frozenset({"NONE", "ALL_OLD"})


class Put(Write):
    """The plan of a PutItem, or of the Put of a batch or a transaction.

    The item is kept as its JSON: while many writes wait for the log, their parsed items would drive
    each other out of the processor's caches, and cost more there than to parse and to print them.

    Attributes:
        json: the new item, canonical, as JSON.
        size_bytes: its size.
    """

    __slots__ = ("json", "size_bytes")

    def __init__(self, table: Table, item: Item, size_bytes: int, *args: Any) -> None:
        super().__init__(table, *args)
        self.json = dump_item(item)
        self.size_bytes = size_bytes

    def evaluate(self, old: Item | None) -> tuple[Item | bytes | None, int]:
        """Return the new item and its size, whatever there was before."""
        if self.condition is not None:
            self.check(old)
        return self.json, self.size_bytes


class ItemPut(Put):
    """The plan of a put whose request has the item: another node gets it from its JSON."""

    __slots__ = ()

    @property
    def source(self) -> Source:
        """What it was planned from; the item as an `orjson.Fragment`."""
        kind, request = self._source
        return kind, {**request, "Item": orjson.Fragment(self.json)}


def plan_put(body: dict[str, Any], find: Callable[[str], Table]) -> ItemPut:
    """Check a PutItem request and plan its write. Source: API_PutItem.

    Args:
        body: the request, its shape already validated.
        find: returns the table of a name, or raises ResourceNotFound.

    Raises:
        ValidationError: one of DynamoDB's rules is broken.
        ResourceNotFound: there is no such table.
    """
    item, size = parse_item(body["Item"])
    if size > ITEM_BYTES:
        check_item_size(size)
    if body.get("ReturnValues", "NONE") not in _RETURN_VALUES:
        raise ValidationError("ReturnValues can only be ALL_OLD or NONE")
    condition = None
    if not CONDITIONAL.isdisjoint(body):
        condition = plan_condition(body)
    table = find(body["TableName"])
    located = table.locate_item(item)
    if table.indexes:
        table.check_index_keys(item)
    rest = body.copy()
    del rest["Item"]
    return ItemPut(table, item, size, located, condition, ("PutItem", rest))
