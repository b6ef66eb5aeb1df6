"""Views in memory, for tests and replays: the rows that the real ones would have."""

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from streamtable.consumers.views.mapping import (
    Guard,
    MappingFailed,
    Row,
    compare_rows,
    locate_rows,
    mapper_of,
)
from streamtable.consumers.views.operations import merge
from streamtable.consumers.views.tied_keys import TiedKeys
from streamtable.core.changes import Change
from streamtable.core.plain import plain_item, wire_value
from streamtable.core.values import Item
from streamtable.core.views.aggregates import parse_contribution, regroup
from streamtable.triggers.errors import InvalidDeclaration, InvalidRow
from streamtable.triggers.view_specs import spec_of
from streamtable.triggers.views import Aggregate, AnyView, Join

__all__ = ["MemoryView", "RowChange"]

RowChange = tuple[Item, Item | None, Item | None]
"""A row's key, the row before and the row after."""


class MemoryView:
    """A view, an aggregate or a join, and its rows.

    Args:
        app: the app's name.
        view: as it is declared.
    """

    def __init__(self, app: str, view: AnyView) -> None:
        self.view = view
        self._spec = spec_of(app, view)
        self._guard = Guard(self._spec)
        self._mapper = None if isinstance(view, Join) else mapper_of(self._spec)
        self._keys = TiedKeys(self._spec) if isinstance(view, Join) else None
        self._rows: dict[bytes, Item] = {}
        self._kept: dict[bytes, _Values] = {}
        self._measures: Mapping[str, Any] = (
            {name: each.definition() for name, each in view.measures.items()}
            if isinstance(view, Aggregate)
            else {}
        )
        # Of a join: the items of both tables by their key.
        self._sides: tuple[dict[bytes, Item], dict[bytes, Item]] = ({}, {})

    def apply(self, change: Change) -> tuple[list[RowChange], MappingFailed | None]:
        """Take a change of a source; return the rows that change, and what has failed if so.

        Raises:
            MappingFailed: the view's function failed, and the view would stop there.
        """
        old = None if change.old is None else change.old.item
        new = None if change.new is None else change.new.item
        if self._mapper is None:
            return self._join(change, new)
        planned = self._mapper.plan(change.table, old, new)
        return self._execute(merge(planned.operations)), planned.failure

    def items(self) -> list[dict[str, Any]]:
        """Return the rows as Python values, in the order of their keys."""
        keys = self._spec.keys

        def place(row: Item) -> bytes:
            return keys.encode_partition(row) + keys.encode_sort(row)

        return [self._shown(row) for row in sorted(self._rows.values(), key=place)]

    def get(self, *key: Any) -> dict[str, Any] | None:
        """Return the row of a key, the partition key first; None if there is none.

        Raises:
            InvalidDeclaration: the key has another number of attributes.
        """
        names = self._spec.keys.names
        if len(key) != len(names):
            raise InvalidDeclaration(f"the key of {self.view.name} has {', '.join(names)}")
        wanted = dict(zip(names, map(wire_value, key), strict=True))
        _, row_key = self._spec.keys.locate(b"", wanted)
        row = self._rows.get(row_key)
        return None if row is None else self._shown(row)

    def _shown(self, row: Item) -> dict[str, Any]:
        """Return a row as Python values, without what an aggregate keeps for itself."""
        plain = plain_item(row)
        if not self._measures:
            return plain
        return {name: value for name, value in plain.items() if not name.startswith("_")}

    def _execute(self, operations: list[bytes]) -> list[RowChange]:
        changes = []
        for operation in operations:
            ((kind, content),) = orjson.loads(operation).items()
            key = self._spec.keys.extract(content["group"] if kind == "aggregate" else content)
            _, row_key = self._spec.keys.locate(b"", key)
            before = self._rows.get(row_key)
            after = content if kind == "put" else None
            if kind == "aggregate":
                contribution = parse_contribution(content, self._measures)
                kept = self._kept.setdefault(row_key, _Values())
                after = regroup(self._measures, key, before, contribution, kept)
            if after is None:
                self._rows.pop(row_key, None)
            else:
                self._rows[row_key] = after
            if before != after:
                changes.append((key, before, after))
        return changes

    def _join(
        self, change: Change, new: Item | None
    ) -> tuple[list[RowChange], MappingFailed | None]:
        """Make the rows of all pairs that the change concerns, before and after it."""
        view = self.view
        assert isinstance(view, Join)
        side = view.sources.index(change.table)
        items = self._sides[side]
        identity = orjson.dumps(change.keys)
        met = {self._meeting(side, identity, item) for item in (items.get(identity), new)}
        before, _ = self._pairs(view, met)
        if new is None:
            items.pop(identity, None)
        else:
            items[identity] = new
        after, failure = self._pairs(view, met)
        return self._execute(merge(compare_rows(before, after))), failure

    def _meeting(self, side: int, identity: bytes, item: Item | None) -> bytes | None:
        """Return what an item's counterparts have too, None if it has none."""
        view = self.view
        assert isinstance(view, Join)
        if item is None:
            return None
        value = item.get(view.on[side])
        if value is not None:
            return orjson.dumps(value)
        # Nothing else meets it.
        return b"-" + identity if side == 0 and view.join_kind == "left" else None

    def _pairs(
        self, view: Join, met: set[bytes | None]
    ) -> tuple[dict[bytes, Row], MappingFailed | None]:
        """Return the rows of the items that meet at some values."""
        rows: dict[bytes, Row] = {}
        failure = None
        lefts, rights = (
            [
                (at, item)
                for identity, item in items.items()
                if (at := self._meeting(side, identity, item)) is not None and at in met
            ]
            for side, items in enumerate(self._sides)
        )
        for at, left in lefts:
            counterparts: list[Item | None] = [item for place, item in rights if place == at]
            for right in counterparts or [None]:
                found, failed = self._guard.call(
                    lambda left=left, right=right: locate_rows(  # type: ignore[misc]
                        view.keys, view.pairs(left, right)
                    )
                )
                failure = failed or failure
                for row_key, row in (found or {}).items():
                    assert self._keys is not None
                    self._keys.check(row, left)
                    if row_key in rows:
                        raise MappingFailed(
                            self._spec.key,
                            InvalidRow(f"two pairs have a row with the key {plain_item(row.key)}"),
                        )
                    rows[row_key] = row
        return rows, failure


class _Values:
    """The values that an aggregate keeps of a group."""

    def __init__(self) -> None:
        self._rows: dict[bytes, Item] = {}
        self._order: list[bytes] = []

    def get(self, key: bytes) -> Item | None:
        return self._rows.get(key)

    def put(self, key: bytes, row: Item | None) -> None:
        if key not in self._rows and row is not None:
            insort(self._order, key)
        if row is not None:
            self._rows[key] = row
        elif self._rows.pop(key, None) is not None:
            self._order.remove(key)

    def scan(self, start: bytes, end: bytes, *, reverse: bool) -> Iterator[Item]:
        found = self._order[bisect_left(self._order, start) : bisect_left(self._order, end)]
        return (self._rows[key] for key in (reversed(found) if reverse else found))
