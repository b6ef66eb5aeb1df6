"""A change tells which of its item's attributes are not what they were."""

from datetime import UTC, datetime
from typing import Any

import pydantic
import pytest

from streamtable import Change
from streamtable.consumers.triggers.deliveries import Delivery
from streamtable.core.errors import ValidationError
from streamtable.core.plain import wire_item
from streamtable.core.positions import Position
from streamtable.triggers.handlers import Handler
from tests.support.changelog import change


class Address(pydantic.BaseModel):
    city: str


class User(pydantic.BaseModel):
    status: str = pydantic.Field(alias="st", default="")
    address: Address | None = None


CASES = [
    ({"st": "a"}, {"st": "b"}, "st", True),
    ({"st": "a", "n": 1}, {"st": "a", "n": 2}, "st", False),
    ({}, {"st": "a"}, "st", True),
    (None, {"st": "a"}, "st", True),
    ({"st": "a"}, None, "st", True),
    (None, {"st": "a"}, "address", False),
    ({"address": {"city": "a"}}, {"address": {"city": "b"}}, "address.city", True),
    ({"address": {"city": "a"}}, {"address": {"city": "a"}}, "address.city", False),
]


@pytest.mark.parametrize(("before", "after", "path", "expected"), CASES)
def test_changed(before: Any, after: Any, path: str, expected: bool) -> None:
    def plain(change: Change) -> None: ...

    def model(change: Change[User]) -> None: ...

    made = change(
        "u1",
        old=None if before is None else wire_item(before),
        new=None if after is None else wire_item(after),
    )
    for function in (plain, model):
        found = Handler(function).change(Delivery(made, Position(0, 1, 2)))
        assert found.changed(path) is expected


@pytest.mark.parametrize(("before", "after", "path", "expected"), CASES)
def test_changed_of_one_made_by_hand(before: Any, after: Any, path: str, expected: bool) -> None:
    assert by_hand(before, after).changed(path) is expected


def test_changed_of_models_made_by_hand() -> None:
    made = by_hand(User(st="a", address=Address(city="x")), User(st="b", address=Address(city="x")))
    assert made.changed("st")
    assert not made.changed("address.city")


def test_one_of_several() -> None:
    made = by_hand({"a": 1, "b": [{"c": 1}]}, {"a": 1, "b": [{"c": 2}]})
    assert made.changed("a", "b")
    assert made.changed("b[0].c")
    assert not made.changed("a", "b[1].c")


def test_sets_have_no_order_and_numbers_no_spelling() -> None:
    made = change(
        "u1",
        old={"tags": {"SS": ["a", "b"]}, "n": {"N": "1"}},
        new={"tags": {"SS": ["b", "a"]}, "n": {"S": "1"}},
    )
    found = Handler(lambda change: None).change(Delivery(made, Position(0, 1, 2)))
    assert not found.changed("tags")
    assert found.changed("n")


def test_what_is_no_path_is_refused() -> None:
    with pytest.raises(ValidationError, match="is no path"):
        by_hand({}, {}).changed("a..b")


def by_hand(before: Any, after: Any) -> Change[Any]:
    return Change(
        old=before,
        new=after,
        keys={"id": "u1"},
        event_name="MODIFY",
        table="users",
        position=Position(0, 1, 2),
        version="1@local",
        request_id="REQUEST",
        principal="someone",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
