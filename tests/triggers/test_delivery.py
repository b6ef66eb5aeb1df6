"""A commit's changes reach the trigger that asked for them, one after the other."""

import asyncio
from typing import Any

import pytest

from streamtable import App, Change
from streamtable.core.changes import Change as LogChange
from streamtable.core.positions import Position
from streamtable.streams import records
from streamtable.streams.records import LogRecord
from streamtable.triggers.delivery import ChangeFailed, Delivery
from tests.support.changelog import change


def record(*changes: LogChange) -> LogRecord:
    value, headers = records.commit("e1", list(changes), [])
    return LogRecord.read(2, 17, 1_700_000_000_000, headers, value)


def delivery(function: Any, on: Any = "INSERT") -> Delivery:
    app = App("shop")
    app.trigger("users", on=on, name="welcome")(function)
    return Delivery(app.triggers["welcome"])


async def test_only_its_table_and_its_events() -> None:
    seen: list[Change] = []

    async def handle(change: Change) -> None:
        seen.append(change)

    made = delivery(handle)
    await made.deliver(
        record(
            change("a"),
            change("b", table="orders"),
            change("c", old={}, new={"n": {"N": "1"}}),
            change("d", old={}),
            change("e"),
        )
    )
    assert [(found.keys["id"], found.position) for found in seen] == [
        ("a", Position(2, 17, 0)),
        ("e", Position(2, 17, 4)),
    ]
    assert made.count == 2


def test_commits_of_other_tables_are_not_wanted() -> None:
    made = delivery(lambda change: None)
    assert made.wants(frozenset({"orders", "users"}))
    assert not made.wants(frozenset({"orders"}))


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(3), asyncio.CancelledError()], ids=repr
)
async def test_a_change_that_fails_is_named_and_ends_the_commit(error: BaseException) -> None:
    seen = []

    async def handle(change: Change) -> None:
        seen.append(change.keys["id"])
        if change.keys["id"] == "poison":
            raise error

    with pytest.raises(ChangeFailed) as caught:
        await delivery(handle).deliver(record(change("a"), change("poison"), change("b")))
    assert seen == ["a", "poison"]
    assert str(caught.value) == "INSERT in users, id='poison', shard 2, offset 17, index 1"
    assert caught.value.__cause__ is error
    assert caught.value.position == Position(2, 17, 1)


async def test_a_plain_function_that_exits_has_failed() -> None:
    def handle(change: Change) -> None:
        raise SystemExit(0)

    with pytest.raises(ChangeFailed):
        await delivery(handle).deliver(record(change("a")))
