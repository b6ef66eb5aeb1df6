"""The connection between two nodes: what is said at about the same time goes over it together.

A frame is two numbers of four bytes, a JSON array of messages, and the bytes that some of them
carry as they are, one after the other. The numbers say how long array and bytes are. A frame with
neither only says that the other side is there.
"""

import asyncio
import logging
import struct
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import orjson

__all__ = ["FRAME_BYTES", "Link", "Packed", "socket_in"]

logger = logging.getLogger(__name__)

FRAME_BYTES: Final = 256 * 1024 * 1024
"""No frame is larger; a call or an answer is in one frame as a whole."""

# How a client begins that speaks TLS.
_TLS: Final = b"\x16\x03"
_HEAD: Final = struct.Struct(">II")
_EMPTY: Final = _HEAD.pack(0, 0)
# What is sent at once, before everything that comes up meanwhile.
_FULL_BYTES: Final = 1024 * 1024
# Before it has said who it is, the other side gets no more memory than this.
_GREETING_BYTES: Final = 16 * 1024
_BEAT_S: Final = 3.0
_SILENT_BEATS: Final = 3


def socket_in(folder: Path, port: int) -> Path:
    """Return the path of the UNIX socket of a node that has this port for others."""
    return folder / f"{port}.sock"


class Packed(NamedTuple):
    """JSON, and bytes beside it that nobody on the way looks into.

    It may stand where something is awaited for it: there it is at once.
    """

    value: Any
    content: bytes

    def __await__(self) -> Generator[Any, None, "Packed"]:
        """Wait for nothing."""
        yield from ()
        return self


class Link(asyncio.Protocol):
    """One side of a connection between two nodes. First the two greet each other, then it is open.

    Sending never waits: what is under way is as much as the calls that wait for answers ask for.

    Args:
        made: called with it when it is connected.

    Attributes:
        closed: whether nothing can be sent any more.
    """

    def __init__(self, made: "Callable[[Link], None] | None" = None) -> None:
        self.closed = False
        self._made = made
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._take: Callable[[list[Any], bytes], None] = self._take_greeting
        self._lost: Callable[[], None] | None = None
        self._most_bytes = _GREETING_BYTES
        # Of the other side: what has come of a frame, its greetings, and who waits for one.
        self._buffer = bytearray()
        self._greetings: list[Any] = []
        self._greeted: asyncio.Future[None] | None = None
        # What the next frame will have.
        self._messages: list[bytes] = []
        self._contents: list[bytes] = []
        self._size_bytes = 0
        self._flushing: asyncio.Handle | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._heard = True
        self._silent = 0

    def send(self, message: list[Any] | dict[str, Any], content: bytes = b"") -> None:
        """Have a message sent, soon. It is serialized now, so it may change afterwards.

        On a closed connection nothing happens: `lost` was called.

        Args:
            message: JSON; where there is content, its length is the array's last element.
            content: what goes beside it.

        Raises:
            TypeError: it is nothing that JSON can say.
        """
        encoded = orjson.dumps(message)
        if self.closed:
            return
        self._messages.append(encoded)
        self._size_bytes += len(encoded)
        if content:
            self._contents.append(content)
            self._size_bytes += len(content)
        if self._size_bytes > _FULL_BYTES:
            self._flush()
        elif self._flushing is None:
            self._flushing = self._loop.call_soon(self._flush)

    async def receive(self) -> Any:
        """Return the next message of the other side's greeting.

        Raises:
            ConnectionError: the connection is gone.
        """
        while not self._greetings:
            if self.closed:
                raise ConnectionResetError("it closes the connection")
            self._greeted = self._loop.create_future()
            await self._greeted
        return self._greetings.pop(0)

    def open(self, take: Callable[[list[Any], bytes], None], lost: Callable[[], None]) -> None:
        """End the greeting.

        Args:
            take: called with the messages of each frame, and what they carry.
            lost: called when the connection is gone, or the other side says nothing any more.
        """
        self._take = take
        self._lost = lost
        self._most_bytes = FRAME_BYTES
        if self.closed:
            lost()
        else:
            self._beat = self._loop.call_later(_BEAT_S, self._look)

    def close(self) -> None:
        """Send what is to be sent, and nothing after it."""
        if not self.closed:
            self._flush()
            self._end()
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if not self.closed:
            self._end()
            self._transport.abort()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # uvloop's are no subclasses.
        self._transport = cast("asyncio.Transport", transport)
        if self._made is not None:
            self._made(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """End."""
        self._end()

    def data_received(self, data: bytes) -> None:
        """Take the frames that have come as a whole."""
        self._heard = True
        try:
            if self._buffer:
                self._buffer += data
                del self._buffer[: self._take_frames(self._buffer)]
            else:
                # Most frames come whole, and are read where they are.
                taken = self._take_frames(data)
                if taken < len(data):
                    self._buffer += data[taken:]
        except (TypeError, ValueError) as error:
            logger.warning("what another node says makes no sense: %s", error)
            self.abort()

    # Inside

    def _take_frames(self, buffer: bytes | bytearray) -> int:
        """Take the frames at the beginning of what has come; return how long they are."""
        start = 0
        while len(buffer) - start >= _HEAD.size and not self.closed:
            said_bytes, content_bytes = _HEAD.unpack_from(buffer, start)
            said = start + _HEAD.size
            content = said + said_bytes
            end = content + content_bytes
            if end - start > self._most_bytes:
                if buffer[start : start + len(_TLS)] == _TLS:
                    raise ValueError("it speaks TLS, and this node has no --peer-tls-cert")
                raise ValueError(f"a frame of {end - start} bytes")
            if end > len(buffer):
                break
            if said_bytes:
                with memoryview(buffer) as view:
                    messages = orjson.loads(view[said:content])
                    contents = bytes(view[content:end])
                self._take(messages, contents)
            start = end
        return start

    def _take_greeting(self, messages: list[Any], _contents: bytes) -> None:
        self._greetings += messages
        self._wake()

    def _wake(self) -> None:
        if self._greeted is not None and not self._greeted.done():
            self._greeted.set_result(None)

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if not self._messages:
            return
        said = b"[" + b",".join(self._messages) + b"]"
        head = _HEAD.pack(len(said), sum(map(len, self._contents)))
        self._write(b"".join((head, said, *self._contents)))
        self._messages.clear()
        self._contents.clear()
        self._size_bytes = 0

    def _write(self, frame: bytes) -> None:
        try:
            self._transport.write(frame)
        except RuntimeError as error:
            # uvloop has closed a connection that was reset, and calls `connection_lost` soon.
            logger.debug("a frame is not sent: %s", error)

    def _look(self) -> None:
        """Tell the other side that this one is there, and see whether it has said so."""
        # Counted, not timed: after a pause of this process there is more to be read first.
        self._silent = 0 if self._heard else self._silent + 1
        self._heard = False
        if self._silent >= _SILENT_BEATS:
            logger.info("a connection between nodes is given up: the other side is silent")
            self.abort()
            return
        self._write(_EMPTY)
        self._beat = self._loop.call_later(_BEAT_S, self._look)

    def _end(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self._beat is not None:
            self._beat.cancel()
        self._wake()
        if self._lost is not None:
            self._lost()
