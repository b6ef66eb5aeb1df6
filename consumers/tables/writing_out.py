"""Writes out what the shards' stores keep in memory for long."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from streamtable.consumers.tables.store import ShardStore
from streamtable.streams.background import Background
from streamtable.streams.owner import StateUnavailable

__all__ = ["WritingOut"]

logger = logging.getLogger(__name__)

_LOOK_S: Final = 60.0
_AGE_S: Final = 900.0


class WritingOut(Background):
    """Has each store of a node write out what has been in memory for a quarter of an hour.

    After a crash that is applied again from the change log, which is kept for a day. Much that is
    written goes to files by itself, and all of it when a store is closed; this is for the little
    that stays.

    Args:
        stores: the stores of the shards that this node has, as they come and go.
        age_s: how long something may stay in memory.
        look_s: how often that is looked at.
    """

    def __init__(
        self,
        stores: Mapping[int, ShardStore],
        *,
        age_s: float = _AGE_S,
        look_s: float = _LOOK_S,
    ) -> None:
        self._stores = stores
        self._age_s = age_s
        self._look_s = look_s

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._look_s)
            for number, store in tuple(self._stores.items()):
                if store.unwritten_s >= self._age_s:
                    try:
                        await asyncio.to_thread(store.flush)
                    except StateUnavailable as error:
                        logger.warning("shard %d stays in memory for now: %s", number, error)
