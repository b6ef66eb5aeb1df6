"""What is said where Kafka does not do what a command needs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from streamtable.cli.output import Failure

__all__ = ["brokers_needed"]


@asynccontextmanager
async def brokers_needed(
    brokers: str, config: Path | None, advice: str = ""
) -> AsyncIterator[None]:
    """Say in a line what is wrong with the brokers, where something fails by them.

    Args:
        brokers: `host:port,...`.
        config: the file of settings for them, if there is one.
        advice: what else can be done where none answers.

    Raises:
        Failure: no broker answers, or they refuse something.
    """
    from aiokafka.errors import KafkaConnectionError, KafkaError

    from streamtable.streams.security import known_address
    from streamtable.streams.unreachable import why_no_broker

    try:
        yield
    except KafkaConnectionError as error:
        why = await why_no_broker(known_address(brokers, config))
        raise Failure(f"no Kafka broker answers at {brokers}: {why}{advice}") from error
    except KafkaError as error:
        raise Failure(f"Kafka at {brokers} refuses what is needed: {error}") from error
