"""Reading what a Kafka topic has."""

from typing import Any, NamedTuple

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

__all__ = ["Message", "read_topic"]


class Message(NamedTuple):
    """A record of JSON."""

    partition: int
    key: Any
    value: Any
    timestamp_ms: int


async def read_topic(address: str, topic: str) -> list[Message]:
    """Return the records of a topic up to where it ends now, each partition's in order.

    A topic that is not there has none.
    """
    partitions = await _partitions(address, topic)
    if not partitions:
        return []
    consumer = AIOKafkaConsumer(bootstrap_servers=address)
    await consumer.start()
    try:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[Message] = []
        for partition, end in ends.items():
            consumer.seek(partition, 0)
            while await consumer.position(partition) < end:
                found += [
                    Message(
                        each.partition,
                        orjson.loads(each.key),
                        orjson.loads(each.value),
                        each.timestamp,
                    )
                    for each in (await consumer.getmany(partition, timeout_ms=500)).get(
                        partition, []
                    )
                ]
    finally:
        await consumer.stop()
    return found


async def _partitions(address: str, topic: str) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        if topic not in await admin.list_topics():
            return []
        [described] = await admin.describe_topics([topic])
    finally:
        await admin.close()
    return [TopicPartition(topic, each["partition"]) for each in described["partitions"]]
