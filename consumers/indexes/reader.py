"""Reads a shard's part of the indexes' log from where its store is."""

from collections.abc import AsyncGenerator
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from streamtable.streams.log import CLIENT_ERRORS, LogUnavailable
from streamtable.streams.owner import LogGap

__all__ = ["read_to_end"]

_READ_BYTES: Final = 4 * 1024 * 1024
_WAIT_MS: Final = 500


async def read_to_end(
    address: str, topic: str, shard: int, start: int
) -> AsyncGenerator[list[tuple[int, bytes]]]:
    """Yield offset and value of the records from `start` to the end that the log has now.

    Args:
        address: the brokers, `host:port,...`.
        topic: the indexes' log.
        shard: the partition.
        start: the first offset that is needed.

    Raises:
        LogGap: the log starts after `start`.
        LogUnavailable: the brokers do not answer.
    """
    partition = TopicPartition(topic, shard)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=address,
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=_READ_BYTES,
    )
    try:
        await consumer.start()
        consumer.assign([partition])
        first = (await consumer.beginning_offsets([partition]))[partition]
        end = (await consumer.end_offsets([partition]))[partition]
        if not first <= start <= end:
            msg = (
                f"shard {shard} of {topic} has the offsets {first} to {end}, the global indexes "
                f"need {start}: they were stopped for longer than the log is kept, or log and "
                "indexes do not belong together. Delete the indexes and create them again."
            )
            raise LogGap(msg)
        consumer.seek(partition, start)
        while start < end:
            found = (await consumer.getmany(partition, timeout_ms=_WAIT_MS)).get(partition, ())
            yield [(record.offset, record.value) for record in found]
            if found:
                start = found[-1].offset + 1
    except CLIENT_ERRORS as error:
        msg = f"shard {shard} of {topic} can't be read ({error!r})"
        raise LogUnavailable(msg) from error
    finally:
        await consumer.stop()
