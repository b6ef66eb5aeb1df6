"""What goes back to a client: bodies of errors, headers, compression."""

import asyncio
import os
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from streamtable.core.errors import ApiError, UnknownOperation

__all__ = ["NoOperation", "error_body", "gzip_answer", "new_request_id", "wants_gzip"]

_ID_CHARACTERS = 52
_IDS_AT_ONCE = 64
_GZIP = 16 + zlib.MAX_WBITS
# Smaller answers fit a packet anyhow.
_LEAST_PACKED_BYTES = 1024
# Larger answers are compressed beside the event loop.
_MOST_PACKED_AT_ONCE_BYTES = 32 * 1024
# Errors whose text is in "Message". Source: the service model, and for SerializationException
# what the service sends; SDKs read either.
_CAPITALIZED = frozenset(
    {
        "IdempotentParameterMismatchException",
        "SerializationException",
        "TransactionCanceledException",
        "TransactionInProgressException",
    }
)


def _request_ids() -> Iterator[str]:
    # Asking the system for each one takes a thirtieth of a GetItem.
    while True:
        many = os.urandom(_ID_CHARACTERS // 2 * _IDS_AT_ONCE).hex().upper()
        for start in range(0, len(many), _ID_CHARACTERS):
            yield many[start : start + _ID_CHARACTERS]


_ids = _request_ids()


class NoOperation(UnknownOperation):
    """The request is not JSON, so none of DynamoDB's; told so as if it had come to another API."""

    status = 404


def new_request_id() -> str:
    """Return 52 capital letters and digits, as DynamoDB's request ids have."""
    return next(_ids)


def error_body(error: ApiError) -> bytes:
    """Return the JSON of an error: `{"__type": ..., "message": ...}` and its further members.

    Of `NoOperation` it is an empty XML element, as DynamoDB has it.
    """
    if isinstance(error, NoOperation):
        return b"<UnknownOperationException/>\n"
    body: dict[str, Any] = {"__type": error.namespace + error.code, **error.members}
    if error.message:
        body["Message" if error.code in _CAPITALIZED else "message"] = error.message
    return orjson.dumps(body)


def wants_gzip(headers: Mapping[bytes, bytes], answer: bytes) -> bool:
    """Whether an answer is to be compressed: it is worth it, and the client asked for it."""
    if len(answer) < _LEAST_PACKED_BYTES:
        return False
    accepted = headers.get(b"accept-encoding")
    if accepted is None or b"gzip" not in accepted:
        return False
    for each in accepted.split(b","):
        coding, _, parameters = each.partition(b";")
        if coding.strip() == b"gzip":
            quality = parameters.strip().removeprefix(b"q=")
            return quality.strip(b"0.") != b"" or quality == b""
    return False


async def gzip_answer(answer: bytes) -> bytes:
    """Return an answer compressed, quickly rather than tightly."""
    if len(answer) <= _MOST_PACKED_AT_ONCE_BYTES:
        return _pack(answer)
    return await asyncio.to_thread(_pack, answer)


def _pack(answer: bytes) -> bytes:
    packer = zlib.compressobj(level=1, wbits=_GZIP)
    return packer.compress(answer) + packer.flush()
