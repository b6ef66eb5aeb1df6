"""Why no Kafka broker answers: clients only say that none does, and log the rest."""

import asyncio
from typing import Final

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError, RequestTimedOutError

from streamtable.streams.reasons import why_failed
from streamtable.streams.security import BROKERS, client_options

__all__ = ["why_no_broker"]

_TIMEOUT_MS: Final = 3000


async def why_no_broker(address: str) -> str:
    """Try to connect to each broker, and say why that fails.

    Args:
        address: the brokers, `host:port,...`.

    Returns:
        What is wrong with each, or "it answers now".
    """
    options = client_options(address)
    hosts = [(host, port) for host, port, _ in collect_hosts(options.pop(BROKERS))]

    async def look(host: str, port: int) -> str:
        try:
            connection = await create_conn(host, port, request_timeout_ms=_TIMEOUT_MS, **options)
        except (KafkaError, OSError, RuntimeError) as error:
            return _told(error)
        connection.close()
        return "it answers now"

    found = await asyncio.gather(*(look(host, port) for host, port in hosts))
    if len(set(found)) == 1:
        return found[0]
    return ", ".join(
        f"{host}:{port}: {why}" for (host, port), why in sorted(zip(hosts, found, strict=True))
    )


def _told(error: Exception) -> str:
    if isinstance(error, RequestTimedOutError):
        return why_failed(TimeoutError())
    # One that is left alone because it said nothing is told of by the same class.
    if isinstance(error, KafkaConnectionError) and str(error).endswith("closed"):
        return "it closes the connection, as if it asked for TLS, a certificate or a user"
    return why_failed(error)
