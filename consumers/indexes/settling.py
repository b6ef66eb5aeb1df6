"""Waiting until the indexes have what was written."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Protocol

from streamtable.streams.peers.calls import ShardCall
from streamtable.streams.routes import AskShard
from streamtable.streams.shard import Shard

__all__ = ["Applied", "IndexRows", "Settling", "settling_calls"]

_LOOK_S: Final = 0.01


class Applied(Protocol):
    """Where a shard's rows are in the logs: `ShardStore`."""

    @property
    def applied(self) -> int:
        """Offset of the last record applied."""

    @property
    def index_offset(self) -> int:
        """The next offset of the indexes' log."""

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
        ask: asks a shard's owner.
    """

    def __init__(self, ask: AskShard) -> None:
        self._ask = ask

    async def settled(self, ends: Mapping[int, int]) -> None:
        """Return when the records at these offsets, and all before them, are applied and indexed.

        However long that takes.

        Args:
            ends: an offset by shard.
        """
        await asyncio.gather(*(self._settle(*each) for each in ends.items()))

    async def _settle(self, source: int, offset: int) -> None:
        while (sent := await self._ask(source, "sent", offset)) is None:  # noqa: ASYNC110 - nobody is told how far they are
            await asyncio.sleep(_LOOK_S)
        for target, position in sent:
            while list(await self._ask(target, "indexed", source)) < list(position):  # noqa: ASYNC110 - likewise
                await asyncio.sleep(_LOOK_S)


def settling_calls(stores: Mapping[int, Applied], sender: IndexRows) -> dict[str, ShardCall]:
    """Return what can be asked of a shard about the indexes' rows, by name.

    Args:
        stores: the rows of this node's shards.
        sender: sends the rows of global indexes.
    """

    async def sent(shard: Shard, offset: Any) -> Any:
        number = shard.number
        if min(stores[number].applied, sender.sent(number)) < offset:
            return None
        return list(sender.positions(number).items())

    async def index_offset(shard: Shard, _arguments: Any) -> int:
        return stores[shard.number].index_offset

    async def indexed(shard: Shard, source: Any) -> Any:
        return stores[shard.number].indexed_position(source)

    return {"sent": sent, "indexed": indexed, "index_offset": index_offset}
