"""Takes checkpoints of this node's shards, beside everything else that the node does."""

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from streamtable.consumers.checkpoints.manifests import (
    DamagedCheckpoint,
    FileEntry,
    Manifest,
    Names,
)
from streamtable.consumers.checkpoints.objects import (
    BadObject,
    ObjectEntry,
    Objects,
    StorageUnavailable,
    sha256_of,
)
from streamtable.consumers.tables.store import ShardStore
from streamtable.streams.background import Background
from streamtable.streams.layout import Layout
from streamtable.streams.owner import StateUnavailable

__all__ = ["Checkpointer"]

logger = logging.getLogger(__name__)

_KEPT: Final = 3
# A file that no manifest names may be another node's, whose manifest is not written yet.
_ORPHAN_AGE: Final = timedelta(hours=1)
_RETRY_S: Final = 30.0


class Checkpointer(Background):
    """Freezes each shard at an offset now and then, and keeps it in object storage.

    A shard's files are linked, not copied, and RocksDB never changes a file that it has written.
    Nobody waits for that, nor for reading and sending them. What an earlier
    checkpoint has is not sent again. The newest three checkpoints of a shard are kept, and of one
    that was split the newest of before, until all that was split off it has one.

    Args:
        objects: where they are kept.
        region: the region's name.
        node: this node's name.
        layout: the region's shards.
        stores: the stores of the shards that this node has, as they come and go.
        owns: says whether a shard is this node's right now.
        scratch: a folder on the stores' file system, for links.
        interval_s: how often a shard that has changed is frozen.
    """

    def __init__(
        self,
        *,
        objects: Objects,
        region: str,
        node: str,
        layout: Layout,
        stores: Mapping[int, ShardStore],
        owns: Callable[[int], bool],
        scratch: Path,
        interval_s: float,
    ) -> None:
        self._objects = objects
        self._region = region
        self._node = node
        self._layout = layout
        self._stores = stores
        self._owns = owns
        self._scratch = scratch
        self._interval_s = interval_s
        self._turn = asyncio.Lock()
        self._hashes: dict[int, dict[tuple[int, int, int], str]] = {}
        self.last: dict[int, Manifest] = {}
        """The newest checkpoint that was taken here, by shard."""

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.take()
            except (StorageUnavailable, StateUnavailable) as error:
                logger.warning("no checkpoint, trying again: %s", error)
                await asyncio.sleep(min(_RETRY_S, self._interval_s))
            except Exception:
                logger.exception("no checkpoint")

    async def take(self) -> list[Manifest]:
        """Take a checkpoint of each shard of this node that has changed since its last one.

        So is one whose last one is not whole any more: of which an object is missing, or has
        another size.

        Raises:
            StateUnavailable: a shard's files can't be written.
            StorageUnavailable: the object storage can't be written.
        """
        async with self._turn:
            return [
                await self._take(number, store)
                for number, store in tuple(self._stores.items())
                if self._owns(number) and not await self._has(number, store)
            ]

    async def _has(self, number: int, store: ShardStore) -> bool:
        """Whether all that a shard has is in its last checkpoint, and that is there."""
        last = self.last.get(number)
        if last is None or last.offset < store.applied:
            return False
        names = Names(self._region, number)
        sizes = _sizes(await self._objects.list(names.folder))
        return names.manifest(last) in sizes and all(
            sizes.get(names.file(file.sha256)) == file.size_bytes for file in last.files
        )

    async def _take(self, number: int, store: ShardStore) -> Manifest:
        folder = self._scratch / f"shard-{number}"
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            # 1. What is in memory goes to files, and these are linked, in the background.
            frozen = await store.freeze(folder)
            # 2. The files that are new.
            names = Names(self._region, number)
            listed = await self._objects.list(names.files)
            sizes = _sizes(listed)
            files = await asyncio.to_thread(self._entries, number, folder)
            for entry in files:
                if sizes.get(names.file(entry.sha256)) != entry.size_bytes:
                    await self._objects.put(names.file(entry.sha256), folder / entry.name)
            # 3. The manifest.
            manifest = Manifest(
                region=self._region,
                shard=number,
                shards=self._layout.count,
                offset=frozen.offset,
                epoch=frozen.epoch,
                barrier=frozen.barrier,
                index_offset=frozen.index_offset,
                taken_ms=time.time_ns() // 1_000_000,
                node=self._node,
                files=tuple(files),
            )
            content = manifest.model_dump_json().encode()
            await self._objects.put(names.manifest(manifest), content)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        self.last[number] = manifest
        # 4. What is too old.
        await self._remove_old(number, names, names.manifest(manifest), listed)
        return manifest

    def _entries(self, number: int, folder: Path) -> list[FileEntry]:
        """Read what is new; a file that was read for the last checkpoint is known by its inode."""
        known, hashes = self._hashes.get(number, {}), {}
        entries = []
        for path in sorted(folder.iterdir()):
            status = path.stat()
            identity = (status.st_ino, status.st_size, status.st_mtime_ns)
            hashes[identity] = known.get(identity) or sha256_of(path)
            entries.append(
                FileEntry(name=path.name, size_bytes=status.st_size, sha256=hashes[identity])
            )
        self._hashes[number] = hashes
        return entries

    async def _remove_old(
        self, number: int, names: Names, taken: str, listed: Sequence[ObjectEntry]
    ) -> None:
        before = datetime.now(UTC) - _ORPHAN_AGE
        for folder in (names.files, names.manifests):
            await self._objects.delete_unfinished(folder, before)
        manifests = names.newest_first(await self._objects.list(names.manifests))
        # Those of later offsets may be another log's, and are no reason to remove this one's.
        own = [key for key in manifests if key <= taken][:_KEPT]
        old = [key for key in manifests[_KEPT:] if key not in own]
        wanted = [key for key in manifests if key not in old]
        wanted += await self._for_children(number, old)
        await self._objects.delete([key for key in old if key not in wanted])
        try:
            kept = [await Manifest.read(self._objects, key) for key in wanted]
        except (DamagedCheckpoint, BadObject) as error:
            logger.warning("no old files are removed: %s", error)
            return
        needed = {names.file(file.sha256) for manifest in kept for file in manifest.files}
        await self._objects.delete(
            [each.key for each in listed if each.key not in needed and each.modified < before]
        )

    async def _for_children(self, number: int, old: Sequence[str]) -> list[str]:
        """Of old checkpoints the one that is needed for as long as a child has none of its own."""
        end, _ = self._layout.document.began(number)
        before = [key for key in old if Names.offset(key) < end]
        if before:
            for child in self._layout.document.children(number):
                names = Names(self._region, child)
                if not names.newest_first(await self._objects.list(names.manifests)):
                    return before[:1]
        return []


def _sizes(listed: Sequence[ObjectEntry]) -> dict[str, int]:
    return {each.key: each.size_bytes for each in listed}
