"""Clients that people use, on both brokers: librdkafka, kcat, Faust, aiokafka's admin client."""

import asyncio
import shutil
import uuid
from pathlib import Path
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from tests.streams.broker.behaviour import BrokerCase, create
from tests.support.kafka_wire import batch
from tests.support.waiting import until

COUNT = 2000


async def kcat(*arguments: str, given: bytes = b"") -> str:
    if shutil.which("kcat") is None:
        pytest.skip("there is no kcat here")
    process = await asyncio.create_subprocess_exec(
        "kcat",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, errors = await asyncio.wait_for(process.communicate(given), 30)
    assert process.returncode == 0, errors.decode()
    return said.decode()


class ClientsCase(BrokerCase):
    async def test_librdkafka_produces_and_consumes(self, address, wire):
        topic = await create(wire, 3)
        await asyncio.to_thread(self.librdkafka, address, topic)

    @staticmethod
    def librdkafka(address: str, topic: str) -> None:
        delivered: list[KafkaError | None] = []
        producer = Producer(
            {"bootstrap.servers": address, "enable.idempotence": True, "compression.type": "lz4"}
        )
        for number in range(COUNT):
            producer.produce(
                topic,
                b"value %d" % number,
                partition=number % 3,
                on_delivery=lambda error, _: delivered.append(error),
            )
            producer.poll(0)
        assert producer.flush(30) == 0
        assert delivered == [None] * COUNT
        consumer = Consumer(
            {
                "bootstrap.servers": address,
                "group.id": f"group-{uuid.uuid4().hex}",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        consumer.subscribe([topic])
        seen: list[bytes] = []
        while len(seen) < COUNT:
            for message in consumer.consume(COUNT, 1):
                assert message.error() is None
                seen.append(message.value() or b"")
        assert sorted(seen) == sorted(b"value %d" % number for number in range(COUNT))
        committed = consumer.commit(asynchronous=False)
        assert sum(one.offset for one in committed) == COUNT
        consumer.close()

    async def test_librdkafkas_admin_client(self, address):
        await asyncio.to_thread(self.librdkafka_admin, address)

    @staticmethod
    def librdkafka_admin(address: str) -> None:
        admin = AdminClient({"bootstrap.servers": address})
        topic = f"topic-{uuid.uuid4().hex}"

        def one(futures: dict[Any, Any]) -> Any:
            return next(iter(futures.values())).result(30)

        one(admin.create_topics([NewTopic(topic, 1, 1)]))
        producer = Producer({"bootstrap.servers": address})
        for number in range(3):
            producer.produce(topic, b"x", timestamp=1000 * (number + 1))
            assert producer.flush(30) == 0
        place = Place(topic, 0)
        assert one(admin.list_offsets({place: OffsetSpec.max_timestamp()})).offset == 2
        assert one(admin.list_offsets({place: OffsetSpec.for_timestamp(1500)})).offset == 1
        assert one(admin.delete_records([Place(topic, 0, 2)])).low_watermark == 2
        assert one(admin.list_offsets({place: OffsetSpec.earliest()})).offset == 2
        assert admin.describe_cluster().result(30).cluster_id
        one(admin.delete_topics([topic]))

    async def test_kcat(self, address, wire):
        topic = await create(wire, 2)
        sent = ["-b", address, "-t", topic, "-P"]
        await kcat(*sent, "-p", "0", "-H", "kind=commit", given=b"one\ntwo\n")
        await kcat(*sent, "-p", "1", "-z", "gzip", given=b"three\n")
        read = await kcat("-b", address, "-t", topic, "-C", "-e", "-q", "-f", "%p %o %h %s\n")
        assert sorted(read.splitlines()) == [
            "0 0 kind=commit one",
            "0 1 kind=commit two",
            "1 0  three",
        ]
        assert f'topic "{topic}" with 2 partitions' in await kcat("-b", address, "-L", "-t", topic)
        group = [
            "-b",
            address,
            "-G",
            f"group-{uuid.uuid4().hex}",
            "-X",
            "auto.offset.reset=earliest",
        ]
        read = await kcat(*group, "-e", "-q", "-f", "%s\n", topic)
        assert sorted(read.split()) == ["one", "three", "two"]

    @pytest.mark.parametrize("compression", [None, "gzip"])
    async def test_aiokafka_keeps_keys_headers_and_times(self, address, wire, compression):
        topic = await create(wire)
        async with AIOKafkaProducer(
            bootstrap_servers=address, acks="all", compression_type=compression
        ) as producer:
            sent = await asyncio.gather(
                *[
                    producer.send_and_wait(
                        topic,
                        b"v%d" % number,
                        key=b"k",
                        headers=[("n", b"%d" % number)],
                        timestamp_ms=1000 + number,
                    )
                    for number in range(50)
                ]
            )
        assert [one.offset for one in sent] == list(range(50))
        async with AIOKafkaConsumer(
            topic, bootstrap_servers=address, auto_offset_reset="earliest"
        ) as consumer:
            for number in range(50):
                record = await consumer.getone()
                assert (record.key, record.value) == (b"k", b"v%d" % number)
                assert record.headers == (("n", b"%d" % number),)
                assert record.timestamp == 1000 + number
            place = TopicPartition(topic, 0)
            found = await consumer.offsets_for_times({place: 1030})
            assert found[place].offset == 30

    async def test_a_consumer_that_asks_for_gulps_gets_them(self, address, wire):
        """Much at a time, or what there is after ten milliseconds: one fetch brings several."""
        topic = await create(wire)
        async with AIOKafkaConsumer(
            topic,
            bootstrap_servers=address,
            auto_offset_reset="earliest",
            fetch_min_bytes=1 << 20,
            fetch_max_wait_ms=10,
        ) as consumer:
            for number in range(20):
                await wire.produce(topic, batch(b"%d" % number))
            seen: list[Any] = []
            while len(seen) < 20:
                got = await consumer.getmany(timeout_ms=1000)
                seen += [record.value for records in got.values() for record in records]
            assert seen == [b"%d" % number for number in range(20)]

    async def test_a_faust_agent(self, address, wire, tmp_path: Path):
        topic = await create(wire, 4)
        app = faust.App(
            f"app-{uuid.uuid4().hex}",
            broker=f"kafka://{address}",
            datadir=str(tmp_path),
            topic_allow_declare=False,
            topic_disable_leader=True,
            stream_wait_empty=False,
            consumer_auto_offset_reset="earliest",
            broker_session_timeout=10,
            broker_heartbeat_interval=3,
            broker_commit_every=1,
            web_enabled=False,
        )
        seen: list[bytes] = []

        async def take(stream: Any) -> None:
            async for events in stream.noack_take(100, within=0.01):
                for event in events:
                    seen.append(event.value)
                    event.ack()

        app.agent(app.topic(topic, key_serializer="raw", value_serializer="raw"))(take)
        app.finalize()
        await app.start()
        tables: Any = app.tables
        await asyncio.wait_for(tables.recovery.completed.wait(), 30)
        for number in range(200):
            await wire.produce(topic, batch(b"%d" % number), partition=number % 4)
        await until(lambda: len(seen) == 200, "every event")
        assert sorted(seen) == sorted(b"%d" % number for number in range(200))
        places = {TopicPartition(topic, index) for index in range(4)}
        async with AIOKafkaConsumer(
            bootstrap_servers=address, group_id=app.conf.id, enable_auto_commit=False
        ) as consumer:
            consumer.assign(places)

            async def committed() -> bool:
                offsets = [await consumer.committed(place) for place in places]
                return offsets == [50, 50, 50, 50]

            await until(committed, "every offset to be committed")
        await app.stop()
