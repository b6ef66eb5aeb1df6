"""Reads a shard's part of the indexes' log from where its store is."""

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any, Final

from aiokafka import TopicPartition

from streamtable.streams.bounds import bounds_reaching
from streamtable.streams.fetcher import LogFetcher
from streamtable.streams.log import CLIENT_ERRORS, LogUnavailable
from streamtable.streams.owner import LogGap
from streamtable.streams.partitions import open_consumer

__all__ = ["read_to_end"]

_WAIT_MS: Final = 500


async def read_to_end(
    address: str, topic: str, shard: int, start: int, log: LogFetcher
) -> AsyncGenerator[Sequence[Any]]:
    """Yield the records from `start` to the end that the log has now, as aiokafka has them.

    Args:
        address: the brokers, `host:port,...`.
        topic: the indexes' log.
        shard: the partition.
        start: the first offset that is needed.
        log: reads the indexes' log.

    Raises:
        LogGap: the log starts after `start`.
        LogUnavailable: the brokers do not answer.
    """
    first, end = await bounds_reaching(start - 1, partial(log.bounds, shard))
    if not first <= start <= end:
        raise LogGap(
            f"shard {shard} of {topic} has the offsets {first} to {end}, the global indexes need "
            f"{start}: they were stopped for longer than the log is kept, or log and indexes do "
            "not belong together. Delete the indexes and create them again."
        )
    if start == end:
        return
    partition = TopicPartition(topic, shard)
    try:
        consumer = await open_consumer(address, [partition])
        try:
            consumer.seek(partition, start)
            while start < end:
                found = (await consumer.getmany(partition, timeout_ms=_WAIT_MS)).get(partition, ())
                yield found
                if found:
                    start = found[-1].offset + 1
        finally:
            await consumer.stop()
    except CLIENT_ERRORS as error:
        raise LogUnavailable(f"shard {shard} of {topic} can't be read ({error!r})") from error
