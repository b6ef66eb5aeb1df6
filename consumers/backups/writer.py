"""Writes the items of a shard to a backup's parts."""

import asyncio
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from streamtable.consumers.backups.long_calls import LongCalls
from streamtable.consumers.backups.manifests import BackupNames, Part, ShardParts
from streamtable.consumers.backups.parts import PartWriter
from streamtable.consumers.checkpoints.objects import Objects, StorageUnavailable
from streamtable.consumers.tables.rows import RowStore
from streamtable.core.backups import CREATING
from streamtable.core.errors import ResourceNotFound, ServiceUnavailable
from streamtable.core.images import Image
from streamtable.core.tables import Table
from streamtable.streams.catalog import Catalog
from streamtable.streams.layout import Layout
from streamtable.streams.owner import Moved
from streamtable.streams.peers.calls import ShardCall
from streamtable.streams.shard import Shard

__all__ = ["BackupWriter"]


# Uncompressed; a few of these are what a restore has on its disk at once.
_PART_BYTES: Final = 32 * 1024 * 1024
# So much is gone through at a time: whoever waits for a write goes first.
_PIECE_BYTES: Final = 128 * 1024
_LOOK_S: Final = 0.02


class BackupWriter:
    """Writes the parts that are of this node's shards, as their owner is asked to.

    They are as of one offset of the shard's log, at or after what was answered before: RocksDB
    keeps what they are read from as it was, whatever is written meanwhile.

    Args:
        catalog: says which backups are being made.
        layout: the region's shards.
        stores: the stores of this node's shards, as they come and go.
        objects: where backups are kept.
        region: the region's name.
        scratch: a folder for a part that is being written.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        layout: Layout,
        stores: Mapping[int, RowStore],
        objects: Objects,
        region: str,
        scratch: Path,
    ) -> None:
        self._catalog = catalog
        self._layout = layout
        self._stores = stores
        self._objects = objects
        self._region = region
        self._scratch = scratch
        self._calls = LongCalls()
        # Shards take turns: a backup is in no hurry, others wait for what this node does.
        self._turn = asyncio.Lock()

    @property
    def calls(self) -> dict[str, ShardCall]:
        """What can be asked of a shard."""
        return {"backup": self._backup}

    async def stop(self) -> None:
        """Stop writing."""
        await self._calls.stop()

    async def _backup(self, shard: Shard, arguments: Any) -> Any:
        """Go on writing a shard's part of a backup for a while.

        Returns:
            The `ShardParts`; None if there is more to be written.

        Raises:
            ResourceNotFound: there is no such backup to be made, or its table is gone.
            ServiceUnavailable: begin again.
        """
        backup_id, count = arguments
        await self._calls.forget(self._has_use)
        self._layout.require(count)
        key = (backup_id, shard.number, count)
        found: ShardParts | None = await self._calls.ask(key, lambda: self._write(shard, backup_id))
        return None if found is None else found.model_dump(mode="json")

    def _has_use(self, key: Hashable) -> bool:
        assert isinstance(key, tuple)
        backup = self._catalog.backup(key[0])
        return backup is not None and backup.status == CREATING and key[2] == self._layout.count

    async def _write(self, shard: Shard, backup_id: str) -> ShardParts:
        table = self._table(backup_id)
        # 1. What was answered before is in the rows.
        await shard.ready(consistent=True)
        await shard.resolved(None)
        answered, store = shard.owner.last, self._stores[shard.number]
        while store.applied < answered:
            self._check_held(shard, store)
            await asyncio.sleep(_LOOK_S)
        # 2. Both in one step: nothing is applied between.
        offset, rows = store.applied, store.scan(table.prefix, table.end)
        # 3. The parts.
        names = BackupNames(self._region, backup_id)
        writing = _Writing(self._objects, names, self._scratch)
        try:
            more = True
            while more:
                async with self._turn:
                    self._check_held(shard, store)
                    more = await writing.take(rows)
            async with self._turn:
                await writing.finish()
        except (StorageUnavailable, OSError) as error:
            raise ServiceUnavailable(f"Shard {shard.number}: {error}") from error
        finally:
            writing.close()
        return ShardParts(
            shard=shard.number,
            offset=offset,
            item_bytes=writing.item_bytes,
            parts=tuple(writing.parts),
        )

    def _table(self, backup_id: str) -> Table:
        backup = self._catalog.backup(backup_id)
        table = None if backup is None else self._catalog.by_id(backup.table.id)
        if table is None:
            raise ResourceNotFound("Requested resource not found: the backup's table")
        return table

    def _check_held(self, shard: Shard, store: RowStore) -> None:
        """Check that the rows are this node's still; they are closed when they are not."""
        if not shard.owner.wanted or self._stores.get(shard.number) is not store:
            raise Moved(f"Shard {shard.number} has moved. Begin again.")


class _Writing:
    """Parts on their way to object storage, one at a time.

    Attributes:
        item_bytes: the size of the items so far, by DynamoDB's rules.
        parts: those that are there.
    """

    def __init__(self, objects: Objects, names: BackupNames, scratch: Path) -> None:
        self.item_bytes = 0
        self.parts: list[Part] = []
        self._objects = objects
        self._names = names
        self._scratch = scratch
        self._part: PartWriter | None = None

    async def take(self, rows: Iterator[tuple[bytes, Image]]) -> bool:
        """Write the next rows, and say whether there were any."""
        items: list[bytes] = []
        size_bytes = 0
        for _, image in rows:
            items.append(image.json)
            size_bytes += len(image.json)
            self.item_bytes += image.size_bytes
            if size_bytes > _PIECE_BYTES:
                break
        if not items:
            return False
        await self._write(items)
        return True

    async def _write(self, items: Sequence[bytes]) -> None:
        part = self._part
        if part is None:
            self._scratch.mkdir(parents=True, exist_ok=True)
            part = self._part = PartWriter(self._scratch / uuid4().hex)
        await asyncio.to_thread(part.add, items)
        if part.raw_bytes > _PART_BYTES:
            await self.finish()

    async def finish(self) -> None:
        """Put the part that is being written in its place."""
        if self._part is None:
            return
        part = await asyncio.to_thread(self._part.finish)
        await self._objects.put(self._names.part(part), self._part.path)
        await asyncio.to_thread(self._part.path.unlink)
        self._part = None
        self.parts.append(part)

    def close(self) -> None:
        """Let go of a part that was not finished."""
        if self._part is not None:
            # On a full disk there is no room for its end; a thread may be in its middle still.
            with suppress(OSError, ValueError):
                self._part.close()
            self._part.path.unlink(missing_ok=True)
