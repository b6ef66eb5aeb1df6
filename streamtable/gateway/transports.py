"""Sends an answer's head and its body in one piece."""

import asyncio
from typing import Any

__all__ = ["JoiningTransport"]

_HEAD = b"HTTP/1.1 "
_CONTINUE = b"HTTP/1.1 1"
# Copying a longer body costs more than sending its head by itself.
_MOST_JOINED_BYTES = 64 * 1024


class JoiningTransport(asyncio.Transport):
    """A connection's transport that holds an answer's head until its body is written.

    uvicorn writes the two one after the other, and a transport sends at once what it is given: a
    system call and a packet each. A client that has read the head then waits for the rest; Go's
    SDK may have closed its connection by that time, since it closes the request's body as soon as
    there is a head.

    Args:
        transport: the connection's own.
    """

    __slots__ = ("_head", "_transport", "_write")

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._write = transport.write
        self._head = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send what is written; of an answer, hold the head until more is written."""
        head = self._head
        if head:
            self._head = b""
            if len(data) <= _MOST_JOINED_BYTES:
                self._write(head + data)
                return
            self._write(head)
        elif data[:9] == _HEAD and data[:10] != _CONTINUE:
            self._head = bytes(data)
            return
        self._write(data)

    def flush(self) -> None:
        """Send a head that is held: nothing follows it."""
        if self._head:
            self._write(self._head)
            self._head = b""

    def close(self) -> None:
        """Close the connection when everything is sent."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether the connection is closed, or is being closed."""
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        """Take nothing more from the client for now."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the transport knows of the connection, as asyncio's does."""
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait for the client to read."""
        return self._transport.get_write_buffer_size()
