"""How a Kafka broker coordinates consumer groups; for both brokers, as `behaviour` is."""

import asyncio
import uuid
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from kio.schema.errors import ErrorCode

from tests.streams.broker.behaviour import BrokerCase, Restart, create, known
from tests.support.kafka_wire import KafkaWire, batch
from tests.support.waiting import until

SESSION_MS = 10_000


def group_id() -> str:
    return f"group-{uuid.uuid4().hex[:12]}"


async def find(wire: KafkaWire, group: str) -> None:
    """Wait until the group's coordinator is there; Apache Kafka makes its topic first."""

    async def there() -> bool:
        answer = await wire.call(10, 4, key_type=0, coordinator_keys=[group])
        if answer.coordinators[0].error_code is not ErrorCode.none:
            return False
        return (await committed(wire, group, None)).error_code is ErrorCode.none

    await until(there, f"the coordinator of {group}")


async def committed(wire: KafkaWire, group: str, topics: dict[str, list[int]] | None) -> Any:
    wanted = (
        None
        if topics is None
        else [{"name": name, "partition_indexes": indexes} for name, indexes in topics.items()]
    )
    fields = {"group_id": group, "member_id": None, "member_epoch": -1, "topics": wanted}
    answer = await wire.call(9, 9, groups=[fields], require_stable=False)
    return answer.groups[0]


class Member:
    """A member of a group, spoken for by hand."""

    def __init__(self, wire: KafkaWire, group: str, instance: str | None = None) -> None:
        self.wire = wire
        self.group = group
        self.instance = instance
        self.id = ""
        self.generation = -1
        self.joined: Any = None

    @classmethod
    async def connect(cls, address: str, group: str, instance: str | None = None) -> "Member":
        return cls(await KafkaWire.connect(address), group, instance)

    async def join_once(
        self, *, protocols: dict[str, bytes] | None = None, session_ms: int = SESSION_MS
    ) -> Any:
        self.joined = await self.wire.call(
            11,
            9,
            group_id=self.group,
            session_timeout=session_ms,
            rebalance_timeout=SESSION_MS,
            member_id=self.id,
            group_instance_id=self.instance,
            protocol_type="consumer",
            protocols=[
                {"name": name, "metadata": data}
                for name, data in (protocols or {"range": b"x"}).items()
            ],
            reason=None,
        )
        if self.joined.error_code in (ErrorCode.none, ErrorCode.member_id_required):
            self.id = self.joined.member_id
            self.generation = self.joined.generation_id
        return self.joined

    async def join(self, **options: Any) -> Any:
        answer = await self.join_once(**options)
        if answer.error_code is ErrorCode.member_id_required:
            answer = await self.join_once(**options)
        return answer

    async def sync(self, assignments: dict[str, bytes] | None = None) -> Any:
        return await self.wire.call(
            14,
            5,
            group_id=self.group,
            generation_id=self.generation,
            member_id=self.id,
            group_instance_id=self.instance,
            protocol_type="consumer",
            protocol_name="range",
            assignments=[
                {"member_id": member_id, "assignment": data}
                for member_id, data in (assignments or {}).items()
            ],
        )

    async def heartbeat(self) -> Any:
        answer = await self.wire.call(
            12,
            4,
            group_id=self.group,
            generation_id=self.generation,
            member_id=self.id,
            group_instance_id=self.instance,
        )
        return answer.error_code

    async def rebalances(self) -> bool:
        return await self.heartbeat() is not ErrorCode.none

    async def leave(self) -> Any:
        member = {"member_id": self.id, "group_instance_id": self.instance, "reason": None}
        answer = await self.wire.call(13, 5, group_id=self.group, members=[member])
        return answer.error_code or answer.members[0].error_code

    async def commit(self, topic: str, offset: int, **changes: Any) -> Any:
        partition = {
            "partition_index": 0,
            "committed_offset": offset,
            "committed_leader_epoch": -1,
            "committed_metadata": "about it",
        }
        fields = {
            "group_id": self.group,
            "generation_id_or_member_epoch": self.generation,
            "member_id": self.id,
            "group_instance_id": self.instance,
            "topics": [{"name": topic, "partitions": [partition]}],
            **changes,
        }
        answer = await self.wire.call(8, 9, **fields)
        return answer.topics[0].partitions[0].error_code

    async def settle(self) -> "Member":
        """Join alone and become stable."""
        await find(self.wire, self.group)
        await self.join()
        await self.sync({self.id: b"all"})
        return self


class MembershipCase(BrokerCase):
    @pytest.fixture
    async def two(self, address):
        """Two members of a group, settled: the leader first."""
        group = group_id()
        first = await (await Member.connect(address, group)).settle()
        second = await Member.connect(address, group)
        joining = asyncio.ensure_future(second.join())
        await until(first.rebalances, "a rebalance")
        await first.join()
        await joining
        await asyncio.gather(first.sync({first.id: b"left", second.id: b"right"}), second.sync())
        yield first, second
        await first.wire.close()
        await second.wire.close()

    async def test_a_member_gets_its_id_before_it_joins(self, wire):
        member = Member(wire, group_id())
        await find(wire, member.group)
        assert (await member.join_once()).error_code is ErrorCode.member_id_required
        joined = await member.join_once()
        assert joined.error_code is ErrorCode.none
        assert (joined.leader, joined.generation_id) == (member.id, 1)
        assert [one.member_id for one in joined.members] == [member.id]
        assert [one.metadata for one in joined.members] == [b"x"]

    async def test_the_leaders_assignment_reaches_everybody(self, two):
        first, second = two
        assert first.generation == second.generation == 2
        assert (await first.sync()).assignment == b"left"
        assert (await second.sync()).assignment == b"right"
        assert len(first.joined.members) == 2
        assert not second.joined.members

    async def test_a_join_makes_the_others_join_again(self, two, address):
        first, second = two
        third = await Member.connect(address, first.group)
        joining = asyncio.ensure_future(third.join())
        await until(first.rebalances, "a rebalance")
        assert await second.heartbeat() is ErrorCode.rebalance_in_progress
        await asyncio.gather(first.join(), second.join())
        assert (await joining).generation_id == 3
        await third.wire.close()

    async def test_a_member_that_leaves_makes_the_others_join_again(self, two):
        first, second = two
        assert await second.leave() is ErrorCode.none
        assert await first.heartbeat() is ErrorCode.rebalance_in_progress
        assert (await first.join()).generation_id == 3
        assert await second.heartbeat() is ErrorCode.unknown_member_id

    async def test_a_silent_member_is_put_out(self, two, address):
        first, second = two
        third = await Member.connect(address, first.group)
        joining = asyncio.ensure_future(third.join(session_ms=300))
        await until(first.rebalances, "a rebalance")
        await asyncio.gather(first.join(), second.join())
        await joining
        everyone = {one.id: b"" for one in (first, second, third)}
        await asyncio.gather(first.sync(everyone), second.sync(), third.sync())
        await until(first.rebalances, "the silent member to be put out")
        assert await third.heartbeat() is ErrorCode.unknown_member_id
        await asyncio.gather(first.join(), second.join())
        assert len(first.joined.members) == 2
        await third.wire.close()

    async def test_requests_of_an_old_generation_are_refused(self, two):
        first, _ = two
        first.generation = 1
        assert await first.heartbeat() is ErrorCode.illegal_generation
        assert (await first.sync()).error_code is ErrorCode.illegal_generation

    async def test_a_member_without_a_common_protocol_is_refused(self, two, address):
        stranger = await Member.connect(address, two[0].group)
        answer = await stranger.join(protocols={"other": b""})
        assert answer.error_code is ErrorCode.inconsistent_group_protocol
        await stranger.wire.close()

    async def test_a_session_that_is_too_short_is_refused(self, wire):
        member = Member(wire, group_id())
        await find(wire, member.group)
        answer = await member.join_once(session_ms=1)
        assert answer.error_code is ErrorCode.invalid_session_timeout

    async def test_an_unknown_member(self, wire):
        member = Member(wire, group_id())
        await find(wire, member.group)
        member.id = "nobody"
        assert await member.heartbeat() is ErrorCode.unknown_member_id
        assert (await member.join()).error_code is ErrorCode.unknown_member_id

    async def test_a_static_member_takes_its_place_again_without_a_rebalance(self, address):
        group = group_id()
        first = await (await Member.connect(address, group, "worker-1")).settle()
        generation = first.generation
        again = await Member.connect(address, group, "worker-1")
        joined = await again.join()
        assert (joined.error_code, joined.generation_id) == (ErrorCode.none, generation)
        assert again.id != first.id
        assert joined.skip_assignment
        assert (await again.sync()).assignment == b"all"
        assert await again.heartbeat() is ErrorCode.none
        assert await first.heartbeat() is ErrorCode.fenced_instance_id
        first.id = "old"
        assert (await first.join()).error_code is ErrorCode.fenced_instance_id
        await first.wire.close()
        await again.wire.close()

    async def test_a_static_member_is_removed_by_its_instance(self, address):
        member = await (await Member.connect(address, group_id(), "worker-1")).settle()
        known_id, member.id = member.id, ""
        assert await member.leave() is ErrorCode.none
        member.id = known_id
        assert await member.heartbeat() is ErrorCode.unknown_member_id
        await member.wire.close()

    async def test_offsets_are_kept_by_group(self, wire):
        topic = await create(wire, 2)
        member = await Member(wire, group_id()).settle()
        assert await member.commit(topic, 42) is ErrorCode.none
        stored = await committed(wire, member.group, {topic: [0, 1]})
        first, second = stored.topics[0].partitions
        assert (first.committed_offset, first.metadata) == (42, "about it")
        assert (second.committed_offset, second.error_code) == (-1, ErrorCode.none)
        everything = await committed(wire, member.group, None)
        assert [one.name for one in everything.topics] == [topic]

    async def test_who_may_not_commit(self, wire):
        topic = await create(wire)
        member = await Member(wire, group_id()).settle()
        old = {"generation_id_or_member_epoch": member.generation - 1}
        assert await member.commit(topic, 1, **old) is ErrorCode.illegal_generation
        assert await member.commit(topic, 1, member_id="x") is ErrorCode.unknown_member_id
        outside: dict[str, Any] = {"generation_id_or_member_epoch": -1, "member_id": ""}
        assert await member.commit(topic, 1, **outside) is ErrorCode.unknown_member_id
        other = group_id()
        await find(wire, other)
        assert await member.commit(topic, 1, **outside, group_id=other) is ErrorCode.none

    async def test_offsets_survive_a_restart(self, address, restart: Restart):
        group = group_id()
        async with await KafkaWire.connect(address) as wire:
            topic = await create(wire)
            member = await Member(wire, group).settle()
            await member.commit(topic, 7)
            await member.leave()
        await restart()
        async with await KafkaWire.connect(address) as wire:
            await known(wire, topic)
            await find(wire, group)
            stored = await committed(wire, group, {topic: [0]})
            assert stored.topics[0].partitions[0].committed_offset == 7

    async def test_groups_are_listed_and_described(self, two):
        first, second = two
        listed = await first.wire.call(16, 4, states_filter=["Stable"])
        assert first.group in [one.group_id for one in listed.groups]
        described = (
            await first.wire.call(15, 5, groups=[first.group], include_authorized_operations=False)
        ).groups[0]
        assert (described.group_state, described.protocol_data) == ("Stable", "range")
        assert {one.member_id: one.member_assignment for one in described.members} == {
            first.id: b"left",
            second.id: b"right",
        }

    async def test_a_group_is_deleted_when_it_is_empty(self, wire):
        topic = await create(wire)
        member = await Member(wire, group_id()).settle()
        await member.commit(topic, 7)

        async def delete() -> Any:
            answer = await wire.call(42, 2, groups_names=[member.group])
            return answer.results[0].error_code

        assert await delete() is ErrorCode.non_empty_group
        await member.leave()
        assert await delete() is ErrorCode.none
        assert await delete() is ErrorCode.group_id_not_found
        stored = await committed(wire, member.group, {topic: [0]})
        assert stored.topics[0].partitions[0].committed_offset == -1

    async def test_two_consumers_of_aiokafka_share_a_topic(self, address, wire):
        topic = await create(wire, 2)
        group = group_id()
        await find(wire, group)
        consumers = [
            AIOKafkaConsumer(
                topic,
                bootstrap_servers=address,
                group_id=group,
                auto_offset_reset="earliest",
                heartbeat_interval_ms=100,
                metadata_max_age_ms=1000,
            )
            for _ in range(2)
        ]
        await asyncio.gather(*(consumer.start() for consumer in consumers))
        await until(
            lambda: all(len(consumer.assignment()) == 1 for consumer in consumers),
            "a partition for each",
        )
        for partition in range(2):
            await wire.produce(topic, batch(b"%d" % partition), partition=partition)
        values = [(await consumer.getone()).value for consumer in consumers]
        assert sorted(values) == [b"0", b"1"]
        await consumers[0].stop()
        everything = {TopicPartition(topic, 0), TopicPartition(topic, 1)}
        await until(
            lambda: consumers[1].assignment() == everything, "both partitions for the other"
        )
        await consumers[1].stop()
