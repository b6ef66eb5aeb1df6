"""Opens the shards that a node is to have, and closes those that it has no more."""

import asyncio
import errno
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from streamtable.consumers.checkpoints.restore import Restorer, open_store
from streamtable.consumers.reshard.cleaner import Cleaner
from streamtable.consumers.reshard.copies import Copies
from streamtable.consumers.tables.memory import StoreMemory
from streamtable.consumers.tables.store import ShardStore, UnreadableTables
from streamtable.core.tables import Table
from streamtable.streams.held import HeldShards
from streamtable.streams.open_files import open_files_advice
from streamtable.streams.owner import StateUnavailable
from streamtable.streams.shard import Shard
from streamtable.streams.shard_log import ShardLog, ShardLogs
from streamtable.streams.topics import Topics

__all__ = ["DiskFull", "Holdings", "ShardMaker", "Tables"]

logger = logging.getLogger(__name__)

ShardMaker = Callable[[int, ShardLog, ShardStore], Shard]
"""Makes a shard of its number, its log and its store."""

_RETRY_S: Final = 0.1
_PATIENCE_S: Final = 30.0
_TOO_MANY: Final = os.strerror(errno.EMFILE)
_FULL: Final = os.strerror(errno.ENOSPC)


class DiskFull(StateUnavailable):
    """A shard's rows can't be opened: there is no room on the disk."""


class Tables:
    """The tables that the rows in the stores are of.

    Args:
        find: returns the table of an id, None for one that was deleted.
        every: lists every table.
    """

    def __init__(
        self, find: Callable[[str], Table | None], every: Callable[[], Iterable[Table]]
    ) -> None:
        self.find = find
        self._every = every

    def remove_leftovers(self, store: ShardStore) -> None:
        """Remove rows of tables that were deleted while nobody looked."""
        kept = {prefix for table in self._every() for prefix in table.prefixes()}
        for prefix in store.prefixes():
            if prefix not in kept:
                store.purge(prefix)


class Holdings:
    """The shards of a node, with what is materialized of them.

    Args:
        address: the brokers, `host:port,...`.
        topics: the region's topics.
        logs: the shards' logs.
        catalog: how far this node has read the catalog.
        held: where shards are found by others.
        stores: their stores, likewise.
        path: tells in which folder a shard's rows are.
        memory: what the stores may keep in memory.
        tables: the tables that the rows are of.
        restorer: has checkpoints for a shard whose rows are not here; None where there are none.
        make: makes a shard.
        opened: called with each shard before its term starts.
        closed: called with the number of each shard that goes.
        fail: told of an error after which the node can't go on.

    Attributes:
        logs: the shards' logs.
        copies: makes the rows of shards that are to be.
        cleaner: removes rows that are other shards' since a split.
    """

    def __init__(
        self,
        *,
        address: str,
        topics: Topics,
        logs: ShardLogs,
        catalog: Callable[[], int],
        held: HeldShards,
        stores: dict[int, ShardStore],
        path: Callable[[int], Path],
        memory: StoreMemory,
        tables: Tables,
        restorer: Restorer | None,
        make: ShardMaker,
        opened: Callable[[Shard], None],
        closed: Callable[[int], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self.held = held
        self.stores = stores
        self.logs = logs
        layout = self._layout = held.layout
        self._path = path
        self._memory = memory
        self._tables = tables
        self._restorer = restorer
        self._make = make
        self._opened = opened
        self._closed = closed
        self.cleaner = Cleaner(layout, stores)
        self.copies = Copies(
            address=address,
            topics=topics,
            logs=logs,
            layout=layout,
            catalog=catalog,
            stores=stores,
            path=path,
            make=self._open,
            restorer=restorer,
            fail=fail,
        )

    async def open(self, number: int) -> None:
        """Have a shard's rows: those that are here, or its newest checkpoint's, or its parent's.

        Raises:
            LogUnavailable: its log can't be read.
            NoCheckpoint: its log does not reach back to what is here, and no checkpoint does.
            DiskFull: its files can't be opened for that.
            StateUnavailable: another process has its files.
            UnreadableTables: its files can't be opened.
            StorageUnavailable: the object storage can't be read.
        """
        path = self._path(number)
        log = self.logs.of(number)
        try:
            if await self._is_new(number, path, log):
                store = await self.copies.take(number)
            else:
                store = await open_store(number, path, log, self._open, self._restorer)
        except BaseException:
            await log.close()
            raise
        self._tables.remove_leftovers(store)
        self.cleaner.show_own(number, store)
        shard = self._make(number, log, store)
        self._opened(shard)
        self.stores[number] = store
        self.held.add(shard)

    async def _is_new(self, number: int, path: Path, log: ShardLog) -> bool:
        """Whether a shard was split off another one, and no rows of its own are to be had."""
        if self._layout.document.birth(number) is None:
            return False
        if self.copies.makes(number):
            return True
        if await self.copies.has(number):
            return False
        if self._restorer is None:
            return True
        found, _ = await self._restorer.restore(number, path, log, self._open, above=-1)
        return found is None

    async def close(self, number: int) -> None:
        """Have a shard no more; its files stay, for when it comes back."""
        await self.held[number].close()
        self.held.remove(number)
        self._closed(number)
        self.stores.pop(number).close()

    async def stop(self) -> None:
        """Close every shard."""
        await self.cleaner.stop()
        await self.copies.stop()
        await asyncio.gather(*(self.close(number) for number in self.held))

    async def _open(self, path: Path) -> ShardStore:
        """Open a store; the process that had it before may need a moment to let go of it."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return ShardStore(path, self._memory, self._tables.find)
            except UnreadableTables as error:
                if _TOO_MANY in str(error):
                    raise StateUnavailable(
                        f"{path} can't be opened: too many files are open. {open_files_advice()}"
                    ) from error
                if _FULL in str(error):
                    raise DiskFull(f"{path} can't be opened: the disk is full") from error
                if "LOCK" not in str(error):
                    raise
                if time.monotonic() > deadline:
                    raise StateUnavailable(f"{path} can't be opened: {error.__cause__}") from error
            await asyncio.sleep(_RETRY_S)
