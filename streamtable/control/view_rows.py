"""What is to be done to a view's rows on one shard, carried out.

An operation is JSON, `{"put": ROW}`, `{"delete": KEY}`, or `{"aggregate": CONTRIBUTION}` with its
`group`. It comes as a text of its own, so that it is parsed and forgotten one after the other: a
batch of thousands that is parsed as a whole leaves the processor's caches before it is looked at.
"""

from binascii import b2a_base64
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson

from streamtable.core.errors import ValidationError
from streamtable.core.tables import Table
from streamtable.core.values import Item, item_size, parse_item
from streamtable.core.views.aggregates import parse_contribution, regroup
from streamtable.core.views.generations import VALUE_KEY
from streamtable.streams.feed import LatestRows

__all__ = ["ViewRows"]


class ViewRows:
    """Writes a view's rows.

    Args:
        view: its table.
        values: the companion table of an aggregate's groups, None without one.
        check_shard: takes the hash of a row's partition key; raises ValidationError if the row
            belongs to another shard.
    """

    def __init__(
        self, view: Table, values: Table | None, check_shard: Callable[[int], None]
    ) -> None:
        self._view = view
        self._values = values
        self._check_shard = check_shard

    def carry_out(self, operations: Iterable[str], rows: LatestRows) -> None:
        """Carry out operations, in order.

        Raises:
            ValidationError: one of them does not fit the view.
        """
        view, check_shard = self._view, self._check_shard
        for text in operations:
            try:
                operation = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                raise ValidationError(f"{text!r} is no operation: {error}") from None
            if type(operation) is not dict:
                raise self._unknown(operation)
            if "put" in operation:
                item, size_bytes = parse_item(operation["put"])
                # A row that is no key of an index is left out of it: indexes are added by users,
                # too, and a view must not stand still for one.
                key, number, row_key = view.locate_item(item)
                check_shard(number)
                rows.put(view, key, row_key, item, size_bytes)
            elif "delete" in operation:
                key, number, row_key = view.locate_key(operation["delete"])
                check_shard(number)
                rows.remove(view, key, row_key)
            else:
                self._regroup(operation, rows)

    def _regroup(self, operation: dict[str, Any], rows: LatestRows) -> None:
        """Do what a contribution does to its group's row."""
        view = self._view
        raw, document = operation.get("aggregate"), view.document.view
        if not isinstance(raw, dict) or document is None or not document.measures:
            raise self._unknown(operation)
        key, number, row_key = view.locate_key(raw.get("group"))
        self._check_shard(number)
        contribution = parse_contribution(raw, document.measures)
        kept = None
        if self._values is not None:
            # The group's sort key comes first, so that groups of one partition key are apart.
            kept = _GroupValues(self._values, key, view.keys.encode_sort(key), rows)
        after = regroup(document.measures, key, rows.get(row_key), contribution, kept)
        if after is None:
            rows.remove(view, key, row_key)
        else:
            rows.put(view, key, row_key, after, item_size(after))

    def _unknown(self, operation: Any) -> ValidationError:
        return ValidationError(f"{operation!r} is nothing that can be done to {self._view.name}")


class _GroupValues:
    """The rows of one group in the companion table, as `regroup` takes them."""

    def __init__(self, table: Table, key: Item, sort: bytes, rows: LatestRows) -> None:
        self._table = table
        self._partition = {each.name: key[each.name] for each in table.keys.partition}
        self._sort = sort
        self._rows = rows
        self._last: tuple[bytes, Item, bytes] | None = None

    def get(self, key: bytes) -> Item | None:
        """Return a row."""
        return self._rows.get(self._locate(key)[1])

    def put(self, key: bytes, row: Item | None) -> None:
        """Write a row, or remove it."""
        full, row_key = self._locate(key)
        if row is None:
            self._rows.remove(self._table, full, row_key)
        else:
            item = {**full, **row}
            self._rows.put(self._table, full, row_key, item, item_size(item))

    def scan(self, start: bytes, end: bytes, *, reverse: bool) -> Iterator[Item]:
        """Yield the rows with `start <= key < end`."""
        first, last = self._locate(start)[1], self._locate(end)[1]
        return self._rows.scan(first, last, reverse=reverse)

    def _locate(self, key: bytes) -> tuple[Item, bytes]:
        if self._last is not None and self._last[0] == key:
            return self._last[1:]  # what was read is written next
        value = {"B": b2a_base64(self._sort + key, newline=False).decode()}
        full = {**self._partition, VALUE_KEY: value}
        _, row_key = self._table.keys.locate(self._table.prefix, full)
        self._last = key, full, row_key
        return full, row_key
