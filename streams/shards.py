"""The shards of a region, as one node sees them."""

from collections.abc import Iterator, Mapping

from streamtable.core.index_rows import IndexRow
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
        for shard in self._shards:
            shard.on_index_row = self._show_index_row

    def of(self, partition_hash: int) -> Shard:
        """The shard of the items whose partition key has this hash."""
        return self._shards[partition_hash % self.count]

    def __getitem__(self, number: int) -> Shard:
        return self._shards[number]

    def __iter__(self) -> Iterator[Shard]:
        return iter(self._shards)

    def _show_index_row(self, source: int, offset: int, row: IndexRow) -> None:
        """Let reads see a row of a global index before its log brings it."""
        target = self.of(row.hash)
        if target.state.indexed(source) < offset:
            target.index_rows.show(source, offset, row)
