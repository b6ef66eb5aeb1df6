"""What consumer groups have committed, and who is in them, asked from outside."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import orjson
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata

from streamtable.streams.log import CLIENT_ERRORS, LogUnavailable
from streamtable.streams.security import client_options

__all__ = ["GroupOffsets"]

T = TypeVar("T")

_TIMEOUT_S: Final = 10.0
_ATTEMPTS: Final = 2
# While shards move Kafka says who is there, and not what they say of themselves.
_LOOKS: Final = 20
_LOOK_S: Final = 0.1


class GroupOffsets:
    """Asks about consumer groups on the change log, over one connection that is kept.

    Args:
        address: the brokers, `host:port,...`.
        topic: the change log's name.
    """

    def __init__(self, address: str, topic: str) -> None:
        self._address = address
        self._topic = topic
        self._admin: AIOKafkaAdminClient | None = None
        self._opening = asyncio.Lock()

    async def stop(self) -> None:
        """Close the connection."""
        admin, self._admin = self._admin, None
        if admin is not None:
            await admin.close()

    async def committed(self, group: str) -> dict[int, int]:
        """Return by shard the offset that a group has committed, of shards where it has one.

        Raises:
            LogUnavailable: the brokers do not answer.
        """

        async def ask(admin: AIOKafkaAdminClient) -> dict[int, int]:
            found = await admin.list_consumer_group_offsets(group)
            return {
                partition.partition: metadata.offset
                for partition, metadata in found.items()
                if _is_of(partition, self._topic) and metadata.offset >= 0
            }

        return await self._ask(group, ask)

    async def members(self, group: str) -> int:
        """Return how many members a group has; one that was never there has none.

        Raises:
            LogUnavailable: the brokers do not answer.
        """
        return len(await self._ask(group, lambda admin: _described(admin, group)))

    async def addresses(self, group: str) -> frozenset[str]:
        """Return the addresses of a group's members, `host:port`, see `Group.owners`.

        Those that died lately are among them. It waits for a moment while the group changes; what
        it does not say until then is left out.

        Raises:
            LogUnavailable: the brokers do not answer.
        """

        async def ask(admin: AIOKafkaAdminClient) -> frozenset[str]:
            for _ in range(_LOOKS):
                members = await _described(admin, group)
                if all(metadata for *_, metadata, _assignment in members):
                    break
                await asyncio.sleep(_LOOK_S)
            return frozenset(
                _address(metadata) for *_, metadata, _assignment in members if metadata
            )

        return await self._ask(group, ask)

    async def _ask(self, group: str, ask: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
        failure: Exception | None = None
        for _ in range(_ATTEMPTS):
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    return await ask(await self._connected())
            except CLIENT_ERRORS as error:
                # A connection that broke, or a coordinator that moved: once more on a new one.
                failure = error
                await self.stop()
        assert failure is not None
        raise LogUnavailable(f"the consumer group {group}: {failure!r}") from failure

    async def _connected(self) -> AIOKafkaAdminClient:
        async with self._opening:
            if self._admin is None:
                admin = AIOKafkaAdminClient(**client_options(self._address))
                try:
                    await admin.start()
                except BaseException:
                    await admin.close()
                    raise
                self._admin = admin
            return self._admin


async def _described(admin: AIOKafkaAdminClient, group: str) -> list[tuple[Any, ...]]:
    """Return what Kafka says of each member of a group."""
    [answer] = await admin.describe_consumer_groups([group])
    [(_error, _group, _state, _type, _protocol, members, *_)] = answer.groups
    return list(members)


def _address(metadata: bytes) -> str:
    """Return what Faust says of a member's address: its URL's."""
    said = orjson.loads(ConsumerProtocolMemberMetadata.decode(metadata).user_data)
    return urlsplit(str(said["url"])).netloc


def _is_of(partition: TopicPartition, topic: str) -> bool:
    return bool(partition.topic == topic)
