"""Removes, after a split, the rows that are another shard's now."""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Final

from streamtable.consumers.tables.share import Share
from streamtable.consumers.tables.store import ShardStore
from streamtable.streams.background import Background
from streamtable.streams.layout import Layout
from streamtable.streams.owner import StateUnavailable

__all__ = ["Cleaner"]

logger = logging.getLogger(__name__)

_ROWS: Final = 500
# Requests come first: cleaning takes no more than this part of the time.
_SHARE: Final = 0.2
_LOOK_S: Final = 0.1
_RETRY_S: Final = 1.0


class Cleaner(Background):
    """Has each store show its own shard's rows only, and removes the others in the background.

    Args:
        layout: the region's shards.
        stores: the stores of this node's shards, as they come and go.
    """

    def __init__(self, layout: Layout, stores: Mapping[int, ShardStore]) -> None:
        self._layout = layout
        self._stores = stores
        self._cursors: dict[int, tuple[ShardStore, bytes]] = {}
        self._wake = asyncio.Event()

    def left(self) -> int:
        """Of how many shards here not all is removed yet."""
        return len(self._cursors)

    def show_own(self, number: int, store: ShardStore) -> None:
        """Have a store show only the rows of its shard from now on."""
        splits = self._layout.document.splits
        if not splits:
            return
        parts = splits[-1].after // splits[-1].before
        if store.share(Share(number, self._layout.count), parts):
            self._cursors[number] = store, b""
            self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._cursors:
                began = time.monotonic()
                try:
                    cleaned = [await self._clean(number) for number in list(self._cursors)]
                except StateUnavailable as error:
                    logger.warning("rows of other shards stay for now: %s", error)
                    await asyncio.sleep(_RETRY_S)
                    continue
                except Exception:
                    logger.exception("rows of other shards stay for now")
                    await asyncio.sleep(_RETRY_S)
                    continue
                took_s = time.monotonic() - began
                await asyncio.sleep(took_s / _SHARE if any(cleaned) else _LOOK_S)

    async def _clean(self, number: int) -> bool:
        """Remove some rows of a shard; say whether there was anything to do now."""
        store, cursor = self._cursors[number]
        await store.until_writable()
        if self._stores.get(number) is not store:
            del self._cursors[number]  # closed; it is looked at again when it is opened
            return True
        end, index_end = self._layout.document.began(number)
        if store.applied < end or store.index_offset < index_end:
            return False  # what came before the split would bring such rows back
        following = store.drop_foreign(cursor, _ROWS)
        if following is None:
            del self._cursors[number]
            logger.info("shard %d has only rows of its own now", number)
        else:
            self._cursors[number] = store, following
        return True
