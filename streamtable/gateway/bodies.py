"""The body of a request: received, unpacked and parsed, never larger than allowed."""

import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

import orjson

from streamtable.core.errors import ApiError, SerializationError, ServiceUnavailable
from streamtable.gateway.limits import GatewayLimits

__all__ = ["Bodies", "BodyTooLarge", "Receive", "parse_object", "unpack"]

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

_GZIP = 16 + zlib.MAX_WBITS


class BodyTooLarge(ApiError, ValueError):
    """The body of the request passes 16 MB."""

    code: ClassVar[str] = "RequestEntityTooLargeException"
    namespace: ClassVar[str] = "com.amazon.coral.service#"
    status: ClassVar[int] = 413

    def __init__(self) -> None:
        super().__init__("Request Entity Too Large")


class Bodies:
    """Receives bodies within the limits of one body and of all bodies together.

    Attributes:
        buffered: bytes held now by bodies that came in several pieces.
    """

    def __init__(self, limits: GatewayLimits) -> None:
        self._limits = limits
        self.buffered = 0

    def check_length(self, length: bytes | None) -> None:
        """Refuse a body by its `Content-Length`, before any of it is read.

        Raises:
            BodyTooLarge: more than `body_bytes`.
        """
        if length is not None and int(length) > self._limits.body_bytes:
            raise BodyTooLarge

    async def receive(self, first: bytes, receive: Receive) -> bytes | None:
        """Return the whole body that begins with `first`, or None when the client has gone.

        The bytes count as held until `release`.

        Raises:
            BodyTooLarge: more than `body_bytes`.
            ServiceUnavailable: all bodies together pass `buffered_bytes`.
        """
        pieces = [first]
        size = len(first)
        self.buffered += size
        try:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    break
                piece: bytes = message.get("body", b"")
                pieces.append(piece)
                size += len(piece)
                self.buffered += len(piece)
                if size > self._limits.body_bytes:
                    raise BodyTooLarge
                if self.buffered > self._limits.buffered_bytes:
                    raise ServiceUnavailable(
                        "The server holds as many request bodies as it may, please try again"
                    )
                if not message.get("more_body", False):
                    body = b"".join(pieces)
                    size = 0  # handed over: the caller releases it
                    return body
        finally:
            self.buffered -= size
        return None

    def release(self, size: int) -> None:
        """Count `size` bytes that `receive` returned as no longer held."""
        self.buffered -= size


def unpack(body: bytes, encoding: bytes, most_bytes: int) -> bytes:
    """Return a body without its `Content-Encoding`.

    Raises:
        BodyTooLarge: unpacked, it is longer than `most_bytes`.
        SerializationError: the encoding is not gzip, or the body is damaged.
    """
    encoding = encoding.strip().lower()
    if encoding in (b"", b"identity"):
        return body
    if encoding != b"gzip":
        raise SerializationError(
            f"Content-Encoding {encoding.decode('latin-1')} is not known, only gzip is"
        )
    unpacker = zlib.decompressobj(_GZIP)
    try:
        unpacked = unpacker.decompress(body, most_bytes + 1)
    except zlib.error as error:
        raise SerializationError("The gzip body is damaged") from error
    if len(unpacked) > most_bytes:
        raise BodyTooLarge
    if not unpacker.eof or unpacker.unused_data:
        raise SerializationError("The gzip body is damaged")
    return unpacked


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body is.

    Raises:
        SerializationError: it is no JSON, not UTF-8, nested too deeply (1024 levels), or
            something else than an object.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise SerializationError from None
    if type(parsed) is dict:
        return parsed
    if type(parsed) is list:
        raise SerializationError("Start of list found where not expected")
    raise SerializationError("Unexpected field type" if parsed is not None else "")
