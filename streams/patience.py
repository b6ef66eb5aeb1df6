"""How long aiokafka waits for a broker that says nothing.

aiokafka has one limit for all requests of a client: as long as joining a group may take, with Faust
a minute and a half. A broker that stands still, or whose machine is gone, refuses nothing, and
whoever asks it waits for so long: the member for its heartbeat, the reader for a leader's records,
and all of a client for the lock that each new connection is made under. So what a broker answers at
once has a limit of its own. Who runs into it asks again, another broker where one has taken over.
"""

import asyncio
from typing import Any, Final

import aiokafka.conn
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import (
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    SyncGroupRequest,
)
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest

__all__ = ["limit_requests"]

_AT_ONCE_S: Final = 5.0
# A fetch waits for records for half a second at most, then it may be megabytes. What is produced
# waits for the other brokers.
_LONG_S: Final = 12.0
# Kafka answers when all members have joined; one that is lost is waited for as long as its session.
_JOIN_S: Final = 25.0

_LIMITS: Final[dict[type, float]] = {
    ApiVersionRequest: _AT_ONCE_S,
    FindCoordinatorRequest: _AT_ONCE_S,
    HeartbeatRequest: _AT_ONCE_S,
    LeaveGroupRequest: _AT_ONCE_S,
    MetadataRequest: _AT_ONCE_S,
    OffsetCommitRequest: _AT_ONCE_S,
    OffsetFetchRequest: _AT_ONCE_S,
    OffsetRequest: _AT_ONCE_S,
    FetchRequest: _LONG_S,
    InitProducerIdRequest: _LONG_S,
    ProduceRequest: _LONG_S,
    JoinGroupRequest: _JOIN_S,
    SyncGroupRequest: _JOIN_S,
}


class _Connection(AIOKafkaConnection):  # type: ignore[misc]
    async def connect(self) -> Any:
        async with asyncio.timeout(_AT_ONCE_S):
            return await super().connect()

    def send(self, request: Any, expect_response: bool = True) -> Any:
        answer = super().send(request, expect_response)
        limit = _LIMITS.get(type(request)) if expect_response else None
        return answer if limit is None else asyncio.wait_for(answer, limit)


def limit_requests() -> None:
    """Have the connections that aiokafka makes from now on know these limits."""
    aiokafka.conn.AIOKafkaConnection = _Connection
