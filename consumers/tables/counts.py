"""How many rows tables and indexes have in a shard's store, and how large item collections are."""

import struct
from collections.abc import Callable, Iterable
from typing import Final

from rocksdict import Rdict, WriteBatch

from streamtable.consumers.tables.batches import put
from streamtable.consumers.tables.share import Share
from streamtable.consumers.tables.walking import values_below
from streamtable.core.changes import Change
from streamtable.core.images import Image
from streamtable.core.item_collections import collection_change, collection_key
from streamtable.core.tables import PREFIX_BYTES, Table

__all__ = ["Counting", "Counts"]

_TOTALS: Final = b"\x00total/"
_COLLECTIONS: Final = b"\x00collection/"
_TOTAL = struct.Struct(">qq")
_SIZE = struct.Struct(">q")
_NONE: Final = (0, 0)


class Counts:
    """What is counted of a store's rows. It is kept in the store and changes with the rows.

    Args:
        db: the store's database.
        find: returns the table of an id, None for one that was deleted.
    """

    def __init__(self, db: Rdict, find: Callable[[str], Table | None]) -> None:
        self._db = db
        self._find = find
        self._totals = {prefix: _TOTAL.unpack(value) for prefix, value in values_below(db, _TOTALS)}
        # Of these, what is other shards': an estimate.
        self._foreign: dict[bytes, tuple[int, int]] = {}

    def total(self, prefix: bytes) -> tuple[int, int]:
        """How many rows a table or index has, and their size; see `ShardStore.total`."""
        count, size = self._totals.get(prefix, _NONE)
        foreign_count, foreign_size = self._foreign.get(prefix, _NONE)
        return max(0, count - foreign_count), max(0, size - foreign_size)

    def collection_bytes(self, collection: bytes) -> int:
        """Size of an item collection; see `ShardState.collection_bytes`."""
        stored = self._db.get(_COLLECTIONS + collection)
        return 0 if stored is None else _SIZE.unpack(stored)[0]

    def begin(self) -> "Counting":
        """Return what a batch of writes is counted in."""
        return Counting(self._db, self._find, self._totals, self.collection_bytes)

    def take(self, counting: "Counting") -> None:
        """Go on from what a batch has counted that is written now."""
        self._totals.update(counting.totals)
        for prefix, (count, size) in counting.foreign.items():
            known_count, known_size = self._foreign.get(prefix, _NONE)
            self._foreign[prefix] = max(0, known_count - count), max(0, known_size - size)

    def drop(self, batch: WriteBatch, prefix: bytes) -> None:
        """Have a batch remove what is counted of a table or an index."""
        batch.delete(_TOTALS + prefix)
        for key, _ in values_below(self._db, _COLLECTIONS + prefix):
            batch.delete(_COLLECTIONS + prefix + key)

    def dropped(self, prefix: bytes) -> None:
        """Go on without it: the batch is written now."""
        self._totals.pop(prefix, None)
        self._foreign.pop(prefix, None)

    # Splits

    def estimate_foreign(self, parts: int) -> None:
        """Take all but one of so many parts for other shards'."""
        self._foreign = {
            prefix: (count - count // parts, size - size // parts)
            for prefix, (count, size) in self._totals.items()
        }

    def drop_foreign_collections(self, batch: WriteBatch, share: Share) -> None:
        """Remove the sizes of other shards' item collections."""
        for key, _ in values_below(self._db, _COLLECTIONS):
            if not share.has(key):
                batch.delete(_COLLECTIONS + key)

    def all_own(self) -> None:
        """Note that no rows of other shards are left."""
        self._foreign = {}


class Counting:
    """What one batch of writes does to the counts.

    Attributes:
        totals: the new totals, by the prefixes of tables and indexes.
        foreign: what was removed of other shards' rows, likewise.
    """

    __slots__ = (
        "_collection_bytes",
        "_collections",
        "_db",
        "_find",
        "_known",
        "_sizes",
        "foreign",
        "totals",
    )

    def __init__(
        self,
        db: Rdict,
        find: Callable[[str], Table | None],
        known: dict[bytes, tuple[int, int]],
        collection_bytes: Callable[[bytes], int],
    ) -> None:
        self.totals: dict[bytes, tuple[int, int]] = {}
        self.foreign: dict[bytes, tuple[int, int]] = {}
        self._db = db
        self._find = find
        self._known = known
        self._collection_bytes = collection_bytes
        self._collections: dict[bytes, int] = {}
        self._sizes: dict[bytes, int | None] = {}

    def changes(self, changes: Iterable[Change]) -> bool:
        """Count what changes do to tables and item collections.

        Returns:
            Whether one of the tables has items that expire.
        """
        expiring = False
        totals, collections = self.totals, self._collections
        table_id, table = "", None
        count = size = 0
        for change in changes:
            if change.table_id != table_id:
                if table is not None:
                    totals[table.prefix] = (count, size)
                table_id = change.table_id
                table = self._find(table_id)
                if table is not None:
                    count, size = self._total(table.prefix)
                    expiring |= table.document.time_to_live is not None
            if table is None:
                continue
            old, new = change.old, change.new
            if old is not None:
                count -= 1
                size -= old.size_bytes
            if new is not None:
                count += 1
                size += new.size_bytes
            if table.has_collections:
                collection = collection_key(table, change.keys)
                before = collections.get(collection)
                if before is None:
                    before = self._collection_bytes(collection)
                collections[collection] = before + collection_change(table, old, new)
        if table is not None:
            totals[table.prefix] = (count, size)
        return expiring

    def index_row(self, row_key: bytes, image: Image | None) -> None:
        """Count a row of an index that is written or (None) removed.

        What is written may replace a row, and what is removed may not be there: so it is looked
        up, in the batch or in the store.
        """
        sizes = self._sizes
        if row_key in sizes:
            before = sizes[row_key]
        else:
            stored = self._db.get(row_key)
            before = None if stored is None else Image.decode(stored).size_bytes
        after = sizes[row_key] = None if image is None else image.size_bytes
        prefix = row_key[:PREFIX_BYTES]
        count, size = self._total(prefix)
        self.totals[prefix] = (
            count + (after is not None) - (before is not None),
            size + (after or 0) - (before or 0),
        )

    def foreign_row(self, row_key: bytes, image: Image) -> None:
        """Count another shard's row that is removed."""
        prefix = row_key[:PREFIX_BYTES]
        count, size = self._total(prefix)
        self.totals[prefix] = count - 1, size - image.size_bytes
        count, size = self.foreign.get(prefix, _NONE)
        self.foreign[prefix] = count + 1, size + image.size_bytes

    def put(self, batch: WriteBatch) -> None:
        """Have the batch write what was counted."""
        for prefix, total in self.totals.items():
            batch.put(_TOTALS + prefix, _TOTAL.pack(*total))
        for collection, size in self._collections.items():
            put(batch, _COLLECTIONS + collection, _SIZE.pack(size) if size else None)

    def _total(self, prefix: bytes) -> tuple[int, int]:
        return self.totals.get(prefix) or self._known.get(prefix, _NONE)
