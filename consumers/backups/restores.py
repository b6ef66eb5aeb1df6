"""Has tables filled from backups."""

import asyncio
import logging
from collections.abc import Callable

from streamtable.consumers.backups.manifests import BackupNames, DamagedBackup, Manifest
from streamtable.consumers.backups.patience import Patience
from streamtable.consumers.checkpoints.objects import Objects
from streamtable.consumers.indexes.settling import Settling
from streamtable.consumers.leading import Leading
from streamtable.core.errors import ResourceNotFound, StreamtableError
from streamtable.core.operations.restores import finish_restore
from streamtable.core.tables import Table
from streamtable.streams.catalog import Catalog
from streamtable.streams.layout import Layout
from streamtable.streams.routes import AskShard

__all__ = ["RestoreKeeper"]

logger = logging.getLogger(__name__)


class RestoreKeeper(Leading[Table]):
    """Moves restored tables to ACTIVE; one that can't be restored is removed.

    The node that owns the first shard does that for all; the shards' owners read the backup.

    Args:
        catalog: says which tables are being restored.
        layout: the region's shards.
        ask: asks a shard's owner.
        settling: knows when the indexes have what was written.
        leads: says whether this node owns a shard.
        objects: where backups are kept; None: nowhere.
        region: the region's name.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        layout: Layout,
        ask: AskShard,
        settling: Settling,
        leads: Callable[[int], bool],
        objects: Objects | None,
        region: str,
    ) -> None:
        super().__init__(leads)
        self._catalog = catalog
        self._layout = layout
        self._ask = ask
        self._settling = settling
        self._objects = objects
        self._region = region
        self._patience = Patience()

    def start(self) -> None:
        """Look after the tables until `stop`."""
        self._catalog.on_change(self._look_at)
        super().start()

    def _look_at(self, _before: Table | None, after: Table | None) -> None:
        if after is not None and after.document.restoring:
            self._wake.set()

    def _unfinished(self) -> dict[str, Table]:
        return {
            f"the restore of {table.name}, {table.id}": table
            for table in self._catalog.tables()
            if table.document.restoring
        }

    async def _finish(self, work: Table) -> None:
        if self._objects is None:
            await self._give_up(work, "there is no place for backups: it is --checkpoints none")
            return
        try:
            await self._fill(self._objects, work)
        except DamagedBackup as error:
            await self._give_up(work, str(error))
        except StreamtableError as error:
            if not self._patience.is_over(work.id):
                raise
            await self._give_up(work, str(error))
        else:
            current = self._current(work)
            await self._catalog.update(finish_restore(current.document))
            self._patience.forget(work.id)
            logger.info("table %s is restored", work.name)

    async def _fill(self, objects: Objects, table: Table) -> None:
        restore = table.document.restore
        assert restore is not None
        backup_id = restore.backup.rpartition("/")[2]
        manifest = await Manifest.read(objects, BackupNames(self._region, backup_id))
        # 1. The items, in the order in which they were: by the shard that they were on.
        found = await asyncio.gather(
            *(
                self._fill_from(source, [table.id, backup_id, source])
                for source in range(len(manifest.shards))
            )
        )
        for damaged in found:
            if damaged is not None:
                raise DamagedBackup(damaged)
        # 2. What follows from them in the indexes.
        numbers = list(self._layout)
        ends = await asyncio.gather(*(self._ask(n, "end", None) for n in numbers))
        await self._settling.settled(dict(zip(numbers, ends, strict=True)))

    async def _fill_from(self, source: int, what: list[object]) -> str | None:
        """Have the items of a source written; return what is damaged of them."""
        while True:
            found = await self._ask(source % self._layout.count, "restore", what)
            if found is not None:
                damaged: str | None = found["damaged"]
                return damaged

    def _current(self, table: Table) -> Table:
        """Return a table as the catalog has it now.

        Raises:
            ResourceNotFound: it is gone, or somebody has finished it.
        """
        current = self._catalog.by_id(table.id)
        if current is None or not current.document.restoring:
            raise ResourceNotFound("Requested resource not found: no such table is being restored")
        return current

    async def _give_up(self, table: Table, reason: str) -> None:
        """Remove a table with half of its items."""
        logger.error("table %s can't be restored and is removed: %s", table.name, reason)
        self._patience.forget(table.id)
        await self._catalog.delete(self._current(table).name)
