"""Changes become operations: what stays costs nothing, what goes is taken back exactly."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtable.consumers.views.mapping import AggregateMapper, MappingFailed, RowMapper
from streamtable.consumers.views.operations import Operation, merge
from streamtable.consumers.views.specs import ViewSpec
from streamtable.core.keys import KeyAttribute, KeySchema
from streamtable.core.values import Item
from streamtable.triggers.measures import Avg, Count, Distinct, Max, Min, Sum, Top
from tests.consumers.views.nodes import FakeView, row

KEYS = KeySchema((KeyAttribute("status", "S"),), (KeyAttribute("id", "S"),))
MEASURES = {
    "orders": Count(),
    "revenue": Sum("total"),
    "mean": Avg("total"),
    "least": Min("total"),
    "most": Max("total"),
    "ids": Distinct("total"),
    "best": Top(2, by="total", show=("id", "total")),
}


def done(operations: Sequence[Operation]) -> list[dict[str, Any]]:
    return [orjson.loads(each) for each in merge(operations)]


def view(**options: Any) -> ViewSpec:
    def rows(item: Item) -> list[Item]:
        return [item] if "status" in item else []

    return ViewSpec("shop", "by_status", "view", ("orders",), KEYS, **{"rows": rows, **options})


def aggregate(**options: Any) -> ViewSpec:
    keys = KeySchema((KeyAttribute("day", "S"),))

    def rows(item: Item) -> list[Item]:
        return [item] if "day" in item else []

    return ViewSpec(
        "shop", "by_day", "aggregate", ("orders",), keys, rows=rows, measures=MEASURES, **options
    )


def test_an_item_that_comes_puts_its_rows():
    planned = RowMapper(view()).plan("orders", None, row(id="1", status="new"))
    assert done(planned.operations) == [{"put": row(id="1", status="new")}]


def test_a_row_that_moves_is_deleted_and_put():
    planned = RowMapper(view()).plan(
        "orders", row(id="1", status="new"), row(id="1", status="paid")
    )
    assert done(planned.operations) == [
        {"delete": row(status="new", id="1")},
        {"put": row(id="1", status="paid")},
    ]


def test_a_row_that_stays_costs_nothing():
    def rows(item: Item) -> list[Item]:
        return [{"id": item["id"], "status": item["status"]}]

    planned = RowMapper(view(rows=rows)).plan(
        "orders", row(id="1", status="new", n=1), row(id="1", status="new", n=2)
    )
    assert planned.operations == []


def test_an_item_that_goes_takes_all_its_rows_along():
    def rows(item: Item) -> list[Item]:
        return [row(status=tag, id=item["id"]["S"]) for tag in item["tags"]["SS"]]

    planned = RowMapper(view(rows=rows)).plan(
        "orders", {"id": {"S": "1"}, "tags": {"SS": ["a", "b"]}}, None
    )
    assert done(planned.operations) == [
        {"delete": row(status="a", id="1")},
        {"delete": row(status="b", id="1")},
    ]


def test_two_rows_of_one_key_stop_the_view():
    made = [row(id="1", status="a"), row(id="1", status="a", n=1)]
    with pytest.raises(MappingFailed, match="two rows of one item"):
        RowMapper(view(rows=lambda _item: made)).plan("orders", None, row(id="1"))


def test_a_function_that_raises_stops_the_view_and_is_named():
    def rows(item: Item) -> list[Item]:
        raise KeyError(item["id"]["S"])

    with pytest.raises(MappingFailed, match="shop/by_status: KeyError: '7'") as caught:
        RowMapper(view(rows=rows)).plan("orders", None, row(id="7"))
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_item_that_fails_has_no_rows_where_the_view_goes_on():
    def rows(item: Item) -> list[Item]:
        if item["status"] == {"S": "bad"}:
            raise ValueError("bad")
        return [item]

    mapper = RowMapper(view(rows=rows, on_error="deadletter"))
    good, bad = row(id="1", status="good"), row(id="1", status="bad")
    gone = mapper.plan("orders", good, bad)
    assert done(gone.operations) == [{"delete": row(status="good", id="1")}]
    assert gone.failure is not None
    back = mapper.plan("orders", bad, good)
    assert done(back.operations) == [{"put": good}]
    assert back.failure is None


def test_a_contribution_that_does_not_change_vanishes():
    item = row(id="1", day="mon", total=5)
    planned = AggregateMapper(aggregate()).plan("orders", item, {**item, "note": {"S": "x"}})
    assert planned.operations == []


def test_a_contribution_is_taken_back_and_added():
    planned = AggregateMapper(aggregate()).plan(
        "orders", row(id="1", day="mon", total=5), row(id="1", day="mon", total=7)
    )
    assert done(planned.operations) == [
        {
            "aggregate": {
                "group": {"day": {"S": "mon"}},
                "count": 0,
                "sums": {"revenue": "2", "mean": "2"},
                "values": {
                    "least": [[{"N": "5"}, -1], [{"N": "7"}, 1]],
                    "most": [[{"N": "5"}, -1], [{"N": "7"}, 1]],
                    "ids": [[{"N": "5"}, -1], [{"N": "7"}, 1]],
                    "best": [
                        [{"by": {"N": "5"}, "show": row(id="1", total=5)}, -1],
                        [{"by": {"N": "7"}, "show": row(id="1", total=7)}, 1],
                    ],
                },
            }
        }
    ]


def test_sums_are_exact_whatever_the_order():
    mapper = AggregateMapper(aggregate())
    items = [
        {"id": {"S": str(n)}, "day": {"S": "mon"}, "total": {"N": text}}
        for n, text in enumerate(["1e30", "0.0000001", "-1e30"])
    ]
    operations = [op for item in items for op in mapper.plan("orders", None, item).operations]
    [found] = done(operations)
    assert float(found["aggregate"]["sums"]["revenue"]) == 0.0000001


def test_a_merge_leaves_the_operations_as_they_were():
    mapper = AggregateMapper(aggregate())
    operations = [
        op
        for n in range(3)
        for op in mapper.plan("orders", None, row(id=str(n), day="mon", total=n)).operations
    ]
    assert merge(operations) == merge(operations)


states = st.none() | st.builds(
    row,
    id=st.sampled_from("abc"),
    day=st.sampled_from(["mon", "tue"]),
    total=st.integers(-3, 3),
)


@given(st.lists(st.tuples(st.sampled_from("abc"), states), max_size=30), st.integers(1, 7))
def test_any_history_gives_what_its_end_gives(history, size):
    """Retractions are exact: batches of any size lead to what the last items contribute alone."""
    spec = aggregate()
    mapper = AggregateMapper(spec)
    items: dict[str, Item] = {}
    operations: list[Operation] = []
    for name, state in history:
        new = None if state is None else {**state, "id": {"S": name}}
        operations += mapper.plan("orders", items.pop(name, None), new).operations
        if new is not None:
            items[name] = new
    followed = FakeView(spec.keys, MEASURES)
    for start in range(0, len(operations), size):
        for operation in done(operations[start : start + size]):
            followed.apply(operation)
    computed = FakeView(spec.keys, MEASURES)
    for item in items.values():
        for operation in done(mapper.plan("orders", None, item).operations):
            computed.apply(operation)
    assert followed.items() == computed.items()
