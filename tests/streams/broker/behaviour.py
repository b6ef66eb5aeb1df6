"""How a Kafka broker behaves; the embedded broker and Apache Kafka are held to the same tests.

A class that inherits one of these has a fixture `address`, and `restart`, which stops the broker
and starts it again at that address.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import InvalidProducerEpoch, RequestTimedOutError
from aiokafka.protocol.produce import ProduceRequest_v7
from kio.schema.errors import ErrorCode

from streamtable.streams.appender import Appender
from tests.support.kafka_wire import KafkaWire, batch
from tests.support.waiting import until

Restart = Callable[[], Awaitable[None]]

EARLIEST, LATEST, NEWEST = -2, -1, -3


async def create(wire: KafkaWire, partitions: int = 1, **configs: str) -> str:
    """Create a topic with a name of its own and return that."""
    name = f"topic-{uuid.uuid4().hex[:12]}"
    answer = await create_as(wire, name, partitions, **configs)
    assert answer.error_code is ErrorCode.none, answer.error_message
    return name


async def create_as(wire: KafkaWire, name: str, partitions: int = 1, **configs: str) -> Any:
    topic = {
        "name": name,
        "num_partitions": partitions,
        "replication_factor": 1,
        "assignments": [],
        "configs": [
            {"name": config.replace("_", "."), "value": value} for config, value in configs.items()
        ],
    }
    answer = await wire.call(19, 7, topics=[topic], timeout=10_000, validate_only=False)
    if answer.topics[0].error_code is ErrorCode.none:
        await known(wire, name, partitions)
    return answer.topics[0]


async def known(wire: KafkaWire, name: str, partitions: int = 1) -> None:
    """Wait until a topic's leaders answer, which on Apache Kafka they do a little later."""

    async def answering() -> bool:
        described = (await metadata(wire, name)).partitions
        if len(described) != partitions or any(one.error_code for one in described):
            return False
        answers = [await wire.list_offset(name, LATEST, one) for one in range(partitions)]
        return not any(one.error_code for one in answers)

    await until(answering, f"the leaders of {name}")


async def metadata(wire: KafkaWire, name: str) -> Any:
    answer = await wire.call(
        3,
        12,
        topics=[{"topic_id": None, "name": name}],
        allow_auto_topic_creation=False,
        include_topic_authorized_operations=False,
    )
    return answer.topics[0]


async def delete_records(wire: KafkaWire, topic: str, offset: int) -> Any:
    topics = [{"name": topic, "partitions": [{"partition_index": 0, "offset": offset}]}]
    answer = await wire.call(21, 2, topics=topics, timeout=10_000)
    return answer.topics[0].partitions[0]


async def new_producer(wire: KafkaWire, transactional_id: str | None = None) -> tuple[int, int]:
    """Get a producer id and epoch; a new coordinator may need a moment."""

    async def given() -> tuple[int, int] | None:
        if transactional_id is not None:
            await wire.call(10, 4, key_type=1, coordinator_keys=[transactional_id])
        answer = await wire.call(
            22,
            4,
            transactional_id=transactional_id,
            transaction_timeout=10_000,
            producer_id=-1,
            producer_epoch=-1,
        )
        if answer.error_code is ErrorCode.none:
            return answer.producer_id, answer.producer_epoch
        assert answer.error_code.retriable, answer.error_code
        return None

    return await until(given, "a producer id")


class BrokerCase:
    """What the cases share."""

    @pytest.fixture
    async def wire(self, address: str) -> AsyncIterator[KafkaWire]:
        async with await KafkaWire.connect(address) as connected:
            yield connected


class ProduceCase(BrokerCase):
    async def test_records_get_the_next_offsets(self, wire):
        topic = await create(wire)
        first = await wire.produce(topic, batch(b"a", b"b"))
        second = await wire.produce(topic, batch(b"c"))
        assert (first.base_offset, second.base_offset) == (0, 2)
        assert first.log_start_offset == 0

    async def test_what_is_acknowledged_can_be_fetched(self, wire):
        topic = await create(wire)
        records = batch(b"a", b"b")
        await wire.produce(topic, records)
        fetched = await wire.fetch(topic, 0)
        assert fetched.high_watermark == 2
        assert fetched.records[16:] == records[16:]
        assert fetched.records[:8] == bytes(8)

    @pytest.mark.parametrize("version", range(3, 9))
    async def test_every_version_of_produce(self, wire, version):
        topic = await create(wire)
        await wire.produce(topic, batch(b"a"), version=version)
        answer = await wire.produce(topic, batch(b"b"), version=version)
        assert (answer.error_code, answer.base_offset) == (ErrorCode.none, 1)

    async def test_without_acks_there_is_no_answer(self, wire):
        topic = await create(wire)
        wire.send_produce(topic, batch(b"a"), acks=0)
        answer = await wire.produce(topic, batch(b"b"))
        assert answer.base_offset == 1

    async def test_several_requests_in_flight_are_answered_in_order(self, wire):
        topic = await create(wire)
        sent = [wire.send_produce(topic, batch(b"%d" % number)) for number in range(5)]
        offsets = [
            (await wire.receive(0, 8, one)).responses[0].partition_responses[0].base_offset
            for one in sent
        ]
        assert offsets == [0, 1, 2, 3, 4]

    async def test_a_batch_with_a_bad_checksum_is_refused(self, wire):
        topic = await create(wire)
        records = bytearray(batch(b"a"))
        records[-1] ^= 1
        assert (await wire.produce(topic, bytes(records))).error_code is ErrorCode.corrupt_message
        assert (await wire.list_offset(topic, LATEST)).offset == 0

    async def test_two_batches_for_a_partition_are_refused(self, wire):
        topic = await create(wire)
        answer = await wire.produce(topic, batch(b"a") + batch(b"b"))
        assert answer.error_code is ErrorCode.invalid_record

    async def test_a_batch_above_the_topics_limit_is_refused(self, wire):
        topic = await create(wire, max_message_bytes="2000")
        answer = await wire.produce(topic, batch(bytes(3000)))
        assert answer.error_code is ErrorCode.message_too_large
        assert (await wire.produce(topic, batch(bytes(1000)))).error_code is ErrorCode.none

    async def test_an_unknown_topic(self, wire):
        answer = await wire.produce("nowhere", batch(b"a"))
        assert answer.error_code is ErrorCode.unknown_topic_or_partition

    async def test_an_unknown_partition(self, wire):
        topic = await create(wire)
        answer = await wire.produce(topic, batch(b"a"), partition=7)
        assert answer.error_code is ErrorCode.unknown_topic_or_partition


class IdempotenceCase(BrokerCase):
    async def test_a_repeated_batch_is_answered_with_its_first_offset(self, wire):
        topic = await create(wire)
        producer_id, epoch = await new_producer(wire)
        for sequence in range(5):
            await wire.produce(topic, batch(b"x", producer=(producer_id, epoch, sequence)))
        for sequence in range(5):
            answer = await wire.produce(topic, batch(b"x", producer=(producer_id, epoch, sequence)))
            assert (answer.error_code, answer.base_offset) == (ErrorCode.none, sequence)
        assert (await wire.list_offset(topic, LATEST)).offset == 5

    async def test_an_older_repeated_batch_is_refused(self, wire):
        topic = await create(wire)
        producer_id, epoch = await new_producer(wire)
        for sequence in range(6):
            await wire.produce(topic, batch(b"x", producer=(producer_id, epoch, sequence)))
        answer = await wire.produce(topic, batch(b"x", producer=(producer_id, epoch, 0)))
        assert answer.error_code is ErrorCode.out_of_order_sequence_number

    async def test_a_gap_in_the_sequence_is_refused(self, wire):
        topic = await create(wire)
        producer_id, epoch = await new_producer(wire)
        await wire.produce(topic, batch(b"a", b"b", producer=(producer_id, epoch, 0)))
        answer = await wire.produce(topic, batch(b"c", producer=(producer_id, epoch, 3)))
        assert answer.error_code is ErrorCode.out_of_order_sequence_number
        answer = await wire.produce(topic, batch(b"c", producer=(producer_id, epoch, 2)))
        assert (answer.error_code, answer.base_offset) == (ErrorCode.none, 2)

    async def test_each_producer_has_an_id_of_its_own(self, wire):
        assert len({(await new_producer(wire))[0] for _ in range(3)}) == 3

    async def test_a_transactional_id_keeps_its_producer_id_and_gets_the_next_epoch(self, wire):
        name = f"shard-{uuid.uuid4().hex}"
        first = await new_producer(wire, name)
        second = await new_producer(wire, name)
        assert second == (first[0], first[1] + 1)

    async def test_a_new_epoch_begins_with_sequence_zero(self, wire):
        topic = await create(wire)
        name = f"shard-{uuid.uuid4().hex}"
        producer_id, epoch = await new_producer(wire, name)
        await wire.produce(topic, batch(b"a", producer=(producer_id, epoch, 0)))
        producer_id, epoch = await new_producer(wire, name)
        answer = await wire.produce(topic, batch(b"b", producer=(producer_id, epoch, 1)))
        assert answer.error_code is ErrorCode.out_of_order_sequence_number
        answer = await wire.produce(topic, batch(b"b", producer=(producer_id, epoch, 0)))
        assert answer.error_code is ErrorCode.none

    async def test_an_old_epoch_is_fenced(self, wire):
        topic = await create(wire)
        name = f"shard-{uuid.uuid4().hex}"
        old = await new_producer(wire, name)
        await wire.produce(topic, batch(b"a", producer=(*old, 0)))
        new = await new_producer(wire, name)
        await wire.produce(topic, batch(b"b", producer=(*new, 0)))
        answer = await wire.produce(topic, batch(b"c", producer=(*old, 1)))
        assert answer.error_code is ErrorCode.invalid_producer_epoch

    async def test_sequences_survive_a_restart(self, address, restart: Restart):
        async with await KafkaWire.connect(address) as wire:
            topic = await create(wire)
            producer_id, epoch = await new_producer(wire)
            await wire.produce(topic, batch(b"a", producer=(producer_id, epoch, 0)))
        await restart()
        async with await KafkaWire.connect(address) as wire:
            await known(wire, topic)
            again = await wire.produce(topic, batch(b"a", producer=(producer_id, epoch, 0)))
            assert (again.error_code, again.base_offset) == (ErrorCode.none, 0)
            gap = await wire.produce(topic, batch(b"c", producer=(producer_id, epoch, 2)))
            assert gap.error_code is ErrorCode.out_of_order_sequence_number

    async def test_epochs_survive_a_restart(self, address, restart: Restart):
        name = f"shard-{uuid.uuid4().hex}"
        async with await KafkaWire.connect(address) as wire:
            first = await new_producer(wire, name)
        await restart()
        async with await KafkaWire.connect(address) as wire:
            assert await new_producer(wire, name) == (first[0], first[1] + 1)

    async def test_an_appender_fences_an_older_one_of_its_name(self, address):
        """The second layer of a take-over."""

        async def start() -> Appender:
            appender = Appender(address, topic, 0)
            await appender.open(name)
            return appender

        async with await KafkaWire.connect(address) as wire:
            topic = await create(wire)
        name = f"shard-{uuid.uuid4().hex}"
        old = await start()
        assert await old.append(b"a", [("kind", b"x")]) == 0
        new = await start()
        assert await new.append(b"b", []) == 1
        with pytest.raises(InvalidProducerEpoch):
            await old.append(b"c", [])
        assert [await new.append(text, []) for text in (b"d", b"e")] == [2, 3]
        await new.close()
        await old.close()

    async def test_what_an_appender_sends_again_is_there_once(self, address, monkeypatch):
        async with await KafkaWire.connect(address) as wire:
            topic = await create(wire)
        appender = Appender(address, topic, 0)
        await appender.open(f"shard-{uuid.uuid4().hex}")
        sent = []
        send = AIOKafkaClient.send

        async def lose_the_first_answer(self, node, request, **options):
            answer = await send(self, node, request, **options)
            if isinstance(request, ProduceRequest_v7):
                sent.append(answer)
                if len(sent) == 1:
                    raise RequestTimedOutError
            return answer

        monkeypatch.setattr(AIOKafkaClient, "send", lose_the_first_answer)
        assert await appender.append(b"a", []) == 0
        assert len(sent) == 2
        headers = [("kind", b"k" * 200), ("naïve", b"")]
        assert await appender.append(b"b" * 100_000, headers) == 1
        await appender.close()
        async with AIOKafkaConsumer(
            topic, bootstrap_servers=address, auto_offset_reset="earliest"
        ) as consumer:
            found = [await asyncio.wait_for(consumer.getone(), 10) for _ in range(2)]
        assert [(one.offset, one.value) for one in found] == [(0, b"a"), (1, b"b" * 100_000)]
        assert [(one.key, list(one.headers)) for one in found] == [(None, []), (None, headers)]
        assert all(abs(one.timestamp - time.time() * 1000) < 60_000 for one in found)


class FetchCase(BrokerCase):
    @pytest.mark.parametrize("version", range(4, 12))
    async def test_every_version_of_fetch(self, wire, version):
        topic = await create(wire)
        await wire.produce(topic, batch(b"a"))
        answer = await wire.fetch(topic, 0, version=version)
        assert (answer.error_code, answer.high_watermark) == (ErrorCode.none, 1)
        assert answer.records

    async def test_a_waiting_fetch_is_answered_when_data_arrive(self, address, wire):
        topic = await create(wire)
        sent = wire.send_fetch(topic, 0, wait_ms=25_000)
        async with await KafkaWire.connect(address) as other:
            await other.produce(topic, batch(b"a"))
        async with asyncio.timeout(20):
            answer = await wire.receive(1, 11, sent)
        assert answer.responses[0].partitions[0].records

    async def test_a_fetch_waits_for_its_minimum(self, address, wire):
        topic = await create(wire)
        sent = wire.send_fetch(topic, 0, wait_ms=25_000, min_bytes=1000)
        answer = asyncio.ensure_future(wire.receive(1, 11, sent))
        async with await KafkaWire.connect(address) as other:
            await other.produce(topic, batch(bytes(100)))
            await other.list_offset(topic, LATEST)
            assert not answer.done()
            await other.produce(topic, batch(bytes(1000)))
        async with asyncio.timeout(20):
            partition = (await answer).responses[0].partitions[0]
        assert len(partition.records) > 1100

    async def test_a_fetch_that_waited_in_vain_brings_what_there_is(self, wire):
        topic = await create(wire)
        await wire.produce(topic, batch(b"a"))
        answer = await wire.fetch(topic, 0, wait_ms=10, min_bytes=100_000)
        assert answer.records
        empty = await wire.fetch(topic, 1, wait_ms=10, min_bytes=100_000)
        assert (empty.error_code, empty.records) == (ErrorCode.none, b"")

    async def test_the_first_batch_comes_whatever_its_size(self, wire):
        topic = await create(wire)
        for _ in range(3):
            await wire.produce(topic, batch(bytes(1000)))
        answer = await wire.fetch(topic, 1, max_bytes=1)
        assert len(answer.records) == len(batch(bytes(1000)))
        assert answer.records[:8] == (1).to_bytes(8, "big")

    async def test_a_fetch_in_the_middle_of_a_batch_brings_all_of_it(self, wire):
        topic = await create(wire)
        await wire.produce(topic, batch(b"a", b"b", b"c"))
        answer = await wire.fetch(topic, 2)
        assert answer.records[:8] == bytes(8)

    async def test_an_offset_behind_the_end_is_out_of_range(self, wire):
        topic = await create(wire)
        await wire.produce(topic, batch(b"a"))
        answer = await wire.fetch(topic, 2, wait_ms=25_000)
        assert answer.error_code is ErrorCode.offset_out_of_range

    async def test_an_unknown_topic(self, wire):
        answer = await wire.fetch("nowhere", 0)
        assert answer.error_code is ErrorCode.unknown_topic_or_partition

    async def test_old_records_come_after_a_restart(self, address, restart: Restart):
        async with await KafkaWire.connect(address) as wire:
            topic = await create(wire)
            sent = [batch(b"%d" % number) for number in range(20)]
            for one in sent:
                await wire.produce(topic, one)
        await restart()
        async with await KafkaWire.connect(address) as wire:
            await known(wire, topic)
            fetched = await wire.fetch(topic, 0)
            assert fetched.high_watermark == 20
            assert fetched.records.count(sent[0][61:65]) == 20 or len(fetched.records) == sum(
                map(len, sent)
            )


class OffsetsByTimeCase(BrokerCase):
    async def test_an_empty_partition(self, wire):
        topic = await create(wire)
        assert (await wire.list_offset(topic, EARLIEST)).offset == 0
        assert (await wire.list_offset(topic, LATEST)).offset == 0
        assert (await wire.list_offset(topic, NEWEST)).offset == -1
        assert (await wire.list_offset(topic, 1)).offset == -1

    async def test_the_first_record_not_older_than_a_time(self, wire):
        topic = await create(wire)
        await wire.produce(topic, batch(b"a", b"b", timestamps=(1000, 2000)))
        await wire.produce(topic, batch(b"c", b"d", timestamps=(3000, 4000)))
        for timestamp, offset, found in ((0, 0, 1000), (1500, 1, 2000), (2001, 2, 3000)):
            answer = await wire.list_offset(topic, timestamp)
            assert (answer.offset, answer.timestamp) == (offset, found)
        assert (await wire.list_offset(topic, 4001)).offset == -1

    async def test_times_need_not_be_in_order(self, wire):
        topic = await create(wire)
        for timestamp in (5000, 1000, 3000):
            await wire.produce(topic, batch(b"x", timestamps=(timestamp,)))
        assert (await wire.list_offset(topic, 2000)).offset == 0
        assert (await wire.list_offset(topic, NEWEST)).offset == 0

    async def test_a_compressed_batch_is_looked_into(self, wire):
        topic = await create(wire)
        await wire.produce(topic, batch(b"a", b"b", timestamps=(1000, 2000), compression=1))
        assert (await wire.list_offset(topic, 1500)).offset == 1


class TopicsCase(BrokerCase):
    async def test_metadata(self, wire):
        topic = await create(wire, 3)
        described = await metadata(wire, topic)
        assert sorted(one.partition_index for one in described.partitions) == [0, 1, 2]
        assert all(one.isr_nodes == one.replica_nodes for one in described.partitions)
        assert (await metadata(wire, "nowhere")).error_code is ErrorCode.unknown_topic_or_partition

    async def test_a_topic_that_is_there_already(self, wire):
        topic = await create(wire)
        assert (await create_as(wire, topic)).error_code is ErrorCode.topic_already_exists

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "é", "x" * 250])
    async def test_a_bad_name(self, wire, name):
        answer = await wire.call(
            19,
            7,
            topics=[
                {
                    "name": name,
                    "num_partitions": 1,
                    "replication_factor": 1,
                    "assignments": [],
                    "configs": [],
                }
            ],
            timeout=10_000,
            validate_only=False,
        )
        assert answer.topics[0].error_code is ErrorCode.invalid_topic_exception

    @pytest.mark.parametrize(
        ("partitions", "replicas", "code"),
        [
            (0, 1, ErrorCode.invalid_partitions),
            (-2, 1, ErrorCode.invalid_partitions),
            (1, 2, ErrorCode.invalid_replication_factor),
        ],
    )
    async def test_a_topic_that_cannot_be(self, wire, partitions, replicas, code):
        topic = {
            "name": f"topic-{uuid.uuid4().hex}",
            "num_partitions": partitions,
            "replication_factor": replicas,
            "assignments": [],
            "configs": [],
        }
        answer = await wire.call(19, 7, topics=[topic], timeout=10_000, validate_only=False)
        assert answer.topics[0].error_code is code

    async def test_a_bad_configuration(self, wire):
        for name, value in (("no_such", "1"), ("retention_ms", "soon"), ("cleanup_policy", "x")):
            answer = await create_as(wire, f"topic-{uuid.uuid4().hex}", 1, **{name: value})
            assert answer.error_code is ErrorCode.invalid_config

    async def test_more_partitions(self, wire):
        topic = await create(wire, 2)

        async def grow(count: int) -> Any:
            wanted = [{"name": topic, "count": count, "assignments": None}]
            answer = await wire.call(37, 3, topics=wanted, timeout=10_000, validate_only=False)
            return answer.results[0].error_code

        assert await grow(4) is ErrorCode.none
        await known(wire, topic, 4)
        assert (await wire.produce(topic, batch(b"a"), partition=3)).base_offset == 0
        assert await grow(4) is ErrorCode.invalid_partitions
        assert await grow(1) is ErrorCode.invalid_partitions

    async def test_a_deleted_topic_is_gone(self, wire):
        topic = await create(wire)
        await wire.produce(topic, batch(b"a"))
        answer = await wire.call(20, 5, topic_names=[topic], timeout=10_000)
        assert answer.responses[0].error_code is ErrorCode.none
        unknown = ErrorCode.unknown_topic_or_partition

        async def gone() -> bool:
            return (await metadata(wire, topic)).error_code is unknown

        await until(gone, "the topic to be gone")
        answer = await wire.call(20, 5, topic_names=[topic], timeout=10_000)
        assert answer.responses[0].error_code is unknown
        await create_as(wire, topic)
        assert (await wire.list_offset(topic, LATEST)).offset == 0

    async def test_deleted_records_are_gone(self, wire):
        topic = await create(wire)
        for number in range(4):
            await wire.produce(topic, batch(b"%d" % number))
        assert (await delete_records(wire, topic, 3)).low_watermark == 3
        assert (await wire.list_offset(topic, EARLIEST)).offset == 3
        assert (await wire.fetch(topic, 2)).error_code is ErrorCode.offset_out_of_range
        assert (await wire.fetch(topic, 3)).log_start_offset == 3
        assert (await delete_records(wire, topic, 9)).error_code is ErrorCode.offset_out_of_range
        assert (await delete_records(wire, topic, -1)).low_watermark == 4

    async def test_deleted_records_stay_gone_after_a_restart(self, address, restart: Restart):
        async with await KafkaWire.connect(address) as wire:
            topic = await create(wire)
            for number in range(4):
                await wire.produce(topic, batch(b"%d" % number))
            await delete_records(wire, topic, 3)
        await restart()
        async with await KafkaWire.connect(address) as wire:
            await known(wire, topic)
            assert (await wire.list_offset(topic, EARLIEST)).offset == 3
            assert (await wire.produce(topic, batch(b"x"))).base_offset == 4

    async def test_configurations(self, address, restart: Restart):
        async def described(wire: KafkaWire) -> dict[str, str]:
            resource = {
                "resource_type": 2,
                "resource_name": topic,
                "configuration_keys": ["retention.ms", "segment.ms", "cleanup.policy"],
            }
            answer = await wire.call(
                32, 4, resources=[resource], include_synonyms=True, include_documentation=False
            )
            assert answer.results[0].error_code is ErrorCode.none
            return {one.name: one.value for one in answer.results[0].configs}

        async with await KafkaWire.connect(address) as wire:
            topic = await create(wire, retention_ms="5000000", cleanup_policy="compact")
            before = await described(wire)
            assert before["retention.ms"] == "5000000"
            assert before["cleanup.policy"] == "compact"
            changes = [
                {"name": "segment.ms", "config_operation": 0, "value": "60000"},
                {"name": "cleanup.policy", "config_operation": 1, "value": None},
            ]
            resource = {"resource_type": 2, "resource_name": topic, "configs": changes}
            answer = await wire.call(44, 1, resources=[resource], validate_only=False)
            assert answer.responses[0].error_code is ErrorCode.none
        await restart()
        async with await KafkaWire.connect(address) as wire:
            await known(wire, topic)
            assert await described(wire) == {
                "retention.ms": "5000000",
                "segment.ms": "60000",
                "cleanup.policy": "delete",
            }

    async def test_an_unknown_topic_has_no_configuration(self, wire):
        resource = {"resource_type": 2, "resource_name": "nowhere", "configuration_keys": None}
        answer = await wire.call(
            32, 4, resources=[resource], include_synonyms=False, include_documentation=False
        )
        assert answer.results[0].error_code is ErrorCode.unknown_topic_or_partition


class ProtocolCase(BrokerCase):
    async def test_a_version_of_api_versions_that_is_not_spoken(self, wire):
        header = (18).to_bytes(2, "big") + (99).to_bytes(2, "big") + (7).to_bytes(4, "big")
        frame = header + b"\x00\x01x\x00" + b"\x02a\x02b\x00"
        wire.send_raw(len(frame).to_bytes(4, "big") + frame)
        answer = await wire.receive(18, 0, 7)
        assert answer.error_code is ErrorCode.unsupported_version
        assert 18 in {one.api_key for one in answer.api_keys}

    async def test_an_api_that_is_not_spoken_closes_the_connection(self, wire):
        header = (999).to_bytes(2, "big") + bytes(2) + (7).to_bytes(4, "big")
        frame = header + b"\x00\x01x"
        wire.send_raw(len(frame).to_bytes(4, "big") + frame)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await wire.call(18, 0)

    async def test_a_truncated_request_closes_the_connection(self, wire):
        frame = bytes(2) + (8).to_bytes(2, "big") + (7).to_bytes(4, "big") + b"\x00\x01x\x00"
        wire.send_raw(len(frame).to_bytes(4, "big") + frame)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await wire.call(18, 0)

    async def test_the_cluster_is_described(self, wire):
        answer = await wire.call(
            60, 1, include_cluster_authorized_operations=False, endpoint_type=1
        )
        assert [one.broker_id for one in answer.brokers] == [answer.controller_id]
        assert answer.cluster_id
