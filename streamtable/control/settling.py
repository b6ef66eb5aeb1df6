"""Waiting until the indexes have what was written."""

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

__all__ = ["Applied", "IndexRows", "Settling"]

_LOOK_S: Final = 0.01


class Applied(Protocol):
    """Where a shard's rows are in the logs: `ShardStore`."""

    @property
    def applied(self) -> int:
        """Offset of the last record applied."""

    def indexed_position(self, source: int) -> tuple[int, int]:
        """The position of shard `source` through which global indexes are applied here."""


class IndexRows(Protocol):
    """What sends the rows of global indexes to their shards: `IndexSender`."""

    def sent(self, shard: int) -> int:
        """Offset of the last record of a shard whose index rows are sent."""

    def positions(self, source: int) -> dict[int, tuple[int, int]]:
        """The last position sent from a shard to each shard that was sent anything."""


class Settling:
    """Knows when the shards have applied records, and every index has the rows that follow.

    Args:
        stores: the shards' rows.
        sender: sends the rows of global indexes.
    """

    def __init__(self, stores: Mapping[int, Applied], sender: IndexRows) -> None:
        self._stores = stores
        self._sender = sender

    async def settled(self, ends: Mapping[int, int]) -> None:
        """Return when the records at these offsets, and all before them, are applied and indexed.

        However long that takes.

        Args:
            ends: an offset by shard.
        """
        for number, offset in ends.items():
            store = self._stores[number]
            while min(store.applied, self._sender.sent(number)) < offset:  # noqa: ASYNC110 - they tell nobody how far they are
                await asyncio.sleep(_LOOK_S)
            sent = self._sender.positions(number)
            while any(self._stores[to].indexed_position(number) < sent[to] for to in sent):  # noqa: ASYNC110 - likewise
                await asyncio.sleep(_LOOK_S)
