"""Makes the rows of a shard that is split off another: a copy that follows the parent's logs.

A copy begins with the parent's files, linked where the parent is on this node, or with its newest
checkpoint. It follows the parent's part of the change log and of the indexes' log as a replica
does, up to the parent's split record, and is the shard's own from then on. It has all of the
parent's rows; those that are not the shard's are not shown and removed later, see `Share`.

Where neither helps, the parent's logs do as long as they have their beginning: they go on from the
rows that the parent itself was split off with, which are had from its own parent in the same way. A
copy then follows the logs of one after the other, the oldest first.
"""

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from streamtable.consumers.checkpoints.restore import Restorer
from streamtable.consumers.indexes.messages import read
from streamtable.consumers.tables.store import ShardStore
from streamtable.core.errors import StreamtableError
from streamtable.core.formats import NewerFormat
from streamtable.core.layouts import Birth
from streamtable.streams.epochs import SPLIT
from streamtable.streams.layout import Layout
from streamtable.streams.log import CLIENT_ERRORS, LogUnavailable
from streamtable.streams.overlay import Overlay
from streamtable.streams.owner import StateUnavailable
from streamtable.streams.partitions import open_consumer
from streamtable.streams.records import LogRecord, SplitMark
from streamtable.streams.shard_log import ShardLogs
from streamtable.streams.topics import Topics

__all__ = ["Copies", "CopyStatus"]

logger = logging.getLogger(__name__)

_POLL_MS: Final = 200
_DECIDING_MS: Final = 10
_RETRY_S: Final = 1.0


class CopyStatus(NamedTuple):
    """How far a copy is.

    Attributes:
        lag: how many records of the parent's log it lacks.
        split: the attempt whose split record it has come to, None where it has come to none.
        index_offset: the next offset of the parent's indexes' log.
        error: why it does not go on.
    """

    lag: int
    split: str | None
    index_offset: int
    error: str | None


class _UselessCopy(StateUnavailable):
    """What was copied can't be gone on with; it is begun anew."""


class _Copying:
    """One copy under way.

    Attributes:
        task: makes it.
        store: its rows, once it has some.
        lag: how many records of the parent's log it lacks, and of those that come before that.
        ahead: how many of these are in logs that it has not come to.
        error: why it does not go on.
    """

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.store: ShardStore | None = None
        self.lag = 1
        self.ahead = 0
        self.error: str | None = None

    def close(self) -> None:
        if self.store is not None:
            self.store.close()
            self.store = None


class Copies:
    """Makes copies for the shards that this node is to have when there are more.

    Args:
        address: the brokers, `host:port,...`.
        topics: the region's topics.
        logs: the shards' logs.
        layout: the region's shards.
        catalog: how far this node has read the catalog.
        stores: the stores of this node's shards.
        path: tells in which folder a shard's rows are.
        make: opens the store in a folder.
        restorer: has checkpoints; None where there are none.
        fail: told of an error after which the node can't go on.
    """

    def __init__(
        self,
        *,
        address: str,
        topics: Topics,
        logs: ShardLogs,
        layout: Layout,
        catalog: Callable[[], int],
        stores: Mapping[int, ShardStore],
        path: Callable[[int], Path],
        make: Callable[[Path], Awaitable[ShardStore]],
        restorer: Restorer | None,
        fail: Callable[[BaseException], None],
    ) -> None:
        self._address = address
        self._topics = topics
        self._logs = logs
        self._layout = layout
        self._catalog = catalog
        self._stores = stores
        self._path = path
        self._make = make
        self._restorer = restorer
        self._fail = fail
        self._copying: dict[int, _Copying] = {}

    def status(self) -> dict[int, CopyStatus]:
        """How far each copy is that is made here."""
        return {
            number: CopyStatus(
                each.lag,
                each.store.split.attempt if each.store and each.store.split else None,
                each.store.index_offset if each.store else 0,
                each.error,
            )
            for number, each in self._copying.items()
        }

    async def want(self, numbers: frozenset[int], taken: frozenset[int] = frozenset()) -> None:
        """Have copies made for shards that are to be, and for no others.

        Args:
            numbers: those shards.
            taken: shards that are there by now, whose copies are about to be taken.
        """
        for number in self._copying.keys() - numbers - taken:
            await self._stop(number)
        for number in numbers - self._copying.keys():
            copying = self._copying[number] = _Copying()
            copying.task = asyncio.create_task(self._run(number, copying))

    async def stop(self) -> None:
        """Make no more copies; their files stay."""
        await self.want(frozenset())

    async def take(self, number: int) -> ShardStore:
        """Return the store of a shard that was split off, its copy being finished.

        Raises:
            LogUnavailable: the parent's logs can't be read.
            StateUnavailable: its parent's rows can't be had so far, or its files can't be written.
        """
        copying = self._copying.pop(number, None) or _Copying()
        if copying.task is not None:
            copying.task.cancel()
            await asyncio.wait([copying.task])
        try:
            await self._copy(number, copying)
        except BaseException:
            copying.close()
            raise
        assert copying.store is not None
        copying.store.finish_copy()
        return copying.store

    def makes(self, number: int) -> bool:
        """Whether a copy for a shard is being made here."""
        return number in self._copying

    async def has(self, number: int) -> bool:
        """Whether a shard that was split off has rows of its own in this node's folder."""
        birth = self._layout.document.birth(number)
        if not self._path(number).exists():
            return False
        store = await self._make(self._path(number))
        try:
            return birth is not None and store.copy_of == (birth.parent, birth.before, True)
        finally:
            store.close()

    async def _stop(self, number: int) -> None:
        copying = self._copying.pop(number)
        assert copying.task is not None
        copying.task.cancel()
        await asyncio.wait([copying.task])
        copying.close()
        if self._layout.document.birth(number) is None:
            # It was given up.
            await asyncio.to_thread(shutil.rmtree, self._path(number), ignore_errors=True)

    async def _run(self, number: int, copying: _Copying) -> None:
        """Make a copy, again and again where something is in the way, until it is taken."""
        while True:
            try:
                await self._copy(number, copying)
            except NewerFormat as error:
                self._fail(error)
                return
            except (StreamtableError, OSError, *CLIENT_ERRORS) as error:
                copying.error = f"shard {number} waits: {error}"
                logger.warning("the rows of shard %d can't be copied: %r", number, error)
                await asyncio.sleep(_RETRY_S)
            else:
                return

    async def _copy(self, number: int, copying: _Copying) -> None:
        """Bring a copy up to where its parent was split."""
        try:
            if copying.store is None:
                copying.store = await self._begin(number)
            store = copying.store
            while True:
                before = self._stage(store)
                copying.ahead = await self._ahead(number, before)
                await self._follow(number, before, copying, store)
                later = self._births(number, above=before)
                if not later:
                    return
                store.finish_copy((later[0].parent, later[0].before))
        except (OffsetOutOfRangeError, _UselessCopy) as error:
            copying.close()
            await asyncio.to_thread(shutil.rmtree, self._path(number), ignore_errors=True)
            raise StateUnavailable(f"the copy of shard {number} is of no use: {error!r}") from error
        except StateUnavailable:
            raise
        except CLIENT_ERRORS as error:
            raise LogUnavailable(f"the logs that shard {number} needs: {error!r}") from error

    async def _begin(self, number: int) -> ShardStore:
        """Return the copy that was begun before, or begin one."""
        path, births = self._path(number), self._births(number)
        if path.exists():
            begun = await self._make(path)
            if begun.copy_of in {(each.parent, each.before, False) for each in births}:
                return begun
            # Of an attempt that was given up, or not whole.
            begun.close()
            await asyncio.to_thread(shutil.rmtree, path)
        child = number
        for birth in reversed(births):
            store = await self._parents_rows(number, birth, path)
            if store is not None:
                break
            await self._check_beginning(child, birth.parent)
            child = birth.parent
        else:
            store = await self._make(path)
        store.begin_copy(birth.parent, birth.before)
        await asyncio.to_thread(store.flush)
        return store

    async def _parents_rows(self, number: int, birth: Birth, path: Path) -> ShardStore | None:
        """Have a parent's rows as of before its split, None where there are none to be had."""
        held = self._stores.get(birth.parent)
        if held is not None and self._has_all(number, birth.before, held):
            linked = await self._link(held, number, birth.before, path)
            if linked is not None:
                return linked
        return await self._restored(number, birth, path)

    async def _check_beginning(self, child: int, parent: int) -> None:
        """Check that a parent's logs have all that it has had since it was there.

        Raises:
            StateUnavailable: they don't; the message has what to do.
        """
        changes, _ = await self._logs.changes.bounds(parent)
        rows, _ = await self._logs.rows.bounds(parent)
        if changes == 0 and rows == 0:
            return
        place = "--checkpoints none" if self._restorer is None else self._restorer.place
        raise StateUnavailable(
            f"the rows of shard {child} are to be copied from shard {parent}, which is on another "
            f"node, no checkpoint of that in {place} helps, and its logs begin at the offsets "
            f"{changes} and {rows}. Name a place that all nodes reach with --checkpoints, or stop "
            "this node, so that one that has the shard's rows gets it."
        )

    def _has_all(self, number: int, before: int, store: ShardStore) -> bool:
        """Whether a parent's rows are, as they are, of use for a shard that is split off it.

        As soon as it has come to its split record they may be removed there.
        """
        _, _, end, index_end = self._birth(number, before)
        if end is None or index_end is None:
            return True
        return store.applied < end and store.index_offset <= index_end

    async def _link(
        self, held: ShardStore, number: int, before: int, path: Path
    ) -> ShardStore | None:
        """Link the files of a parent that is on this node; None if they are of no use."""
        fresh = path.with_name(f"{path.name}.copy")
        await asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        await held.freeze(fresh)
        fresh.rename(path)
        return await self._opened(number, before, path)

    async def _restored(self, number: int, birth: Birth, path: Path) -> ShardStore | None:
        """Load a parent's newest checkpoint that is of use; None if there is none."""
        if self._restorer is None:
            return None
        parent, before, below, _ = birth
        log = self._logs.of(parent)
        while True:
            found, _ = await self._restorer.restore(
                parent, path, log, self._make, above=-1, below=below
            )
            if found is None:
                return None
            store = await self._opened(number, before, path)
            if store is not None:
                return store
            below = found.offset

    async def _opened(self, number: int, before: int, path: Path) -> ShardStore | None:
        """Open a parent's files; None if rows may be gone from them.

        They may be of a later offset than whoever has made them says.
        """
        store = await self._make(path)
        if self._has_all(number, before, store):
            return store
        store.close()
        await asyncio.to_thread(shutil.rmtree, path)
        return None

    async def _follow(self, number: int, before: int, copying: _Copying, store: ShardStore) -> None:
        """Follow a parent's logs until the copy has all that came before its split."""
        parent = self._birth(number, before).parent
        changes = TopicPartition(self._topics.changelog, parent)
        rows = TopicPartition(self._topics.indexes, parent)
        if self._is_whole(number, before, store):
            return
        consumer = await open_consumer(self._address, [changes, rows])
        try:
            consumer.seek(changes, store.applied + 1)
            consumer.seek(rows, store.index_offset)
            while not self._is_whole(number, before, store):
                _, _, end, index_end = self._birth(number, before)
                deciding = store.split is not None and not self._is_decided(store.split)
                over = deciding or (end is not None and store.applied >= end)
                partitions = [rows] if over else [changes, rows]
                wait_ms = _DECIDING_MS if deciding else _POLL_MS
                found = await consumer.getmany(*partitions, timeout_ms=wait_ms)
                await store.until_writable()
                if self._apply_changes(store, found.get(changes, ())):
                    consumer.seek(changes, store.applied + 1)
                self._apply_rows(store, found.get(rows, ()), index_end)
                high = consumer.highwater(changes)
                if high is not None:
                    copying.lag = copying.ahead + max(0, high - store.applied - 1)
                    copying.error = None
        finally:
            with suppress(*CLIENT_ERRORS):
                await consumer.stop()

    async def _ahead(self, number: int, before: int) -> int:
        """How many records there are in the logs that come after those of one parent."""
        later = self._births(number, above=before)
        return sum([(await self._logs.changes.bounds(each.parent))[1] for each in later])

    @staticmethod
    def _stage(store: ShardStore) -> int:
        """How many shards there were when the one was split whose logs a copy follows."""
        copied = store.copy_of
        assert copied is not None
        return copied[1]

    def _births(self, number: int, above: int = 0) -> list[Birth]:
        """How a shard that is made here came about, at more shards than so many."""
        births = self._layout.document.births(number)
        if not births:
            raise StateUnavailable(f"shard {number} is not to be any more")
        return [each for each in births if each.before > above]

    def _birth(self, number: int, before: int) -> Birth:
        """The one of a shard's births at which there were so many shards."""
        for birth in self._births(number):
            if birth.before == before:
                return birth
        raise StateUnavailable(f"shard {number} is not to be any more")

    def _is_whole(self, number: int, before: int, store: ShardStore) -> bool:
        """Whether a copy has all that came before a split, and nothing that came after it."""
        _, _, end, index_end = self._birth(number, before)
        if end is None or index_end is None:
            return False
        self._check(store, end, index_end)
        return store.applied >= end and store.index_offset >= index_end

    def _is_decided(self, split: SplitMark) -> bool:
        known = self._catalog() >= split.catalog
        return known and not self._layout.swapping(split.attempt)

    @staticmethod
    def _check(store: ShardStore, end: int, index_end: int) -> None:
        """Check that a copy has nothing that its shard must not have."""
        wrong = store.applied > end and (store.split is None or store.split.offset != end)
        if wrong or store.index_offset > index_end:
            raise _UselessCopy(
                f"it has offset {store.applied} of its parent's log, which was split at {end}, "
                f"and {store.index_offset} of {index_end} of the indexes'"
            )

    @staticmethod
    def _apply_changes(store: ShardStore, found: Any) -> bool:
        """Apply what follows, up to the next split; say whether something is left over."""
        records = [LogRecord.from_consumer(each) for each in found]
        records = [record for record in records if record.offset > store.applied]
        if not records:
            return False
        if records[0].offset != store.applied + 1:
            raise StateUnavailable(
                f"the log went on at offset {records[0].offset}, {store.applied + 1} is needed"
            )
        splits = [place for place, record in enumerate(records) if record.kind == SPLIT]
        upto = splits[0] + 1 if splits else len(records)
        store.apply(records[:upto], Overlay())
        return upto < len(records)

    @staticmethod
    def _apply_rows(store: ShardStore, found: Any, end: int | None) -> None:
        wanted = [each for each in found if end is None or each.offset < end]
        if wanted:
            store.apply_index([read(each) for each in wanted], wanted[-1].offset + 1)
