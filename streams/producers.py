"""Producers of records that follow from the change log, in topics other than its own."""

import asyncio
from contextlib import suppress
from itertools import chain
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError

from streamtable.streams.log import CLIENT_ERRORS
from streamtable.streams.security import client_options
from streamtable.streams.topics import MAX_RECORD_BYTES

__all__ = ["close_producer", "open_producer"]

_CLOSE_S: Final = 2.0


async def open_producer(address: str) -> AIOKafkaProducer:
    """Return a started producer; the caller closes it, with `close_producer`.

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


async def close_producer(producer: AIOKafkaProducer) -> None:
    """Close a producer, and give up what it has not sent and does not get rid of at once.

    Whoever waits for that is told. aiokafka's own way waits for as long as the broker is away.
    """
    with suppress(*CLIENT_ERRORS):
        async with asyncio.timeout(_CLOSE_S):
            await producer.stop()
            return
    # There is no public way to the rest.
    client: Any = producer.client
    sending: asyncio.Task[None] | None = producer._sender.sender_task  # noqa: SLF001
    gathered: Any = producer._message_accumulator  # noqa: SLF001
    with suppress(*CLIENT_ERRORS):
        await client.close()
    if sending is not None:
        sending.cancel()
        await asyncio.wait([sending], timeout=_CLOSE_S)
    batches = [*chain.from_iterable(gathered._batches.values()), *gathered._pending_batches]  # noqa: SLF001
    gathered.fail_all(KafkaConnectionError("the producer is closed"))
    for batch in batches:
        # Nobody waits for a whole batch, and asyncio would complain of that.
        batch._drain_waiter.exception()  # noqa: SLF001
