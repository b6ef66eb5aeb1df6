"""Answers that are sent as they come about: a page whose body is an iterator's chunks."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from streamtable.gateway.bodies import Receive

__all__ = ["Send", "StreamPage", "Streams"]

logger = logging.getLogger(__name__)

Send = Callable[[dict[str, Any]], Awaitable[None]]
StreamPage = Callable[[Mapping[str, str]], AsyncIterator[bytes]]


class Streams:
    """Sends streamed answers, and ends all of them when the server stops.

    The next chunk is asked for when the client has room for it. When the client goes, when the
    server stops, and when sending fails, the iterator is closed before `send` returns; the
    answer then lacks HTTP's last chunk, by which a client tells that it is not whole.
    """

    def __init__(self) -> None:
        self._sending: set[asyncio.Task[bool]] = set()
        self._closed = False

    def close(self) -> None:
        """Cut the streams that are being sent, and each that is begun from now on."""
        self._closed = True
        for sending in self._sending:
            sending.cancel()

    async def send(
        self,
        chunks: AsyncIterator[bytes],
        headers: list[tuple[bytes, bytes]],
        receive: Receive,
        send: Send,
    ) -> bool:
        """Send an answer of status 200; say whether it was sent whole.

        Args:
            chunks: the body.
            headers: of the answer.
            receive: tells when the client has gone; the request's body has been read.
            send: takes the answer.

        Raises:
            Exception: what the iterator raised before its first chunk; nothing was sent then.
        """
        begun = asyncio.Event()
        sending = asyncio.create_task(_send(chunks, headers, send, begun))
        leaving = asyncio.create_task(_until_gone(receive))
        self._sending.add(sending)
        if self._closed:
            sending.cancel()
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            sending.cancel()
            await asyncio.wait({sending, leaving})
            self._sending.discard(sending)
        if sending.cancelled():
            return False
        error = sending.exception()
        if error is None:
            return sending.result()
        if not begun.is_set():
            raise error
        logger.error("a streamed answer was cut off", exc_info=error)
        return False


async def _send(
    chunks: AsyncIterator[bytes],
    headers: list[tuple[bytes, bytes]],
    send: Send,
    begun: asyncio.Event,
) -> bool:
    async with aclosing(_closable(chunks)) as body:
        first = await anext(body, b"")
        begun.set()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": first, "more_body": True})
        async for chunk in body:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
    return True


async def _closable(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Yield the chunks; closing this closes an iterator that can be closed."""
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
