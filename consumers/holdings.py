"""Opens the shards that a node is to have, and closes those that it has no more."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

from streamtable.consumers.checkpoints.restore import Restorer, open_store
from streamtable.consumers.tables.store import ShardStore, StoreMemory
from streamtable.core.tables import Table
from streamtable.streams.appender import LocalAppend
from streamtable.streams.held import HeldShards
from streamtable.streams.log import ShardLog
from streamtable.streams.owner import StateUnavailable
from streamtable.streams.shard import Shard

__all__ = ["Holdings", "ShardMaker", "Tables"]

logger = logging.getLogger(__name__)

ShardMaker = Callable[[int, ShardLog, ShardStore], Shard]
"""Makes a shard of its number, its log and its store."""

_RETRY_S: Final = 0.1
_PATIENCE_S: Final = 30.0


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
        topic: the change log.
        held: where shards are found by others.
        stores: their stores, likewise.
        path: tells in which folder a shard's rows are.
        memory: what the stores may keep in memory.
        tables: the tables that the rows are of.
        restorer: has checkpoints for a shard whose rows are not here; None where there are none.
        make: makes a shard.
        opened: called with each shard before its term starts.
        closed: called with the number of each shard that goes.
        local: appends to the log where the broker is in this process.
    """

    def __init__(
        self,
        *,
        address: str,
        topic: str,
        held: HeldShards,
        stores: dict[int, ShardStore],
        path: Callable[[int], Path],
        memory: StoreMemory,
        tables: Tables,
        restorer: Restorer | None,
        make: ShardMaker,
        opened: Callable[[Shard], None],
        closed: Callable[[int], None],
        local: LocalAppend | None = None,
    ) -> None:
        self.held = held
        self.stores = stores
        self._address = address
        self._topic = topic
        self._local = local
        self._path = path
        self._memory = memory
        self._tables = tables
        self._restorer = restorer
        self._make = make
        self._opened = opened
        self._closed = closed

    async def open(self, number: int) -> None:
        """Have a shard's rows: those that are here, or its newest checkpoint's.

        Raises:
            LogUnavailable: its log can't be read.
            NoCheckpoint: its log does not reach back to what is here, and no checkpoint does.
            StateUnavailable: its files can't be opened.
            StorageUnavailable: the object storage can't be read.
        """
        path = self._path(number)
        log = ShardLog(self._address, self._topic, number, self._local)
        try:
            store = await open_store(number, path, log, partial(self._open, path), self._restorer)
        except BaseException:
            await log.close()
            raise
        self._tables.remove_leftovers(store)
        shard = self._make(number, log, store)
        self._opened(shard)
        self.stores[number] = store
        self.held.add(shard)

    async def close(self, number: int) -> None:
        """Have a shard no more; its files stay, for when it comes back."""
        await self.held[number].close()
        self.held.remove(number)
        self._closed(number)
        self.stores.pop(number).close()

    async def stop(self) -> None:
        """Close every shard."""
        await asyncio.gather(*(self.close(number) for number in self.held))

    async def _open(self, path: Path) -> ShardStore:
        """Open a store; the process that had it before may need a moment to let go of it."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return ShardStore(path, self._memory, self._tables.find)
            except Exception as error:
                # RocksDB's errors have no type of their own.
                if "LOCK" not in str(error):
                    raise
                if time.monotonic() > deadline:
                    raise StateUnavailable(f"{path} can't be opened: {error}") from error
            await asyncio.sleep(_RETRY_S)
