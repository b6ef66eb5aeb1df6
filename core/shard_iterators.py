"""Shard iterators: where a reader of a stream's shard goes on, as a token that needs no memory.

A token is the reader's whole state and the time at which it was made, with a checksum, so that
any node can take it and a damaged one is refused. It is no secret and proves nothing.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Any, Final
from zlib import crc32

import orjson

from streamtable.core.errors import ExpiredIterator, ValidationError
from streamtable.core.limits import ITERATOR_AGE_S

__all__ = ["ShardIterator"]

_CHECKSUM_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class ShardIterator:
    """A place in a shard of a stream.

    Attributes:
        arn: the stream.
        shard: the code of the shard, see `core.layouts.Part`.
        offset: offset of the commit to go on at.
        index: the change in it to go on at.
    """

    arn: str
    shard: int
    offset: int
    index: int

    def encode(self, now: float) -> str:
        """Return the token.

        Args:
            now: when it is made, seconds since 1970.
        """
        state = orjson.dumps([self.arn, self.shard, self.offset, self.index, int(now * 1000)])
        return urlsafe_b64encode(_checksum(state) + state).decode()

    @classmethod
    def decode(cls, token: str, now: float) -> "ShardIterator":
        """Read a token.

        Args:
            token: what `encode` returned.
            now: seconds since 1970.

        Raises:
            ValidationError: it is no token.
            ExpiredIterator: it was made more than 15 minutes ago.
        """
        arn, shard, offset, index, made_ms = _read(token)
        if now * 1000 - made_ms > ITERATOR_AGE_S * 1000:
            raise ExpiredIterator("The provided iterator exceeds the maximum age allowed.")
        return cls(arn, shard, offset, index)


def _read(token: str) -> list[Any]:
    try:
        data = urlsafe_b64decode(token)
    except ValueError:
        raise _invalid() from None
    state = data[_CHECKSUM_BYTES:]
    if data[:_CHECKSUM_BYTES] != _checksum(state) or urlsafe_b64encode(data).decode() != token:
        raise _invalid()
    try:
        found: list[Any] = orjson.loads(state)
    except ValueError:
        raise _invalid() from None
    return found


def _checksum(state: bytes) -> bytes:
    return crc32(state).to_bytes(_CHECKSUM_BYTES, "big")


def _invalid() -> ValidationError:
    return ValidationError("Invalid ShardIterator")
