"""Views, aggregates and joins: what they say of themselves, and the rows of an item."""

import enum
import json
import re
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pydantic
import pytest

from streamtable import App, Avg, Count, Distinct, Index, Max, Min, Sum, Top
from streamtable.core.errors import ValidationError
from streamtable.core.operations.create_table import plan_create_table
from streamtable.core.plain import plain_item, wire_item
from streamtable.core.shapes import validate
from streamtable.triggers import InvalidDeclaration, InvalidHandler, InvalidRow, View


class Order(pydantic.BaseModel):
    id: str
    status: str
    total: Decimal
    customer: str | None = None


ORDER = {"id": "o1", "status": "open", "total": Decimal("12.5")}


def view(function: Any, **options: Any) -> View:
    app = App("shop")
    app.view("rows_of", source="orders", **{"key": ("status", "id"), **options})(function)
    found = app.views["rows_of"]
    assert isinstance(found, View)
    return found


def rows(function: Any, item: dict[str, Any] | None = None, **options: Any) -> list[Any]:
    return [plain_item(row) for row in view(function, **options).rows(wire_item(item or ORDER))]


def test_none_one_or_many_rows() -> None:
    assert rows(lambda item: None) == []
    assert rows(lambda item: []) == []
    assert rows(lambda item: item) == [ORDER]
    two = [{"status": "a", "id": "1"}, {"status": "b", "id": "1"}]
    assert rows(lambda item: two) == two
    assert rows(lambda item: iter(two)) == two


def test_the_item_is_what_the_annotation_says() -> None:
    def make(order: Order) -> Order:
        assert isinstance(order, Order)
        return order

    assert rows(make) == [{**ORDER, "customer": None}]

    def make_with_none(order: Order | None) -> Any:
        assert isinstance(order, Order)

    assert rows(make_with_none) == []


def test_a_model_may_have_what_no_attribute_can_be() -> None:
    class Status(enum.Enum):
        OPEN = "open"

    class Row(pydantic.BaseModel):
        id: uuid.UUID
        status: Status
        at: datetime
        days: set[date]
        more: list[dict[str, Any]]

    made = Row(
        id=uuid.UUID(int=5),
        status=Status.OPEN,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        days={date(2026, 1, 2)},
        more=[{"n": Decimal("1.5"), "b": b"x", "none": None}],
    )
    assert rows(lambda item: made) == [
        {
            "id": "00000000-0000-0000-0000-000000000005",
            "status": "open",
            "at": "2026-01-01T00:00:00Z",
            "days": {"2026-01-02"},
            "more": [{"n": Decimal("1.5"), "b": b"x", "none": None}],
        }
    ]


def test_an_item_that_does_not_fit_is_an_error() -> None:
    def make(order: Order) -> Order:
        return order

    with pytest.raises(pydantic.ValidationError):
        rows(make, {"id": "o1"})


@pytest.mark.parametrize(
    "made",
    [
        5,
        "row",
        {"id": "o1"},
        {"id": "o1", "status": 5},
        {"id": "o1", "status": ""},
        {"id": "o1", "status": "open", "when": object()},
        {"id": "o1", "status": "open", "tags": set()},
        {"id": "o1", "status": "open", "big": "x" * 500_000},
        [{"id": "o1", "status": "open", "n": 1}, {"id": "o1", "status": "open", "n": 2}],
        [{"id": str(n), "status": "open"} for n in range(1001)],
    ],
)
def test_what_is_no_row_is_an_error(made: Any) -> None:
    with pytest.raises(InvalidRow):
        rows(lambda item: made)


def test_the_table_can_be_created() -> None:
    made = view(
        lambda item: item,
        types={"total": "N", "blob": "B"},
        key=("status", "total"),
        indexes=[
            Index("by_customer", ("customer", "total"), ("id",)),
            Index("by_blob", "blob", "KEYS_ONLY"),
        ],
        stream="NEW_IMAGE",
    )
    body = made.create_table()
    validate("CreateTable", body)
    document = plan_create_table(
        body, region="local", account="0", now=0, delay_s=0, new_id=lambda: "id"
    )
    assert [(key.name, key.kind) for key in document.keys] == [
        ("status", "HASH"),
        ("total", "RANGE"),
    ]
    assert document.attributes == {"status": "S", "total": "N", "customer": "S", "blob": "B"}
    by_customer = document.index("by_customer")
    assert by_customer is not None
    assert by_customer.projection.attributes == ("id",)
    assert document.stream is not None
    assert document.stream.view_type == "NEW_IMAGE"


def test_a_definition_is_json_and_tells_what_needs_a_rebuild() -> None:
    def one(item: dict) -> dict:  # type: ignore[type-arg]
        return item

    def other(item: dict) -> list:  # type: ignore[type-arg]
        return [item]

    def definition(function: Any, **options: Any) -> dict[str, Any]:
        made = view(function, **options).definition()
        assert json.loads(json.dumps(made)) == made
        return made

    first = definition(one)
    assert (
        definition(one, stream=None, indexes=[Index("by_id", "id")])["fingerprint"]
        == (first["fingerprint"])
    )
    assert definition(one, key="id")["fingerprint"] != first["fingerprint"]
    assert (
        definition(one, key="id", types={"id": "N"})["fingerprint"]
        != (definition(one, key="id")["fingerprint"])
    )
    assert definition(other)["fingerprint"] == first["fingerprint"]
    assert definition(other)["code"] != first["code"]


@pytest.mark.parametrize(
    "options",
    [
        {"key": ()},
        {"key": ("a", "b", "c")},
        {"key": ("a", "a")},
        {"key": "a", "types": {"a": "SS"}},
        {"stream": "ALL"},
        {"on_error": "ignore"},
        {"indexes": [Index("by_a", "a"), Index("by_a", "b")]},
        {"indexes": [Index("x", "a")]},
        {"indexes": [Index("by_a", ())]},
        {"was": "x y"},
    ],
)
def test_an_option_that_is_none_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidDeclaration):
        view(lambda item: item, **options)


@pytest.mark.parametrize("name", ["ab", "a.b.c", "a b c", "x" * 101])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidDeclaration):
        App("shop").view(name, source="orders", key="id")(lambda item: item)


def test_a_view_of_itself_is_refused() -> None:
    with pytest.raises(InvalidDeclaration, match="can't have itself as its source"):
        App("shop").view("orders", source="orders", key="id")(lambda item: item)


def test_functions_that_make_no_rows_are_refused() -> None:
    async def wait(item: dict) -> dict:  # type: ignore[type-arg]
        return item

    for function, says in (
        (wait, "is async"),
        (lambda: None, "must take one item"),
        (lambda a, b: None, "must take one item"),
    ):
        with pytest.raises(InvalidHandler, match=says):
            view(function)


def aggregate(**measures: Any) -> Any:
    app = App("shop")
    app.aggregate("totals", source="orders", key="status", measures=measures)(lambda item: item)
    return app.views["totals"]


def test_measures() -> None:
    made = aggregate(
        n=Count(),
        revenue=Sum("total"),
        mean=Avg("total"),
        least=Min("total"),
        most=Max("total"),
        customers=Distinct("customer"),
        best=Top(3, by="total", show=("id", "total")),
    )
    definition = made.definition()
    assert json.loads(json.dumps(definition)) == definition
    assert definition["measures"] == {
        "n": {"kind": "count"},
        "revenue": {"kind": "sum", "of": "total"},
        "mean": {"kind": "avg", "of": "total"},
        "least": {"kind": "min", "of": "total"},
        "most": {"kind": "max", "of": "total"},
        "customers": {"kind": "distinct", "of": "customer"},
        "best": {"kind": "top", "n": 3, "by": "total", "show": ["id", "total"]},
    }
    (row,) = made.rows(wire_item(ORDER))
    values = {name: measure.value(row) for name, measure in made.measures.items() if name != "n"}
    assert values == {
        "revenue": {"N": "12.5"},
        "mean": {"N": "12.5"},
        "least": {"N": "12.5"},
        "most": {"N": "12.5"},
        "customers": None,
        "best": {"by": {"N": "12.5"}, "show": {"id": {"S": "o1"}, "total": {"N": "12.5"}}},
    }


def test_a_value_that_is_null_is_none() -> None:
    row = wire_item({"x": None})
    for measure in (Sum("x"), Min("x"), Distinct("x"), Top(1, by="x"), Sum("y"), Top(1, by="y")):
        assert measure.value(row) is None


def test_a_sum_of_what_is_no_number_is_an_error() -> None:
    with pytest.raises(InvalidRow, match="is no number"):
        Sum("x").value(wire_item({"x": "5"}))


def test_top_shows_what_it_is_ordered_by_unless_told() -> None:
    assert Top(2, by="total").show == ("total",)
    assert Top(2, by="total", show="id").show == ("id",)
    for n in (0, 101, True):
        with pytest.raises(InvalidDeclaration):
            Top(n, by="x")


def test_number_measures_can_be_keys_of_indexes() -> None:
    app = App("shop")
    app.aggregate(
        "totals",
        source="orders",
        key="status",
        measures={"n": Count()},
        indexes=[Index("by_n", ("status", "n"))],
    )(lambda item: item)
    assert {"AttributeName": "n", "AttributeType": "N"} in app.views["totals"].create_table()[
        "AttributeDefinitions"
    ]


@pytest.mark.parametrize("total", ["12.5", "", [Decimal(1)]])
def test_a_row_that_is_no_key_of_an_index_is_an_error(total: Any) -> None:
    options: dict[str, Any] = {
        "types": {"total": "N"},
        "indexes": [Index("by_total", ("status", "total"))],
    }
    with pytest.raises(InvalidRow, match="Type mismatch for Index Key total"):
        rows(lambda item: {**item, "total": total}, **options)
    del (without := dict(ORDER))["total"]
    assert rows(lambda item: without, **options) == [without]
    assert rows(lambda item: {**item, "total": None}, **options) == [{**ORDER, "total": None}]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"indexes": [Index("ix", "status")]}, "'ix' can't be the name of an index"),
        ({"indexes": [Index("one", "id"), Index("one", "status")]}, "two indexes have the same"),
        ({"indexes": [Index(f"by_{n}", "id") for n in range(21)]}, "21 indexes, and a table can"),
        ({"indexes": [Index("by_id", "id", "SOME")]}, "projection='SOME' of by_id is 'ALL' or"),  # type: ignore[arg-type]
        ({"types": {"totl": "N"}}, "types names 'totl', which is in no key"),
    ],
)
def test_tables_that_none_can_be_are_refused(options: Any, says: str) -> None:
    with pytest.raises(InvalidDeclaration, match=says):
        view(lambda item: item, **options)


@pytest.mark.parametrize("n", [0, 101, True, "3", 2.0])
def test_another_number_of_the_greatest_is_refused(n: Any) -> None:
    with pytest.raises(InvalidDeclaration, match="1 to 100"):
        Top(n, by="total")


@pytest.mark.parametrize(
    "measures", [{}, {"n": Count}, {"n": "count"}, {"status": Count()}, {"_n": Count()}]
)
def test_measures_that_are_none_are_refused(measures: Any) -> None:
    with pytest.raises(InvalidDeclaration):
        aggregate(**measures)


def join(function: Any, **options: Any) -> Any:
    app = App("shop")
    defaults = {"left": "orders", "right": "users", "on": ("customer", "id"), "key": "id"}
    app.join("joined", **{**defaults, **options})(function)
    return app.views["joined"]


def test_rows_of_pairs() -> None:
    def make(order: Order, user: dict | None) -> Any:  # type: ignore[type-arg]
        return {"id": order.id, "name": user and user["name"]}

    left, right = wire_item(ORDER), wire_item({"id": "u1", "name": "Ada"})
    inner = join(make)
    assert inner.sources == ("orders", "users")
    assert inner.on == ("customer", "id")
    assert inner.pairs(left, right) == [wire_item({"id": "o1", "name": "Ada"})]
    assert inner.pairs(left, None) == []
    assert join(make, kind="left").pairs(left, None) == [wire_item({"id": "o1", "name": None})]
    assert join(lambda a, b: None).pairs(left, right) == []


@pytest.mark.parametrize(
    "options", [{"on": ("a", "b", "c")}, {"on": ""}, {"kind": "outer"}, {"right": "orders"}]
)
def test_joins_that_are_none_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidDeclaration):
        join(lambda a, b: None, **options)


def test_a_key_without_what_the_items_are_joined_on_is_refused() -> None:
    said = "key=('order', 'line') has neither 'customer' of orders nor 'id' of users"
    with pytest.raises(InvalidDeclaration, match=re.escape(said)):
        join(lambda a, b: None, key=("order", "line"))
    for key in ("customer", "id", ("order", "customer")):
        assert join(lambda a, b: None, key=key).on == ("customer", "id")


def test_a_join_takes_two_items() -> None:
    with pytest.raises(InvalidHandler, match="the left item and the right item"):
        join(lambda a: None)


def test_wire_values_come_back_as_they_were() -> None:
    plain = {
        "s": "x",
        "n": Decimal("1.50"),
        "i": 10**20,
        "f": 0.1,
        "b": b"\x00",
        "t": True,
        "z": None,
        "l": [1, "a", [b"x"]],
        "m": {"k": {"v": 1}},
        "ss": {"b", "a"},
        "ns": {2, Decimal("1.0")},
        "bs": {b"x"},
    }
    wire = wire_item(plain)
    assert wire["n"] == {"N": "1.5"}
    assert wire["f"] == {"N": "0.1"}
    assert wire["ns"] == {"NS": ["1", "2"]}
    assert plain_item(wire) == {**plain, "f": Decimal("0.1")}


@pytest.mark.parametrize("value", [{1, "a"}, object(), [object()], {(1, 2)}])
def test_what_is_no_value_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        wire_item({"x": value})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("1e200"), set()])
def test_a_number_or_a_set_that_dynamodb_refuses_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        wire_item({"x": value})
