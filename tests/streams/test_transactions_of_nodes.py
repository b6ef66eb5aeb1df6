"""Transactions over shards of several nodes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from streamtable.core.errors import (
    InternalServerError,
    TransactionCanceled,
    TransactionConflict,
)
from streamtable.core.images import Image
from streamtable.streams import snapshots, transactions
from streamtable.streams.layout import Layout
from streamtable.streams.participant import Part
from streamtable.streams.peers.client import PeerLost
from streamtable.streams.routes import RoutedShard
from streamtable.streams.shard import Look, Shard
from streamtable.streams.snapshots import Read, _Seen
from streamtable.streams.transactions import Transactions
from tests.streams.nodes import Node, Nodes, key_on, put
from tests.streams.shards import CONTEXT, DeleteWrite, until

SHARDS = 3


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    """Shard 0 is a's, shards 1 and 2 are b's, and c has none."""
    made = Nodes(tmp_path, SHARDS, "a", "b", "c")
    await made.nodes["a"].take(0)
    await made.nodes["b"].take(1)
    await made.nodes["b"].take(2)
    yield made
    await made.stop()


def puts(value: int, expect: int | None = None) -> list[Any]:
    return [put(key_on(number, SHARDS), value, expect) for number in range(SHARDS)]


async def numbers(node: Node) -> list[int | None]:
    reads = [Read(write.hash, write.row_key) for write in puts(0)]
    found = await node.transactions.read(reads)
    return [None if image is None else int(image.item["n"]["N"]) for image in found]


def locked(nodes: Nodes) -> list[int]:
    return [
        number
        for node in nodes.nodes.values()
        for number in node.held
        if node.held[number].ledger.locking
    ]


@pytest.mark.parametrize("address", ["a", "b", "c"])
async def test_whoever_is_asked_it_is_all_or_nothing(nodes: Nodes, address: str) -> None:
    node = nodes.nodes[address]
    outcomes = await node.transactions.write(puts(1), None, CONTEXT)
    assert outcomes is not None
    assert [outcome.old for outcome in outcomes] == [None] * SHARDS
    assert await numbers(nodes.nodes["c"]) == [1] * SHARDS
    with pytest.raises(TransactionCanceled) as caught:
        await node.transactions.write([*puts(2)[:2], puts(2, expect=7)[2]], None, CONTEXT)
    codes = [reason["Code"] for reason in caught.value.reasons]
    assert codes == ["None", "None", "ConditionalCheckFailed"]
    assert await numbers(nodes.nodes["a"]) == [1] * SHARDS
    assert locked(nodes) == []


@pytest.mark.parametrize("method", ["prepare", "commit"])
async def test_a_call_without_an_answer_is_decided_by_the_coordinator(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """It was carried out, and nobody heard so: what became of it is what all shards then show."""
    call = nodes.call

    async def lose(address: str, asked: str, arguments: Any, **how: Any) -> Any:
        answer = await call(address, asked, arguments, **how)
        if asked == method:
            raise PeerLost("no answer", asked=True)
        return answer

    monkeypatch.setattr(nodes, "call", lose)
    with pytest.raises(InternalServerError):
        await nodes.nodes["c"].transactions.write(puts(1), None, CONTEXT)
    expected = [1 if method == "commit" else None] * SHARDS
    assert await numbers(nodes.nodes["a"]) == expected
    assert locked(nodes) == []


@pytest.mark.parametrize(("dies_in", "expected"), [("prepare", None), ("commit", 1)])
async def test_what_a_node_that_died_left_prepared_is_settled(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, dies_in: str, expected: int | None
) -> None:
    monkeypatch.setattr(transactions, "_LOST_S", 0.05)
    for address in ("a", "b"):
        nodes.nodes[address].transactions.start()
    dead, call = asyncio.Event(), nodes.call

    async def die(address: str, asked: str, arguments: Any, **how: Any) -> Any:
        answer = await call(address, asked, arguments, **how)
        if asked == dies_in:
            dead.set()
        if dead.is_set():
            await asyncio.Event().wait()
        return answer

    monkeypatch.setattr(nodes, "call", die)
    dying = asyncio.create_task(nodes.nodes["c"].transactions.write(puts(1), None, CONTEXT))
    await dead.wait()
    monkeypatch.setattr(nodes, "call", call)
    await until(lambda: locked(nodes) == [])
    assert await numbers(nodes.nodes["a"]) == [expected] * SHARDS
    dying.cancel()
    await asyncio.wait([dying])


async def test_who_takes_a_shard_asks_about_what_was_answered_there(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, call, told = nodes.logs[1], nodes.call, asyncio.Event()
    asked = asyncio.create_task(nodes.nodes["b"].transactions.write(puts(1), None, CONTEXT))
    await until(lambda: len(log.records) == 2)
    log.gate.clear()
    # The participants are b's, and what they show is not in the log of one of them: never will be.
    await asked
    assert await numbers(nodes.nodes["a"]) == [1] * SHARDS
    log.lose = 1
    log.gate.set()

    async def wait(address: str, method: str, arguments: Any, **how: Any) -> Any:
        if method == "decision":
            await told.wait()
        return await call(address, method, arguments, **how)

    monkeypatch.setattr(nodes, "call", wait)
    await nodes.nodes["c"].take(1)
    shard = RoutedShard(1, nodes.nodes["a"].routes)
    reading = asyncio.create_task(shard.read(puts(1)[1].row_key, consistent=True))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not reading.done()
    told.set()
    image = await reading
    assert image is not None
    assert image.item["n"] == {"N": "1"}
    await until(lambda: locked(nodes) == [])


async def test_a_write_of_an_item_that_is_held_is_refused_on_each_node(nodes: Nodes) -> None:
    await (
        nodes.nodes["b"]
        .transactions.participant(1)
        .prepare([Part(0, puts(1)[1])], "held", 0, CONTEXT)
    )
    for node in nodes.nodes.values():
        with pytest.raises(TransactionConflict):
            await RoutedShard(1, node.routes).write(puts(2)[1], CONTEXT)
        with pytest.raises(TransactionCanceled, match="TransactionConflict"):
            await numbers(node)
    await nodes.nodes["b"].transactions.participant(1).resolve("held", commit=False)


# Reads of several nodes: two looks that agree


async def test_a_shard_that_goes_while_another_one_is_asked_is_read_where_it_is(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = nodes.nodes["b"]
    await node.transactions.write(puts(1), None, CONTEXT)
    ready, moves = Shard.ready, [1]

    async def move(shard: Shard, *, consistent: bool) -> None:
        if shard.number == 2 and moves:
            await nodes.nodes["a"].take(moves.pop())
            await nodes.nodes["a"].transactions.write(puts(2), None, CONTEXT)
        await ready(shard, consistent=consistent)

    monkeypatch.setattr(Shard, "ready", move)
    reads = [Read(write.hash, write.row_key) for write in puts(0)[1:]]
    found = await node.transactions.read(reads)
    assert [image and image.item["n"]["N"] for image in found] == ["2", "2"]


class Looks:
    """Answers looks of one shard as it is told. Stands where `Routes` stands."""

    def __init__(self, *looks: Look) -> None:
        self.left = list(looks)

    def own(self, _number: int) -> None:
        return None

    async def reach(self, _number: int, _act: Any) -> Look:
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


def image(time: int) -> Image:
    return Image(b"{}", 0, time, "test")


def look(*images: Image | None, removals: int = 0, epoch: str = "e", held: bool = False) -> Look:
    return Look(epoch, removals, [held] * len(images), list(images))


async def read(*looks: Look) -> list[Image | None]:
    routes: Any = Looks(*looks)
    reads = [Read(0, b"%d" % number) for number in range(len(looks[0].images))]
    found = await Transactions(Layout(1), lambda _: None, routes).read(reads)
    assert len(routes.left) == 1, "it looked less often than it must"
    return found


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (look(image(1), image(1)), look(image(1), image(2))),
        (look(image(1), image(1)), look(image(1), None, removals=1)),
        (look(image(1), None), look(image(1), image(2))),
        # It came and went in between.
        (look(image(1), None), look(image(1), None, removals=1)),
        (look(image(1), None), look(image(1), None, epoch="f")),
        (look(image(1), image(1), held=True), look(image(1), image(1))),
        (look(image(1), image(1)), look(image(1), image(1), held=True)),
    ],
)
async def test_what_changed_between_two_looks_is_looked_at_again(first: Look, second: Look) -> None:
    settled = look(image(3), image(3))
    assert await read(first, second, settled, settled) == settled.images


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (look(image(1), image(2)), look(image(1), image(2))),
        # An item that is there is told by its version, whatever else was removed.
        (look(image(1), image(2)), look(image(1), image(2), removals=5, epoch="f")),
        (look(image(1), None), look(image(1), None)),
    ],
)
async def test_two_looks_that_agree_are_enough(first: Look, second: Look) -> None:
    found = await read(first, second)
    assert found is second.images or found == second.images


async def test_who_finds_no_moment_without_changes_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshots, "_HELD_S", 0.05)
    busy: Any = Looks(look(None))
    number = 0

    async def reach(_number: int, _act: Any) -> Look:
        nonlocal number
        number += 1
        return look(image(number))

    busy.reach = reach
    with pytest.raises(TransactionCanceled, match="TransactionConflict"):
        await Transactions(Layout(1), lambda _: None, busy).read([Read(0, b"0")])


def test_regions_of_versions_are_compared() -> None:
    one = _Seen([False], [Image(b"{}", 0, 1, "eu")], [("e", 0)])
    other = _Seen([False], [Image(b"{}", 0, 1, "us")], [("e", 0)])
    assert one.agrees(one)
    assert not one.agrees(other)


async def test_an_item_that_comes_and_goes_between_looks_is_seen_by_its_shard(
    nodes: Nodes,
) -> None:
    key = key_on(1, SHARDS)
    there = RoutedShard(1, nodes.nodes["c"].routes)
    row = put(key, 0).row_key
    before = await there.look([row])
    await there.write(put(key, 1), CONTEXT)
    await nodes.nodes["b"].held[1].write(DeleteWrite(key), CONTEXT)
    after = await there.look([row])
    assert before.images == after.images == [None]
    assert (before.epoch, before.removals) != (after.epoch, after.removals)
