"""Which Kafka brokers are not reached, and why: clients only say that none is, and log the rest."""

import asyncio
import logging
import time
from typing import Any, Final

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaConnectionError, RequestTimedOutError
from aiokafka.protocol.metadata import MetadataRequest

from streamtable.streams.log import CLIENT_ERRORS, LogUnavailable
from streamtable.streams.patience import probing
from streamtable.streams.reasons import why_failed
from streamtable.streams.security import BROKERS, client_options

__all__ = ["check_brokers", "look_at_brokers", "why_no_broker"]

logger = logging.getLogger(__name__)

_TIMEOUT_MS: Final = 3000
# Kafka names a broker that is lost for as long as its session lasts, 9 s if not set otherwise.
_PATIENCE_S: Final = 15.0
_RETRY_S: Final = 1.0
_ANSWERS: Final = "it answers now"


async def look_at_brokers(address: str) -> dict[int, str | None]:
    """Look whether the brokers that Kafka names are reached.

    Args:
        address: the brokers, `host:port,...`.

    Returns:
        By the number of each broker why it is not reached, None if it is. Nothing where none of
        those in `address` answers.
    """
    named = await _named(address)
    found = await asyncio.gather(*(_look(address, host, port) for _, host, port in named))
    return {
        number: None
        if why == _ANSWERS
        else f"broker {number} is not reached at {host}:{port}, its advertised.listeners: {why}"
        for (number, host, port), why in zip(named, found, strict=True)
    }


async def check_brokers(address: str) -> None:
    """Return when each broker is reached that Kafka names, or none of those in `address` is.

    Whoever does not reach one of them can read and write some shards, and others not.

    Args:
        address: the brokers, `host:port,...`.

    Raises:
        LogUnavailable: one is not reached, and Kafka takes it for one that can be.
    """
    deadline = time.monotonic() + _PATIENCE_S
    told = ""
    while wrong := await _wrong(address):
        if time.monotonic() > deadline:
            raise LogUnavailable(f"Kafka at {address}: {wrong}")
        if wrong != told:
            logger.info("waiting for Kafka: %s", wrong)
            told = wrong
        await asyncio.sleep(_RETRY_S)


async def why_no_broker(address: str) -> str:
    """Try to connect to each broker, and say why that fails.

    Args:
        address: the brokers, `host:port,...`.

    Returns:
        What is wrong with each, or "it answers now".
    """
    hosts = _hosts(address)
    found = await asyncio.gather(*(_look(address, *host) for host in hosts))
    if _ANSWERS in found:
        wrong = await _wrong(address)
        if wrong:
            return wrong
    if len(set(found)) == 1:
        return found[0]
    return ", ".join(
        f"{host}:{port}: {why}" for (host, port), why in sorted(zip(hosts, found, strict=True))
    )


async def _wrong(address: str) -> str:
    """Say what is wrong with the addresses that Kafka gives its clients; nothing if nothing is."""
    return "; ".join(why for why in (await look_at_brokers(address)).values() if why is not None)


async def _named(address: str) -> list[tuple[int, str, int]]:
    """Ask one that answers for the brokers' numbers, and where clients find them."""
    for host, port in _hosts(address):
        try:
            connection = await _connect(address, host, port)
        except CLIENT_ERRORS:
            continue
        try:
            answer = await connection.send(MetadataRequest([]))
        except CLIENT_ERRORS:
            continue
        finally:
            connection.close()
        return [(number, host, port) for number, host, port, *_ in answer.brokers]
    return []


async def _look(address: str, host: str, port: int) -> str:
    """Say why a broker does not answer, or that it does."""
    try:
        connection = await _connect(address, host, port)
    except CLIENT_ERRORS as error:
        return _told(error)
    connection.close()
    return _ANSWERS


async def _connect(address: str, host: str, port: int) -> Any:
    options = client_options(address)
    del options[BROKERS]
    with probing():
        return await create_conn(host, port, request_timeout_ms=_TIMEOUT_MS, **options)


def _hosts(address: str) -> list[tuple[str, int]]:
    return [(host, port) for host, port, _ in collect_hosts(client_options(address)[BROKERS])]


def _told(error: Exception) -> str:
    if isinstance(error, RequestTimedOutError):
        return why_failed(TimeoutError())
    if isinstance(error, KafkaConnectionError) and str(error).endswith("closed"):
        return "it closes the connection, as if it asked for TLS, a certificate or a user"
    return why_failed(error)
