"""Triggers are registered by decorating functions; what can't work is refused at once."""

import functools
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from streamtable import App, Change, Count, Window
from streamtable.consumers.triggers.deliveries import Delivery
from streamtable.consumers.triggers.options import TriggerOptions
from streamtable.core.positions import Position
from streamtable.core.starts import parse_start
from streamtable.triggers import DuplicateName, InvalidDeclaration
from streamtable.where import changed, new
from tests.support.changelog import change


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


def test_an_object_without_a_name_needs_one() -> None:
    with pytest.raises(InvalidDeclaration, match="has no name: give it one"):
        App("shop").trigger("users")(functools.partial(_handler))


def test_triggers_can_not_be_put_in_by_hand() -> None:
    with pytest.raises(TypeError):
        App("shop").triggers["x"] = None  # type: ignore[index]


def test_a_batch_has_a_hundred_changes_unless_told() -> None:
    app = App("shop")

    def many(changes: list[Change]) -> None: ...

    app.trigger("users")(many)
    app.trigger("users", batch_size=7, name="seven")(many)
    app.trigger("users", name="one")(_handler)
    assert [trigger.batch_size for trigger in app.triggers.values()] == [100, 7, 1]


def test_a_batch_size_for_a_function_of_one_change_is_refused() -> None:
    with pytest.raises(InvalidDeclaration, match=r"let its first parameter be a list\[Change\]"):
        App("shop").trigger("users", batch_size=5)(_handler)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch_size": 10_001}, "batch_size=10001 must be 1 to 10000"),
        ({"batch_size": -1}, "batch_size=-1 must be 1 to 10000"),
        ({"batch_size": 0}, "batch_size=0 must be 1 to 10000"),
        ({"batch_size": "5"}, "batch_size='5' must be a whole number"),
        ({"batch_window_s": "5"}, "batch_window_s='5' must be 0 to 300"),
        ({"batch_window_s": 301}, "batch_window_s=301 must be 0 to 300"),
        ({"retries": -1}, "retries=-1 must be at least 0"),
        ({"max_age_s": 0}, "max_age_s=0 must be greater than 0"),
        ({"max_age_s": 90_000}, "the log keeps a change for a day"),
        ({"parallelism": 0}, "parallelism=0 must be 1 to 100"),
        ({"timeout_s": "1"}, "timeout_s='1' must be greater than 0"),
        ({"timeout_s": 0}, "timeout_s=0 must be greater than 0"),
        ({"on_failure": "retry"}, 'on_failure=\'retry\' is "deadletter", "drop" or a function'),
        ({"start": "YESTERDAY"}, "'YESTERDAY' is no start"),
        ({"start": datetime(2026, 1, 1)}, "has no time zone"),  # noqa: DTZ001 - that is the point
        ({"start": []}, "these are no positions"),
        ({"where": {}}, "the pattern is empty"),
        ({"where": 5}, "neither a predicate"),
        ({"was": "a b"}, "can't be the name of a trigger"),
        ({"tumbling_window_s": 901}, "tumbling_window_s=901 must be 0 to 900"),
        ({"tumbling_window_s": 60, "parallelism": 2}, "goes with parallelism=1"),
    ],
)
def test_an_option_that_is_none_is_refused(options: dict[str, Any], says: str) -> None:
    def many(changes: list[Change]) -> None: ...

    def windows(changes: list[Change], window: Window) -> None: ...

    function = windows if "tumbling_window_s" in options else many
    with pytest.raises(InvalidDeclaration, match=re.escape(says)):
        App("shop").trigger("users", **options)(function)


@pytest.mark.parametrize(
    ("start", "text"),
    [
        ("LATEST", "LATEST"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        (datetime(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00Z"),
        (datetime(2026, 1, 31, 14, tzinfo=timezone(timedelta(hours=2))), "2026-01-31T12:00:00Z"),
        (Position(2, 17, 3), "2/17"),
        ([Position(2, 17, 3), Position(0, 5, 0)], "0/5 2/17"),
    ],
)
def test_a_start_is_kept_as_a_text_that_can_be_read(start: Any, text: str) -> None:
    app = App("shop")
    app.trigger("users", start=start)(_handler)
    assert app.triggers["_handler"].start == text
    parse_start(text)


async def test_what_the_runtime_is_told() -> None:
    app = App("shop")
    given: list[Any] = []

    def lost(change: Change, error: BaseException) -> None:
        given.append((change.keys, error))

    where = changed("status")
    app.trigger(
        "users",
        on="MODIFY",
        where=where,
        retries=3,
        max_age_s=60,
        parallelism=4,
        bisect=False,
        on_failure=lost,
    )(_handler)
    options = app.triggers["_handler"].options()
    assert callable(options.on_failure)
    error = ValueError()
    await options.on_failure(Delivery(change("u1"), Position(0, 1, 0)), error)
    assert given == [({"id": "u1"}, error)]
    assert options == TriggerOptions(
        table="users",
        events=frozenset({"MODIFY"}),
        where=where,
        retries=3,
        max_age_s=60,
        parallelism=4,
        bisect=False,
        on_failure=options.on_failure,
    )


def test_a_definition_tells_apart_what_a_trigger_takes() -> None:
    def fingerprint(**options: Any) -> str:
        app = App("shop")
        app.trigger("users", **options)(_handler)
        definition = app.triggers["_handler"].definition()
        assert json.loads(json.dumps(definition)) == definition
        return str(definition["fingerprint"])

    assert fingerprint() == fingerprint(retries=5, on_failure="drop", start="LATEST")
    others = [{"on": "INSERT"}, {"where": new.total > 5}, {"where": new.total > 6}]
    assert len({fingerprint(), *(fingerprint(**each) for each in others)}) == 4  # type: ignore[arg-type]


def test_names_are_unique_across_kinds() -> None:
    declare: list[Callable[[App], Any]] = [
        lambda app: app.trigger("users", name="same")(_handler),
        lambda app: app.lambda_trigger("users", lambda event, context: None, name="same"),
        lambda app: app.view("same", source="users", key="id")(lambda item: item),
        lambda app: app.aggregate("same", source="users", key="id", measures={"n": Count()})(
            lambda item: item
        ),
        lambda app: app.join("same", left="users", right="orders", on="id", key="id")(
            lambda left, right: left
        ),
        lambda app: app.search("same", table="users"),
        lambda app: app.every(5, name="same")(lambda: None),
        lambda app: app.check("users", name="same")(lambda old, new: None),
    ]
    for first in declare:
        for second in declare:
            app = App("shop")
            first(app)
            with pytest.raises(DuplicateName, match=r"shop has a \w+ 'same' already"):
                second(app)


def _handler(change: Change) -> None: ...
