"""What a contribution that comes or goes does to the row of its group in an aggregate.

A group's row has its key, one attribute for each measure, and `_count`: how many contributions
it has. A row goes when its last contribution does. Sums are exact decimals. What can't be taken
back from the row alone (a smallest value that goes, a distinct one) is kept in a companion table:
one row for each value of each measure, with the number of contributions that have it, in the
order of the values.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from hashlib import blake2b
from typing import Any, Final, Protocol

import orjson

from streamtable.core import numbers
from streamtable.core.errors import ValidationError
from streamtable.core.keys import after_prefix, component_prefix
from streamtable.core.limits import NUMBER_DIGITS
from streamtable.core.values import Item, Value, parse_value, type_of

__all__ = ["COUNT", "KEPT_KINDS", "Contribution", "ValueRows", "parse_contribution", "regroup"]

COUNT: Final = "_count"
"""The attribute that says how many contributions a group has."""

KEPT_KINDS: Final = frozenset({"min", "max", "distinct", "top"})
"""Kinds of measures that need the companion table."""

_NEVER_ADDED: Final = (
    "what was taken back had never been added. Where the function has changed, rebuild the view"
)

# A value's place among the others is decided by so many bytes of it.
_ORDERED_BYTES: Final = 700
_ORDERED_TYPES: Final = "NSB"


class ValueRows(Protocol):
    """The companion rows of one group, by the bytes of their sort key."""

    def get(self, key: bytes) -> Item | None:
        """Return a row without its key attributes."""

    def put(self, key: bytes, row: Item | None) -> None:
        """Write a row, or remove it."""

    def scan(self, start: bytes, end: bytes, *, reverse: bool) -> Iterator[Item]:
        """Yield the rows with `start <= key < end`, with what `put` did."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What comes to a group, or goes from it, summed up.

    Attributes:
        count: how many contributions more, or (negative) fewer.
        sums: by the name of a sum or an average, what is to be added.
        counts: by the name of an average, how many contributions with a value more or fewer.
        values: by the name of a measure that keeps values, each value (for `top` what it is
            ordered by, and a map of what is shown) and how many more or fewer have it.
    """

    count: int
    sums: Mapping[str, str]
    counts: Mapping[str, int]
    values: Mapping[str, list[tuple[Value, Item | None, int]]]


def parse_contribution(raw: Mapping[str, Any], measures: Mapping[str, Any]) -> Contribution:
    """Check a contribution as it comes over the wire.

    Args:
        raw: `count`, `sums`, `counts` and `values`; a value is `[VALUE, n]`, of a `top` measure
            `[{"by": VALUE, "show": ITEM}, n]`.
        measures: the aggregate's measures by name.

    Raises:
        ValidationError: it names a measure that there is not, or a value is none.
    """
    try:
        values = {
            name: [_value(measures[name]["kind"], value, int(n)) for value, n in entries]
            for name, entries in raw.get("values", {}).items()
        }
        sums = {name: numbers.normalize(text) for name, text in raw.get("sums", {}).items()}
        counts = {name: int(n) for name, n in raw.get("counts", {}).items()}
        count = int(raw.get("count", 0))
        known = (sums.keys() | counts.keys()) <= measures.keys()
    except (KeyError, TypeError, ValueError, AttributeError):
        known = False
    if not known:
        raise ValidationError(f"{raw!r} is no contribution to these measures")
    return Contribution(count, sums, counts, values)


def _value(kind: str, value: Any, number: int) -> tuple[Value, Item | None, int]:
    if kind == "top":
        return parse_value(value["by"]), parse_value({"M": value["show"]})["M"], number
    return parse_value(value), None, number


def regroup(
    measures: Mapping[str, Any],
    key: Item,
    row: Item | None,
    change: Contribution,
    kept: ValueRows | None,
) -> Item | None:
    """Return a group's row after a contribution; None if nothing contributes to it any more.

    Args:
        measures: by name, `{"kind": "count" | "sum" | "avg" | "min" | "max" | "distinct" | "top"}`;
            `top` has `n` too.
        key: the group's key attributes.
        row: the row before, None if the group is new.
        change: what comes and goes.
        kept: the group's rows in the companion table, which are changed; None where no measure
            needs them.

    Raises:
        ValidationError: a sum is out of range, or less than nothing would be left: what was taken
            back had never been added.
    """
    before: Item = row or {}
    count = _number(before, COUNT) + change.count
    after: Item = {**key, COUNT: {"N": str(count)}}
    for name, measure in measures.items():
        kind = measure["kind"]
        if kind == "count":
            after[name] = after[COUNT]
        elif kind == "sum":
            after[name] = _sum(before, name, change.sums.get(name))
        elif kind == "avg":
            _average(name, before, change, after)
        else:
            assert kept is not None
            prefix = name.encode() + b"\x00"
            values = change.values.get(name, ())
            added = _keep(prefix, values, kept)
            if kind == "distinct":
                after[name] = {"N": str(_number(before, name) + added)}
            elif not values:
                if name in before:
                    after[name] = before[name]
            else:
                _choose(measure, name, prefix, kept, after)
    if count < 0 or (count == 0 and any(_remains(after, name, measures) for name in measures)):
        raise ValidationError(
            f"the group {orjson.dumps(key).decode()} would have {count} contributions left, and "
            f"measures that do not fit that: {_NEVER_ADDED}"
        )
    return after if count else None


def _remains(after: Item, name: str, measures: Mapping[str, Any]) -> bool:
    """Say whether a measure of an empty group has something left that only a value can explain."""
    kind = measures[name]["kind"]
    if kind == "distinct":
        return _number(after, name) != 0
    return kind in KEPT_KINDS and bool(after.get(name, {"L": []}) != {"L": []})


def _number(row: Item, name: str) -> int:
    value = row.get(name)
    return 0 if value is None else int(value["N"])


def _sum(before: Item, name: str, added: str | None) -> Value:
    total = before.get(name)
    if added is None:
        return total or {"N": "0"}
    return {"N": added if total is None else numbers.add(total["N"], added)}


def _average(name: str, before: Item, change: Contribution, after: Item) -> None:
    """Keep the sum and the number beside the average, which can't be taken back from it."""
    sum_name, count_name = f"_sum_{name}", f"_count_{name}"
    total = after[sum_name] = _sum(before, sum_name, change.sums.get(name))
    count = _number(before, count_name) + change.counts.get(name, 0)
    after[count_name] = {"N": str(count)}
    if count:
        with localcontext(prec=NUMBER_DIGITS):
            after[name] = {"N": numbers.from_decimal(Decimal(total["N"]) / count)}


def _keep(prefix: bytes, values: Iterable[tuple[Value, Item | None, int]], kept: ValueRows) -> int:
    """Count values in the companion table; return how many more different ones it has."""
    added = 0
    for value, shown, number in values:
        row_key = prefix + _place(value, shown)
        row = kept.get(row_key)
        before = 0 if row is None else int(row["n"]["N"])
        after = before + number
        if after < 0:
            raise ValidationError(
                f"the value {orjson.dumps(value).decode()} would be there {after} times: "
                f"{_NEVER_ADDED}"
            )
        if after:
            row = {"n": {"N": str(after)}, "value": value}
            if shown is not None:
                row["show"] = {"M": shown}
            kept.put(row_key, row)
        elif before:
            kept.put(row_key, None)
        added += (after > 0) - (before > 0)
    return added


def _choose(
    measure: Mapping[str, Any], name: str, prefix: bytes, kept: ValueRows, after: Item
) -> None:
    """Read a smallest, a greatest or the top values from the companion table."""
    kind = measure["kind"]
    found = kept.scan(prefix, after_prefix(prefix), reverse=kind != "min")
    if kind != "top":
        row = next(found, None)
        if row is not None:
            after[name] = row["value"]
        return
    left = int(measure["n"])
    listed: list[Value] = []
    for row in found:
        times = min(left, int(row["n"]["N"]))
        listed += [row["show"]] * times
        left -= times
        if not left:
            break
    after[name] = {"L": listed}


def _place(value: Value, shown: Item | None) -> bytes:
    """Where a value is among the others: by type, then in its order, then by what is shown."""
    kind = type_of(value)
    if kind == "N":
        ordered = numbers.encode(value["N"])
    elif kind in _ORDERED_TYPES:
        ordered = component_prefix(value)[:_ORDERED_BYTES] + b"\x00\x00"
    else:
        ordered = b""
    identity = b""
    if shown is not None or kind not in _ORDERED_TYPES or len(ordered) > _ORDERED_BYTES:
        # What sets are equal does not depend on the order of their members.
        text = orjson.dumps([_sorted(value), shown], option=orjson.OPT_SORT_KEYS)
        identity = blake2b(text, digest_size=16).digest()
    return kind.encode() + b"\x00" + ordered + identity


def _sorted(value: Value) -> Value:
    ((kind, content),) = value.items()
    return {kind: sorted(content)} if kind in {"SS", "NS", "BS"} else value
