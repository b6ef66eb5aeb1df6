"""What others read of a shard's materialized rows."""

from collections.abc import Iterator
from typing import Protocol

from streamtable.core.images import Image

__all__ = ["RowStore"]


class RowStore(Protocol):
    """A shard's materialized rows."""

    @property
    def applied(self) -> int:
        """Offset of the last record applied."""

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, Image]]:
        """Yield the rows with `start <= key < end`, as they are at the call."""
