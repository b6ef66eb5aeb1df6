"""How long aiokafka waits for a broker that says nothing.

aiokafka has one limit for all requests of a client: as long as joining a group may take, with Faust
a minute and a half. A broker that stands still, or whose machine is gone, refuses nothing, and
whoever asks it waits for so long: the member for its heartbeat, the reader for a leader's records,
and all of a client for the lock that each new connection is made under. So what a broker answers at
once has a limit of its own. Who runs into it asks again, another broker where one has taken over.

Where all brokers are gone there is no other one, and each of a node's clients would look for them
ten times a second or more. So the longer none has answered, the longer a new connection waits.
"""

import asyncio
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final

import aiokafka.conn
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError, RequestTimedOutError
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

__all__ = ["limit_requests", "probing"]

_AT_ONCE_S: Final = 5.0
# A fetch waits for records for half a second at most, then it may be megabytes.
_FETCH_S: Final = 8.0
# What the broker writes waits for the other ones.
_LONG_S: Final = 12.0
# Kafka answers when all members have joined; one that is lost is waited for as long as its session.
_JOIN_S: Final = 25.0

_ALONE_S: Final = 3.0
# A new connection waits for this part of the time since a broker answered, and for so long at most.
_PAUSE_PART: Final = 0.1
_PAUSE_S: Final = 1.0
_AWAKE_S: Final = 1.0

# What a broker answers by itself, whatever its disk and the other brokers do.
_AT_ONCE: Final = frozenset(
    {
        ApiVersionRequest,
        FetchRequest,
        FindCoordinatorRequest,
        HeartbeatRequest,
        MetadataRequest,
        OffsetFetchRequest,
        OffsetRequest,
    }
)
_LIMITS: Final[dict[type, float]] = {
    **dict.fromkeys(_AT_ONCE, _AT_ONCE_S),
    FetchRequest: _FETCH_S,
    InitProducerIdRequest: _LONG_S,
    LeaveGroupRequest: _LONG_S,
    OffsetCommitRequest: _LONG_S,
    ProduceRequest: _LONG_S,
    JoinGroupRequest: _JOIN_S,
    SyncGroupRequest: _JOIN_S,
}


class _Silent:
    """The brokers that said nothing when they were asked last, by host and port.

    Whoever does not know better takes any broker for its questions, one in three times the one that
    is gone, and a shard that is taken over needs several answers.

    Attributes:
        patient: connections with requests that have no limit here, as appends: they wait for
            other brokers, too, but not for one that is silent.
    """

    def __init__(self) -> None:
        self._until: dict[tuple[str, int], float] = {}
        self.patient: set[_Connection] = set()

    def __bool__(self) -> bool:
        return bool(self._until)

    def note(self, broker: tuple[str, int]) -> None:
        """Have it left alone for a while, also by who waits for it already."""
        self._until[broker] = time.monotonic() + _ALONE_S
        for connection in tuple(self.patient):
            if (connection.host, connection.port) == broker:
                connection.give_up()

    def forget(self, broker: tuple[str, int]) -> None:
        """It has said something."""
        self._until.pop(broker, None)

    def is_left_alone(self, broker: tuple[str, int], *, tells: bool) -> bool:
        """Whether not to ask it.

        Now and then one request may, whose answer tells at once that it is back; others do not wait
        for that.
        """
        until = self._until.get(broker)
        if until is None:
            return False
        if not tells or time.monotonic() < until:
            return True
        self.note(broker)
        return False


class _Gone:
    """Since when all brokers are gone: connections fail, and nothing else is answered."""

    def __init__(self) -> None:
        self._since: float | None = None

    def __bool__(self) -> bool:
        return self._since is not None

    def note(self) -> None:
        """A connection has failed."""
        if self._since is None:
            self._since = time.monotonic()

    def forget(self) -> None:
        """A broker has answered."""
        self._since = None

    def pause_s(self) -> float:
        """How long the next connection is to wait."""
        since = self._since
        return 0.0 if since is None else min(_PAUSE_S, _PAUSE_PART * (time.monotonic() - since))


_silent: Final = _Silent()
_gone: Final = _Gone()
_probing: Final = ContextVar("probing", default=False)


class _Connection(AIOKafkaConnection):  # type: ignore[misc]
    _open = False

    async def connect(self) -> Any:
        if _gone:
            await asyncio.sleep(_gone.pause_s())
        try:
            self._check(tells=True)
            made = await self._within(_AT_ONCE_S, super().connect(), tells=True)
        except (KafkaError, OSError):
            _gone.note()
            raise
        self._open = True
        return made

    def send(self, request: Any, expect_response: bool = True) -> Any:
        kind = type(request)
        if _silent and self._open:
            self._check(tells=kind in _AT_ONCE)
        try:
            answer = super().send(request, expect_response)
        except RuntimeError as error:
            # uvloop has closed it, and the task that reads it is still to hear of that. What isn't
            # an error of Kafka's ends the client's task that asks for metadata, and whoever wants
            # to know the leader from then on waits for ever.
            self.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"{self.host}:{self.port} is gone: {error}") from error
        limit = _LIMITS.get(kind) if expect_response else None
        if limit is None:
            _silent.patient.add(self)
            return answer
        return self._within(limit, answer, tells=kind in _AT_ONCE)

    def give_up(self) -> None:
        """Have what waits for an answer told that there is none; from any thread."""
        with suppress(RuntimeError):  # its loop is closed, and nobody waits
            self._loop.call_soon_threadsafe(self.close, CloseReason.CONNECTION_TIMEOUT)

    def close(self, reason: Any = None, exc: Any = None) -> Any:
        _silent.patient.discard(self)
        return super().close(reason, exc)

    def _check(self, *, tells: bool) -> None:
        if not _probing.get() and _silent.is_left_alone((self.host, self.port), tells=tells):
            self.close(reason=CloseReason.CONNECTION_TIMEOUT)
            raise KafkaConnectionError(f"{self.host}:{self.port} has said nothing for a while")

    async def _within(self, limit_s: float, work: Awaitable[Any], *, tells: bool) -> Any:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(limit_s):
                answer = await work
        except TimeoutError:
            # It may have been this process that stood still.
            if tells and time.monotonic() - begun < limit_s + _AWAKE_S:
                _silent.note((self.host, self.port))
            # aiokafka would look for the connection to close it, which another request that was
            # late may have done: what it finds then ends a member's part in its group for good.
            self.close(reason=CloseReason.CONNECTION_TIMEOUT)
            raise RequestTimedOutError from None
        if _silent:
            _silent.forget((self.host, self.port))
        if _gone:
            _gone.forget()
        return answer


@contextmanager
def probing() -> Iterator[None]:
    """Have brokers asked also if they are left alone, to find out whether they answer."""
    token = _probing.set(True)
    try:
        yield
    finally:
        _probing.reset(token)


def limit_requests() -> None:
    """Have the connections that aiokafka makes from now on know these limits."""
    aiokafka.conn.AIOKafkaConnection = _Connection
