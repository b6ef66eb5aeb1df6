"""One shard of the tables in RocksDB: its rows, and how far in the log they are."""

import asyncio
import logging
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson
from rocksdict import AccessType, Rdict, ReadOptions, WriteBatch, WriteOptions

from streamtable.consumers.tables.batches import put
from streamtable.consumers.tables.counts import Counts
from streamtable.consumers.tables.freezing import link_files
from streamtable.consumers.tables.memory import StoreMemory, store_options
from streamtable.consumers.tables.share import Share
from streamtable.consumers.tables.walking import keys, rows, values_below
from streamtable.core.changes import Change
from streamtable.core.errors import StreamtableError
from streamtable.core.expiry import expiry_rows
from streamtable.core.formats import FIRST, NewerFormat, refuse_newer
from streamtable.core.images import Image
from streamtable.core.index_rows import index_rows
from streamtable.core.keys import after_prefix
from streamtable.core.tables import EXPIRY_ROW, LOCAL_ROW, PREFIX_BYTES, TABLE_ROW, Table
from streamtable.streams.commit import Row
from streamtable.streams.epochs import BARRIER, SPLIT, EpochFilter
from streamtable.streams.ledger import DECISION_MS, TOKEN_MS
from streamtable.streams.overlay import Overlay
from streamtable.streams.owner import StateUnavailable
from streamtable.streams.records import LogRecord, SplitMark

__all__ = ["Frozen", "ShardStore", "UnreadableTables"]

logger = logging.getLogger(__name__)

# Of everything below; a later one would be noted beside the offset that is applied.
_FORMAT: Final = 1
# What is not a row of a table or an index begins with a zero byte.
_APPLIED: Final = b"\x00applied"
_EPOCHS: Final = b"\x00epoch/"
_INDEXED: Final = b"\x00indexed/"
_INDEX_OFFSET: Final = b"\x00indexes"
_PREPARED: Final = b"\x00prepared/"
_DECIDED: Final = b"\x00decided/"
_DECISIONS: Final = b"\x00decision/"
_TOKENS: Final = b"\x00token/"
_VIEWS: Final = b"\x00view/"
_SPLIT: Final = b"\x00split"
_SHARE: Final = b"\x00share"
_SEED: Final = b"\x00seed"
_ROWS: Final = b"\x01"
_NUMBER = struct.Struct(">Q")
_INDEX_POSITION = struct.Struct(">QQ")
_HAPPENED: Final = b"\x01"
_DROPPED: Final = b"\x00"
_FEW_ROWS: Final = 1000
_FORGET_MS: Final = 60_000
# RocksDB says that it slows writes down, or holds them: too much waits for the disk.
_HELD_UP: Final = ("rocksdb.actual-delayed-write-rate", "rocksdb.is-write-stopped")
_WAITING: Final = "rocksdb.num-immutable-mem-table"
_LOOK_S: Final = 0.01


class UnreadableTables(StreamtableError, OSError):
    """A folder's files can't be opened as tables."""


class Frozen(NamedTuple):
    """Where a frozen store is in the logs.

    Attributes:
        offset: offset of the last record applied; later ones may be in it, and the frozen store
            knows of them.
        epoch: the epoch in force there.
        barrier: offset of its barrier.
        index_offset: the next offset of the indexes' log.
    """

    offset: int
    epoch: str | None
    barrier: int | None
    index_offset: int


class ShardStore:
    """The rows of one shard, materialized from its log.

    Rows and the offset of the last record applied change in one RocksDB batch, so that after a
    crash at any point each change is there exactly once. RocksDB's own log is off, so a write
    touches memory only and never waits for the disk: what a crash takes is applied again from the
    change log.

    Args:
        path: the folder; made if missing.
        memory: what it may keep in memory, together with the node's other shards.
        find: returns the table of an id, None for one that was deleted.

    Raises:
        NewerFormat: the folder is of a newer format than this version knows.
        UnreadableTables: the folder's files can't be opened, for example because one is missing or
            damaged, or because another process has them.
    """

    def __init__(
        self, path: Path, memory: StoreMemory, find: Callable[[str], Table | None]
    ) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._memory = memory
        self.removed_at = 0
        try:
            self._db = Rdict(str(path), store_options(memory), access_type=AccessType.read_write())
        except Exception as error:
            # RocksDB's errors have no type of their own.
            raise UnreadableTables(
                f"the tables in {path} can't be opened: {error}. If a file of theirs is damaged or "
                "missing, remove the folder: the shard is loaded from its newest checkpoint, or "
                "from the log."
            ) from error
        in_memory = WriteOptions()
        # Its types take the property for a method.
        in_memory.disable_wal = True  # type: ignore[method-assign,assignment]
        self._db.set_write_options(in_memory)
        self._find = find
        self._since: float | None = None
        self.applied = -1
        self._epochs = EpochFilter()
        stored = self._db.get(_APPLIED)
        if stored is not None:
            position = orjson.loads(stored)
            try:
                refuse_newer(f"the tables in {path}", position.get("format", FIRST), _FORMAT)
            except NewerFormat:
                self._db.close()
                raise
            self.applied = position["offset"]
            self.removed_at = position.get("removed", 0)
            self._epochs = EpochFilter(position["epoch"], position["barrier"])
        self._forgot_ms = 0
        self._counts = Counts(self._db, find)
        self._indexed: dict[int, tuple[int, int]] = {}
        following = self._db.get(_INDEX_OFFSET)
        self._index_offset = 0 if following is None else _NUMBER.unpack(following)[0]
        for key, value in values_below(self._db, _INDEXED):
            self._indexed[_NUMBER.unpack(key)[0]] = _INDEX_POSITION.unpack(value)
        found = self._db.get(_SPLIT)
        self.split = None if found is None else SplitMark(*orjson.loads(found))
        # Rows of other shards are among these; None where there are none.
        self._share: Share | None = None

    def close(self) -> None:
        """Write out what is in memory and close the files.

        What can't be written is applied again from the change log, as after a crash.
        """
        try:
            self.flush()
        except StateUnavailable as error:
            logger.warning("%s lacks what was not written: %s", self._path, error)
        # It tries to write, too, and says the same.
        with suppress(Exception):
            self._db.close()

    # Files

    @property
    def unwritten_s(self) -> float:
        """For how long something has been in memory only, seconds; 0 if nothing is."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def flush(self) -> None:
        """Write out what is in memory; for a thread.

        Raises:
            StateUnavailable: it can't be written.
        """
        since, self._since = self._since, None
        try:
            self._db.flush()
        except Exception as error:
            self._since = since
            raise StateUnavailable(f"the tables' store can't be written: {error}") from error

    async def freeze(self, folder: Path) -> Frozen:
        """Link the store's files into a new folder of the same file system.

        Reads and writes go on meanwhile.

        Raises:
            StateUnavailable: they can't be.
        """
        frozen = Frozen(self.applied, self._epochs.epoch, self._epochs.barrier, self._index_offset)
        await asyncio.to_thread(self.flush)
        try:
            await asyncio.to_thread(link_files, self._db, self._path, folder)
        except Exception as error:
            raise StateUnavailable(f"the tables' store can't be frozen: {error}") from error
        return frozen

    async def until_writable(self) -> None:
        """Wait while too much in memory waits for the disk; see `ShardState.until_writable`."""
        while not self.writable:  # noqa: ASYNC110 - RocksDB's threads tell nobody
            await asyncio.sleep(_LOOK_S)

    @property
    def writable(self) -> bool:
        """Whether not too much in memory waits for the disk."""
        if self._held_up():
            return False
        return not (self._memory.full and self._db.property_int_value(_WAITING))

    def _held_up(self) -> bool:
        return any(map(self._db.property_int_value, _HELD_UP))

    # Rows

    def get(self, row_key: bytes) -> Image | None:
        """Return a row's image."""
        data = self._db.get(row_key)
        return None if data is None else Image.decode(data)

    def get_many(self, row_keys: Sequence[bytes]) -> list[Image | None]:
        """Return the images of rows."""
        found: Any = self._db.get([*row_keys])
        return [None if data is None else Image.decode(data) for data in found]

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, Image]]:
        """Yield the rows with `start <= key < end`, as they are at the call, in order."""
        walked = rows(self._db, start, end, reverse=reverse)
        if self._share is None:
            return walked
        has = self._share.has
        return ((row_key, image) for row_key, image in walked if has(row_key))

    # The change log

    def apply(self, found: Sequence[LogRecord], known: Overlay) -> list[LogRecord]:
        """Apply contiguous records from `applied + 1` on; see `ShardState.apply`."""
        assert found[0].offset == self.applied + 1
        batch = WriteBatch(raw_mode=True)
        epochs = EpochFilter(self._epochs.epoch, self._epochs.barrier)
        valid = []
        counting = self._counts.begin()
        prepared: dict[str, dict[str, Any]] = {}
        split, removed_at = self.split, self.removed_at
        for record in found:
            if epochs.admit(record.kind, record.epoch, record.offset):
                valid.append(record)
                commit = known.commit(record.offset)
                if commit is not None:
                    written, entries, changes = commit.rows, commit.entries, commit.changes
                else:
                    changes, entries = record.contents()
                    written = [row for change in changes for row in self._rows(change)]
                for row_key, image in written:
                    if row_key[0] == LOCAL_ROW:
                        counting.index_row(row_key, image)
                    if image is None:
                        batch.delete(row_key)
                    else:
                        batch.put(row_key, image.encode())
                for change in changes:
                    if change.new is None and change.time > removed_at:
                        removed_at = change.time
                if counting.changes(changes):
                    for key, value in self._expiry_rows(changes):
                        put(batch, key, value)
                for entry in entries:
                    _note(batch, entry, prepared)
                if entries:
                    self._forget(batch, entries[-1]["at"])
            elif record.kind == BARRIER:
                batch.put(_EPOCHS + _NUMBER.pack(record.offset), record.epoch.encode())
            elif record.kind == SPLIT and record.epoch == epochs.epoch:
                split = record.split()
                batch.put(_SPLIT, orjson.dumps(list(split)))
        for transaction, entry in prepared.items():
            batch.put(_PREPARED + transaction.encode(), orjson.dumps(entry))
        counting.put(batch)
        applied = found[-1].offset
        batch.put(_APPLIED, _position(applied, epochs, removed_at))
        self._write(batch)
        self.applied, self._epochs, self.split = applied, epochs, split
        self.removed_at = removed_at
        self._counts.take(counting)
        return valid

    def _forget(self, batch: WriteBatch, now_ms: int) -> None:
        """Remove decisions and tokens that are too old, once a minute."""
        if now_ms < self._forgot_ms + _FORGET_MS:
            return
        self._forgot_ms = now_ms
        for prefix, kept_ms in ((_DECIDED, DECISION_MS), (_TOKENS, TOKEN_MS)):
            for key in self.keys(prefix, prefix + _NUMBER.pack(max(0, now_ms - kept_ms))):
                batch.delete(key)
                if prefix == _DECIDED:
                    batch.delete(_DECISIONS + key[len(_DECIDED) + _NUMBER.size :])

    def total(self, prefix: bytes) -> tuple[int, int]:
        """How many rows the table or index with this prefix has here, and their size in bytes.

        An estimate while rows of other shards are among them.
        """
        return self._counts.total(prefix)

    def collection_bytes(self, collection: bytes) -> int:
        """Size of an item collection; see `ShardState.collection_bytes`."""
        return self._counts.collection_bytes(collection)

    def _rows(self, change: Change) -> list[Row]:
        """The rows of this shard that follow from a change; none if its table was deleted."""
        table = self._find(change.table_id)
        if table is None:
            return []
        _, row_key = table.keys.locate(table.prefix, change.keys)
        rows = [(row_key, change.new)]
        if table.indexes:
            old = None if change.old is None else change.old.item
            rows += [
                (row.row_key, row.image)
                for row in index_rows(table, old, change.new)
                if not row.index.is_global
            ]
        return rows

    def _expiry_rows(self, changes: Iterable[Change]) -> Iterator[tuple[bytes, bytes | None]]:
        for change in changes:
            table = self._find(change.table_id)
            if table is None or table.document.time_to_live is None:
                continue
            _, row_key = table.keys.locate(table.prefix, change.keys)
            old = None if change.old is None else change.old.item
            new = None if change.new is None else change.new.item
            yield from expiry_rows(table.document, old, new, row_key)

    def epoch_before(self, offset: int) -> tuple[str, int] | None:
        """The epoch in force just before `offset`, and its barrier's offset.

        None if no barrier before it is known.
        """
        options = ReadOptions()
        options.set_iterate_upper_bound(_EPOCHS + _NUMBER.pack(offset))
        rows = self._db.iter(options)
        rows.seek_to_last()
        if not (rows.valid() and rows.key().startswith(_EPOCHS)):
            return None
        return rows.value().decode(), _NUMBER.unpack(rows.key()[len(_EPOCHS) :])[0]

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield the entries that are needed at once; see `ShardState.entries`."""
        for prefix in (_PREPARED, _TOKENS, _VIEWS):
            for _, value in values_below(self._db, prefix):
                yield orjson.loads(value)

    def decision(self, transaction: str) -> bool | None:
        """Return what was decided of a transaction; see `ShardState.decision`."""
        stored = self._db.get(_DECISIONS + transaction.encode())
        return None if stored is None else stored == _HAPPENED

    # The indexes' log

    def indexed(self, source: int) -> int:
        """Offset of shard `source` through which global indexes are applied here, or -1."""
        return self.indexed_position(source)[0]

    def indexed_position(self, source: int) -> tuple[int, int]:
        """The position of shard `source` through which global indexes are applied here.

        The offset of a commit there, -1 before the first, and a number that grows among what
        was sent for one offset.
        """
        return self._indexed.get(source, (-1, 0))

    @property
    def index_offset(self) -> int:
        """The next offset of the indexes' log that is not applied here yet."""
        return self._index_offset

    def apply_index(
        self,
        found: Iterable[tuple[int, Iterable[tuple[tuple[int, int], Sequence[Row]]]]],
        following: int,
    ) -> None:
        """Apply records of the indexes' log, all or nothing.

        Args:
            found: a source shard, and what follows from it: positions and rows, in order; None
                removes a row. What is not above the last position applied from that shard was
                applied before and is passed over.
            following: the offset after those records.

        Raises:
            StateUnavailable: nothing was applied; it may be called again.
        """
        batch = WriteBatch(raw_mode=True)
        counting = self._counts.begin()
        applied = dict(self._indexed)
        for source, entries in found:
            last = applied.get(source, (-1, 0))
            for position, written in entries:
                if position <= last:
                    continue
                last = applied[source] = position
                for row_key, image in written:
                    counting.index_row(row_key, image)
                    put(batch, row_key, None if image is None else image.encode())
        counting.put(batch)
        for source, last in applied.items():
            if last != self._indexed.get(source):
                batch.put(_INDEXED + _NUMBER.pack(source), _INDEX_POSITION.pack(*last))
        offset = max(following, self._index_offset)
        batch.put(_INDEX_OFFSET, _NUMBER.pack(offset))
        self._write(batch)
        self._indexed, self._index_offset = applied, offset
        self._counts.take(counting)

    # Splits

    def begin_copy(self, parent: int, before: int) -> None:
        """Note that this is a copy of another shard's rows, on its way to be a shard's own.

        Args:
            parent: the shard whose rows these are.
            before: how many shards there are.
        """
        self.write([(_SEED, orjson.dumps([parent, before, False])), (_SHARE, None)])

    @property
    def copy_of(self) -> tuple[int, int, bool] | None:
        """Whose copy this was made as: parent, number of shards then, whether it is its own now.

        None where it is no copy.
        """
        stored = self._db.get(_SEED)
        if stored is None:
            return None
        parent, before, done = orjson.loads(stored)
        return parent, before, done

    def finish_copy(self, parent: tuple[int, int] | None = None) -> None:
        """Have what was a copy of a parent's rows be a shard's own, at the start of its logs.

        Args:
            parent: the number of that shard, and how many there were, where it is a parent whose
                rows are copied from now on; None where it is the shard that the copy is for.

        Raises:
            StateUnavailable: nothing was done; it may be called again.
        """
        copied = self.copy_of
        assert copied is not None
        seed = (*copied[:2], True) if parent is None else (*parent, False)
        batch = WriteBatch(raw_mode=True)
        for key, _ in values_below(self._db, _EPOCHS):
            batch.delete(_EPOCHS + key)
        for key in (_SPLIT, _INDEX_OFFSET):
            batch.delete(key)
        batch.put(_APPLIED, _position(-1, EpochFilter(), self.removed_at))
        batch.put(_SEED, orjson.dumps(seed))
        self._write(batch)
        self.applied, self._epochs, self.split = -1, EpochFilter(), None
        self._index_offset = 0

    def share(self, share: Share, parts: int) -> bool:
        """Show the rows of one shard only, and say whether those of others may be among these.

        Args:
            share: which rows are this shard's.
            parts: into how many a shard was split, to estimate totals by.
        """
        if self._db.get(_SHARE) == _NUMBER.pack(share.of):
            return False
        self._share = share
        self._counts.estimate_foreign(parts)
        return True

    def drop_foreign(self, cursor: bytes, limit: int) -> bytes | None:
        """Remove rows of other shards.

        Call it only when all that came before the split is applied.

        Args:
            cursor: where to go on; empty for the first call.
            limit: how many rows are looked at.

        Returns:
            Where to go on; None when all are removed.

        Raises:
            StateUnavailable: none was removed; it may be called again.
        """
        share = self._share
        assert share is not None
        batch = WriteBatch(raw_mode=True)
        counting = self._counts.begin()
        found = self._db.iter()
        found.seek(cursor or _ROWS)
        looked = 0
        while found.valid() and looked < limit:
            key = found.key()
            looked += 1
            if not share.has(key):
                batch.delete(key)
                if key[0] != EXPIRY_ROW:
                    counting.foreign_row(key, Image.decode(found.value()))
            found.next()
        following = found.key() if found.valid() else None
        counting.put(batch)
        if following is None:
            self._counts.drop_foreign_collections(batch, share)
            batch.put(_SHARE, _NUMBER.pack(share.of))
        self._write(batch)
        self._counts.take(counting)
        if following is None:
            self._share = None
            self._counts.all_own()
        return following

    # Upkeep

    def keys(self, start: bytes, end: bytes) -> Iterator[bytes]:
        """Yield the keys with `start <= key < end`, in order; of rows, those of this shard."""
        share = self._share
        for key in keys(self._db, start, end):
            if share is None or key < _ROWS or share.has(key):
                yield key

    def load(self, key: bytes) -> bytes | None:
        """Return what is kept under a key, as it is."""
        found: bytes | None = self._db.get(key)
        return found

    def write(self, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Keep or (None) remove what a consumer has under its own keys, all or nothing."""
        batch = WriteBatch(raw_mode=True)
        for key, value in rows:
            put(batch, key, value)
        self._write(batch)

    def purge(self, prefix: bytes) -> None:
        """Remove every row whose key begins with `prefix`."""
        batch = WriteBatch(raw_mode=True)
        end = after_prefix(prefix)
        few = list(islice(keys(self._db, prefix, end), _FEW_ROWS + 1))
        if len(few) > _FEW_ROWS:
            batch.delete_range(prefix, end)
        else:
            # Every read has to look at every range that was deleted lately, but not at these.
            for key in few:
                batch.delete(key)
        self._counts.drop(batch, prefix)
        if prefix[0] == TABLE_ROW:
            for source, _ in values_below(self._db, _VIEWS + prefix[1:]):
                batch.delete(_VIEWS + prefix[1:] + source)
        self._write(batch)
        self._counts.dropped(prefix)

    def prefixes(self) -> Iterator[bytes]:
        """Yield the prefixes, kind and id, under which there are rows."""
        rows = self._db.iter()
        rows.seek(_ROWS)
        while rows.valid():
            prefix = rows.key()[:PREFIX_BYTES]
            yield prefix
            rows.seek(after_prefix(prefix))

    def _write(self, batch: WriteBatch) -> None:
        if self._held_up():
            # RocksDB would have the writer wait, and with it everything that this process does.
            raise StateUnavailable(f"too much of {self._path} waits for the disk")
        if self._since is None:
            self._since = time.monotonic()
        try:
            self._db.write(batch)
        except Exception as error:
            # RocksDB's errors have no type of their own. It recovers by itself when it can.
            raise StateUnavailable(f"the tables' store can't be written: {error}") from error


def _position(offset: int, epochs: EpochFilter, removed_at: int) -> bytes:
    """What is kept about how far a store is."""
    return orjson.dumps(
        {
            "offset": offset,
            "epoch": epochs.epoch,
            "barrier": epochs.barrier,
            "removed": removed_at,
        }
    )


def _note(batch: WriteBatch, entry: dict[str, Any], prepared: dict[str, dict[str, Any]]) -> None:
    """Keep an entry for as long as it is needed.

    Args:
        batch: where it is kept.
        entry: the entry, see `streams.ledger`.
        prepared: what was prepared in this batch; most of it is resolved in this batch too.
    """
    at = entry["at"]
    match entry["phase"]:
        case "prepare":
            prepared[entry["id"]] = entry
        case "resolve":
            if prepared.pop(entry["id"], None) is None:
                batch.delete(_PREPARED + entry["id"].encode())
        case "decide":
            # To be looked up by its id, and to be found again when it is too old.
            name = entry["id"].encode()
            batch.put(_DECISIONS + name, _HAPPENED if entry["commit"] else _DROPPED)
            batch.put(_DECIDED + _NUMBER.pack(at) + name, b"")
        case "token":
            key = _TOKENS + _NUMBER.pack(at) + entry["token"].encode()
            batch.put(key, orjson.dumps(entry))
        case "view":
            key = _VIEWS + UUID(entry["view"]).bytes + _NUMBER.pack(entry["source"])
            batch.put(key, orjson.dumps(entry))
