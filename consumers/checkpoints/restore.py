"""Puts a shard's newest usable checkpoint in the place of its files."""

import asyncio
import logging
import os
import shutil
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from streamtable.consumers.checkpoints.manifests import (
    DamagedCheckpoint,
    FileEntry,
    Manifest,
    Names,
)
from streamtable.consumers.checkpoints.objects import BadObject, Objects
from streamtable.consumers.tables.store import ShardStore, UnreadableTables
from streamtable.core.errors import StreamtableError
from streamtable.core.formats import NewerFormat
from streamtable.streams.bounds import bounds_reaching
from streamtable.streams.epochs import BARRIER
from streamtable.streams.layout import Layout
from streamtable.streams.owner import LogGap
from streamtable.streams.records import LogRecord

__all__ = ["NoCheckpoint", "Restorer", "StoreMaker", "open_store", "verify"]

logger = logging.getLogger(__name__)

StoreMaker: TypeAlias = Callable[[Path], Awaitable[ShardStore]]
"""Opens the store of a folder."""

# Files that are on their way, of all shards: each takes some megabytes of memory.
_AT_ONCE: Final = 8
_TELL_S: Final = 2.0


class NoCheckpoint(LogGap):
    """The log no longer has what a shard's tables need, and no checkpoint helps."""


class ShardEnd(Protocol):
    """A shard's log, as far as restoring needs it."""

    async def bounds(self) -> tuple[int, int]:
        """Return the offsets of the first record kept, and of the next one to come."""

    def read(self, start: int) -> AsyncGenerator[list[LogRecord]]:
        """Yield the records from an offset on."""


class _Restoring:
    """How far a restore is.

    Attributes:
        shard: the shard's number.
        total_bytes: size of the checkpoint.
        done_bytes: what has arrived.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.shard = manifest.shard
        self.total_bytes = manifest.size_bytes
        self.done_bytes = 0
        self._offset = manifest.offset
        self._started = self._told = time.monotonic()

    def add(self, size_bytes: int) -> None:
        """Note what has arrived; tell about it now and then."""
        self.done_bytes += size_bytes
        now = time.monotonic()
        if now - self._told >= _TELL_S:
            self._told = now
            rate = self.done_bytes / (now - self._started)
            logger.info(
                "shard %d: %.0f of %.0f MB of the checkpoint at offset %d, %.0f MB/s, %.0f s left",
                self.shard,
                self.done_bytes / 1e6,
                self.total_bytes / 1e6,
                self._offset,
                rate / 1e6,
                (self.total_bytes - self.done_bytes) / max(rate, 1.0),
            )


class Restorer:
    """Loads checkpoints.

    Args:
        objects: where they are kept.
        region: the region's name.
        layout: its shards.
    """

    def __init__(self, objects: Objects, region: str, layout: Layout) -> None:
        self._objects = objects
        self._region = region
        self._layout = layout
        self._turn = asyncio.Semaphore(_AT_ONCE)

    @property
    def place(self) -> str:
        """Where the checkpoints are kept."""
        return self._objects.place

    async def restore(
        self,
        number: int,
        path: Path,
        log: ShardEnd,
        make: StoreMaker,
        *,
        above: int,
        below: int | None = None,
    ) -> tuple[Manifest | None, list[str]]:
        """Replace a shard's files by the newest checkpoint that its log goes on from.

        The files are checked against their checksums, and opened, before anything is replaced. A
        checkpoint that is damaged, or does not belong to the log, is passed over.

        Args:
            number: the shard's number.
            path: its folder; its store is closed.
            log: its log.
            make: opens the store of a folder.
            above: only a checkpoint of a later offset is of use.
            below: nor is one of this offset or a later one, where that is given.

        Returns:
            The checkpoint, None if there is none to be used; and why others were passed over.

        Raises:
            LogUnavailable: the log can't be read.
            StorageUnavailable: the object storage can't be read.
        """
        names = Names(self._region, number)
        passed_over: list[str] = []
        for key in names.newest_first(await self._objects.list(names.manifests)):
            try:
                manifest = await Manifest.read(self._objects, key)
                reason = await self._unusable(manifest, number, log, above, below)
                if reason is None:
                    needed = max(above + 1, (await log.bounds())[0] - 1)
                    await self._replace(manifest, names, path, make, needed)
                    return manifest, passed_over
            except (DamagedCheckpoint, BadObject) as error:
                reason = str(error)
                logger.warning("a checkpoint of shard %d is damaged: %s", number, error)
            passed_over.append(f"{key}: {reason}")
        return None, passed_over

    async def _unusable(
        self, manifest: Manifest, number: int, log: ShardEnd, above: int, below: int | None
    ) -> str | None:
        """Say why a checkpoint is of no use, None if it is."""
        first, end = await bounds_reaching(manifest.offset, log.bounds)
        document = self._layout.document
        if (manifest.region, manifest.shard) != (self._region, number):
            return f"it is of shard {manifest.shard} of the region {manifest.region}"
        # One of before a split has the rows of all its children, and its log goes on as theirs.
        if manifest.shards not in {document.count, *(each.before for each in document.splits)}:
            return f"it is of a region with {manifest.shards} shards"
        if below is not None and manifest.offset >= below:
            return f"it ends at offset {manifest.offset}, the shard was split at {below}"
        if manifest.offset <= above:
            return f"it ends at offset {manifest.offset}, the shard has more"
        if manifest.offset + 1 < first:
            return f"it ends at offset {manifest.offset}, the log starts at {first}"
        if manifest.offset >= end:
            return f"it ends at offset {manifest.offset}, the log at {end}"
        known = manifest.barrier
        if known is None or known < first:
            known = manifest.offset
        if known >= first:
            record = await _record(log, known)
            if record.epoch != manifest.epoch or (
                known == manifest.barrier and record.kind != BARRIER
            ):
                return f"offset {known} of the log has another record: it is of another log"
        return None

    async def _replace(
        self, manifest: Manifest, names: Names, path: Path, make: StoreMaker, needed: int
    ) -> None:
        """Put a checkpoint in the place of a shard's files, if it opens and has an offset."""
        logger.info(
            "shard %d: loading the checkpoint at offset %d, %.0f MB",
            manifest.shard,
            manifest.offset,
            manifest.size_bytes / 1e6,
        )
        fresh = path.with_name(f"{path.name}.restored")
        await asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        try:
            await _download(self._objects, names, manifest, fresh, self._turn)
            await _check(fresh, make, needed)
            await asyncio.to_thread(_swap, fresh, path)
        finally:
            await asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True)


async def open_store(
    number: int,
    path: Path,
    log: ShardEnd,
    make: StoreMaker,
    restorer: Restorer | None,
) -> ShardStore:
    """Open a shard's store, on a checkpoint where its own files are missing or too old.

    Args:
        number: the shard's number.
        path: its folder.
        log: its log.
        make: opens the store of a folder.
        restorer: has the checkpoints; None where there are none.

    Raises:
        LogUnavailable: the log can't be read.
        NoCheckpoint: the log no longer reaches back to what the store has, and no checkpoint
            is new enough.
        StorageUnavailable: the object storage can't be read.
    """
    first, end = await log.bounds()
    store = await make(path)
    needed = store.applied + 1
    if needed >= first and (restorer is None or store.applied >= 0 or end == 0):
        return store
    store.close()
    found, passed_over = None, ["there are none"]
    if restorer is not None:
        found, passed_over = await restorer.restore(number, path, log, make, above=store.applied)
    if found is None and needed < first:
        place = "--checkpoints none" if restorer is None else restorer.place
        raise NoCheckpoint(
            f"shard {number}'s log starts at offset {first}, its tables need {needed}: they were "
            f"away for longer than the log is kept, and no checkpoint in {place} helps "
            f"({'; '.join(passed_over) or 'there is none'}). Name the place that has one with "
            "--checkpoints, or start on a copy of the data folder that is at least as new as the "
            "log's start."
        )
    return await make(path)


async def verify(objects: Objects, names: Names, manifest: Manifest, scratch: Path) -> None:
    """Read all files of a checkpoint and compare their checksums.

    Args:
        objects: where it is.
        names: names of the shard's objects.
        manifest: what it should be.
        scratch: an empty folder; each file is in it for as long as it takes.

    Raises:
        DamagedCheckpoint: one is missing or not what it was.
    """
    await _download(objects, names, manifest, scratch, asyncio.Semaphore(1), keep=False)


async def _download(
    objects: Objects,
    names: Names,
    manifest: Manifest,
    folder: Path,
    turn: asyncio.Semaphore,
    *,
    keep: bool = True,
) -> None:
    progress = _Restoring(manifest)
    failed: list[StreamtableError] = []

    async def load(file: FileEntry) -> None:
        path = folder / file.name
        if path.parent != folder:
            raise DamagedCheckpoint(f"a checkpoint can't have a file {file.name!r}")
        key = names.file(file.sha256)
        try:
            sha256 = await objects.download(key, path)
        except BadObject as error:
            raise DamagedCheckpoint(f"{file.name}: {error}") from error
        if sha256 != file.sha256:
            raise DamagedCheckpoint(
                f"{file.name}: {key} in {objects.place} has the checksum {sha256}"
            )
        progress.add(file.size_bytes)
        if not keep:
            path.unlink()

    async def try_to_load(file: FileEntry) -> None:
        async with turn:
            if not failed:
                try:
                    await load(file)
                except StreamtableError as error:
                    failed.append(error)

    # A thread can't be stopped: one that went on would write to the next checkpoint's files.
    await asyncio.gather(*map(try_to_load, manifest.files))
    if failed:
        raise failed[0]


async def _check(folder: Path, make: StoreMaker, needed: int) -> None:
    """Open files that are as they were written: their list may not be."""
    try:
        store = await make(folder)
    except (UnreadableTables, NewerFormat) as error:
        raise DamagedCheckpoint(f"its files are no tables: {error}") from error
    applied = store.applied
    store.close()
    if applied < needed:
        raise DamagedCheckpoint(f"its files end at offset {applied}, not {needed} or later")


def _swap(fresh: Path, path: Path) -> None:
    """Put a folder in the place of another, so that a crash leaves one of them or none."""
    old = path.with_name(f"{path.name}.replaced")
    shutil.rmtree(old, ignore_errors=True)
    _sync(fresh)
    if path.exists():
        path.rename(old)
    fresh.rename(path)
    _sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _record(log: ShardEnd, offset: int) -> LogRecord:
    async with aclosing(log.read(offset)) as batches:
        async for batch in batches:
            if batch:
                return batch[0]
    raise AssertionError
