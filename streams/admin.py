"""Kafka's admin client, for as long as it takes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient

from streamtable.streams.security import client_options

__all__ = ["open_admin"]


@asynccontextmanager
async def open_admin(address: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """Give a connected admin client; it is closed at the end, also where it can't connect.

    Args:
        address: the brokers, `host:port,...`.

    Raises:
        Exception: one of `log.CLIENT_ERRORS`: the brokers do not answer.
    """
    admin = AIOKafkaAdminClient(**client_options(address))
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()
