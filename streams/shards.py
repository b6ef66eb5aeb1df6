"""The shards of a region, as one node sees them."""

from collections.abc import Iterator, Mapping

from streamtable.streams.shard import Shard

__all__ = ["Shards"]


class Shards:
    """Every shard by number; an item's shard is its partition hash modulo their count.

    Args:
        shards: the shards, numbered from 0.
    """

    def __init__(self, shards: Mapping[int, Shard]) -> None:
        self._shards = [shards[number] for number in range(len(shards))]
        self.count = len(self._shards)

    def of(self, partition_hash: int) -> Shard:
        """The shard of the items whose partition key has this hash."""
        return self._shards[partition_hash % self.count]

    def __getitem__(self, number: int) -> Shard:
        return self._shards[number]

    def __iter__(self) -> Iterator[Shard]:
        return iter(self._shards)
