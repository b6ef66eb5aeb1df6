"""One shard of the tables in RocksDB: its rows, and how far in the log they are."""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

import orjson
from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
    WriteBatch,
)

from streamtable.core.changes import Change
from streamtable.core.images import Image
from streamtable.core.keys import after_prefix, encode_component, partition_hash, row_key
from streamtable.streams.epochs import BARRIER, EpochFilter
from streamtable.streams.overlay import Overlay, Row
from streamtable.streams.records import LogRecord

__all__ = ["ShardStore", "table_prefix"]

_TABLE_ROW: Final = b"\x01"
_APPLIED: Final = b"\x00applied"
_EPOCHS: Final = b"\x00epoch/"
_OFFSET = struct.Struct(">Q")
_WRITE_BUFFER_BYTES: Final = 32 * 1024 * 1024


def table_prefix(table_id: str) -> bytes:
    """The first 17 bytes of each row key of a table: the row's kind and the table's id."""
    return _TABLE_ROW + UUID(table_id).bytes


class ShardStore:
    """The rows of one shard, materialized from its log.

    Rows and the offset of the last record applied change in one RocksDB batch, so that after a
    crash at any point each change is there exactly once. RocksDB's own log is on but not synced:
    what a power cut takes from its end is applied again from the change log.

    Args:
        path: the folder; made if missing.
        cache: RocksDB's block cache, shared by the shards of a node.
    """

    def __init__(self, path: Path, cache: Cache) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._db = Rdict(str(path), _options(cache), access_type=AccessType.read_write())
        self.applied = -1
        self._epochs = EpochFilter()
        stored = self._db.get(_APPLIED)
        if stored is not None:
            position = orjson.loads(stored)
            self.applied = position["offset"]
            self._epochs = EpochFilter(position["epoch"], position["barrier"])

    def close(self) -> None:
        """Write out what is in memory and close the files."""
        self._db.flush()
        self._db.close()

    def get(self, key: bytes) -> Image | None:
        """Return a row's image."""
        data = self._db.get(key)
        return None if data is None else Image.decode(data)

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, Image]]:
        """Yield the rows with `start <= key < end`, as they are at the call, in order."""
        options = ReadOptions()
        options.set_iterate_upper_bound(end)
        rows = self._db.iter(options)
        if reverse:
            rows.seek_to_last()
            return _walk_back(rows, start)
        rows.seek(start)
        return _walk(rows)

    def apply(self, found: Sequence[LogRecord], known: Overlay) -> list[LogRecord]:
        """Apply contiguous records from `applied + 1` on; see `ShardState.apply`."""
        assert found[0].offset == self.applied + 1
        batch = WriteBatch(raw_mode=True)
        epochs = self._epochs
        valid = []
        for record in found:
            if epochs.admit(record.kind, record.epoch, record.offset):
                valid.append(record)
                for key, image in known.rows(record.offset) or _rows(record):
                    if image is None:
                        batch.delete(key)
                    else:
                        batch.put(key, image.encode())
            elif record.kind == BARRIER:
                batch.put(_EPOCHS + _OFFSET.pack(record.offset), record.epoch.encode())
        applied = found[-1].offset
        batch.put(
            _APPLIED,
            orjson.dumps({"offset": applied, "epoch": epochs.epoch, "barrier": epochs.barrier}),
        )
        self._db.write(batch)
        self.applied = applied
        return valid

    def epoch_before(self, offset: int) -> tuple[str, int] | None:
        """The epoch in force just before `offset`, and its barrier's offset.

        None if no barrier before it is known.
        """
        if offset == 0:
            return None
        options = ReadOptions()
        options.set_iterate_upper_bound(_EPOCHS + _OFFSET.pack(offset))
        rows = self._db.iter(options)
        rows.seek_to_last()
        if not (rows.valid() and rows.key().startswith(_EPOCHS)):
            return None
        return rows.value().decode(), _OFFSET.unpack(rows.key()[len(_EPOCHS) :])[0]

    def purge(self, table_id: str) -> None:
        """Remove every row of a table that was deleted."""
        prefix = table_prefix(table_id)
        self._db.delete_range(prefix, after_prefix(prefix))

    def table_ids(self) -> set[str]:
        """The ids of the tables that have rows here."""
        found = set()
        rows = self._db.iter()
        rows.seek(_TABLE_ROW)
        while rows.valid() and rows.key().startswith(_TABLE_ROW):
            prefix = rows.key()[:17]
            found.add(str(UUID(bytes=prefix[1:])))
            rows.seek(after_prefix(prefix))
        return found


def _rows(record: LogRecord) -> list[Row]:
    return [(_row_key(change), change.new) for change in record.changes()]


def _row_key(change: Change) -> bytes:
    partition, *sort = change.keys.values()
    encoded = encode_component(partition)
    return row_key(
        table_prefix(change.table_id),
        encoded,
        b"".join(encode_component(value) for value in sort),
    )


def _walk(rows: RdictIter) -> Iterator[tuple[bytes, Image]]:
    while rows.valid():
        yield rows.key(), Image.decode(rows.value())
        rows.next()


def _walk_back(rows: RdictIter, start: bytes) -> Iterator[tuple[bytes, Image]]:
    while rows.valid() and (key := rows.key()) >= start:
        yield key, Image.decode(rows.value())
        rows.prev()


def _options(cache: Cache) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    options.set_max_background_jobs(2)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_keep_log_file_num(2)
    options.set_max_total_wal_size(4 * _WRITE_BUFFER_BYTES)
    blocks = BlockBasedOptions()
    blocks.set_block_cache(cache)
    blocks.set_bloom_filter(10, False)
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_format_version(5)
    options.set_block_based_table_factory(blocks)
    return options
