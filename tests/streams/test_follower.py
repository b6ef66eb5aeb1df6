"""A follower gets every commit that counts, in order, at least once; on both kinds of broker."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.errors import GroupCoordinatorNotAvailableError

from streamtable.core.formats import NewerFormat
from streamtable.core.layouts import LayoutDocument, Split
from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.follower import Follower, LostRecords, Sequential, Source
from streamtable.streams.formats import CHANGELOG
from streamtable.streams.group import SESSION_S
from streamtable.streams.log import LogUnavailable
from streamtable.streams.records import LogRecord
from tests.support.changelog import Changelog, change
from tests.support.ports import free_port
from tests.support.waiting import until

GROUP = "test.trigger.shop.welcome"


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[list[Broker]]:
    # One that it keeps, as it is started again.
    broker = Broker(BrokerSettings(data=tmp_path / "broker", port=free_port()))
    await broker.start()
    holder = [broker]
    yield holder
    await holder[0].stop()


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)])
async def log(request: pytest.FixtureRequest, embedded: list[Broker]) -> AsyncIterator[Changelog]:
    # An async fixture can't be asked for here, so the embedded broker runs in either case.
    address = embedded[0].address
    if request.param == "apache":
        address = request.getfixturevalue("apache").address
    async with Changelog(address) as made:
        yield made


class Delivered:
    """Takes what a follower delivers; `poison` is the id of a change that it fails on."""

    def __init__(self, poison: str = "") -> None:
        self.records: list[LogRecord] = []
        self.poison = poison
        self._grown = asyncio.Condition()

    @property
    def ids(self) -> list[str]:
        return [found.keys["id"]["S"] for record in self.records for found in record.changes()]

    async def take(self, record: LogRecord) -> None:
        if any(found.keys["id"]["S"] == self.poison for found in record.changes()):
            raise ValueError(self.poison)
        async with self._grown:
            self.records.append(record)
            self._grown.notify_all()

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(60), self._grown:
            await self._grown.wait_for(lambda: len(self.records) >= count)


def follower(
    log: Changelog, delivered: Delivered, layout: LayoutDocument | None = None, **options: Any
) -> Follower:
    return Follower(
        Source(log.address, log.topic, log, layout),
        GROUP,
        wants=lambda tables: "users" in tables,
        sink=Sequential(delivered.take),
        **options,
    )


@asynccontextmanager
async def following(
    log: Changelog, delivered: Delivered, **options: Any
) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(follower(log, delivered, **options).run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_delivers_each_shard_in_order_and_nothing_else(log: Changelog) -> None:
    for shard in (0, 1):
        await log.barrier("e1", shard)
    for number in range(40):
        await log.commit("e1", change(f"u{number}"), shard=number % 2)
        await log.commit("e1", change(f"o{number}", table="orders"), shard=number % 2)
    delivered = Delivered()
    async with following(log, delivered):
        await delivered.wait(40)
    for shard in (0, 1):
        found = [record.offset for record in delivered.records if record.shard == shard]
        assert found == sorted(set(found))
    assert sorted(delivered.ids) == sorted(f"u{number}" for number in range(40))


async def test_who_goes_amid_a_rebalance_is_not_waited_for(log: Changelog) -> None:
    """Others have its shards long before its session is over."""
    for shard in (0, 1):
        await log.barrier("e1", shard)
        await log.commit("e1", change(f"u{shard}"), shard=shard)
    stays = follower(log, Delivered())
    staying = asyncio.create_task(stays.run())
    await until(lambda: len(stays.positions) == 2, "both shards")
    async with following(log, Delivered()):
        await until(lambda: len(stays.positions) < 2, "a rebalance")
    await until(lambda: len(stays.positions) == 2, "both shards again", SESSION_S - 2)
    staying.cancel()
    with suppress(asyncio.CancelledError):
        await staying


async def coordinator_answers(log: Changelog) -> bool:
    """Whether the brokers know who keeps the group's offsets: the first time they don't."""
    try:
        await log.committed(GROUP)
    except GroupCoordinatorNotAvailableError:
        return False
    except KeyError:
        pass  # it has nothing of the group
    return True


async def split_log(log: Changelog) -> LayoutDocument:
    """Fill the log of a shard that was split in two, the second one's with the newest changes."""
    await until(lambda: coordinator_answers(log), "the group's coordinator")
    await log.barrier("e1")
    for number in range(20):
        end = await log.commit("e1", change(f"old{number}"))
    await log.barrier("e2", 1)
    for number in range(20):
        await log.commit("e2", change(f"new{number}"), shard=1)
        await log.commit("e1", change(f"own{number}"))
    split = Split(before=1, after=2, ends=(end,), index_ends=(0,), at=1.0)
    return LayoutDocument(count=2, splits=(split,))


async def test_a_shard_that_was_split_off_comes_after_its_parents_part(log: Changelog) -> None:
    layout = await split_log(log)
    delivered = Delivered()
    asked: list[tuple[int, int]] = []

    async def is_settled(parent: int, end: int) -> bool:
        assert not any(each.startswith("new") for each in delivered.ids)
        asked.append((parent, end))
        return len(asked) > 1

    async with following(log, delivered, layout=layout, is_settled=is_settled):
        await delivered.wait(60)
    assert asked == [(0, layout.splits[0].ends[0])] * 2
    found = [each.rstrip("0123456789") for each in delivered.ids]
    assert found.index("new") > max(at for at, each in enumerate(found) if each == "old")
    # What has begun goes on at once: nobody is asked again.
    await log.commit("e2", change("last"), shard=1)
    async with following(log, delivered, layout=layout, is_settled=is_settled):
        await delivered.wait(61)
    assert len(asked) == 2


async def test_a_shard_that_is_not_known_of_is_left_alone(log: Changelog) -> None:
    await split_log(log)
    delivered = Delivered()
    async with following(log, delivered, layout=LayoutDocument(count=1)):
        await delivered.wait(40)
    assert not any(each.startswith("new") for each in delivered.ids)
    assert await log.committed(GROUP, 1) == -1


async def test_a_member_that_could_not_learn_of_its_topic_asks_again(
    log: Changelog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.barrier("e1")
    await log.commit("e1", change("a"))
    update = AIOKafkaClient._metadata_update
    failed: set[Any] = set()

    async def fail_once(client: Any, cluster: Any, topics: Any) -> bool:
        """What a client meets that was told of its topic while the broker was away."""
        if log.topic in (topics or ()) and client not in failed:
            failed.add(client)
            cluster.failed_update(None)
            return False
        return bool(await update(client, cluster, topics))

    monkeypatch.setattr(AIOKafkaClient, "_metadata_update", fail_once)
    delivered = Delivered()
    async with following(log, delivered):
        await delivered.wait(1)
    assert failed


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_fetching_that_has_ended_ends_it(
    log: Changelog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without that it would wait for records that nobody fetches."""

    async def fail(*_: Any) -> bool:
        raise ZeroDivisionError

    await log.barrier("e1")
    monkeypatch.setattr(Fetcher, "_proc_fetch_request", fail)
    with pytest.raises(LogUnavailable, match="retrieval"):
        async with asyncio.timeout(60):
            await follower(log, Delivered()).run()


async def test_void_commits_are_not_delivered(log: Changelog) -> None:
    await log.barrier("e1")
    await log.commit("e1", change("a"))
    await log.barrier("e2")
    await log.commit("e1", change("void"))
    await log.commit("e2", change("b"))
    delivered = Delivered()
    async with following(log, delivered):
        await delivered.wait(2)
    assert delivered.ids == ["a", "b"]
    assert log.asked == []  # the log was read from its start


async def test_goes_on_where_it_stopped_with_the_epoch_in_force_there(log: Changelog) -> None:
    await log.barrier("e1")
    await log.commit("e1", change("a"))
    async with following(log, first := Delivered()):
        await first.wait(1)
    await log.commit("e0", change("void"))
    await log.commit("e1", change("b"))
    async with following(log, second := Delivered()):
        await second.wait(1)
    assert second.ids == ["b"]
    assert log.asked == [(0, 2)]


async def test_stopping_commits_what_was_taken(log: Changelog) -> None:
    await log.barrier("e1")
    await log.commit("e1", change("a"))
    async with following(log, delivered := Delivered()):
        await delivered.wait(1)
    assert await log.committed(GROUP) == 2


async def test_a_position_is_committed_soon_without_being_stopped(log: Changelog) -> None:
    await log.barrier("e1")
    await log.commit("e1", change("a"))
    async with following(log, delivered := Delivered()):
        await delivered.wait(1)
        async with asyncio.timeout(60):
            while await log.committed(GROUP) < 2:  # noqa: ASYNC110 - brokers don't tell
                await asyncio.sleep(0.02)


async def test_what_can_not_be_taken_stops_it_and_comes_again(log: Changelog) -> None:
    await log.barrier("e1")
    for name in ("a", "poison", "b"):
        await log.commit("e1", change(name))
    with pytest.raises(ValueError, match="poison"):
        await follower(log, failing := Delivered("poison")).run()
    assert failing.ids == ["a"]
    assert await log.committed(GROUP) == 2
    async with following(log, healed := Delivered()):
        await healed.wait(2)
    assert healed.ids == ["poison", "b"]


async def test_a_shard_that_fails_stops_the_others_of_the_group(log: Changelog) -> None:
    for shard in (0, 1):
        await log.barrier("e1", shard)
    await log.commit("e1", change("poison"), shard=0)
    with pytest.raises(ValueError, match="poison"):
        await follower(log, Delivered("poison")).run()
    await log.commit("e1", change("b"), shard=1)
    async with following(log, healed := Delivered()):
        await healed.wait(2)
    assert sorted(healed.ids) == ["b", "poison"]


async def test_cancelling_waits_for_the_record_in_hand_and_commits_it(log: Changelog) -> None:
    await log.barrier("e1")
    await log.commit("e1", change("slow"))
    begun, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(_record: LogRecord) -> None:
        begun.set()
        await go_on.wait()
        done.set()

    source = Source(log.address, log.topic, log)
    task = asyncio.create_task(
        Follower(source, GROUP, wants=lambda _: True, sink=Sequential(slow)).run()
    )
    async with asyncio.timeout(60):
        await begun.wait()
        task.cancel()
        asyncio.get_running_loop().call_soon(go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await task
    assert done.is_set()
    assert await log.committed(GROUP) == 2


async def test_a_failure_while_it_is_being_cancelled_is_told(log: Changelog) -> None:
    await log.barrier("e1")
    await log.commit("e1", change("slow"))
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_record: LogRecord) -> None:
        begun.set()
        await go_on.wait()
        raise ValueError("too late")

    source = Source(log.address, log.topic, log)
    task = asyncio.create_task(
        Follower(source, GROUP, wants=lambda _: True, sink=Sequential(slow)).run()
    )
    async with asyncio.timeout(60):
        await begun.wait()
        task.cancel()
        asyncio.get_running_loop().call_soon(go_on.set)
        with pytest.raises(ValueError, match="too late"):
            await task
    assert await log.committed(GROUP) == 1


async def test_lost_records_are_refused_and_named(log: Changelog) -> None:
    await log.barrier("e1")
    await log.commit("e1", change("a"))
    async with following(log, delivered := Delivered()):
        await delivered.wait(1)
    for name in ("lost", "lost too", "b"):
        await log.commit("e1", change(name))
    await log.trim(4)
    with pytest.raises(LostRecords, match=r"starts at offset 4, .* needs 2: 2 records are gone"):
        await follower(log, Delivered()).run()


async def test_it_stops_at_a_record_of_a_newer_format(log: Changelog) -> None:
    await log.barrier("e1")
    await log.commit("e1", change("a"))
    await log.newer("e1")
    await log.commit("e1", change("b"))
    delivered = Delivered()
    newer = f"offset 2 of shard 0 of the change log has format {CHANGELOG + 1}"
    with pytest.raises(NewerFormat, match=newer):
        await follower(log, delivered).run()
    assert delivered.ids == ["a"]
    assert await log.committed(GROUP) == 2


async def test_lost_records_are_left_out_where_told(log: Changelog) -> None:
    await log.barrier("e1")
    await log.commit("e1", change("a"))
    async with following(log, delivered := Delivered()):
        await delivered.wait(1)
    for name in ("lost", "b"):
        await log.commit("e1", change(name))
    await log.trim(3)
    async with following(log, skipping := Delivered(), skip_lost=True):
        await skipping.wait(1)
    assert skipping.ids == ["b"]


async def test_a_new_group_starts_where_the_log_starts(log: Changelog) -> None:
    await log.barrier("e1")
    await log.commit("e1", change("gone"))
    await log.commit("e0", change("void"))
    await log.commit("e1", change("a"))
    await log.trim(2)
    async with following(log, delivered := Delivered()):
        await delivered.wait(1)
    assert delivered.ids == ["a"]
    assert log.asked == [(0, 2)]


async def test_more_records_than_its_buffer_holds(log: Changelog) -> None:
    await log.barrier("e1")
    for number in range(400):
        await log.commit("e1", change(f"u{number}"), shard=0)
    async with following(log, delivered := Delivered()):
        await delivered.wait(400)
    assert delivered.ids == [f"u{number}" for number in range(400)]


class Late:
    """A sink that the test itself calls done for, record by record."""

    def __init__(self) -> None:
        self.done: dict[str, Callable[[], None]] = {}
        self.happened: list[tuple[str, frozenset[int]]] = []
        self.room = asyncio.Event()
        self.room.set()
        self.finish = asyncio.Event()
        self.finish.set()

    async def take(self, record: LogRecord, done: Callable[[], None]) -> None:
        (found,) = record.changes()
        self.done[found.keys["id"]["S"]] = done
        await self.room.wait()

    async def assigned(self, shards: frozenset[int]) -> None:
        self.happened.append(("assigned", shards))

    async def revoked(self, shards: frozenset[int]) -> None:
        await self.finish.wait()
        self.happened.append(("revoked", shards))

    async def stop(self) -> None:
        self.happened.append(("stop", frozenset()))


@asynccontextmanager
async def late(log: Changelog, sink: Late, **options: Any) -> AsyncIterator[Follower]:
    source = Source(log.address, log.topic, log)
    made = Follower(source, GROUP, wants=lambda tables: "users" in tables, sink=sink, **options)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_only_what_is_done_without_a_gap_is_committed(log: Changelog) -> None:
    await log.barrier("e1")
    for name in ("a", "b", "c"):
        await log.commit("e1", change(name))
    await log.commit("e1", change("o", table="orders"))
    async with late(log, sink := Late()) as made:
        await until(lambda: len(sink.done) == 3, "three records")
        sink.done["b"]()
        sink.done["c"]()
        assert made.positions[0] == 1
        sink.done["a"]()
        assert made.positions[0] == 5
        await log.commit("e1", change("d"))
        await log.commit("e1", change("e"))
        await until(lambda: len(sink.done) == 5, "five records")
        sink.done["e"]()
    assert await log.committed(GROUP) == 5
    async with late(log, again := Late()):
        await until(lambda: len(again.done) == 2, "what was not committed")
    assert list(again.done) == ["d", "e"]


async def test_a_shard_without_room_holds_up_no_other(log: Changelog) -> None:
    for shard in (0, 1):
        await log.barrier("e1", shard)

    class OneFull(Late):
        async def take(self, record: LogRecord, done: Callable[[], None]) -> None:
            self.room.clear() if record.shard == 0 else self.room.set()
            await super().take(record, done)
            if record.shard == 0:
                await asyncio.Event().wait()

    async with late(log, sink := OneFull()):
        await log.commit("e1", change("a"), shard=0)
        await log.commit("e1", change("b"), shard=0)
        for name in ("c", "d"):
            await log.commit("e1", change(name), shard=1)
        await until(lambda: {"a", "c", "d"} <= sink.done.keys(), "the other shard")
        assert "b" not in sink.done


async def test_a_new_group_begins_where_it_is_told_and_an_old_one_does_not(log: Changelog) -> None:
    for shard in (0, 1):
        await log.barrier("e1", shard)
    for name in ("a", "b"):
        await log.commit("e1", change(name))
    async with late(log, sink := Late(), start={0: 2, 1: 0}):
        await until(lambda: "b" in sink.done, "the record it begins with")
        sink.done["b"]()
    assert list(sink.done) == ["b"]
    await log.commit("e1", change("c"))
    async with late(log, later := Late(), start={0: 0, 1: 0}):
        await until(lambda: "c" in later.done, "the next record")
    assert list(later.done) == ["c"]


async def test_where_it_begins_is_committed_before_anything_is_done(log: Changelog) -> None:
    for shard in (0, 1):
        await log.barrier("e1", shard)
    async with late(log, sink := Late(), start={0: 1, 1: 1}) as made:
        await until(lambda: dict(made.positions) == {0: 1, 1: 1}, "both positions")
    assert [await log.committed(GROUP, shard) for shard in (0, 1)] == [1, 1]
    assert sink.happened == [("assigned", frozenset({0, 1})), ("stop", frozenset())]


async def test_a_start_that_the_log_has_lost_is_refused(log: Changelog) -> None:
    await log.barrier("e1")
    for name in ("a", "b"):
        await log.commit("e1", change(name))
    await log.trim(2)
    source = Source(log.address, log.topic, log)
    made = Follower(source, GROUP, wants=lambda _: True, sink=Late(), start={0: 1, 1: 0})
    with pytest.raises(LostRecords, match="needs 1: 1 records are gone"):
        await made.run()


async def test_another_member_begins_only_when_what_runs_here_has_ended(log: Changelog) -> None:
    for shard in (0, 1):
        await log.barrier("e1", shard)
        await log.commit("e1", change(f"a{shard}"), shard=shard)
    async with late(log, first := Late()):
        await until(lambda: len(first.done) == 2, "a record of each shard")
        first.finish.clear()
        async with late(log, second := Late()):
            await until(lambda: len(first.happened) == 1, "the first to be assigned")
            first.done["a0"]()
            first.done["a1"]()
            assert second.happened == []
            first.finish.set()
            await until(lambda: len(second.happened) == 1, "the second to be assigned")
            await until(lambda: len(first.happened) == 3, "the first to be assigned anew")
            assert first.happened[1] == ("revoked", frozenset({0, 1}))
            (_, theirs), (_, ours) = second.happened[-1], first.happened[-1]
            assert theirs | ours == {0, 1}
            assert not theirs & ours
            for shard in (0, 1):
                await log.commit("e1", change(f"b{shard}"), shard=shard)
            await until(
                lambda: {"b0", "b1"} <= first.done.keys() | second.done.keys(), "both records"
            )
            # What was done here was committed before the shard went.
            assert not {"a0", "a1"} & second.done.keys()


@pytest.mark.faults
# aiokafka drops the connections of a broker that went away, without closing them.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_goes_on_after_the_broker_was_restarted(
    embedded: list[Broker], tmp_path: Path
) -> None:
    async with Changelog(embedded[0].address) as log:
        await log.barrier("e1")
        await log.commit("e1", change("a"))
        delivered = Delivered()

        async def follow() -> None:
            while True:
                with suppress(LogUnavailable):
                    await follower(log, delivered).run()

        task = asyncio.create_task(follow())
        await delivered.wait(1)
        port = int(log.address.rpartition(":")[2])
        await embedded[0].stop()
        embedded[0] = Broker(BrokerSettings(data=tmp_path / "broker", port=port))
        await embedded[0].start()
        await log.commit("e1", change("b"))
        await delivered.wait(2)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert list(dict.fromkeys(delivered.ids)) == ["a", "b"]
    gc.collect()  # here, where what it warns of belongs
