"""Epochs for readers of the middle of the log, from what the tables' stores have applied."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Protocol

from streamtable.core.errors import ServiceUnavailable
from streamtable.streams.log import LogUnavailable
from streamtable.streams.peers.calls import ShardCall
from streamtable.streams.routes import AskShard
from streamtable.streams.shard import Shard

__all__ = ["AppliedEpochs", "StoreEpochs", "epoch_calls"]

_WAIT_S: Final = 10.0
_LOOK_S: Final = 0.002


class AppliedEpochs(Protocol):
    """A shard's store, as far as it knows epochs."""

    @property
    def applied(self) -> int:
        """Offset of the last record applied, -1 before the first."""

    def epoch_before(self, offset: int) -> tuple[str, int] | None:
        """Return the epoch in force just before `offset`, and its barrier's offset."""


class StoreEpochs:
    """Tells the epoch in force at any offset: this node's stores know it, or other nodes do.

    Args:
        stores: this node's stores by shard.
        ask: asks the owner of a shard that is not here.
    """

    def __init__(self, stores: Mapping[int, AppliedEpochs], ask: AskShard) -> None:
        self._stores = stores
        self._ask = ask

    async def epoch(self, shard: int, offset: int) -> tuple[str | None, int | None]:
        """Return epoch and barrier in force just before `offset`; waits until they are known.

        Raises:
            LogUnavailable: the store did not get there in time.
        """
        store = self._stores.get(shard)
        if store is None:
            found = await self._ask(shard, "epoch", offset)
        else:
            found = await _epoch_before(store, shard, offset)
        return (None, None) if found is None else (found[0], found[1])


def epoch_calls(stores: Mapping[int, AppliedEpochs]) -> dict[str, ShardCall]:
    """Return what can be asked of a shard about epochs, by name.

    Args:
        stores: this node's stores by shard.
    """

    async def epoch(shard: Shard, offset: Any) -> Any:
        try:
            return await _epoch_before(stores[shard.number], shard.number, offset)
        except LogUnavailable as error:
            raise ServiceUnavailable(str(error)) from error

    return {"epoch": epoch}


async def _epoch_before(store: AppliedEpochs, shard: int, offset: int) -> tuple[str, int] | None:
    """Return epoch and barrier in force before an offset, once the store has got there."""
    if store.applied < offset - 1:
        try:
            async with asyncio.timeout(_WAIT_S):
                while store.applied < offset - 1:  # noqa: ASYNC110 - the agent tells nobody
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise LogUnavailable(
                f"shard {shard}'s tables have not applied the log up to offset {offset} yet"
            ) from None
    return store.epoch_before(offset)
