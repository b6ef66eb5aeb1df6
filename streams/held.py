"""The shards that this node has the rows of."""

from collections.abc import Iterator, Mapping

from streamtable.core.index_rows import IndexRow
from streamtable.streams.layout import Layout
from streamtable.streams.shard import Shard

__all__ = ["HeldShards"]


class HeldShards(Mapping[int, Shard]):
    """Shards by number, as they come and go.

    Args:
        layout: all of the region's.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._shards: dict[int, Shard] = {}

    def __getitem__(self, number: int) -> Shard:
        return self._shards[number]

    def find(self, number: int) -> Shard | None:
        """Return a shard, None if it is not held: `get` is slow where that is so."""
        return self._shards.get(number)

    def __iter__(self) -> Iterator[int]:
        # Some go while somebody goes through them.
        return iter(tuple(self._shards))

    def __len__(self) -> int:
        return len(self._shards)

    def add(self, shard: Shard) -> None:
        """Have one more."""
        shard.on_index_row = self._show_index_row
        self._shards[shard.number] = shard

    def remove(self, number: int) -> None:
        """Have one less."""
        del self._shards[number]

    def _show_index_row(self, source: int, offset: int, row: IndexRow) -> None:
        """Let reads see a row of a global index before its log brings it, if it is held here."""
        target = self._shards.get(row.hash % self.layout.count)
        if target is not None and target.state.indexed(source) < offset:
            target.index_rows.show(source, offset, row)
