"""One client's connection: frames in, answers out, in the order of the requests.

Requests are carried out as Kafka does it: one at a time, the next when the last one is answered,
except that Produce requests that follow each other are carried out at once, so that one sync serves
them all. What a client sends beyond that stays unread, and then in its own socket; what it does not
read of the answers stops its requests too. So a connection's memory is bounded by one frame, one
Fetch answer and a window of Produce requests, which hold nothing but their place.
"""

import asyncio
import logging
import struct
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, NamedTuple, Protocol, cast

from streamtable.streams.broker.codes import Code
from streamtable.streams.broker.settings import BrokerSettings
from streamtable.streams.broker.wire import Buffer, Malformed, Message, skip_tags

__all__ = ["Api", "Call", "Connection", "Raw"]

logger = logging.getLogger(__name__)

_HEADER: Final = struct.Struct(">hhih")
_SIZE: Final = struct.Struct(">i")
_ANSWER: Final = struct.Struct(">ii")
_SMALLEST_FRAME: Final = 10
_PRODUCE: Final = 0
_API_VERSIONS: Final = 18
_UNREAD_BYTES: Final = 1 << 20

Handler = Callable[[dict[str, Any], "Call"], Any]


class Raw(Protocol):
    """The handler of an API with a codec of its own: it reads `data[at:end]` and answers itself."""

    def __call__(self, call: "Call", data: Buffer, at: int, end: int) -> None:
        """Carry out one request.

        Raises:
            Malformed: the bytes are not this request.
        """


class Api(NamedTuple):
    """An API that the broker speaks: its message with a handler, or versions with a raw one."""

    first: int
    last: int
    message: Message | None = None
    handler: Handler | None = None
    raw: Raw | None = None


class Call:
    """One request that is being carried out.

    Attributes:
        key: the API's number.
        version: the version that the client speaks.
        client_id: what the client calls itself.
        host: its address.
        on_close: called if the connection is lost before the answer.
    """

    __slots__ = (
        "_connection",
        "_correlation_id",
        "_message",
        "answer_parts",
        "client_id",
        "host",
        "key",
        "on_close",
        "version",
    )

    def __init__(  # noqa: PLR0917 - made in one place, for every request
        self,
        connection: "Connection",
        key: int,
        version: int,
        correlation_id: int,
        client_id: str,
        message: Message | None,
    ) -> None:
        self.key = key
        self.version = version
        self.client_id = client_id
        self.host = connection.host
        self.on_close: Callable[[], None] | None = None
        self.answer_parts: list[Buffer] | None = None
        self._connection = connection
        self._correlation_id = correlation_id
        self._message = message

    def answer(self, response: dict[str, Any]) -> None:
        """Answer with a message."""
        message = self._message
        assert message is not None
        body = bytearray()
        if self.version >= message.flexible and self.key != _API_VERSIONS:
            body.append(0)
        message.encode(self.version, response, body)
        self.answer_raw([body], len(body))

    def answer_raw(self, parts: list[Buffer], size: int) -> None:
        """Answer with bytes that are a message already, `size` of them in all."""
        parts.insert(0, _ANSWER.pack(size + 4, self._correlation_id))
        self.answer_parts = parts
        self._connection.answered(self)

    def no_answer(self) -> None:
        """End a request that the client wants no answer for."""
        self.answer_parts = []
        self._connection.answered(self)


class Connection(asyncio.Protocol):
    """One connection of a client.

    Args:
        apis: what the broker speaks, by number.
        settings: the broker's settings.
        connections: the set of open connections, this one among them while it is.
    """

    def __init__(
        self,
        apis: Mapping[int, Api],
        settings: BrokerSettings,
        connections: set["Connection"],
    ) -> None:
        self._apis = apis
        self._settings = settings
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._tail = bytearray()
        self._wanted = 0
        self._calls: deque[Call] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waits = False
        self._full = False
        self._reading = True
        self._processing = False
        self.host = ""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection in, or close it if there are too many."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        peer = transport.get_extra_info("peername")
        self.host = str(peer[0]) if peer else ""
        if len(self._connections) >= self._settings.max_connections:
            self.close(f"there are {len(self._connections)} connections, the limit")
            return
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's name
        """Let go of everything that waits for this client."""
        self._connections.discard(self)
        self._transport = None
        calls = list(self._calls)
        self._calls.clear()
        self._tail.clear()
        for call in calls:
            if call.on_close is not None and call.answer_parts is None:
                call.on_close()

    def pause_writing(self) -> None:
        """Stop carrying out requests: the client does not read."""
        self._full = True

    def resume_writing(self) -> None:
        """Go on."""
        self._full = False
        self._go_on()

    def data_received(self, data: bytes) -> None:
        """Carry out the whole frames of what came."""
        tail = self._tail
        if tail:
            tail += data
            if len(tail) < self._wanted or self._processing or self._stopped():
                self._throttle()
                return
            self._tail = bytearray()
            self._process(tail)
        else:
            self._process(data)

    # Requests

    def _stopped(self) -> bool:
        """Tell whether the next request has to wait."""
        return self._waits or self._full or len(self._calls) >= self._settings.max_in_flight

    def _process(self, data: Buffer) -> None:
        at, available = 0, len(data)
        self._wanted = 0
        self._processing = True
        try:
            while available - at >= _SIZE.size and not self._stopped():
                (size,) = _SIZE.unpack_from(data, at)
                if not _SMALLEST_FRAME <= size <= self._settings.max_request_bytes:
                    raise Malformed(  # noqa: TRY301 - handled as any other malformed frame
                        f"a frame of {size} bytes"
                    )
                end = at + _SIZE.size + size
                if end > available:
                    self._wanted = end - at
                    break
                self._carry_out(data, at + _SIZE.size, end)
                if self._transport is None:
                    return
                at = end
        except (Malformed, struct.error, IndexError, UnicodeDecodeError) as error:
            self.close(f"sent a malformed frame: {error}")
            return
        except Exception:  # one client's request must not end the broker
            logger.exception("a request of %s failed", self.host)
            self.close("a request failed")
            return
        finally:
            self._processing = False
        if at < available:
            self._tail = bytearray(memoryview(data)[at:]) if at else bytearray(data)
        self._throttle()

    def _carry_out(self, data: Buffer, at: int, end: int) -> None:
        key, version, correlation_id, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        client_id = ""
        if length >= 0:
            client_id = data[at : at + length].decode()
            at += length
        api = self._apis.get(key)
        if api is None or not api.first <= version <= api.last:
            self._unsupported(key, version, correlation_id, client_id)
            return
        call = Call(self, key, version, correlation_id, client_id, api.message)
        self._calls.append(call)
        if api.raw is not None:
            api.raw(call, data, at, end)
        else:
            self._dispatch(api, call, data, at, end)
        if call.answer_parts is None and key != _PRODUCE:
            self._waits = True

    def _dispatch(self, api: Api, call: Call, data: Buffer, at: int, end: int) -> None:
        message, handler = api.message, api.handler
        assert message is not None
        assert handler is not None
        frame = bytes(memoryview(data)[at:end])
        request = message.decode(
            call.version, frame, skip_tags(frame, 0) if call.version >= message.flexible else 0
        )
        response = handler(request, call)
        if isinstance(response, dict):
            call.answer(response)
        elif response is not None:
            self.run(call, response)

    def run(self, call: Call, work: Coroutine[Any, Any, dict[str, Any] | None]) -> None:
        """Carry out a request in a task; what it returns is the answer, unless it answers."""

        async def answer() -> None:
            try:
                response = await work
            except Exception:  # as above
                logger.exception("a request of %s failed", self.host)
                self.close("a request failed")
                return
            if response is not None:
                call.answer(response)

        task = asyncio.get_running_loop().create_task(answer())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _unsupported(self, key: int, version: int, correlation_id: int, client_id: str) -> None:
        """Answer ApiVersions in its first form; close the connection for anything else."""
        api = self._apis[_API_VERSIONS]
        if key != _API_VERSIONS or api.handler is None:
            raise Malformed(f"{client_id!r} asked for API {key} v{version}, which is not spoken")
        call = Call(self, key, 0, correlation_id, client_id, api.message)
        self._calls.append(call)
        call.answer({**api.handler({}, call), "error_code": Code.UNSUPPORTED_VERSION})

    # Answers

    def answered(self, call: Call) -> None:
        """Send an answer that is complete, once those before it are."""
        transport = self._transport
        if transport is None:
            return
        calls = self._calls
        if calls[0] is not call:
            return
        while calls and calls[0].answer_parts is not None:
            parts = calls.popleft().answer_parts
            if parts:
                transport.writelines(parts)
        if self._waits and not any(one.key != _PRODUCE for one in calls):
            self._waits = False
        if self._tail and not self._processing:
            self._go_on()

    def _go_on(self) -> None:
        """Carry out what waited, and read on."""
        whole = self._tail and len(self._tail) >= self._wanted
        if whole and not self._processing and not self._stopped():
            data, self._tail = self._tail, bytearray()
            self._process(data)
        self._throttle()

    def _throttle(self) -> None:
        """Read as long as what is unread is little, or belongs to a frame that may be read."""
        if self._transport is None:
            return
        reading = not (self._stopped() and len(self._tail) > _UNREAD_BYTES)
        if reading != self._reading:
            self._reading = reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def close(self, reason: str | None = None) -> None:
        """Close the connection, with a log line if there is a reason."""
        if self._transport is None:
            return
        if reason is not None:
            logger.warning("closed the connection of %s: %s", self.host, reason)
        for task in self._tasks:
            task.cancel()
        self._transport.abort()
        self._transport = None
