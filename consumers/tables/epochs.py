"""Epochs for readers of the middle of the log, from what the tables' stores have applied."""

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from streamtable.streams.log import LogUnavailable

__all__ = ["AppliedEpochs", "StoreEpochs"]

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
    """Tells the epoch in force at any offset of the shards that this node materializes.

    Args:
        stores: the stores by shard.
    """

    def __init__(self, stores: Mapping[int, AppliedEpochs]) -> None:
        self._stores = stores

    async def epoch(self, shard: int, offset: int) -> tuple[str | None, int | None]:
        """Return epoch and barrier in force just before `offset`; waits until they are known.

        Raises:
            LogUnavailable: the store did not get there in time.
        """
        store = self._stores[shard]
        if store.applied < offset - 1:
            try:
                async with asyncio.timeout(_WAIT_S):
                    while store.applied < offset - 1:  # noqa: ASYNC110 - the agent tells nobody
                        await asyncio.sleep(_LOOK_S)
            except TimeoutError:
                raise LogUnavailable(
                    f"shard {shard}'s tables have not applied the log up to offset {offset} yet"
                ) from None
        found = store.epoch_before(offset)
        return (None, None) if found is None else found
