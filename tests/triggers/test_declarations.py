"""Searches, schedules and checks: what they say of themselves, and how they are called."""

import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pydantic
import pytest

from streamtable import App, Refused
from streamtable.core.plain import wire_item
from streamtable.triggers import Check, InvalidDeclaration, InvalidHandler, InvalidRow, Schedule

DUE = datetime(2026, 1, 1, tzinfo=UTC)


class Product(pydantic.BaseModel):
    id: str
    price: Decimal


def test_a_search_alone_has_the_items_as_documents() -> None:
    app = App("shop")
    app.search("products", index="products-v1", mapping={"properties": {}})
    search = app.searches["products"]
    assert (search.table, search.index, search.sources) == (
        "products",
        "products-v1",
        ("products",),
    )
    item = {
        "id": "p1",
        "n": 5,
        "price": Decimal("9.5"),
        "big": Decimal("1e30"),
        "tags": {"b", "a"},
        "b": b"x",
        "z": None,
        "m": {"l": [Decimal(1)]},
    }
    document = search.document(wire_item(item))
    assert document == {
        "id": "p1",
        "n": 5,
        "price": 9.5,
        "big": 1e30,
        "tags": ["a", "b"],
        "b": "eA==",
        "z": None,
        "m": {"l": [1]},
    }
    assert json.loads(json.dumps(document)) == document
    assert json.loads(json.dumps(search.definition())) == search.definition()


def test_a_search_as_a_decorator() -> None:
    app = App("shop")

    @app.search("products", table="catalog")
    def product(item: Product) -> Any:
        return {"price": item.price} if item.price else None

    search = app.searches["products"]
    assert search.table == "catalog"
    assert search.document(wire_item({"id": "p1", "price": 3})) == {"price": 3}
    assert search.document(wire_item({"id": "p1", "price": 0})) is None
    assert search.definition()["code"]


def test_a_search_with_a_transform() -> None:
    app = App("shop")
    register = app.search("products", transform=lambda item: Product(**item))
    assert app.searches["products"].document(wire_item({"id": "p1", "price": 3})) == {
        "id": "p1",
        "price": "3",
    }
    with pytest.raises(InvalidDeclaration, match="has a transform already"):
        register(lambda item: item)


def test_what_is_no_document_is_an_error() -> None:
    app = App("shop")
    app.search("products", transform=lambda item: 5)
    with pytest.raises(InvalidRow, match="a document is a dict or a model"):
        app.searches["products"].document(wire_item({"id": "p1"}))


@pytest.mark.parametrize("index", ["Products", "_a", "-a", "+a", "a b", "a*", "", ".", "..", "a#b"])
def test_an_index_that_is_none_is_refused(index: str) -> None:
    with pytest.raises(InvalidDeclaration, match="can't be the name of an Elasticsearch index"):
        App("shop").search("products", index=index)


def test_a_transform_that_waits_is_refused() -> None:
    async def wait(item: dict) -> dict:
        return item

    with pytest.raises(InvalidHandler, match="is async"):
        App("shop").search("products", transform=wait)


def schedule(function: Any, every: Any = 60, **options: Any) -> Schedule:
    app = App("shop")
    app.every(every, name="tick", **options)(function)
    return app.schedules["tick"]


async def test_a_schedule_calls_what_it_is_given() -> None:
    seen: list[Any] = []

    async def tick(due: datetime) -> None:
        seen.append((due, threading.current_thread() is threading.main_thread()))

    await schedule(tick).call(DUE)
    await schedule(lambda: seen.append(threading.current_thread() is threading.main_thread())).call(
        DUE
    )
    assert seen == [(DUE, True), False]


async def test_a_schedule_has_its_time() -> None:
    async def tick() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await schedule(tick, timeout_s=0.01).call(DUE)


def test_an_interval_is_seconds_or_a_timedelta() -> None:
    assert schedule(lambda: None, 5).every_s == 5
    assert schedule(lambda: None, timedelta(minutes=2)).every_s == 120
    for every in (0, -1, True, timedelta(0), timedelta(days=400)):
        with pytest.raises(InvalidDeclaration):
            schedule(lambda: None, every)
    with pytest.raises(InvalidHandler, match="must take nothing"):
        schedule(lambda a, b: None)


def check(function: Any, **options: Any) -> Check:
    app = App("shop")
    app.check("products", name="check", **options)(function)
    return app.checks["check"]


def test_a_check_refuses() -> None:
    def positive(old: Product | None, new: Product | None) -> None:
        if new is not None and new.price < 0:
            raise Refused("a price is not negative")

    made = check(positive)
    made.run(None, wire_item({"id": "p1", "price": 1}))
    made.run(wire_item({"id": "p1", "price": 1}), None)
    with pytest.raises(Refused, match="a price is not negative"):
        made.run(None, wire_item({"id": "p1", "price": -1}))


def test_an_item_that_does_not_fit_is_refused() -> None:
    def positive(old: Product | None, new: Product | None) -> None: ...

    with pytest.raises(Refused, match="the item does not fit Product: price: "):
        check(positive).run(None, wire_item({"id": "p1", "price": "cheap"}))


def test_a_check_is_asked_about_its_events_only() -> None:
    seen = []
    item = wire_item({"id": "p1"})
    made = check(lambda old, new: seen.append((old, new)), on=("INSERT", "REMOVE"))
    made.run(None, item)
    made.run(item, item)
    made.run(item, None)
    assert seen == [(None, {"id": "p1"}), ({"id": "p1"}, None)]


def test_a_check_that_waits_or_takes_something_else_is_refused() -> None:
    async def wait(old: dict, new: dict) -> None: ...

    with pytest.raises(InvalidHandler, match="does not wait for anything"):
        check(wait)
    with pytest.raises(InvalidHandler, match="must take the old item and the new item"):
        check(lambda change: None)
