"""How many rows a table and its indexes have, over all shards."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from streamtable.consumers.tables.store import ShardStore
from streamtable.core.errors import ApiError
from streamtable.core.tables import Table
from streamtable.streams.layout import Layout
from streamtable.streams.peers.calls import ShardCall
from streamtable.streams.routes import AskShard
from streamtable.streams.shard import Shard

__all__ = ["TableTotals", "total_calls"]

_PATIENCE_S: Final = 1.0


class TableTotals:
    """Counts items and bytes of tables.

    Args:
        layout: the region's shards.
        ask: asks a shard's owner.
    """

    def __init__(self, layout: Layout, ask: AskShard) -> None:
        self._layout = layout
        self._ask = ask

    async def of(self, table: Table) -> dict[str | None, tuple[int, int]]:
        """Return number and bytes of a table's items (None), and of its indexes' rows by name.

        A shard that does not answer at once is not counted.
        """
        prefixes: dict[str | None, bytes] = {None: table.prefix}
        prefixes |= {index.name: index.prefix for index in table.indexes.values()}
        asked = [prefix.hex() for prefix in prefixes.values()]
        found = await asyncio.gather(*(self._count(number, asked) for number in self._layout))
        return {
            name: (sum(each[place][0] for each in found), sum(each[place][1] for each in found))
            for place, name in enumerate(prefixes)
        }

    async def _count(self, number: int, prefixes: list[str]) -> list[tuple[int, int]]:
        with suppress(ApiError, TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                counted: list[tuple[int, int]] = await self._ask(number, "totals", prefixes)
                return counted
        return [(0, 0)] * len(prefixes)


def total_calls(stores: Mapping[int, ShardStore]) -> dict[str, ShardCall]:
    """Return what can be asked of a shard about totals, by name.

    Args:
        stores: this node's stores by shard.
    """

    async def totals(shard: Shard, prefixes: Any) -> Any:
        store = stores[shard.number]
        return [store.total(bytes.fromhex(prefix)) for prefix in prefixes]

    return {"totals": totals}
