"""A join's rows are those of the last items, whatever happens on the way."""

import asyncio
import random
from functools import partial
from typing import Any

import orjson
import pytest

from streamtable.consumers.views import joins
from streamtable.consumers.views.builds import SourceTable
from streamtable.consumers.views.feed import Feed, Fenced
from streamtable.consumers.views.joins import SIDES_KEYS, JoinSink, SidesMapper, SidesSink
from streamtable.consumers.views.mapping import InvalidRows, locate_rows
from streamtable.consumers.views.operations import merge
from streamtable.consumers.views.sink import ViewSink, ViewStopped
from streamtable.consumers.views.specs import ViewSpec
from streamtable.core.keys import KeyAttribute, KeySchema
from streamtable.core.values import Item
from streamtable.streams.records import LogRecord
from tests.consumers.views.nodes import FakeNode, FakeView, record, row
from tests.support.waiting import until

SOURCES = {"orders": SourceTable("o", ("id",)), "users": SourceTable("u", ("id",))}


def pair(left: Item, right: Item | None) -> list[Item]:
    """A row for each pair; not for orders of nothing, whose user is there."""
    called = left.get("user", {"S": "nobody"})
    if right is None:
        return [{"user": called, "pair": left["id"], "total": left["total"]}]
    if left["total"] == {"N": "0"}:
        return []
    # The key depends on more than the items' keys: also that is exact.
    both = f"{left['id']['S']} {right['id']['S']} {left['total']['N']}"
    return [{"user": called, "pair": {"S": both}, "name": right["name"]}]


def join(kind: Any = "inner", **options: Any) -> ViewSpec:
    keys = KeySchema((KeyAttribute("user", "S"),), (KeyAttribute("pair", "S"),))
    return ViewSpec(
        "shop",
        "orders_of_users",
        "join",
        ("orders", "users"),
        keys,
        on=("user", "name"),
        join_kind=kind,
        **{"pairs": pair, **options},
    )


def order(name: str, user: str | None, total: int) -> Item:
    item = row(id=name, total=total)
    return item if user is None else {**item, "user": {"S": user}}


def user(name: str, called: str) -> Item:
    return row(id=name, name=called)


class Sides:
    """What stage 1 would do: the log of the hidden table, and the items as they are."""

    def __init__(self, spec: ViewSpec) -> None:
        self.mapper = SidesMapper(spec, SOURCES)
        self.rows: dict[bytes, Item] = {}
        self.log: list[LogRecord] = []
        self.items: dict[str, dict[str, Item]] = {"orders": {}, "users": {}}

    def change(self, table: str, name: str, new: Item | None) -> None:
        """Change an item; what follows is one commit a row."""
        items = self.items[table]
        old = items.pop(name, None)
        if new is not None:
            items[name] = new
        for operation in merge(self.mapper.plan(table, old, new).operations):
            found = orjson.loads(operation)
            after = found.get("put")
            key = SIDES_KEYS.extract(after or found["delete"])
            place = SIDES_KEYS.locate(b"", key)[1]
            before = self.rows.pop(place, None)
            if after is not None:
                self.rows[place] = after
            self.append(key, before, after)

    def append(self, key: Item, before: Item | None, after: Item | None) -> None:
        images: dict[str, Any] = {"Keys": key}
        if before is not None:
            images["OldImage"] = before
        if after is not None:
            images["NewImage"] = after
        change = {"table": "s", "tableId": "s", "eventName": "MODIFY", "dynamodb": images}
        value = orjson.dumps({"changes": [change]})
        self.log.append(LogRecord(0, len(self.log), 0, "commit", "e", frozenset({"s"}), value))


def expected(spec: ViewSpec, items: dict[str, dict[str, Item]]) -> list[Item]:
    """The rows of the items, from nothing."""
    found: dict[bytes, Item] = {}
    for left in items["orders"].values():
        met = [r for r in items["users"].values() if r["name"] == left.get("user")]
        others: list[Item | None] = [*met]
        if not others and spec.join_kind == "left":
            others = [None]
        for right in others:
            for key, each in locate_rows(spec.keys, pair(left, right)).items():
                found[key] = each.item
    return [found[key] for key in sorted(found)]


def node_for(spec: ViewSpec, chance: random.Random | None = None) -> FakeNode:
    node = FakeNode(shards=1, chance=chance)
    node.views = {"v": FakeView(spec.keys), "state": FakeView(SIDES_KEYS)}
    return node


async def opened(spec: ViewSpec, node: FakeNode) -> JoinSink:
    sink = JoinSink(
        spec,
        rows=Feed(node, "v", 1),
        state=Feed(node, "state", 1, exclusive=True),
        node=node,
        state_name="state",
        sides=("s", "s"),
        shards=1,
    )
    await sink.assigned(frozenset({0}))
    return sink


async def taken(sink: JoinSink, log: list[LogRecord]) -> None:
    for each in log:
        await sink.take(each, lambda: None)
    await until(lambda: not sink._open[0].unwritten, "the rows to be there")
    await sink._state.drained()


@pytest.mark.parametrize("kind", ["inner", "left"])
async def test_rows_come_and_go_with_both_items(kind):
    spec = join(kind)
    node, sides = node_for(spec), Sides(spec)
    sink = await opened(spec, node)
    for step in (
        ("orders", "1", order("1", "ann", 5)),
        ("users", "a", user("a", "ann")),
        ("users", "b", user("b", "ann")),
        ("orders", "2", order("2", None, 5)),
        ("orders", "1", order("1", "ann", 6)),
        ("users", "a", user("a", "bob")),
        ("orders", "1", order("1", "bob", 6)),
        ("orders", "1", order("1", "bob", 0)),
        ("users", "a", None),
        ("orders", "1", None),
    ):
        start = len(sides.log)
        sides.change(*step)
        await taken(sink, sides.log[start:])
        assert node.views["v"].items() == expected(spec, sides.items), step
    await sink.stop()


async def test_a_pair_that_goes_at_once_goes():
    """Whoever looks at the items of now would see neither at either change."""
    spec = join()
    node, sides = node_for(spec), Sides(spec)
    sides.change("orders", "1", order("1", "ann", 5))
    sides.change("users", "a", user("a", "ann"))
    sink = await opened(spec, node)
    await taken(sink, sides.log)
    assert len(node.views["v"].rows) == 1
    start = len(sides.log)
    sides.change("orders", "1", None)
    sides.change("users", "a", None)
    await taken(sink, sides.log[start:])
    assert node.views["v"].rows == {}
    await sink.stop()


async def test_rows_that_can_not_be_told_apart_stop_the_join():
    def one(left: Item, _right: Item | None) -> list[Item]:
        return [{"user": left["user"], "pair": left["id"]}]

    spec = join(pairs=one)
    node, sides = node_for(spec), Sides(spec)
    sides.change("users", "a", user("a", "ann"))
    sides.change("users", "b", user("b", "ann"))
    sides.change("orders", "1", order("1", "ann", 5))
    sink = await opened(spec, node)
    with pytest.raises(ViewStopped, match="two pairs have a row with the key"):
        await taken(sink, sides.log)
    await sink.stop()


async def test_rows_without_the_join_value_in_their_key_stop_the_join():
    """An order that moves from one user to another would have one row from two logs."""

    def one(left: Item, right: Item | None) -> list[Item]:
        assert right is not None
        return [{"user": {"S": "x"}, "pair": left["id"]}]

    spec = join(pairs=one)
    node, sides = node_for(spec), Sides(spec)
    sides.change("users", "a", user("a", "ann"))
    sides.change("orders", "1", order("1", "ann", 5))
    sink = await opened(spec, node)
    with pytest.raises(ViewStopped, match="has not the join value, user of orders, in its key"):
        await taken(sink, sides.log)
    await sink.stop()


async def test_who_takes_over_makes_the_one_before_end():
    spec = join()
    node, sides = node_for(spec), Sides(spec)
    before = await opened(spec, node)
    sides.change("users", "a", user("a", "ann"))
    await taken(before, sides.log)
    after = await opened(spec, node)
    sides.change("orders", "1", order("1", "ann", 5))
    await before.take(sides.log[1], lambda: None)
    await until(before._state.failed.done, "the first one to be fenced")
    with pytest.raises(Fenced):
        before._state.check()
    await taken(after, sides.log)
    assert node.views["v"].items() == expected(spec, sides.items)
    await before.stop()
    await after.stop()


async def test_long_keys_and_join_values_have_room():
    spec = join()
    mapper = SidesMapper(spec, SOURCES)
    [row_] = merge(mapper.plan("orders", None, order("k" * 2000, "v" * 5000, 1)).operations)
    place = orjson.loads(row_)["put"]
    assert len(place["join"]["S"]) < 1024
    assert len(place["side"]["B"]) < 1024


async def test_an_item_that_fills_its_limit_has_no_room_for_what_a_join_adds():
    mapper = SidesMapper(join(), SOURCES)
    large = {**order("1", "ann", 1), "text": {"S": "x" * 409_570}}
    with pytest.raises(InvalidRows, match="an item of orders is too large for a join"):
        mapper.plan("orders", None, large)


@pytest.mark.parametrize("kind", ["inner", "left"])
@pytest.mark.parametrize("seed", range(6))
async def test_rows_are_exact_over_crashes_and_rivals(kind, seed, monkeypatch):
    monkeypatch.setattr(joins, "_CACHED_ITEMS", 3)
    chance = random.Random(seed)
    spec = join(kind)
    node, sides = node_for(spec, chance), Sides(spec)
    position = 0
    rivals: list[JoinSink] = []
    for _ in range(10):
        for _ in range(chance.randrange(10)):
            if chance.random() < 0.5:
                name = f"o{chance.randrange(4)}"
                called = chance.choice(["ann", "bob", None])
                new = order(name, called, chance.randrange(3))
                table = "orders"
            else:
                name = f"u{chance.randrange(4)}"
                new, table = user(name, chance.choice(["ann", "bob", "cat"])), "users"
            sides.change(table, name, None if chance.random() < 0.3 else new)
        sink = await opened(spec, node)
        rivals.append(sink)
        done: set[int] = set()
        for each in sides.log[position:]:
            try:
                await sink.take(each, partial(done.add, each.offset))
            except Fenced:
                break
            if chance.random() < 0.3:
                await asyncio.sleep(0)
        if chance.random() < 0.5:
            await until(lambda sink=sink: not sink._open[0].unwritten, "the rows")  # type: ignore[arg-type, misc]
            await sink._state.drained()
        while position in done:
            position += 1
        if chance.random() < 0.5:
            await rivals.pop(0).stop()
    node.chance = None
    last = await opened(spec, node)
    await taken(last, sides.log[position:])
    for sink in (*rivals, last):
        await sink.stop()
    assert node.views["v"].items() == expected(spec, sides.items)
    state = {key: each["item"] for key, each in node.views["state"].rows.items()}
    assert state == {key: each["item"] for key, each in sides.rows.items()}


async def test_the_first_stage_is_done_when_the_second_has_passed():
    spec = join()
    node = node_for(spec)
    node.views["sides"] = FakeView(SIDES_KEYS)
    passed = {0: 5}

    async def positions() -> dict[int, int]:
        return passed

    async def ends() -> dict[int, int]:
        return {0: 5}

    feed = Feed(node, "sides", 1)
    sink = SidesSink(
        ViewSink(SidesMapper(spec, SOURCES), feed, {"users": "id of users"}),
        feed,
        passed=positions,
        log_ends=ends,
    )
    await sink.assigned(frozenset({0}))
    node.offset = 8
    done: list[int] = []
    change = record(1, (None, user("a", "ann")), table="users")
    await sink.take(change, lambda: done.append(1))
    await feed.drained()
    await asyncio.sleep(0)
    assert feed.reached == {0: 9}
    assert done == []
    passed[0] = 10
    await until(lambda: done, "the record to be done")
    await sink.stop()
