"""A view's rows are exact whatever fails: the node, the answer, the worker."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from streamtable.consumers.views.feed import Feed, Fenced, Rejected, ViewGone, place_of
from streamtable.consumers.views.mapping import mapper_of
from streamtable.consumers.views.operations import put_row
from streamtable.consumers.views.sink import SourceReplaced, ViewSink, ViewStopped
from streamtable.consumers.views.specs import ViewSpec
from streamtable.core.keys import KeyAttribute, KeySchema
from streamtable.core.values import Item
from streamtable.streams.records import LogRecord
from streamtable.triggers.measures import Count, Max, Sum
from tests.consumers.views.nodes import FakeNode, FakeView, Refusal, record, row
from tests.support.waiting import until

SOURCES = {"orders": "id of orders"}
VIEW = ViewSpec(
    "shop",
    "by_status",
    "view",
    ("orders",),
    KeySchema((KeyAttribute("status", "S"),), (KeyAttribute("id", "S"),)),
    rows=lambda item: [item],
)
MEASURES = {"orders": Count(), "revenue": Sum("total"), "most": Max("total")}
AGGREGATE = ViewSpec(
    "shop",
    "revenue",
    "aggregate",
    ("orders",),
    KeySchema((KeyAttribute("status", "S"),)),
    rows=lambda item: [item],
    measures=MEASURES,
)


def made(spec: ViewSpec) -> FakeView:
    return FakeView(spec.keys, spec.measures)


async def opened(spec: ViewSpec, node: FakeNode, *shards: int, **options: Any) -> ViewSink:
    node.views.setdefault("v", made(spec))
    sink = ViewSink(mapper_of(spec), Feed(node, "v", node.shards), SOURCES, **options)
    await sink.assigned(frozenset(shards or {0}))
    return sink


class Done:
    """Counts what is done."""

    def __init__(self) -> None:
        self.offsets: list[int] = []

    def of(self, taken: LogRecord) -> Callable[[], None]:
        return lambda: self.offsets.append(taken.offset)


async def test_a_record_is_done_when_its_rows_are_there():
    node, done = FakeNode(), Done()
    sink = await opened(VIEW, node)
    taken = record(5, (None, row(id="1", status="new")), (None, row(id="2", status="paid")))
    await sink.take(taken, done.of(taken))
    assert done.offsets == []
    await sink.stop()
    assert done.offsets == [5]
    assert len(node.views["v"].rows) == 2


async def test_a_record_without_rows_is_done_at_once():
    node, done = FakeNode(), Done()
    sink = await opened(VIEW, node)
    taken = record(5, (None, row(id="1", status="new")), table="other")
    await sink.take(taken, done.of(taken))
    assert done.offsets == [5]
    assert node.ingests == 0


async def test_what_comes_again_counts_once():
    node = FakeNode()
    first = await opened(AGGREGATE, node)
    taken = record(5, (None, row(id="1", status="new", total=3)))
    await first.take(taken, lambda: None)
    await first.stop()
    done = Done()
    second = await opened(AGGREGATE, node)
    await second.take(taken, done.of(taken))
    assert done.offsets == [5]
    after = record(6, (row(id="1", status="new", total=3), None))
    await second.take(after, done.of(after))
    await second.stop()
    assert node.views["v"].items() == []


async def test_what_adds_up_to_nothing_is_known_to_be_done_when_a_part_of_it_comes_again():
    node = FakeNode(shards=1)
    first = await opened(AGGREGATE, node)
    put = record(5, (None, row(id="1", status="new", total=3)))
    removed = record(6, (row(id="1", status="new", total=3), None))
    for each in (put, removed):
        await first.take(each, lambda: None)
    await first.stop()
    # The group has said that the first one is done, and lost its worker before the second.
    second = await opened(AGGREGATE, node)
    done = Done()
    await second.take(removed, done.of(removed))
    assert done.offsets == [6]
    await second.stop()
    assert node.views["v"].items() == []


async def test_a_full_feed_waits_and_a_node_that_is_away_is_waited_for():
    node, done = FakeNode(), Done()
    sink = await opened(VIEW, node)
    node.away = True
    taking = asyncio.ensure_future(fill(sink, done))
    await until(lambda: sink._feed.pending > 40_000, "the feed to be full")
    assert not taking.done()
    assert done.offsets == []
    node.away = False
    await taking
    await sink.stop()
    assert done.offsets == sorted(done.offsets)
    assert len(done.offsets) == 60


async def fill(sink: ViewSink, done: Done) -> None:
    for offset in range(60):
        changes = [(None, row(id=f"{offset}-{n}", status=f"s{n % 9}")) for n in range(1000)]
        taken = record(offset, *changes)
        await sink.take(taken, done.of(taken))


async def test_a_change_that_fails_stops_the_view_and_those_before_it_are_there():
    def rows(item: Item) -> list[Item]:
        return [{"status": item["status"], "id": item["id"]}]

    spec = ViewSpec("shop", "v", "view", ("orders",), VIEW.keys, rows=rows)
    node, done = FakeNode(), Done()
    sink = await opened(spec, node)
    good = record(1, (None, row(id="1", status="a")))
    await sink.take(good, done.of(good))
    with pytest.raises(ViewStopped, match=r"INSERT in orders, id='2', shard 0, offset 2, index 0"):
        await sink.take(record(2, (None, row(id="2"))), lambda: pytest.fail("done"))
    await sink.stop()
    assert done.offsets == [1]
    assert len(node.views["v"].rows) == 1


async def test_a_rejected_change_is_durable_before_its_record_is_done():
    def rows(item: Item) -> list[Item]:
        raise ValueError("no")

    rejected = []

    async def reject(taken: LogRecord, index: int, _failure: Exception) -> None:
        rejected.append((taken.offset, index))

    spec = ViewSpec("shop", "v", "view", ("orders",), VIEW.keys, rows=rows, on_error="deadletter")
    sink = await opened(spec, FakeNode(), reject=reject)
    taken = record(3, (None, row(id="1", status="a")))
    await sink.take(taken, lambda: rejected.append((-1, -1)))
    assert rejected == [(3, 0), (-1, -1)]


async def test_a_source_that_was_made_again_is_noticed():
    sink = await opened(VIEW, FakeNode())
    sink._sources["orders"] = "another id"
    with pytest.raises(SourceReplaced, match="orders was deleted and made again"):
        await sink.take(record(1, (None, row(id="1", status="a"))), lambda: None)


async def test_a_row_that_the_node_refuses_is_found_among_many():
    node, done = FakeNode(shards=1), Done()
    sink = await opened(VIEW, node)
    node.refuse = lambda operation: operation.get("put", {}).get("id") == {"S": "7-3"}
    taken = [
        record(n, *((None, row(id=f"{n}-{i}", status="s")) for i in range(5))) for n in range(20)
    ]
    for each in taken:
        await sink.take(each, done.of(each))
    await until(sink._feed.failed.done, "the feed to fail")
    with pytest.raises(Rejected, match="offset 7: the node refuses"):
        sink._feed.check()
    assert done.offsets == list(range(7))
    assert len(node.views["v"].rows) == 38


async def test_a_view_that_is_gone_is_told_apart():
    node = FakeNode()
    sink = await opened(VIEW, node)
    del node.views["v"]
    await sink.take(record(1, (None, row(id="1", status="a"))), lambda: None)
    await until(sink._feed.failed.done, "the feed to fail")
    with pytest.raises(ViewGone):
        await sink.take(record(2, (None, row(id="1", status="a"))), lambda: None)


async def test_other_refusals_of_tokens_are_raised():
    node = FakeNode()
    node.views["v"] = made(VIEW)

    async def get(_path: str, _query: Any = None) -> dict[str, Any]:
        raise Refusal("ValidationException")

    node.get = get  # type: ignore[assignment, method-assign]
    with pytest.raises(Refusal):
        await Feed(node, "v", 4).open(0)


async def test_a_large_change_is_split_and_each_part_counts_once():
    node = FakeNode(shards=2, chance=random.Random(3))
    node.views["v"] = made(VIEW)
    operations = []
    for n in range(9000):
        item = row(status=f"s{n}", id="1")
        hash_, key = VIEW.keys.locate(b"", item)
        operations.append(put_row(hash_, key, item))
    feed = Feed(node, "v", 2)
    await feed.open(0)
    feed.push(0, [(place_of(1, 0), operations)], lambda: None)
    await feed.drained()
    await feed.stop()
    assert len(node.views["v"].rows) == 9000


async def test_a_fence_makes_a_rival_fail_and_keeps_the_place():
    node = FakeNode(shards=1)
    node.views["v"] = made(VIEW)
    item = row(status="s", id="1")
    operation = put_row(*VIEW.keys.locate(b"", item), item)
    rival = Feed(node, "v", 1, exclusive=True)
    await rival.open(0)
    rival.push(0, [(place_of(1, 0), [operation])], lambda: None)
    await rival.drained()
    feed = Feed(node, "v", 1, exclusive=True)
    await feed.open(0)
    assert await feed.fence(0, 0) == place_of(1, 0)
    rival.push(0, [(place_of(2, 0), [operation])], lambda: None)
    with pytest.raises(Fenced):
        await rival.drained()
    feed.push(0, [(place_of(2, 0), [operation])], lambda: None)
    await feed.drained()


@pytest.mark.parametrize("spec", [VIEW, AGGREGATE], ids=["view", "aggregate"])
@pytest.mark.parametrize("seed", range(4))
async def test_rows_are_exact_over_crashes_and_rivals(spec, seed):
    """Workers die at any time, old ones go on for a while; the rows are what the items give."""
    chance = random.Random(seed)
    node = FakeNode(shards=3, chance=chance)
    items: list[dict[str, Item]] = [{}, {}]
    log: list[list[LogRecord]] = [[], []]
    position = [0, 0]  # what is acknowledged, at most what is done
    sinks: list[ViewSink] = []
    for _ in range(12):
        for shard in (0, 1):
            for _ in range(chance.randrange(12)):
                changes = []
                for _ in range(chance.randint(1, 3)):
                    name = f"{shard}-{chance.randrange(6)}"
                    old = items[shard].pop(name, None)
                    new = None
                    if old is None or chance.random() < 0.7:
                        status, total = chance.choice("abc"), chance.randrange(5)
                        items[shard][name] = new = row(id=name, status=status, total=total)
                    changes.append((old, new))
                log[shard].append(record(len(log[shard]), *changes, shard=shard))
        sink = await opened(spec, node, 0, 1)
        sinks.append(sink)
        for shard in (0, 1):
            done: set[int] = set()
            for taken in log[shard][position[shard] :]:
                await sink.take(taken, lambda offset=taken.offset, done=done: done.add(offset))  # type: ignore[misc]
                if chance.random() < 0.2:
                    await asyncio.sleep(0)
            if chance.random() < 0.5:
                await sink._feed.drained()
            while position[shard] in done and chance.random() < 0.9:
                position[shard] += 1
        if chance.random() < 0.5:
            await sinks.pop(0).stop()  # this one or an old one ends; the others go on sending
    node.chance = None
    last = await opened(spec, node, 0, 1)
    for shard in (0, 1):
        for taken in log[shard][position[shard] :]:
            await last.take(taken, lambda: None)
    for sink in (*sinks, last):
        await sink._feed.drained()
        await sink.stop()
    computed = made(spec)
    mapper = mapper_of(spec)
    recomputed = FakeNode(shards=3)
    recomputed.views["v"] = computed
    feed = Feed(recomputed, "v", 3)
    await feed.open(0)
    steps = [
        (place_of(0, n), mapper.plan("orders", None, item).operations)
        for n, item in enumerate([*items[0].values(), *items[1].values()])
    ]
    feed.push(0, steps, lambda: None)
    await feed.drained()
    await feed.stop()
    assert node.views["v"].items() == computed.items()


async def test_a_feed_closes_while_a_batch_is_under_way():
    node = FakeNode(shards=1)
    sink = await opened(VIEW, node)
    answered = asyncio.Event()
    post = node.post

    async def slow(path: str, body: Any) -> dict[str, Any]:
        await answered.wait()
        return await post(path, body)

    node.post = slow  # type: ignore[method-assign]
    await sink.take(record(1, (None, row(id="1", status="a"))), lambda: None)
    await asyncio.sleep(0)
    closing = asyncio.create_task(sink.revoked(frozenset({0})))
    await asyncio.sleep(0)
    answered.set()
    await closing
    assert len(node.views["v"].rows) == 1
