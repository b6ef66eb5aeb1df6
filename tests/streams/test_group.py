"""A member of a consumer group: what it relies on of aiokafka's inside."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.conn import create_conn
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance, GroupCoordinator
from aiokafka.errors import KafkaError
from faust.types import TP

from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.group import READ_BYTES, Group
from streamtable.streams.intake import Intake
from streamtable.streams.producers import open_producer
from streamtable.streams.topics import Topics
from tests.support.waiting import until


async def test_a_connection_reads_on_while_an_answer_of_megabytes_arrives(tmp_path: Path):
    broker = Broker(BrokerSettings(data=tmp_path / "broker", port=0))
    await broker.start()
    host, port = broker.address.split(":")
    connection = await create_conn(host, int(port))
    assert connection._reader._limit == READ_BYTES
    connection.close()
    await broker.stop()


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[tuple[Group, list[frozenset[int]]]]:
    """A member of a group, and what it was assigned."""
    broker = Broker(BrokerSettings(data=tmp_path / "broker", port=0))
    await broker.start()
    topics = Topics("test")
    await topics.create(broker.address, 2)
    group = Group("test", broker.address, broker_heartbeat_interval=0.05)
    intake = Intake(group, [topics.changelog], lambda _found: None)
    given: list[frozenset[int]] = []

    async def assigned(_app: Any, partitions: Any, **_: Any) -> None:
        given.append(frozenset(one.partition for one in partitions))
        intake.begin(frozenset(partitions))

    async def revoked(_app: Any, _partitions: Any, **_: Any) -> None:
        intake.end()

    group.on_partitions_assigned.connect(assigned)  # type: ignore[arg-type]
    group.on_partitions_revoked.connect(revoked)  # type: ignore[arg-type]
    group.finalize()
    yield group, given
    await group.stop()
    await broker.stop()


async def test_a_member_that_is_refused_with_an_error_nobody_knows_joins_again(
    member: tuple[Group, list[frozenset[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    group, given = member
    join, refusals = CoordinatorGroupRebalance.perform_group_join, [1, 2]

    async def refuse(rebalance: CoordinatorGroupRebalance) -> Any:
        if refusals:
            refusals.pop()
            raise KafkaError("[Error -1] UnknownError")
        return await join(rebalance)

    monkeypatch.setattr(CoordinatorGroupRebalance, "perform_group_join", refuse)
    await group.start()
    await until(lambda: given, "the assignment")
    # A rebalance, during which nobody fetches, and the new coordinator is not ready yet.
    refusals.append(3)
    thread = group.consumer._thread  # type: ignore[attr-defined]
    thread.thread_loop.call_soon_threadsafe(group._coordinator.request_rejoin)
    await until(lambda: len(given) == 2, "the next assignment")
    assert given == [{0, 1}, {0, 1}]


async def test_a_member_whose_heartbeat_is_refused_joins_again(
    member: tuple[Group, list[frozenset[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    group, given = member
    heartbeat, refusals = GroupCoordinator._do_heartbeat, list[int]()

    async def refuse(coordinator: GroupCoordinator) -> Any:
        if refusals:
            refusals.pop()
            raise KafkaError("Unexpected exception in heartbeat task")
        return await heartbeat(coordinator)

    monkeypatch.setattr(GroupCoordinator, "_do_heartbeat", refuse)
    await group.start()
    await until(lambda: given, "the assignment")
    refusals.append(1)
    await until(lambda: len(given) == 2, "the next assignment")
    assert not group.crashed


async def test_a_commit_for_partitions_that_have_gone_ends_nothing(
    member: tuple[Group, list[frozenset[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    group, given = member
    await group.start()
    await until(lambda: given, "the assignment")
    commit = group.consumer.commit_offsets  # type: ignore[attr-defined]
    assert not await commit({TP("test.changelog", 7): 0})
    assert await commit({TP("test.changelog", 0): 0, TP("test.changelog", 7): 0})

    async def refuse(*_: object) -> None:
        raise KafkaError("[Error -1] UnknownError")

    with monkeypatch.context() as failing:
        failing.setattr(GroupCoordinator, "commit_offsets", refuse)
        with pytest.raises(KafkaError):
            await commit({TP("test.changelog", 0): 0})
    assert not group.crashed


async def test_what_is_dropped_in_a_rebalance_comes_again_where_nothing_was_committed(
    tmp_path: Path,
) -> None:
    """Faust goes back to what was committed, and stays where it is where nothing was."""
    broker = Broker(BrokerSettings(data=tmp_path / "broker", port=0))
    await broker.start()
    topics = Topics("test")
    await topics.create(broker.address, 2)
    group = Group("test", broker.address)
    found: list[bytes] = []

    def receive(records: Any) -> None:
        found.extend(record.value for each in records.values() for record in each)

    intake = Intake(group, [topics.changelog], receive)

    async def assigned(_app: Any, partitions: Any, **_: Any) -> None:
        intake.begin(frozenset(partitions))

    group.on_partitions_assigned.connect(assigned)  # type: ignore[arg-type]
    group.finalize()
    await group.start()
    consumer: Any = group.consumer
    fetch, dropped = consumer._wait_next_records, list[int]()

    async def fetch_amid_a_rebalance(*args: Any, **kwargs: Any) -> Any:
        records = await fetch(*args, **kwargs)
        if records[0] and not dropped:
            dropped.append(1)
            intake.term += 1
        return records

    consumer._wait_next_records = fetch_amid_a_rebalance
    producer = await open_producer(broker.address)
    for value in (b"1", b"2"):
        await producer.send_and_wait(topics.changelog, value, partition=1)
    await until(lambda: found == [b"1", b"2"], "both records")
    assert dropped
    await producer.stop()
    await group.stop()
    await broker.stop()
