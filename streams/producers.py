"""Producers of records that follow from the change log, in topics other than its own."""

from aiokafka import AIOKafkaProducer

from streamtable.streams.security import client_options
from streamtable.streams.topics import MAX_RECORD_BYTES

__all__ = ["open_producer"]


async def open_producer(address: str) -> AIOKafkaProducer:
    """Return a started producer; the caller stops it.

    What it sends is acknowledged when every copy in sync has it, once and in order; a record may
    be as large as the topics take.

    Args:
        address: the brokers, `host:port,...`.

    Raises:
        Exception: one of `log.CLIENT_ERRORS`: the brokers do not answer. Nothing is left open.
    """
    producer = AIOKafkaProducer(
        **client_options(address),
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        max_request_size=MAX_RECORD_BYTES,
        max_batch_size=MAX_RECORD_BYTES,
    )
    try:
        await producer.start()
    except BaseException:
        await producer.stop()
        raise
    return producer
