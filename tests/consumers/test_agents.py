"""The agents of a node on the embedded broker."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.types import TP

from streamtable.consumers import agents
from streamtable.consumers.agents import Agents
from streamtable.consumers.checkpoints.objects import StorageUnavailable
from streamtable.consumers.holdings import Holdings, Tables
from streamtable.consumers.indexes.sender import IndexSender
from streamtable.consumers.tables.memory import StoreMemory
from streamtable.consumers.tables.share import Share
from streamtable.consumers.tables.store import ShardStore, UnreadableTables
from streamtable.core.layouts import LayoutDocument, Split
from streamtable.streams import gulps
from streamtable.streams.admin import open_admin
from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.broker.groups import Groups
from streamtable.streams.clock import HybridClock
from streamtable.streams.fetcher import LogFetcher
from streamtable.streams.group import Group
from streamtable.streams.held import HeldShards
from streamtable.streams.layout import Layout
from streamtable.streams.log import LogFenced, LogUnavailable
from streamtable.streams.owner import StateUnavailable
from streamtable.streams.placement import Placement
from streamtable.streams.shard import Shard
from streamtable.streams.shard_log import ShardLog, ShardLogs
from streamtable.streams.topics import Topics
from tests.streams.shards import CONTEXT, TABLE, PutWrite
from tests.support.waiting import until


class Node:
    """Some shards and the agents that follow them."""

    def __init__(self, placement: Placement | None = None, count: int = 2) -> None:
        self._placement = placement
        self._count = count
        self.stores: dict[int, ShardStore] = {}
        self.shards = HeldShards(Layout(count))
        self.failed: list[BaseException] = []
        self.address = ""
        self._parts = AsyncExitStack()

    async def start(self, path: Path) -> None:
        parts = self._parts
        broker = self.broker = Broker(BrokerSettings(data=path / "broker", port=0))
        await broker.start()
        parts.push_async_callback(broker.stop)
        self.address = broker.address
        topics = self.topics = Topics("test")
        await topics.create(broker.address, self._count)
        logs = ShardLogs(broker.address, topics, broker)
        await logs.start()
        parts.push_async_callback(logs.stop)
        clock = HybridClock(lambda: time.time_ns() // 1_000_000)

        def make(number: int, log: ShardLog, store: ShardStore) -> Shard:
            return Shard(
                number=number,
                log=log,
                state=store,
                clock=clock,
                region="test",
                node="node",
                exclusive=True,
                one_broker=True,
                fail=self.failed.append,
            )

        holdings = Holdings(
            address=broker.address,
            topics=topics,
            logs=logs,
            catalog=lambda: 0,
            held=self.shards,
            stores=self.stores,
            path=lambda number: path / str(number),
            memory=StoreMemory(1024 * 1024, 1024 * 1024),
            tables=Tables({TABLE.id: TABLE}.get, lambda: [TABLE]),
            restorer=None,
            make=make,
            opened=lambda _shard: None,
            closed=lambda _number: None,
            fail=self.failed.append,
        )
        sender = IndexSender(
            address=broker.address,
            topic=topics.indexes,
            layout=self.shards.layout,
            tables=lambda: [TABLE],
            find={TABLE.id: TABLE}.get,
            epoch_before=lambda number, offset: self.stores[number].epoch_before(offset),
        )
        parts.push_async_callback(sender.stop)
        self.agents = Agents(
            address=broker.address,
            topics=topics,
            node="node",
            holdings=holdings,
            sender=sender,
            fail=self.failed.append,
            placement=self._placement,
        )
        parts.push_async_callback(self.agents.stop)
        await self.agents.start()

    async def stop(self) -> None:
        await self._parts.aclose()

    async def write(self, number: int, key: str) -> int:
        outcome = await self.shards[number].write(PutWrite(key, 1), CONTEXT)
        return outcome.offset

    async def split(self, number: int) -> int:
        """Split a shard; return the offset of its split record when it is applied."""
        owner = self.shards[number].owner
        owner.hold()
        await owner.settled()
        offset = await owner.split("attempt", 0)
        await self.applied(number, offset)
        return offset

    async def committed(self, number: int) -> int:
        partition = TopicPartition("test.changelog", number)
        async with open_admin(self.address) as admin:
            found = await admin.list_consumer_group_offsets("test.tables", partitions=[partition])
        offset: int = found[partition].offset
        return offset

    async def applied(self, number: int, offset: int) -> None:
        await until(lambda: self.stores[number].applied >= offset, f"offset {offset} of {number}")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node()
    try:
        await made.start(tmp_path)
        yield made
    finally:
        await made.stop()
    assert not made.failed


async def test_a_shard_that_waits_for_its_term_holds_up_no_other(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = node.shards[0].owner
    recovered, follow = asyncio.Event(), owner.follow
    waiting = asyncio.Event()

    async def follow_when_recovered(found: Any) -> None:
        waiting.set()
        await recovered.wait()
        await follow(found)

    monkeypatch.setattr(owner, "follow", follow_when_recovered)
    held = await node.write(0, "a")
    await waiting.wait()
    for key in "bcd":
        await node.applied(1, await node.write(1, key))
    assert node.stores[0].applied < held
    recovered.set()
    await node.applied(0, held)


async def test_a_node_starts_though_another_has_just_taken_a_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = ShardLog.append
    fenced = [0, 1]

    async def append_late(log: ShardLog, *record: Any) -> int:
        if log._shard in fenced:
            fenced.remove(log._shard)
            raise LogFenced("another writer")
        return await append(log, *record)

    monkeypatch.setattr(ShardLog, "append", append_late)
    node = Node()
    try:
        await node.start(tmp_path)
        assert fenced == []
        for number in range(2):
            await node.applied(number, await node.write(number, "a"))
    finally:
        await node.stop()
    assert not node.failed


async def test_a_store_that_can_t_be_written_holds_up_no_other(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, apply = asyncio.Event(), node.stores[0].apply

    def refuse(found: Any, known: Any) -> Any:
        if not full.is_set():
            raise StateUnavailable("the disk is full")
        return apply(found, known)

    monkeypatch.setattr(node.stores[0], "apply", refuse)
    held = await node.write(0, "a")
    await node.applied(1, await node.write(1, "b"))
    assert node.stores[0].applied < held
    full.set()
    await node.applied(0, held)


async def test_a_start_waits_for_its_shards_however_long_that_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, open_shard = asyncio.Event(), Holdings.open
    assigning: list[asyncio.Task[None]] = []

    async def assign(group: Any) -> None:
        numbers = {TP("test.changelog", number) for number in range(2)}
        assigning.append(asyncio.create_task(group.on_partitions_assigned.send(numbers)))

    async def open_late(holdings: Holdings, number: int) -> None:
        await gate.wait()
        await open_shard(holdings, number)

    monkeypatch.setattr(agents, "_START_S", 0.1)
    monkeypatch.setattr(Group, "start", assign)
    monkeypatch.setattr(Group, "generation", 1)
    monkeypatch.setattr(Holdings, "open", open_late)
    node = Node()
    starting = asyncio.create_task(node.start(tmp_path))
    try:
        await until(lambda: assigning, "the group to give the shards")
        assert not (await asyncio.wait([starting], timeout=0.3))[0]
        gate.set()
        await starting
        assert node.shards[0].owner.serving
    finally:
        await node.stop()


async def test_a_group_that_gives_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def give_nothing(_group: Any) -> None:
        pass

    monkeypatch.setattr(agents, "_START_S", 0.1)
    monkeypatch.setattr(Group, "start", give_nothing)
    node = Node()
    try:
        with pytest.raises(LogUnavailable, match="gave this one no shards"):
            await node.start(tmp_path)
    finally:
        await node.stop()


async def test_the_group_s_offset_follows_what_is_applied(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gulps, "_MOST", 2)
    full, apply = asyncio.Event(), node.stores[0].apply

    def refuse(found: Any, known: Any) -> Any:
        if not full.is_set():
            raise StateUnavailable("the disk is full")
        return apply(found, known)

    monkeypatch.setattr(node.stores[0], "apply", refuse)
    # More than a gulp: what comes meanwhile stays in the log.
    held = [await node.write(0, key) for key in "abcdef"]
    other = await node.write(1, "g")

    async def other_is_committed() -> bool:
        return await node.committed(1) == other + 1

    async def all_is_committed() -> bool:
        return await node.committed(0) == held[-1] + 1

    await until(other_is_committed, "the offset of what is applied")
    assert await node.committed(0) <= held[0]
    full.set()
    await until(all_is_committed, "the offset of the rest")
    assert node.stores[0].applied == held[-1]


@pytest.mark.parametrize(("missed", "anew"), [(0, False), (1, True), (5, True)])
async def test_terms_begin_anew_when_the_group_has_gone_on_without_this_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missed: int, anew: bool
) -> None:
    node = Node(Placement("127.0.0.1:1"))
    try:
        await node.start(tmp_path)
        await node.write(0, "a")
        terms = {number: shard.owner.epoch for number, shard in node.shards.items()}
        generation = node.agents._app.generation + 1 + missed
        monkeypatch.setattr(Group, "generation", generation)
        assigned = [TP("test.changelog", number) for number in node.shards]
        await node.agents._on_assigned(None, assigned)

        def all_serve() -> bool:
            owners = [node.shards[number].owner for number in terms]
            return all(owner.serving for owner in owners)

        await until(all_serve, "the shards to be served")
        for number, epoch in terms.items():
            assert (node.shards[number].owner.epoch != epoch) == anew
        await node.applied(0, await node.write(0, "b"))
    finally:
        await node.stop()
    assert not node.failed


async def test_a_node_goes_on_while_the_storage_of_checkpoints_is_away(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, open_shard = asyncio.Event(), Holdings.open

    async def fail(holdings: Holdings, number: int) -> None:
        if not away.is_set():
            raise StorageUnavailable("the bucket does not answer")
        await open_shard(holdings, number)

    await node.agents._on_assigned(None, [TP("test.changelog", 1)])
    await until(lambda: 0 not in node.shards, "the shard to go")
    monkeypatch.setattr(Holdings, "open", fail)
    await node.agents._on_assigned(None, [TP("test.changelog", number) for number in range(2)])
    await until(lambda: 0 in node.agents.waiting, "the shard to wait")
    assert "the bucket does not answer" in node.agents.waiting[0]
    await node.applied(1, await node.write(1, "a"))
    assert not node.failed
    away.set()
    await until(lambda: 0 in node.shards and node.shards[0].owner.serving, "the shard to serve")


async def test_a_shard_waits_while_its_files_can_not_be_opened_on_a_full_disk(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = asyncio.Event()

    def open_store(*arguments: Any) -> ShardStore:
        if full.is_set():
            raise UnreadableTables("MANIFEST-000007: No space left on device")
        return ShardStore(*arguments)

    monkeypatch.setattr("streamtable.consumers.holdings.ShardStore", open_store)
    await node.agents._on_assigned(None, [TP("test.changelog", 1)])
    await until(lambda: 0 not in node.shards, "the shard to go")
    full.set()
    await node.agents._on_assigned(None, [TP("test.changelog", number) for number in range(2)])
    await until(lambda: 0 in node.agents.waiting, "the shard to wait")
    assert "the disk is full" in node.agents.waiting[0]
    await node.applied(1, await node.write(1, "a"))
    full.clear()
    await until(lambda: 0 in node.shards and node.shards[0].owner.serving, "the shard to serve")
    assert not node.failed


async def test_a_node_ends_whose_disk_is_full_where_others_may_serve_the_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise UnreadableTables("MANIFEST-000007: No space left on device")

    node = Node(Placement("127.0.0.1:1"))
    try:
        await node.start(tmp_path)
        await node.agents._on_assigned(None, [TP("test.changelog", 1)])
        await until(lambda: 0 not in node.shards, "the shard to go")
        monkeypatch.setattr("streamtable.consumers.holdings.ShardStore", fail)
        monkeypatch.setattr(Placement, "others", frozenset({"127.0.0.1:2"}))
        await node.agents._on_assigned(None, [TP("test.changelog", number) for number in range(2)])
        await until(lambda: node.failed, "the failure")
        assert "the disk is full" in str(node.failed[0])
    finally:
        await node.stop()


async def test_a_node_that_can_not_fetch_any_more_stops(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_found: Any) -> None:
        raise RuntimeError("no more records")

    monkeypatch.setattr(node.agents._intake, "receive", fail)
    await node.write(0, "a")
    await until(lambda: node.failed, "the failure")
    assert "no more records" in str(node.failed[0])
    node.failed.clear()


async def test_what_is_applied_after_the_group_was_left_is_not_told_to_it(node: Node) -> None:
    await node.write(0, "a")
    await node.agents.leave()
    left: Any = node.agents
    left._pass(TP("test.changelog", 0), 1000)
    async with asyncio.timeout(20):
        await left.stop()
    assert await node.committed(0) < 1000


async def test_shards_need_no_connections_of_their_own_and_few_are_taken_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "_TAKEN_AT_ONCE", 3)
    take_over, taking, most = Shard.take_over, 0, 0

    async def counted(shard: Shard) -> None:
        nonlocal taking, most
        taking += 1
        most = max(most, taking)
        await take_over(shard)
        taking -= 1

    monkeypatch.setattr(Shard, "take_over", counted)
    node = Node(count=24)
    try:
        await node.start(tmp_path)
        assert most == 3
        assert len(node.broker._connections) < 12
        await node.applied(23, await node.write(23, "a"))
    finally:
        await node.stop()
    assert not node.failed


async def test_a_node_stays_in_its_group_while_it_takes_its_first_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_over, heartbeat = Shard.take_over, Groups.heartbeat
    heard, beats = asyncio.Event(), 0

    async def take_over_late(shard: Shard) -> None:
        await heard.wait()
        await take_over(shard)

    def counted(*request: Any) -> Any:
        nonlocal beats
        beats += 1
        if beats == 2:
            heard.set()
        return heartbeat(*request)

    monkeypatch.setattr(Shard, "take_over", take_over_late)
    monkeypatch.setattr(Groups, "heartbeat", counted)
    # Among others it sends a heartbeat three times a second.
    node = Node(Placement("127.0.0.1:1"))
    try:
        async with asyncio.timeout(30):
            await node.start(tmp_path)
        assert all(node.shards[number].owner.serving for number in range(2))
    finally:
        await node.stop()
    assert not node.failed


async def test_a_shard_that_was_split_off_waits_for_its_rows_and_stops_no_node(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [str(number) for number in range(20)]
    for key in keys:
        await node.write(1, key)
    await node.topics.grow(node.address, 4)
    ends = (await node.split(0), await node.split(1))
    # The parent's rows are not what they were at the split, and its log has lost its beginning.
    bounds, lost = LogFetcher.bounds, [0, 1]

    async def cut_bounds(log: LogFetcher, shard: int) -> tuple[int, int]:
        first, end = await bounds(log, shard)
        return (1 if shard in lost and log._topic == "test.changelog" else first), end

    monkeypatch.setattr(LogFetcher, "bounds", cut_bounds)
    split = Split(before=2, after=4, ends=ends, index_ends=(0, 0), at=1.0)
    node.shards.layout.take(LayoutDocument(count=4, splits=(split,)))
    assigned = [TP("test.changelog", number) for number in node.shards.layout]
    await node.agents.grow()
    await node.agents._on_assigned(None, assigned)
    await until(lambda: node.agents.waiting.keys() == {2, 3}, "the new shards to wait")
    told = node.agents.waiting[3]
    assert "is not served: the rows of shard 3 are to be copied from shard 1" in told
    assert "Name a place that all nodes reach with --checkpoints" in told
    assert not node.failed
    assert node.shards.keys() == {0, 1}
    lost.clear()
    await until(lambda: not node.agents.waiting, "the new shards to be served")
    assert node.shards[3].owner.serving
    share = Share(3, 4)
    rows = node.stores[3].scan(TABLE.prefix, TABLE.end)
    own = {key for key in keys if share.has(PutWrite(key, 1).row_key)}
    assert {image.item["id"]["S"] for _, image in rows} == own
    assert own


async def test_a_node_that_is_no_part_of_its_group_any_more_stops(tmp_path: Path) -> None:
    """Nobody would tell it that its shards are another node's."""
    node = Node()
    await node.start(tmp_path)
    try:
        heard_at = node.shards[0].owner.heard_at
        await until(lambda: heard_at() > 0, "the group to be heard")
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ended.set_exception(KafkaError("it ended"))
        node.agents._app._coordinator._coordination_task.cancel()
        node.agents._app._coordinator._coordination_task = ended
        await until(lambda: node.failed, "the node to say so")
        assert "it ended" in str(node.failed[0])
    finally:
        await node.stop()
