"""Expiry: items whose time to live is over are removed, within seconds."""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from streamtable.consumers.expiry_index import ExpiryIndex, ExpiryStore
from streamtable.core.context import RequestContext
from streamtable.core.errors import ServiceUnavailable, StreamtableError, TransactionConflict
from streamtable.core.operations.expire import EXPIRY_SERVICE, Expire
from streamtable.core.tables import Table
from streamtable.streams.background import Background
from streamtable.streams.shard import Outcome, Write

__all__ = ["ExpiringShard", "Serving", "Sweeper"]

logger = logging.getLogger(__name__)

_BATCH: Final = 100
_CHUNKS_A_SWEEP: Final = 64
# After many removals the store has many graves to step over before the next row, until it is
# compacted: looking may then take no more than this part of the time.
_LOOKING_SHARE: Final = 0.05


class Serving(Protocol):
    """Knows whether this node owns a shard."""

    @property
    def serving(self) -> bool:
        """Whether it owns the shard now."""

    @property
    def held(self) -> bool:
        """Whether writes wait for a split to be decided."""


class ExpiringShard(Protocol):
    """A shard, as the sweeper needs it."""

    @property
    def owner(self) -> Serving:
        """Its writing end."""

    async def write(self, write: Write, context: RequestContext) -> Outcome:
        """Carry out one write; when this returns it is durable."""


class Sweeper(Background):
    """Removes expired items of the shards that this node owns.

    Each goes by a write of its own through the shard's owner, on the condition that it still
    expires when it did, so that an item that was renewed meanwhile stays. In the log it is the
    service that removes it. It is stopped before the shards are.

    Args:
        shards: this node's shards by number, as they come and go.
        stores: their stores.
        tables: returns all tables.
        now: reads the wall clock, seconds since 1970.
        interval_s: the pause between two sweeps.
    """

    def __init__(
        self,
        *,
        shards: Mapping[int, ExpiringShard],
        stores: Mapping[int, ExpiryStore],
        tables: Callable[[], Iterable[Table]],
        now: Callable[[], float],
        interval_s: float,
    ) -> None:
        self._shards = shards
        self._stores = stores
        self._tables = tables
        self._now = now
        self._interval_s = interval_s
        self._looked_s = 0.0

    async def sweep(self) -> bool:
        """Look through every table once and remove what has expired.

        Returns:
            Whether the expiry rows of all tables are built; if not, sweep again soon.
        """
        complete = True
        self._looked_s = 0.0
        for table in self._tables():
            settings = table.document.time_to_live
            if settings is None or not settings.enabled or not table.serving:
                continue
            for number in self._shards:
                shard = self._shards.get(number)
                if shard is not None and shard.owner.serving:
                    index = ExpiryIndex(self._stores[number])
                    complete &= await self._build(index, table)
                    await self._remove_due(shard, index, table)
        return complete

    async def _run(self) -> None:
        while True:
            complete = False
            try:
                complete = await self.sweep()
            except StreamtableError as error:
                complete = True
                logger.warning("expired items are not removed, trying again: %s", error)
            except Exception:
                complete = True
                logger.exception("expired items are not removed, trying again")
            pause_s = max(self._interval_s, self._looked_s / _LOOKING_SHARE)
            await asyncio.sleep(pause_s if complete else 0)

    @staticmethod
    async def _build(index: ExpiryIndex, table: Table) -> bool:
        for _ in range(_CHUNKS_A_SWEEP):
            if index.build(table):
                return True
            await asyncio.sleep(0)  # requests come first
        return False

    async def _remove_due(self, shard: ExpiringShard, index: ExpiryIndex, table: Table) -> None:
        now = int(self._now())
        context = RequestContext(uuid.uuid4().hex, EXPIRY_SERVICE, EXPIRY_SERVICE)
        last = b""
        # A row stays until the store has applied the removal, so each is looked at once a sweep.
        # What is found while the shard is split may be another shard's before it is removed.
        while not shard.owner.held and (keys := self._look(index, table, now, last)):
            last = keys[-1]
            found = [index.expired(table, key) for key in keys]
            writes = [
                shard.write(Expire(table, image.item, row_key, second), context)
                for row_key, second, image in filter(None, found)
            ]
            for result in await asyncio.gather(*writes, return_exceptions=True):
                # Not now: the next sweep finds it again.
                if isinstance(result, BaseException) and not isinstance(
                    result, TransactionConflict | ServiceUnavailable
                ):
                    raise result

    def _look(self, index: ExpiryIndex, table: Table, now: int, last: bytes) -> list[bytes]:
        started = time.monotonic()
        keys = index.due(table, now, last, _BATCH)
        self._looked_s += time.monotonic() - started
        return keys
