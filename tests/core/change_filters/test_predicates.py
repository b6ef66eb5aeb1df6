"""Predicates hold for the changes they name, by value and type, also after a way through JSON."""

from decimal import Decimal
from typing import Any

import orjson
import pytest

from streamtable.core.change_filters.parsing import filter_from_json
from streamtable.core.change_filters.predicates import (
    Predicate,
    changed,
    event_name,
    keys,
    new,
    old,
    parse_path,
)
from streamtable.core.errors import ValidationError
from streamtable.core.plain import wire_item
from tests.support.changelog import change


def _name(value: object) -> str | None:
    """Name a predicate; an item's name would be another in each process, by its sets' order."""
    return repr(value) if isinstance(value, Predicate) else None


def matches(predicate: Predicate, old: dict[str, Any] | None, new: dict[str, Any] | None) -> bool:
    """Ask the predicate, and what comes of it on its way through JSON."""
    made = change(
        "u1",
        old=None if old is None else wire_item(old),
        new=None if new is None else wire_item(new),
    )
    again = filter_from_json(orjson.loads(orjson.dumps(predicate.to_json())))
    assert again == predicate
    found = predicate.matches(made)
    assert again.matches(made) is found
    return found


@pytest.mark.parametrize(
    ("predicate", "item", "expected"),
    [
        (new.total > 100, {"total": 101}, True),
        (new.total > 100, {"total": 100}, False),
        # As strings, "9" would be greater than "100".
        (new.total > 100, {"total": 9}, False),
        (new.total > Decimal("99.5"), {"total": 100}, True),
        (new.total > 100, {"total": "101"}, False),
        (new.total > 100, {}, False),
        (new.total >= 100, {"total": Decimal("100.0")}, True),
        (new.total == 100, {"total": Decimal("1e2")}, True),
        (new.total == "100", {"total": 100}, False),
        (new.total != 100, {"total": 100}, False),
        (new.total != 100, {}, True),
        (new.total < 100, {"total": -5}, True),
        (new.total <= 100, {"total": 100}, True),
        (100 < new.total, {"total": 101}, True),  # noqa: SIM300 - works too
        (new.total.between(1, 5), {"total": 5}, True),
        (new.total.between(1, 5), {"total": 6}, False),
        (new.status.is_in("open", "paid"), {"status": "paid"}, True),
        (new.status.is_in(["open", "paid"]), {"status": "sent"}, False),
        (new.status.exists(), {"status": None}, True),
        (new.status.exists(), {}, False),
        (~new.status.exists(), {}, True),
        (new.name.startswith("Ad"), {"name": "Ada"}, True),
        (new.name.startswith("da"), {"name": "Ada"}, False),
        (new.name.startswith(b"Ad"), {"name": "Ada"}, False),
        (new.tags.contains("x"), {"tags": {"x", "y"}}, True),
        (new.tags.contains("x"), {"tags": ["y"]}, False),
        (new.name.contains("da"), {"name": "Ada"}, True),
        (new.flag == True, {"flag": True}, True),  # noqa: E712 - it makes a predicate
        (new.flag == 1, {"flag": True}, False),
        (new.address.city == "Paris", {"address": {"city": "Paris"}}, True),
        (new.address.city == "Paris", {"address": "Paris"}, False),
        (new.lines[1].sku == "b", {"lines": [{"sku": "a"}, {"sku": "b"}]}, True),
        (new.lines[1].sku == "b", {"lines": [{"sku": "b"}]}, False),
        (new["size"] == 3, {"size": 3}, True),
        (new["a b"]["c.d"] == 3, {"a b": {"c.d": 3}}, True),
        (new.tags.size() > 1, {"tags": ["a", "b"]}, True),
        (new.tags.has_type("SS"), {"tags": {"a"}}, True),
        (new.tags == {"a", "b"}, {"tags": {"b", "a"}}, True),
        (new.spent > new.limit, {"spent": 11, "limit": 9}, True),
        (new.spent > new.limit, {"spent": 9, "limit": 11}, False),
        (keys.id == "u1", {}, True),
        (keys.id == "u2", {}, False),
        (event_name == "INSERT", {}, True),
        (event_name.is_in("MODIFY", "REMOVE"), {}, False),
        (old.status.exists(), {"status": "x"}, False),
    ],
    ids=_name,
)
def test_of_a_new_item(predicate: Predicate, item: dict[str, Any], expected: bool) -> None:
    assert matches(predicate, None, item) is expected


@pytest.mark.parametrize(
    ("paths", "before", "after", "expected"),
    [
        (("status",), {"status": "a"}, {"status": "b"}, True),
        (("status",), {"status": "a", "n": 1}, {"status": "a", "n": 2}, False),
        (("status",), {}, {"status": "a"}, True),
        (("status",), {"status": "a"}, {}, True),
        (("status",), {"n": 1}, {"n": 2}, False),
        (("status",), None, {"status": "a"}, True),
        (("status",), {"status": "a"}, None, True),
        (("status",), None, {"n": 1}, False),
        (("status", "n"), {"n": 1}, {"n": 2}, True),
        (("status", "n"), {"n": 1, "x": 1}, {"n": 1, "x": 2}, False),
        (("n",), {"n": 1}, {"n": "1"}, True),
        (("tags",), {"tags": {"a", "b"}}, {"tags": {"b", "a"}}, False),
        (("address.city",), {"address": {"city": "a"}}, {"address": {"city": "b"}}, True),
        (
            ("address.city",),
            {"address": {"city": "a", "zip": 1}},
            {"address": {"city": "a", "zip": 2}},
            False,
        ),
        (("lines[0].n",), {"lines": [{"n": 1}]}, {"lines": [{"n": 2}]}, True),
        (("lines[0].n",), {"lines": [{"n": 1}, 1]}, {"lines": [{"n": 1}, 2]}, False),
    ],
)
def test_changed(paths: Any, before: Any, after: Any, expected: bool) -> None:
    assert matches(changed(*paths), before, after) is expected


def test_combined() -> None:
    predicate = (changed("status") & (new.total > 100)) | ~(old.vip == True)  # noqa: E712
    vip = {"vip": True, "status": "a", "total": 1}
    assert not matches(predicate, vip, {**vip, "total": 500})
    assert not matches(predicate, vip, {**vip, "status": "b"})
    assert matches(predicate, vip, {**vip, "status": "b", "total": 500})
    assert matches(predicate, {**vip, "vip": False}, vip)


def test_old_against_new() -> None:
    assert matches(new.total > old.total, {"total": 9}, {"total": 10})
    assert not matches(new.total > old.total, {"total": 10}, {"total": 9})
    assert not matches(new.total > old.total, None, {"total": 9})


def test_and_or_not_and_chains_are_refused() -> None:
    with pytest.raises(TypeError, match=r"combine predicates with & \| ~"):
        bool(new.a > 1 and new.b > 2)
    with pytest.raises(TypeError, match=r"x.between\(1, 5\)"):
        bool(1 < new.a < 5)
    with pytest.raises(TypeError, match="combine predicates"):
        bool(not new.a.exists())


@pytest.mark.parametrize(
    "make",
    [
        lambda: new.a > True,
        lambda: new.a > {"x"},
        lambda: new.a.between(5, 1),
        lambda: new.a.startswith(5),  # type: ignore[arg-type]
        lambda: new.a == object(),
        new.a.is_in,
        lambda: new.a.has_type("STRING"),
        lambda: new.a == new.a,
        changed,
        lambda: changed("a..b"),
        lambda: changed("[0]"),
        lambda: changed(""),
    ],
)
def test_what_can_never_hold_is_refused(make: Any) -> None:
    with pytest.raises(ValidationError):
        make()


def test_places_can_not_be_assigned_to_or_iterated_over() -> None:
    with pytest.raises(AttributeError, match="can't be assigned to"):
        new.status = "open"
    with pytest.raises(TypeError, match="can't be iterated over"):
        list(new.tags)
    with pytest.raises(TypeError, match="has nothing in it"):
        _ = new.tags.size().more


def test_a_predicate_shows_what_it_says() -> None:
    assert repr((new.total > 100) & changed("status")) == (
        "new.total > AttributeValue: {N:100} AND old.status <> new.status AND "
        "(attribute_exists(old.status) OR attribute_exists(new.status))"
    )


@pytest.mark.parametrize(
    "raw",
    [
        None,
        {},
        {"and": 1},
        {"bogus": []},
        {">": [{"path": ["new", "a"]}]},
        {"=": [{"path": ["new"]}, {"value": 5}]},
        {"=": [{"path": ["new"]}, {"other": 5}]},
        {"begins_with": [{"path": ["new"]}]},
    ],
)
def test_json_that_is_no_predicate_is_refused(raw: Any) -> None:
    with pytest.raises(ValidationError):
        filter_from_json({"predicate": raw})


def test_json_that_is_no_filter_is_refused() -> None:
    with pytest.raises(ValidationError, match="is no filter"):
        filter_from_json({"x": 1})


def test_paths() -> None:
    assert parse_path("a") == ("a",)
    assert parse_path("a.b[2][3].c d") == ("a", "b", 2, 3, "c d")
