"""The shards of a region, as one node sees them: its own, and those of other nodes."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Protocol

from streamtable.core.context import RequestContext
from streamtable.core.images import Image
from streamtable.core.operations.writes import Write
from streamtable.core.tables import Table
from streamtable.streams.shard import Chunk, FetchedChunk, Joined, Outcome, Shard

__all__ = ["ShardAccess", "Shards"]


class ShardAccess(Protocol):
    """One shard, wherever its owner is. What is said of `Shard`'s methods holds for these."""

    @property
    def number(self) -> int:
        """The shard's number."""

    def at_hand(self, *, consistent: bool) -> Shard | None:
        """Where a row's durable image may be had without waiting, by `Shard.get`, if it may."""

    def begin(self, write: Write, context: RequestContext) -> Joined | None:
        """Have one write join a commit, if it can here and at once."""

    async def write(self, write: Write, context: RequestContext) -> Outcome:
        """Carry out one write."""

    def write_many(
        self, writes: Sequence[Write], context: RequestContext
    ) -> Awaitable[list[Outcome]]:
        """Carry out unconditional writes of different items; begun when this returns."""

    async def read(self, row_key: bytes, *, consistent: bool) -> Image | None:
        """Return a row's durable image."""

    async def read_many(self, row_keys: Sequence[bytes], *, consistent: bool) -> list[Image | None]:
        """Return the durable images of rows."""

    def chunks(
        self,
        start: bytes,
        end: bytes,
        *,
        reverse: bool = False,
        consistent: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[Chunk]:
        """Yield durable rows in order, in parts."""

    def fetched_chunks(
        self,
        table: Table,
        start: bytes,
        end: bytes,
        *,
        reverse: bool = False,
        consistent: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[FetchedChunk]:
        """Yield rows of a local index with their items."""

    async def measure_collection(self, write: Write) -> int:
        """Size of the item collection of a write's item."""


class Shards:
    """Every shard by number; an item's shard is its partition hash modulo their count.

    Args:
        find: returns the shard of a number.
        count: how many there are.
    """

    def __init__(self, find: Callable[[int], ShardAccess], count: int) -> None:
        self._find = find
        self.grow(count)

    def grow(self, count: int) -> None:
        """Have as many shards from now on."""
        self._shards = [self._find(number) for number in range(count)]
        self.count = count

    def of(self, partition_hash: int) -> ShardAccess:
        """The shard of the items whose partition key has this hash."""
        return self._shards[partition_hash % self.count]

    def __getitem__(self, number: int) -> ShardAccess:
        return self._shards[number]

    def __iter__(self) -> Iterator[ShardAccess]:
        return iter(self._shards)
