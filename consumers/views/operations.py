"""What is to be done to a view's table, and how much of it remains after merging.

An operation concerns one row, or one group of an aggregate. Of several operations on a row the
last one counts. Those on a group add up; what cancels out vanishes. So a batch of operations has
the same effect as its merged form, and any prefix of the operations can be left out when it has
taken effect already.
"""

from collections.abc import Iterable, Mapping
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any, Final, TypeAlias

import orjson

from streamtable.core.values import Item, Value

__all__ = ["GroupOperation", "Operation", "RowOperation", "delete_row", "merge", "put_row"]

# Sums of numbers of 38 digits between 1E-130 and 1E126, with room for a carry.
_EXACT: Final = Context(prec=320, traps=[Inexact, InvalidOperation])
_NOTHING: Final = Decimal(0)


class RowOperation:
    """Put or delete one row.

    Attributes:
        hash: of the row's partition key.
        key: the encoded key of the row.
        json: the operation as the node takes it.
    """

    __slots__ = ("hash", "json", "key")

    def __init__(self, hash_: int, key: bytes, json: bytes) -> None:
        self.hash = hash_
        self.key = key
        self.json = json

    @property
    def size_bytes(self) -> int:
        """About what it takes on the way."""
        return len(self.json)

    def __repr__(self) -> str:
        """Show what is done."""
        return f"RowOperation({self.json.decode()})"


def put_row(hash_: int, key: bytes, row: Item) -> RowOperation:
    """Return the operation that makes a row be as given."""
    return RowOperation(hash_, key, b'{"put":' + orjson.dumps(row) + b"}")


def delete_row(hash_: int, key: bytes, row_key: Item) -> RowOperation:
    """Return the operation that removes the row with this key."""
    return RowOperation(hash_, key, b'{"delete":' + orjson.dumps(row_key) + b"}")


class GroupOperation:
    """What comes to a group of an aggregate, or goes from it.

    Attributes:
        hash: of the group's partition key.
        key: the encoded key of the group.
        group: its key attributes.
        count: how many contributions more, or (negative) fewer.
        sums: by measure, what is to be added.
        counts: by average, how many contributions with a value more or fewer.
        values: by measure, by the value's JSON: the value, and how many more or fewer have it.
    """

    __slots__ = ("count", "counts", "group", "hash", "key", "sums", "values")

    def __init__(self, hash_: int, key: bytes, group: Item) -> None:
        self.hash = hash_
        self.key = key
        self.group = group
        self.count = 0
        self.sums: dict[str, Decimal] = {}
        self.counts: dict[str, int] = {}
        self.values: dict[str, dict[bytes, tuple[Any, int]]] = {}

    def contribute(self, row: Item, measures: Mapping[str, Any], sign: int) -> None:
        """Add a contribution, or (`sign` -1) take it back.

        Raises:
            StreamtableError: a measure can't take the row's value.
        """
        self.count += sign
        for name, measure in measures.items():
            kind = measure.kind
            if kind == "count":
                continue
            value = measure.value(row)
            if value is None:
                continue
            if kind in {"sum", "avg"}:
                number = Decimal(value["N"])
                self._add(name, number if sign > 0 else -number)
                if kind == "avg":
                    self.counts[name] = self.counts.get(name, 0) + sign
            else:
                self._count(name, _identity(value), value, sign)

    def add(self, other: "GroupOperation") -> None:
        """Add another operation on the same group to this one."""
        self.count += other.count
        for name, number in other.sums.items():
            self._add(name, number)
        for name, count in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        for name, values in other.values.items():
            for identity, (value, count) in values.items():
                self._count(name, identity, value, count)

    def _add(self, name: str, number: Decimal) -> None:
        self.sums[name] = _EXACT.add(self.sums.get(name, _NOTHING), number)

    def _count(self, name: str, identity: bytes, value: Any, count: int) -> None:
        values = self.values.setdefault(name, {})
        count += values.get(identity, (None, 0))[1]
        if count:
            values[identity] = (value, count)
        else:
            values.pop(identity, None)

    @property
    def empty(self) -> bool:
        """Nothing comes or goes."""
        return not (
            self.count
            or any(self.sums.values())
            or any(self.counts.values())
            or any(self.values.values())
        )

    @property
    def size_bytes(self) -> int:
        """About what it takes on the way."""
        return 200 + sum(len(identity) for values in self.values.values() for identity in values)

    def encode(self) -> bytes:
        """Return the operation as the node takes it."""
        body: dict[str, Any] = {"group": self.group, "count": self.count}
        sums = {name: str(number) for name, number in self.sums.items() if number}
        counts = {name: count for name, count in self.counts.items() if count}
        values = {name: list(found.values()) for name, found in self.values.items() if found}
        more = {"sums": sums, "counts": counts, "values": values}
        body |= {name: content for name, content in more.items() if content}
        return orjson.dumps({"aggregate": body})


Operation: TypeAlias = RowOperation | GroupOperation


def merge(operations: Iterable[Operation]) -> list[bytes]:
    """Return operations with the same effect, at most one for each row or group, encoded.

    The operations are left as they are, so that they can be merged again.
    """
    rows: dict[bytes, bytes] = {}
    groups: dict[bytes, GroupOperation] = {}
    for operation in operations:
        if type(operation) is RowOperation:
            rows[operation.key] = operation.json
            continue
        assert type(operation) is GroupOperation
        total = groups.get(operation.key)
        if total is None:
            total = GroupOperation(operation.hash, operation.key, operation.group)
            groups[operation.key] = total
        total.add(operation)
    found = [*rows.values()]
    found += [total.encode() for total in groups.values() if not total.empty]
    return found


def _identity(value: Value | dict[str, Any]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
