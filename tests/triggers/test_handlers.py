"""A handler is called with what its annotation asks for."""

import functools
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pydantic
import pytest
from typing_extensions import TypedDict

from streamtable import Change
from streamtable.core.positions import Position
from streamtable.core.values import Item
from streamtable.triggers import InvalidHandler
from streamtable.triggers.handlers import Handler
from tests.support.changelog import change

POSITION = Position(3, 17, 0)
OLD: Item = {"age": {"N": "41"}, "tags": {"SS": ["a"]}}
NEW: Item = {"age": {"N": "42"}, "tags": {"SS": ["a", "b"]}}


class User(pydantic.BaseModel):
    id: str
    age: int
    tags: list[str]


class UserDict(TypedDict):
    id: str
    age: int


@dataclass
class UserData:
    id: str
    age: float
    tags: frozenset[str]


def test_plain_change_has_dicts() -> None:
    def handle(change: Change) -> None: ...

    made = Handler(handle).change(change("u1", old=OLD, new=NEW, time=99), POSITION)
    assert made == Change(
        old={"id": "u1", "age": Decimal(41), "tags": {"a"}},
        new={"id": "u1", "age": Decimal(42), "tags": {"a", "b"}},
        keys={"id": "u1"},
        event_name="MODIFY",
        table="users",
        position=POSITION,
        version="99@local",
        request_id="REQUEST",
        principal="someone",
        created_at=datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
    )


def test_without_annotation_it_is_a_plain_change() -> None:
    def handle(change): ...

    assert Handler(handle).change(change("u1"), POSITION).new == {"id": "u1"}


def test_a_pydantic_model() -> None:
    def handle(change: Change[User]) -> None: ...

    made = Handler(handle).change(change("u1", old=OLD, new=NEW), POSITION)
    assert made.old == User(id="u1", age=41, tags=["a"])
    assert isinstance(made.new, User)
    assert sorted(made.new.tags) == ["a", "b"]
    assert made.keys == {"id": "u1"}


def test_a_dataclass() -> None:
    def handle(change: Change[UserData]) -> None: ...

    made = Handler(handle).change(change("u1", new=NEW), POSITION)
    assert made.new == UserData("u1", 42.0, frozenset({"a", "b"}))


def test_a_typed_dict() -> None:
    def handle(change: Change[UserDict]) -> None: ...

    made = Handler(handle).change(change("u1", new=NEW), POSITION)
    assert made.new == {"id": "u1", "age": 42}


def test_what_was_not_there_is_none() -> None:
    def handle(change: Change[User]) -> None: ...

    handler = Handler(handle)
    assert handler.change(change("u1", new=NEW), POSITION).old is None
    assert handler.change(change("u1", old=OLD), POSITION).new is None


def test_an_item_that_does_not_fit_is_an_error() -> None:
    def handle(change: Change[User]) -> None: ...

    with pytest.raises(pydantic.ValidationError, match="age"):
        Handler(handle).change(change("u1", new={"age": {"S": "old"}}), POSITION)


def test_an_annotation_that_is_a_string() -> None:
    def handle(change: "Change[User]") -> None: ...

    assert Handler(handle).change(change("u1", new=NEW), POSITION).new == User(
        id="u1", age=42, tags=list({"a", "b"})
    )


def test_a_method_and_a_partial() -> None:
    class Shop:
        def handle(self, change: Change[User]) -> None: ...

    def handle(prefix: str, change: Change[User]) -> None: ...

    for function in (Shop().handle, functools.partial(handle, "x")):
        made = Handler(function).change(change("u1", new=NEW), POSITION)
        assert isinstance(made.new, User)


@pytest.mark.parametrize("function", [lambda: None, lambda one, two: None])
def test_a_function_that_does_not_take_one_change_is_refused(function: Any) -> None:
    with pytest.raises(InvalidHandler, match="must take one change"):
        Handler(function)


def test_another_annotation_is_refused() -> None:
    def handle(change: User) -> None: ...

    with pytest.raises(InvalidHandler, match=r"a handler takes Change, Change\[Model\], or"):
        Handler(handle)  # type: ignore[arg-type]


def test_a_model_that_is_none_is_refused() -> None:
    def handle(change: Change[threading.Thread]) -> None: ...

    with pytest.raises(InvalidHandler, match="Unable to generate"):
        Handler(handle)


def test_an_annotation_that_can_not_be_resolved_is_refused() -> None:
    def handle(change: "Change[Nobody]") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(InvalidHandler, match="can't be resolved"):
        Handler(handle)


async def test_an_async_function_runs_in_the_loop() -> None:
    seen: list[tuple[Any, threading.Thread]] = []

    async def handle(change: Change) -> None:
        seen.append((change.keys, threading.current_thread()))

    await _call(handle)
    assert seen == [({"id": "u1"}, threading.current_thread())]


async def test_a_plain_function_runs_in_a_thread() -> None:
    seen: list[tuple[Any, threading.Thread]] = []

    def handle(change: Change) -> None:
        seen.append((change.keys, threading.current_thread()))

    await _call(handle)
    assert [keys for keys, _ in seen] == [{"id": "u1"}]
    assert seen[0][1] is not threading.current_thread()


async def test_what_a_plain_function_returns_is_awaited() -> None:
    seen = []

    async def handle(prefix: str, change: Change) -> None:
        seen.append(prefix)

    await _call(lambda change: handle("x", change))
    assert seen == ["x"]


async def _call(function: Any) -> None:
    handler = Handler(function)
    await handler.call(handler.change(change("u1"), POSITION))
