"""Has backups made, removes them, and finds those that are in object storage only."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

from streamtable.consumers.backups.manifests import (
    BackupNames,
    DamagedBackup,
    Manifest,
    ShardParts,
)
from streamtable.consumers.backups.patience import Patience
from streamtable.consumers.checkpoints.objects import NoObject, Objects, StorageUnavailable
from streamtable.consumers.leading import Leading
from streamtable.core.backups import AVAILABLE, CREATING, FAILED, REMOVING, BackupDocument
from streamtable.core.errors import (
    ApiError,
    ResourceNotFound,
    ServiceUnavailable,
    StreamtableError,
)
from streamtable.streams.catalog import Catalog
from streamtable.streams.layout import Layout
from streamtable.streams.routes import AskShard

__all__ = ["BackupKeeper"]

logger = logging.getLogger(__name__)

_MANIFEST: Final = "/manifest.json"


class BackupKeeper(Leading[BackupDocument | None]):
    """Moves backups to AVAILABLE, and removes those that were deleted.

    The node that owns the first shard does that for all; the items of each shard are written by
    its owner. A backup is AVAILABLE once the manifest is there, which is written when all parts
    are. What can't be made for ten minutes is FAILED.

    Args:
        catalog: the region's backups.
        layout: the region's shards.
        ask: asks a shard's owner.
        leads: says whether this node owns a shard.
        objects: where backups are kept; None: nowhere.
        region: the region's name.
        scratch: a folder for a manifest that is being written.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        layout: Layout,
        ask: AskShard,
        leads: Callable[[int], bool],
        objects: Objects | None,
        region: str,
        scratch: Path,
    ) -> None:
        super().__init__(leads)
        self._catalog = catalog
        self._layout = layout
        self._ask = ask
        self._objects = objects
        self._region = region
        self._scratch = scratch
        self._patience = Patience()
        self._known = objects is None

    def start(self) -> None:
        """Look after the backups until `stop`."""
        self._catalog.on_backup(self._wake.set)
        super().start()

    def _unfinished(self) -> dict[str, BackupDocument | None]:
        left: dict[str, BackupDocument | None] = {
            f"backup {backup.arn}": backup
            for backup in self._catalog.backups()
            if backup.status in (CREATING, REMOVING)
        }
        if not self._known:
            left["the list of backups"] = None
        return left

    async def _finish(self, work: BackupDocument | None) -> None:
        if self._objects is None:
            if work is not None:
                await self._give_up(work, "there is no place for it: it is --checkpoints none")
        elif work is None:
            await self._find_unknown(self._objects)
        elif work.status == REMOVING:
            await self._remove(self._objects, work)
            await self._change(work, None)
        else:
            await self._make(self._objects, work)

    # Making one

    async def _make(self, objects: Objects, backup: BackupDocument) -> None:
        try:
            manifest = await self._written(objects, backup)
            if manifest is None:
                manifest = await self._write(objects, backup)
        except ResourceNotFound as error:
            await self._give_up(backup, str(error))
        except StreamtableError as error:
            if not self._patience.is_over(backup.id):
                raise
            await self._give_up(backup, str(error))
        else:
            await self._change(backup, manifest.backup)
            self._patience.forget(backup.id)
            logger.info(
                "backup %s is available: %d items, %d bytes in %d parts",
                backup.arn,
                manifest.backup.item_count,
                sum(part.size_bytes for shard in manifest.shards for part in shard.parts),
                sum(len(shard.parts) for shard in manifest.shards),
            )

    async def _written(self, objects: Objects, backup: BackupDocument) -> Manifest | None:
        """Return the manifest that somebody has written who could not tell of it any more."""
        names = BackupNames(self._region, backup.id)
        try:
            return await Manifest.read(objects, names)
        except DamagedBackup:
            return None

    async def _write(self, objects: Objects, backup: BackupDocument) -> Manifest:
        # 1. The items. Of one layout: a shard that is split meanwhile has what its children have.
        count = self._layout.count
        found = await asyncio.gather(
            *(self._write_shard(number, [backup.id, count]) for number in range(count))
        )
        self._layout.require(count)
        # 2. What is all of it.
        done = backup.model_copy(
            update={
                "status": AVAILABLE,
                "item_count": sum(shard.items for shard in found),
                "size_bytes": sum(shard.item_bytes for shard in found),
            }
        )
        manifest = Manifest(region=self._region, backup=done, shards=tuple(found))
        # 3. Whoever has given it up wants no manifest.
        self._check_current(backup)
        await self._put(objects, manifest)
        # 4. What somebody was writing who was killed.
        await _sweep(objects, BackupNames(self._region, backup.id))
        return manifest

    async def _write_shard(self, number: int, what: list[object]) -> ShardParts:
        while True:
            found = await self._ask(number, "backup", what)
            if found is not None:
                return ShardParts.model_validate(found)

    async def _put(self, objects: Objects, manifest: Manifest) -> None:
        """Put a manifest in its place, by way of a file: that is synced."""
        path = self._scratch / uuid4().hex
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(manifest.model_dump_json())
            await objects.put(BackupNames(self._region, manifest.backup.id).manifest, path)
        except OSError as error:
            raise StorageUnavailable(str(error)) from error
        finally:
            path.unlink(missing_ok=True)

    async def _give_up(self, backup: BackupDocument, reason: str) -> None:
        """Have the catalog say that there is nothing of a backup."""
        logger.error("backup %s can't be made and counts as deleted: %s", backup.arn, reason)
        self._patience.forget(backup.id)
        failed = backup.model_copy(update={"status": FAILED})
        await self._change(backup, None if backup.status == REMOVING else failed)

    async def _change(self, backup: BackupDocument, document: BackupDocument | None) -> None:
        """Have the catalog say what a backup is now; None: it is no more."""
        self._check_current(backup)
        if document is None:
            await self._catalog.remove_backup(backup)
        else:
            await self._catalog.put_backup(document)

    def _check_current(self, backup: BackupDocument) -> None:
        """Check that nobody else has come to an end with a backup.

        Raises:
            ServiceUnavailable: somebody has.
        """
        if self._catalog.backup(backup.id) != backup:
            raise ServiceUnavailable("It was changed meanwhile. Look again.")

    # Removing one

    async def _remove(self, objects: Objects, backup: BackupDocument) -> None:
        """Remove its objects, the manifest first: without one it is no backup."""
        names = BackupNames(self._region, backup.id)
        with suppress(NoObject):
            await objects.delete([names.manifest])
        await objects.delete([each.key for each in await objects.list(names.folder)])
        await _sweep(objects, names)
        logger.info("backup %s is removed", backup.arn)

    # Those that the catalog does not know

    async def _find_unknown(self, objects: Objects) -> None:
        """Tell the catalog of the backups that are in object storage only.

        So a region whose log and data are lost finds them again.
        """
        for entry in await objects.list(BackupNames.all(self._region)):
            if not entry.key.endswith(_MANIFEST):
                continue
            backup_id = entry.key.removesuffix(_MANIFEST).rpartition("/")[2]
            if self._catalog.backup(backup_id) is not None:
                continue
            names = BackupNames(self._region, backup_id)
            try:
                manifest = await Manifest.read(objects, names)
                await manifest.check_parts(objects, names)
            except DamagedBackup as error:
                logger.warning("a backup is not taken into the catalog: %s", error)
                continue
            try:
                await self._catalog.put_backup(manifest.backup)
                logger.info("backup %s was found in %s", manifest.backup.arn, objects.place)
            except ApiError as error:
                logger.info("backup %s: %s", backup_id, error)
        self._known = True


async def _sweep(objects: Objects, names: BackupNames) -> None:
    """Remove what is half written. Who is at it still begins anew, and sees what there is now."""
    for folder in (names.parts, names.folder):
        await objects.delete_unfinished(folder, datetime.now(UTC))
