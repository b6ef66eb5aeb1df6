"""Reading partitions from offsets that the reader names, without a consumer group."""

from collections.abc import Iterable
from typing import Final, Literal

from aiokafka import AIOKafkaConsumer, TopicPartition

from streamtable.streams.security import client_options

__all__ = ["open_consumer"]

_FETCH_BYTES: Final = 4 * 1024 * 1024


async def open_consumer(
    address: str,
    partitions: Iterable[TopicPartition],
    *,
    missing: Literal["none", "earliest"] = "none",
) -> AIOKafkaConsumer:
    """Return a started consumer of these partitions; the caller seeks, and stops it.

    Args:
        address: the brokers, `host:port,...`.
        partitions: what it reads.
        missing: what it does where the log does not have the offset that is to be read: raise
            OffsetOutOfRangeError, or go on at the log's start.

    Raises:
        Exception: one of `log.CLIENT_ERRORS`: the brokers do not answer. Nothing is left open.
    """
    consumer = AIOKafkaConsumer(
        **client_options(address),
        enable_auto_commit=False,
        auto_offset_reset=missing,
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    try:
        await consumer.start()
    except BaseException:
        await consumer.stop()
        raise
    consumer.assign(list(partitions))
    return consumer
