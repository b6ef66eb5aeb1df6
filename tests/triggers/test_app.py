"""Triggers are registered by decorating functions; what can't work is refused at once."""

import pytest

from streamtable import App, Change
from streamtable.triggers import DuplicateName, InvalidDeclaration


def test_a_trigger_has_its_functions_name_table_and_events() -> None:
    app = App("shop")

    @app.trigger("users", on="INSERT")
    async def welcome(change: Change) -> None: ...

    trigger = app.triggers["welcome"]
    assert trigger.table == "users"
    assert trigger.events == {"INSERT"}


def test_several_events() -> None:
    app = App("shop")
    app.trigger("users", on=("INSERT", "REMOVE"))(_handler)
    assert app.triggers["_handler"].events == {"INSERT", "REMOVE"}


def test_all_events_unless_told() -> None:
    app = App("shop")
    app.trigger("users")(_handler)
    assert app.triggers["_handler"].events == {"INSERT", "MODIFY", "REMOVE"}


def test_the_function_itself_is_returned() -> None:
    assert App("shop").trigger("users")(_handler) is _handler


def test_a_name_of_its_own() -> None:
    app = App("shop")
    app.trigger("users", name="first")(_handler)
    app.trigger("users", name="second")(_handler)
    assert list(app.triggers) == ["first", "second"]


def test_two_triggers_of_one_name_are_refused() -> None:
    app = App("shop")
    app.trigger("users")(_handler)
    with pytest.raises(DuplicateName, match="shop has a trigger '_handler' already"):
        app.trigger("orders")(_handler)


@pytest.mark.parametrize("on", ["UPDATE", "insert", (), ("INSERT", "DELETE")])
def test_an_event_that_is_none_is_refused(on: str) -> None:
    with pytest.raises(InvalidDeclaration, match="a change is one of INSERT, MODIFY, REMOVE"):
        App("shop").trigger("users", on=on)


@pytest.mark.parametrize("table", ["", "us", "a b c", "x" * 256])
def test_a_tables_name_that_is_none_is_refused(table: str) -> None:
    with pytest.raises(InvalidDeclaration, match="can't be the name of a table"):
        App("shop").trigger(table)


@pytest.mark.parametrize("name", ["", "a.b", "a b", "x" * 101])
def test_an_apps_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidDeclaration, match="can't be the name of an app"):
        App(name)


def test_a_function_without_a_name_needs_one() -> None:
    with pytest.raises(InvalidDeclaration, match="can't be the name of a trigger"):
        App("shop").trigger("users")(lambda _change: None)


def test_triggers_can_not_be_put_in_by_hand() -> None:
    with pytest.raises(TypeError):
        App("shop").triggers["x"] = None  # type: ignore[index]


def _handler(change: Change) -> None: ...
