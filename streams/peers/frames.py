"""Frames: what is said at about the same time goes over the network together."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol

import orjson

__all__ = ["FRAME_BYTES", "FrameWriter", "Socket"]

logger = logging.getLogger(__name__)

FRAME_BYTES: Final = 256 * 1024 * 1024
"""No frame is larger; a call or an answer is in one frame as a whole."""

_FULL_BYTES: Final = 1024 * 1024


class Socket(Protocol):
    """A WebSocket of either side."""

    async def send_bytes(self, data: bytes, /) -> None:
        """Send one message; waits while the other side takes nothing."""

    async def close(self) -> object:
        """Close it."""


class FrameWriter:
    """Sends messages in frames: those that come while a frame is being sent make the next one.

    Args:
        socket: where they go.
        closed: called when it can send no more.
    """

    def __init__(self, socket: Socket, closed: Callable[[], None]) -> None:
        self._socket = socket
        self._closed = closed
        self._waiting: list[bytes] = []
        self._some = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    def send(self, message: Any) -> None:
        """Have a message sent, soon. It is serialized now, so it may change afterwards.

        Raises:
            TypeError: it is nothing that JSON can say.
        """
        self._waiting.append(orjson.dumps(message))
        self._some.set()

    def stop(self) -> None:
        """Send nothing more."""
        self._task.cancel()

    async def _run(self) -> None:
        try:
            while True:
                await self._some.wait()
                waiting, self._waiting = self._waiting, []
                self._some.clear()
                start = size_bytes = 0
                for end, message in enumerate(waiting, 1):
                    size_bytes += len(message)
                    if end == len(waiting) or size_bytes > _FULL_BYTES:
                        frame = b"[" + b",".join(waiting[start:end]) + b"]"
                        await self._socket.send_bytes(frame)
                        start, size_bytes = end, 0
        except (OSError, RuntimeError) as error:
            logger.info("a connection between nodes is gone: %r", error)
        finally:
            self._closed()
