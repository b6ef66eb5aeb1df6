"""Checks: what they are asked, and what they refuse."""

from decimal import Decimal
from typing import Any

import pydantic
import pytest

from streamtable import App, Refused
from streamtable.core.plain import wire_item
from streamtable.triggers import Check, InvalidHandler


class Product(pydantic.BaseModel):
    id: str
    price: Decimal


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
    async def wait(old: dict, new: dict) -> None: ...  # type: ignore[type-arg]

    with pytest.raises(InvalidHandler, match="does not wait for anything"):
        check(wait)
    with pytest.raises(InvalidHandler, match="must take the old item and the new item"):
        check(lambda change: None)
