import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamtable.core.errors import (
    ConditionalCheckFailed,
    InternalServerError,
    ResourceNotFound,
    ServiceUnavailable,
    ValidationError,
)
from streamtable.core.images import Image
from streamtable.core.operations.put import plan_put
from streamtable.core.tables import Table
from streamtable.streams import routes
from streamtable.streams.peers.client import PeerLost
from streamtable.streams.routes import RoutedShard
from tests.streams.nodes import Nodes, key_on, put
from tests.streams.shards import CONTEXT, TABLE, until

NOT_ASKED = PeerLost("nobody there", asked=False)
ASKED = PeerLost("gone", asked=True)


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    """Three nodes; shard 0 is a's, shard 1 is b's, and c has none."""
    made = Nodes(tmp_path, 2, "a", "b", "c")
    await made.nodes["a"].take(0)
    await made.nodes["b"].take(1)
    yield made
    await made.stop()


def shard(nodes: Nodes, address: str, number: int) -> RoutedShard:
    return RoutedShard(number, nodes.nodes[address].routes)


def value(image: Image | None) -> int | None:
    return None if image is None else int(image.item["n"]["N"])


async def test_a_node_s_own_shard_is_asked_directly(nodes: Nodes) -> None:
    key = key_on(0, 2)
    await shard(nodes, "a", 0).write(put(key, 1), CONTEXT)
    assert value(await shard(nodes, "a", 0).read(put(key, 0).row_key, consistent=True)) == 1
    assert nodes.asked == []


async def test_each_node_answers_for_each_shard(nodes: Nodes) -> None:
    for number in range(2):
        first, second = put(key_on(number, 2), 1), put(key_on(number, 2, 1), 2)
        for address in nodes.nodes:
            there = shard(nodes, address, number)
            outcome = await there.write(first, CONTEXT)
            assert value(outcome.new) == 1
            # The second node's changes nothing, and says so.
            assert (outcome.new is outcome.old) == (address != "a")
            await there.write_many([first, second], CONTEXT)
            found = await there.read_many([first.row_key, second.row_key], consistent=True)
            assert [value(image) for image in found] == [1, 2]
            look = await there.look([first.row_key, b"\x01nothing"])
            assert [value(image) for image in look.images] == [1, None]
            assert look.locked == [False, False]


async def test_errors_are_those_of_the_owner(nodes: Nodes) -> None:
    there = shard(nodes, "c", 1)
    with pytest.raises(ConditionalCheckFailed):
        await there.write(put(key_on(1, 2), 2, expect=1), CONTEXT)
    other = Table(TABLE.document.model_copy(update={"name": "another"}))
    body = {"TableName": "another", "Item": {"id": {"S": key_on(1, 2)}}}
    with pytest.raises(ResourceNotFound):
        await there.write(plan_put(body, lambda _: other), CONTEXT)


async def test_a_shard_that_moves_is_asked_where_it_is_then(nodes: Nodes) -> None:
    write = put(key_on(1, 2), 1)
    old = nodes.nodes["b"].held[1].owner
    old.step_down()
    waiting = asyncio.create_task(shard(nodes, "c", 1).write(write, CONTEXT))
    reading = asyncio.create_task(shard(nodes, "b", 1).read(write.row_key, consistent=False))
    await until(lambda: ("b", "write") in nodes.asked)
    assert not waiting.done()
    await nodes.nodes["a"].take(1)
    assert value((await waiting).new) == 1
    await reading
    assert ("a", "write") in nodes.asked


async def test_a_write_that_was_not_asked_is_tried_again(nodes: Nodes) -> None:
    nodes.lost["b"] = [NOT_ASKED, NOT_ASKED]
    outcome = await shard(nodes, "c", 1).write(put(key_on(1, 2), 1), CONTEXT)
    assert value(outcome.new) == 1
    assert nodes.asked == [("b", "write")] * 3


async def test_a_write_that_was_asked_is_never_tried_again(nodes: Nodes) -> None:
    nodes.lost["b"] = [ASKED]
    with pytest.raises(InternalServerError, match="not known"):
        await shard(nodes, "c", 1).write(put(key_on(1, 2), 1), CONTEXT)
    assert nodes.asked == [("b", "write")]


async def test_a_read_is_tried_again_whatever_happened(nodes: Nodes) -> None:
    write = put(key_on(1, 2), 1)
    await shard(nodes, "b", 1).write(write, CONTEXT)
    nodes.lost["b"] = [ASKED, NOT_ASKED]
    assert value(await shard(nodes, "c", 1).read(write.row_key, consistent=True)) == 1
    assert await nodes.nodes["c"].routes.ask(1, "end", None) == 1


async def test_nobody_waits_for_ever(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "WAIT_S", 0.2)
    nodes.owners = {}
    nodes.tell()
    for act in (
        shard(nodes, "c", 1).write(put(key_on(1, 2), 1), CONTEXT),
        shard(nodes, "c", 1).read(b"\x01", consistent=False),
    ):
        with pytest.raises(ServiceUnavailable, match="Shard 1 is not served right now"):
            await act


async def rows(there: RoutedShard, limit: int | None = None, *, reverse: bool = False) -> list[int]:
    found: list[int] = []
    chunks = there.chunks(b"\x01", b"\x02", reverse=reverse, consistent=True, limit=limit)
    async for chunk in chunks:
        found += [int(image.item["n"]["N"]) for _, image in chunk.rows]
    return found


@pytest.mark.parametrize("page_bytes", [1, 40, 1_000_000])
async def test_ranges_come_in_pages(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, page_bytes: int
) -> None:
    monkeypatch.setattr("streamtable.streams.peers.calls._CHUNK_BYTES", page_bytes)
    for number in range(12):
        await shard(nodes, "b", 1).write(put(key_on(1, 2, number), number), CONTEXT)
    for reverse in (False, True):
        expected = await rows(shard(nodes, "b", 1), reverse=reverse)
        assert sorted(expected) == list(range(12))
        assert await rows(shard(nodes, "c", 1), reverse=reverse) == expected
        limited = await rows(shard(nodes, "c", 1), limit=5, reverse=reverse)
        assert limited[:5] == expected[:5]


async def test_a_range_goes_on_where_the_shard_has_moved_to(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamtable.streams.peers.calls._CHUNK_BYTES", 1)
    for number in range(6):
        await shard(nodes, "b", 1).write(put(key_on(1, 2, number), number), CONTEXT)
    expected = await rows(shard(nodes, "b", 1))
    found: list[int] = []
    async for chunk in shard(nodes, "c", 1).chunks(b"\x01", b"\x02", consistent=True):
        found += [int(image.item["n"]["N"]) for _, image in chunk.rows]
        # The last one is the node's own: there the rest comes at once.
        await nodes.nodes["abc"[len(found) % 3]].take(1)
    assert found == expected


async def test_the_table_of_a_write_that_was_made_anew_is_refused(nodes: Nodes) -> None:
    write = put(key_on(1, 2), 1)
    other = "00000000-0000-0000-0000-000000000008"
    write.table = Table(TABLE.document.model_copy(update={"id": other}))
    with pytest.raises(ValidationError, match="was made anew"):
        await shard(nodes, "c", 1).write(write, CONTEXT)
