"""An aggregate's row after random contributions is what a computation from nothing gives."""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtable.core.errors import ValidationError
from streamtable.core.values import Item
from streamtable.core.views.aggregates import Contribution, parse_contribution, regroup

MEASURES = {
    "orders": {"kind": "count"},
    "revenue": {"kind": "sum"},
    "mean": {"kind": "avg"},
    "least": {"kind": "min"},
    "most": {"kind": "max"},
    "customers": {"kind": "distinct"},
    "best": {"kind": "top", "n": 2},
}
KEY = {"day": {"S": "monday"}}


class Kept:
    """A companion table in a dict."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Item] = {}

    def get(self, key: bytes) -> Item | None:
        return self.rows.get(key)

    def put(self, key: bytes, row: Item | None) -> None:
        if row is None:
            del self.rows[key]
        else:
            self.rows[key] = row

    def scan(self, start: bytes, end: bytes, *, reverse: bool) -> Iterator[Item]:
        keys = sorted((key for key in self.rows if start <= key < end), reverse=reverse)
        return iter([self.rows[key] for key in keys])


def contribution(order: tuple[int, str], number: int) -> dict[str, Any]:
    total, customer = order
    value = {"N": str(total)}
    return {
        "count": number,
        "sums": {"revenue": str(total * number), "mean": str(total * number)},
        "counts": {"mean": number},
        "values": {
            "least": [[value, number]],
            "most": [[value, number]],
            "customers": [[{"S": customer}, number]],
            "best": [[{"by": value, "show": {"total": value}}, number]],
        },
    }


def regrouped(row: Item | None, order: tuple[int, str], number: int, kept: Kept) -> Item | None:
    return regroup(
        MEASURES, KEY, row, parse_contribution(contribution(order, number), MEASURES), kept
    )


ORDERS = st.tuples(st.integers(-50, 50), st.sampled_from("abc"))


@given(st.lists(st.tuples(ORDERS, st.booleans()), max_size=30))
def test_a_row_is_what_its_contributions_give(steps: list[tuple[tuple[int, str], bool]]) -> None:
    row: Item | None = None
    kept = Kept()
    there: Counter[tuple[int, str]] = Counter()
    for order, comes in steps:
        if not comes and not there[order]:
            continue
        row = regrouped(row, order, 1 if comes else -1, kept)
        there[order] += 1 if comes else -1
        orders = list(there.elements())
        if not orders:
            assert row is None
            assert not kept.rows
            continue
        assert row is not None
        totals = sorted(total for total, _ in orders)
        assert row["orders"] == row["_count"] == {"N": str(len(orders))}
        assert row["revenue"] == {"N": str(sum(totals))}
        assert Decimal(row["mean"]["N"]) == pytest.approx(Decimal(sum(totals)) / len(totals))
        assert row["least"] == {"N": str(totals[0])}
        assert row["most"] == {"N": str(totals[-1])}
        assert row["customers"] == {"N": str(len({customer for _, customer in orders}))}
        best = [{"M": {"total": {"N": str(total)}}} for total in totals[::-1][:2]]
        assert row["best"] == {"L": best}
        assert row["day"] == KEY["day"]


def test_sums_are_exact() -> None:
    row: Item | None = None
    for text in ("0.1", "0.2", "1E+20", "-1E+20"):
        change = parse_contribution({"count": 1, "sums": {"revenue": text}}, MEASURES)
        row = regroup({"revenue": {"kind": "sum"}}, KEY, row, change, None)
    assert row is not None
    assert row["revenue"] == {"N": "0.3"}


def test_values_of_any_type_have_an_order_or_at_least_an_identity() -> None:
    kept = Kept()
    measures = {"least": {"kind": "min"}, "different": {"kind": "distinct"}}
    values = [
        {"S": "x" * 2000},
        {"S": "x" * 2000 + "y"},
        {"SS": ["a", "b"]},
        {"SS": ["b", "a"]},
        {"BOOL": True},
        {"B": "AAAA"},
        {"N": "-7"},
    ]
    entries = [[value, 1] for value in values]
    change = parse_contribution(
        {"count": len(values), "values": {"least": entries, "different": entries}}, measures
    )
    row = regroup(measures, KEY, None, change, kept)
    assert row is not None
    assert row["different"] == {"N": "6"}
    assert row["least"] == {"B": "AAAA"}


def test_the_values_of_one_measure_are_not_those_of_another() -> None:
    kept = Kept()
    measures = {"a": {"kind": "min"}, "ab": {"kind": "min"}}
    change = parse_contribution(
        {"count": 1, "values": {"a": [[{"N": "5"}, 1]], "ab": [[{"N": "1"}, 1]]}}, measures
    )
    row = regroup(measures, KEY, None, change, kept)
    assert row is not None
    assert (row["a"], row["ab"]) == ({"N": "5"}, {"N": "1"})


def test_what_was_never_added_cant_be_taken_back() -> None:
    with pytest.raises(ValidationError, match="had never been added"):
        regrouped(None, (1, "a"), -1, Kept())
    kept = Kept()
    row = regrouped(None, (1, "a"), 1, kept)
    with pytest.raises(ValidationError, match="had never been added"):
        regrouped(row, (2, "a"), -1, kept)


@pytest.mark.parametrize(
    "raw",
    [
        {"values": {"unknown": [[{"N": "1"}, 1]]}},
        {"values": {"least": [[{"N": "1"}]]}},
        {"values": {"best": [[{"N": "1"}, 1]]}},
        {"sums": {"unknown": "1"}},
        {"counts": {"mean": "many"}},
    ],
)
def test_what_is_no_contribution_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="is no contribution"):
        parse_contribution(raw, MEASURES)


def test_a_contribution_that_changes_nothing_leaves_the_row() -> None:
    kept = Kept()
    row = regrouped(None, (3, "a"), 1, kept)
    assert regroup(MEASURES, KEY, row, Contribution(0, {}, {}, {}), kept) == row
