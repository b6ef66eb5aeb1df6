"""A function is called with what its annotation asks for, and its answer is understood."""

import asyncio
import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pydantic
import pytest
from typing_extensions import TypedDict

from streamtable import Change, Window
from streamtable.consumers.triggers.deliveries import (
    Answer,
    BatchItemFailed,
    Delivery,
    HandlerTimeout,
    Rejected,
)
from streamtable.consumers.triggers.deliveries import Window as ShardWindow
from streamtable.core.changes import Change as LogChange
from streamtable.core.positions import Position
from streamtable.core.values import Item
from streamtable.triggers import HandlerExited, InvalidAnswer, InvalidHandler
from streamtable.triggers.handlers import Handler, give_up
from tests.support.changelog import change
from tests.support.waiting import until

POSITION = Position(3, 17, 0)
OLD: Item = {"age": {"N": "41"}, "tags": {"SS": ["a"]}}
NEW: Item = {"age": {"N": "42"}, "tags": {"SS": ["a", "b"]}}
TOO_OLD: Item = {"age": {"S": "old"}}


class User(pydantic.BaseModel):
    id: str
    age: int
    tags: list[str] = []


class UserDict(TypedDict):
    id: str
    age: int


@dataclass
class UserData:
    id: str
    age: float
    tags: frozenset[str]


def only(function: Any, made: LogChange) -> Change[Any]:
    return Handler(function).change(Delivery(made, POSITION))


def batch(*changes: LogChange) -> list[Delivery]:
    return [Delivery(each, Position(3, 17, index)) for index, each in enumerate(changes)]


async def call(function: Any, *changes: LogChange, **options: Any) -> Answer:
    return await Handler(function, **options).invoke(batch(*(changes or [change("u1")])), None)


def test_plain_change_has_dicts() -> None:
    def handle(change: Change) -> None: ...

    assert only(handle, change("u1", old=OLD, new=NEW, time=99)) == Change(
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


def test_what_time_to_live_removed_is_told() -> None:
    made = change("u1", old=OLD)
    assert not only(lambda change: None, made).expired
    made.service = "dynamodb.amazonaws.com"
    assert only(lambda change: None, made).expired


def test_without_annotation_it_is_a_plain_change() -> None:
    def handle(change): ...

    assert only(handle, change("u1")).new == {"id": "u1"}


def test_a_pydantic_model() -> None:
    def handle(change: Change[User]) -> None: ...

    made = only(handle, change("u1", old=OLD, new=NEW))
    assert made.old == User(id="u1", age=41, tags=["a"])
    assert isinstance(made.new, User)
    assert sorted(made.new.tags) == ["a", "b"]
    assert made.keys == {"id": "u1"}


def test_a_dataclass() -> None:
    def handle(change: Change[UserData]) -> None: ...

    assert only(handle, change("u1", new=NEW)).new == UserData("u1", 42.0, frozenset({"a", "b"}))


def test_a_typed_dict() -> None:
    def handle(change: Change[UserDict]) -> None: ...

    assert only(handle, change("u1", new=NEW)).new == {"id": "u1", "age": 42}


def test_what_was_not_there_is_none() -> None:
    def handle(change: Change[User]) -> None: ...

    assert only(handle, change("u1", new=NEW)).old is None
    assert only(handle, change("u1", old=OLD)).new is None


def test_an_annotation_that_is_a_string() -> None:
    def handle(change: "Change[User]") -> None: ...

    assert isinstance(only(handle, change("u1", new=NEW)).new, User)


def test_a_method_and_a_partial() -> None:
    class Shop:
        def handle(self, change: Change[User]) -> None: ...

    def handle(prefix: str, change: Change[User]) -> None: ...

    for function in (Shop().handle, functools.partial(handle, "x")):
        assert isinstance(only(function, change("u1", new=NEW)).new, User)


def test_a_callable_object() -> None:
    class Welcome:
        def __call__(self, change: "Change[User]") -> None: ...

    assert isinstance(only(Welcome(), change("u1", new=NEW)).new, User)
    assert isinstance(only(functools.partial(Welcome()), change("u1", new=NEW)).new, User)


@pytest.mark.parametrize("function", [lambda: None, lambda one, two: None])
def test_a_function_that_does_not_take_one_change_is_refused(function: Any) -> None:
    with pytest.raises(InvalidHandler, match="must take one change, or a list of changes"):
        Handler(function)


def test_an_argument_that_is_never_given_is_refused() -> None:
    def handle(change: Change, *, mailer: object) -> None: ...

    with pytest.raises(InvalidHandler, match="mailer must have a default"):
        Handler(handle)


@pytest.mark.parametrize("annotation", [User, list[User], list[int], dict])
def test_another_annotation_is_refused(annotation: Any) -> None:
    def handle(change: annotation) -> None: ...

    with pytest.raises(InvalidHandler, match=r"takes Change, Change\[Model\], or a list of them"):
        Handler(handle)


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

    assert await call(handle) == Answer()
    assert seen == [({"id": "u1"}, threading.current_thread())]


async def test_a_plain_function_runs_in_a_thread() -> None:
    seen: list[tuple[Any, threading.Thread]] = []

    def handle(change: Change) -> None:
        seen.append((change.keys, threading.current_thread()))

    assert await call(handle) == Answer()
    assert [keys for keys, _ in seen] == [{"id": "u1"}]
    assert seen[0][1] is not threading.current_thread()


async def test_what_a_plain_function_returns_is_awaited() -> None:
    seen = []

    async def handle(prefix: str, change: Change) -> None:
        seen.append(prefix)

    await call(lambda change: handle("x", change))
    assert seen == ["x"]


@pytest.mark.parametrize("annotation", [list[Change], list[Change[User]], Sequence[Change], list])
async def test_a_batch(annotation: Any) -> None:
    seen: list[Any] = []

    async def handle(changes: annotation) -> None:
        seen.extend(change.keys["id"] for change in changes)

    assert Handler(handle).takes_batch
    assert await call(handle, change("a", new=NEW), change("b", new=NEW)) == Answer()
    assert seen == ["a", "b"]


async def test_a_failure_is_the_batchs() -> None:
    async def handle(changes: list[Change]) -> None:
        raise LookupError("no such order")

    with pytest.raises(LookupError, match="no such order"):
        await call(handle)


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        (lambda _: None, []),
        (lambda _: True, []),
        (lambda _: False, [0, 1, 2]),
        (lambda _: [], []),
        (lambda changes: [changes[1]], [1]),
        (lambda changes: (changes[0].position, changes[2].position), [0, 2]),
        (lambda changes: {changes[2].position.sequence_number}, [2]),
        (lambda changes: (change for change in changes if change.keys["id"] == "b"), [1]),
        (lambda _: {"batchItemFailures": []}, []),
        (lambda _: {"batchItemFailures": None}, []),
        (lambda _: {}, []),
        (
            lambda changes: {
                "batchItemFailures": [{"itemIdentifier": changes[1].position.sequence_number}]
            },
            [1],
        ),
    ],
)
async def test_a_partial_answer(answer: Callable[..., Any], failed: list[int]) -> None:
    async def handle(changes: list[Change]) -> Any:
        return answer(changes)

    found = await call(handle, change("a"), change("b"), change("c"))
    assert sorted(found.failed) == failed
    assert all(isinstance(why, BatchItemFailed) for why in found.failed.values())
    assert found.checkpoint is None


async def test_a_partial_answer_with_reasons() -> None:
    why = LookupError("no such order")

    async def handle(changes: list[Change]) -> Any:
        return [(changes[1], why)]

    assert (await call(handle, change("a"), change("b"))).failed == {1: why}


@pytest.mark.parametrize(
    "answer",
    ["b", 5, [5], ["00000000000009900000"], [{"itemIdentifier": ""}], [None], {"statusCode": 200}],
)
async def test_an_answer_that_says_nothing_fails_the_batch(answer: Any) -> None:
    async def handle(changes: list[Change]) -> Any:
        return answer

    with pytest.raises(InvalidAnswer):
        await call(handle)


async def test_what_a_function_of_one_change_returns_says_nothing() -> None:
    async def handle(change: Change) -> Any:
        return False

    assert await call(handle) == Answer()


async def test_an_item_that_does_not_fit_is_its_own_failure() -> None:
    seen: list[Any] = []

    async def handle(changes: list[Change[User]]) -> Any:
        seen.extend(change.keys["id"] for change in changes)
        return [changes[-1]]

    found = await call(handle, change("a", new=NEW), change("b", new=TOO_OLD), change("c", new=NEW))
    assert seen == ["a", "c"]
    assert sorted(found.failed) == [1, 2]
    assert isinstance(found.failed[1], Rejected)
    assert "age" in str(found.failed[1])
    assert isinstance(found.failed[2], BatchItemFailed)


async def test_later_changes_of_an_item_wait_for_one_that_does_not_fit() -> None:
    seen: list[Any] = []

    async def handle(changes: list[Change[User]]) -> None:
        seen.extend(change.position.index for change in changes)

    await call(
        handle, change("a", new=TOO_OLD), change("b", new=NEW), change("a", old=TOO_OLD, new=NEW)
    )
    assert seen == [1]


async def test_a_batch_of_which_nothing_fits_calls_nobody() -> None:
    async def handle(change: Change[User]) -> None:
        raise AssertionError("called")

    found = await call(handle, change("a", new=TOO_OLD))
    assert isinstance(found.failed[0], Rejected)


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError()], ids=repr)
async def test_a_function_that_exits_has_failed(error: BaseException) -> None:
    async def handle(change: Change) -> None:
        raise error

    def handle_in_thread(change: Change) -> None:
        raise error

    for function in (handle, handle_in_thread):
        for options in ({}, {"timeout_s": 60}):
            with pytest.raises(HandlerExited, match="raised"):
                await call(function, **options)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit()], ids=repr)
async def test_nothing_that_a_thread_raises_ends_the_worker(error: BaseException) -> None:
    def handle(change: Change) -> None:
        raise error

    with pytest.raises(HandlerExited, match="raised"):
        await call(handle)


async def test_a_slow_coroutine_is_cancelled() -> None:
    ended = asyncio.Event()

    async def handle(change: Change) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(HandlerTimeout, match=r"took longer than 0.01 s") as caught:
        await call(handle, timeout_s=0.01)
    await caught.value.finished
    assert ended.is_set()


async def test_a_slow_thread_goes_on_and_tells_when_it_ends() -> None:
    go_on = threading.Event()

    def handle(change: Change) -> None:
        go_on.wait()

    with pytest.raises(HandlerTimeout) as caught:
        await call(handle, timeout_s=0.01)
    assert not caught.value.finished.done()
    go_on.set()
    await caught.value.finished


async def test_in_time_is_in_time() -> None:
    async def handle(changes: list[Change]) -> Any:
        return changes

    assert sorted((await call(handle, timeout_s=60)).failed) == [0]
    assert await call(lambda change: None, timeout_s=60) == Answer()


async def test_being_stopped_is_no_failure_of_the_function() -> None:
    for timeout_s in (None, 60):
        started = asyncio.Event()

        async def handle(change: Change, started: asyncio.Event = started) -> None:
            started.set()
            await asyncio.Event().wait()

        running = asyncio.create_task(call(handle, timeout_s=timeout_s))
        await started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_a_window() -> None:
    seen: list[Window] = []

    async def count(changes: list[Change], window: Window) -> None:
        seen.append(window)
        window.state["n"] = window.state.get("n", 0) + len(changes)

    handler = Handler(count, takes_window=True)
    before: dict[str, Any] = {"n": 2}
    answer = await handler.invoke(
        batch(change("a"), change("b")), ShardWindow(3, 60_000, 120_000, before)
    )
    assert answer == Answer(state={"n": 4})
    assert before == {"n": 2}
    assert (seen[0].start, seen[0].end) == (
        datetime(1970, 1, 1, 0, 1, tzinfo=UTC),
        datetime(1970, 1, 1, 0, 2, tzinfo=UTC),
    )
    assert (seen[0].shard, seen[0].is_final) == (3, False)

    answer = await handler.invoke([], ShardWindow(3, 60_000, 120_000, {"n": 4}, final=True))
    assert answer == Answer(state={"n": 4})
    assert seen[1].is_final


@pytest.mark.parametrize("state", [{"n": Decimal(1)}, [1]])
async def test_a_windows_state_is_json(state: Any) -> None:
    async def count(changes: list[Change], window: Window) -> None:
        window.state = state

    with pytest.raises(InvalidAnswer, match="the window's state must be"):
        await Handler(count, takes_window=True).invoke(batch(change("a")), ShardWindow(0, 0, 1, {}))


def test_a_window_is_for_batches() -> None:
    def one(change: Change, window: Window) -> None: ...

    def no_window(changes: list[Change]) -> None: ...

    with pytest.raises(InvalidHandler, match=r"takes \(changes: list\[Change\], window: Window\)"):
        Handler(one, takes_window=True)
    with pytest.raises(InvalidHandler, match="must take changes and a window"):
        Handler(no_window, takes_window=True)


async def test_a_function_is_told_what_was_given_up() -> None:
    seen: list[Any] = []

    async def report(change: Change[User], error: BaseException) -> None:
        seen.append((change.new, error))

    error = ValueError("no")
    item = Handler(lambda change: None).item
    (delivery,) = batch(change("a", new=NEW))
    await give_up(report, item, delivery, error)
    await give_up(lambda change, error: seen.append((change.keys, error)), item, delivery, error)
    assert seen[0][0]["age"] == 42
    assert seen == [(seen[0][0], error), ({"id": "a"}, error)]


async def test_what_does_not_fit_is_given_up_as_it_is() -> None:
    seen: list[Any] = []

    def handle(change: Change[User]) -> None: ...

    (delivery,) = batch(change("a", new=TOO_OLD))
    await give_up(
        lambda change, _: seen.append(change.new), Handler(handle).item, delivery, OSError()
    )
    assert seen == [{"id": "a", "age": "old"}]


async def test_one_that_blocks_holds_up_no_other_function() -> None:
    go_on = threading.Event()
    stuck = Handler(lambda change: go_on.wait())
    calls = [asyncio.create_task(stuck.invoke(batch(change("a")), None)) for _ in range(40)]
    try:
        await until(lambda: len(threading.enumerate()) > 40, "forty threads")
        assert await call(lambda change: None) == Answer()
    finally:
        go_on.set()
        await asyncio.gather(*calls)
