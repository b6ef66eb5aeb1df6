"""Tables as the hot path sees them: a catalog document, compiled.

A `Table` is made once for each version of its document and never changes; whoever holds one sees
one consistent state of the table. Row keys begin with a prefix of 17 bytes: one byte for the kind
of the row and the UUID of the table or index.
"""

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from streamtable.core.descriptions import describe_table
from streamtable.core.documents import DELETING, IndexDocument, KeyElement, TableDocument
from streamtable.core.keys import (
    KeyAttribute,
    KeySchema,
    after_prefix,
    encode_text,
    partition_hash,
    place_row,
)
from streamtable.core.limits import PARTITION_KEY_BYTES, SORT_KEY_BYTES
from streamtable.core.values import Item

__all__ = ["EXPIRY_ROW", "GLOBAL_ROW", "LOCAL_ROW", "PREFIX_BYTES", "TABLE_ROW", "Index", "Table"]

TABLE_ROW: Final = 1
LOCAL_ROW: Final = 2
GLOBAL_ROW: Final = 3
EXPIRY_ROW: Final = 4

PREFIX_BYTES: Final = 17
"""Length of what the row keys of one table or index begin with."""

# A key string of so many characters fits the limit in bytes, whatever the characters are.
_SAFE_PARTITION: Final = PARTITION_KEY_BYTES // 4
_SAFE_SORT: Final = SORT_KEY_BYTES // 4

Locate = Callable[[Any], tuple[Item, int, bytes]]


class Index:
    """A secondary index, compiled.

    Attributes:
        document: what the catalog has.
        name: the index's name.
        is_global: a global index has a partition key of its own and is eventually consistent.
        prefix: what the keys of its rows begin with.
        keys: the index's own key.
        row_keys: the index's key and the table's, the attributes of a LastEvaluatedKey.
        projected: names of the attributes that a row has, None for all.
        active: it can be read.
    """

    __slots__ = (
        "_table_keys",
        "active",
        "document",
        "is_global",
        "keys",
        "name",
        "prefix",
        "projected",
        "row_keys",
    )

    def __init__(self, document: IndexDocument, table: TableDocument, keys: KeySchema) -> None:
        self.document = document
        self.name = document.name
        self.is_global = document.scope == "GLOBAL"
        kind = GLOBAL_ROW if self.is_global else LOCAL_ROW
        self.prefix = bytes([kind]) + UUID(document.id).bytes
        self.keys = _schema(document.keys, table.attributes)
        own = self.keys.names
        self._table_keys = KeySchema(keys.attributes)
        self.row_keys = (*own, *(name for name in keys.names if name not in own))
        self.projected: frozenset[str] | None = None
        if document.projection.kind != "ALL":
            self.projected = frozenset((*self.row_keys, *document.projection.attributes))
        # A local index is as old as its table. A global one can be read once it is filled.
        self.active = document.status != DELETING and not document.backfilling

    def locate(self, item: Item) -> tuple[int, bytes]:
        """Return the partition hash and the row key of an item that is in the index.

        The item may be a LastEvaluatedKey. A local index has the table's partition key, so its
        rows are on the same shard as the items.
        """
        number, row = self.keys.locate(self.prefix, item)
        return number, row + self._table_keys.encode_partition(item)

    def contains(self, item: Item) -> bool:
        """Say whether an item is in the index: whether it has a key for it."""
        return self.keys.fits(item)

    def project(self, item: Item) -> Item:
        """Return what the index keeps of an item; the same object where it keeps everything."""
        if self.projected is None:
            return item
        return {name: value for name, value in item.items() if name in self.projected}


class Table:
    """A table, compiled.

    Attributes:
        document: what the catalog has; everything else follows from it.
        name: the table's name.
        id: its UUID.
        arn: its Amazon resource name.
        prefix: what the keys of its rows begin with.
        end: the smallest row key after all of its rows.
        keys: its key schema.
        key_names: names of the key attributes, the partition key first.
        indexes: its secondary indexes by name.
        has_collections: it has local indexes, so its items form item collections.
        has_global_indexes: it has indexes whose rows follow on other shards.
        serving: items can be read and written.
        view: what makes it a view, whose items clients can't write; None for other tables.
        locate_key: from the Key parameter of a request to the checked key, the partition hash
            and the row key; raises what `KeySchema.parse_key` raises.
        locate_item: the same from a canonical item that is to be put; raises what
            `KeySchema.key_of_item` raises.
        hash_of: from a Key or an Item of a request to its partition hash, with no more checks than
            that needs; raises KeyError or what `locate_key` raises where there is none.
    """

    __slots__ = (
        "arn",
        "document",
        "end",
        "has_collections",
        "has_global_indexes",
        "hash_of",
        "id",
        "indexes",
        "key_names",
        "keys",
        "locate_item",
        "locate_key",
        "name",
        "prefix",
        "serving",
        "view",
    )

    def __init__(self, document: TableDocument) -> None:
        self.document = document
        self.name = document.name
        self.id = document.id
        self.arn = document.arn
        self.prefix = bytes([TABLE_ROW]) + UUID(document.id).bytes
        self.end = after_prefix(self.prefix)
        self.keys = _schema(document.keys, document.attributes)
        self.key_names = self.keys.names
        self.indexes = {index.name: Index(index, document, self.keys) for index in document.indexes}
        self.has_collections = any(not index.is_global for index in self.indexes.values())
        self.has_global_indexes = any(index.is_global for index in self.indexes.values())
        self.serving = document.status in ("ACTIVE", "UPDATING")
        self.view = document.view
        self.locate_key = _compile_locate(self.keys, self.prefix, self.keys.parse_key, exact=True)
        self.locate_item = _compile_locate(
            self.keys, self.prefix, self.keys.key_of_item, exact=False
        )
        self.hash_of = _compile_hash(self.keys, self.locate_key)

    def check_index_keys(self, item: Item, old: Item | None = None) -> None:
        """Check the attributes of an item that are keys of an index.

        Args:
            item: the item as it is to be.
            old: the item before an update. What was there before an index was may be no key for
                it; that alone is no reason to refuse an update of something else.

        Raises:
            ValidationError: one has another type than the index's key, or is empty or too long.
        """
        for index in self.indexes.values():
            index.keys.check_index_key(item, index.name, old)

    def prefixes(self) -> list[bytes]:
        """Return what the keys of its rows begin with, those of its indexes and expiries too."""
        prefixes = [self.prefix, *(index.prefix for index in self.indexes.values())]
        if self.document.time_to_live is not None and self.document.time_to_live.enabled:
            prefixes.append(bytes([EXPIRY_ROW]) + self.prefix[1:])
        return prefixes

    def describe(self, item_count: int = 0, size_bytes: int = 0) -> dict[str, Any]:
        """Return the TableDescription."""
        return describe_table(self.document, item_count=item_count, size_bytes=size_bytes)


def _schema(elements: tuple[KeyElement, ...], types: dict[str, Any]) -> KeySchema:
    def attributes(kind: str) -> tuple[KeyAttribute, ...]:
        return tuple(
            KeyAttribute(element.name, types[element.name])
            for element in elements
            if element.kind == kind
        )

    return KeySchema(attributes("HASH"), attributes("RANGE"))


def _compile_locate(
    keys: KeySchema, prefix: bytes, parse: Callable[[Any], Item], *, exact: bool
) -> Locate:
    """Return a function from a key or an item to its key, partition hash and row key.

    It has a short way for keys of one or two short strings, and leaves all others to `parse`.

    Args:
        keys: the table's key schema.
        prefix: what row keys begin with.
        parse: returns the checked key of what is given.
        exact: what is given must be a key, with no other attributes.
    """
    locate = keys.locate

    def general(raw: Any) -> tuple[Item, int, bytes]:
        key = parse(raw)
        number, row = locate(prefix, key)
        return key, number, row

    if any(attribute.type != "S" for attribute in keys.attributes):
        return general
    count = len(keys.attributes)
    partition = keys.partition[0].name
    sort = keys.sort[0].name if keys.sort else None

    def short(raw: Any) -> tuple[Item, int, bytes]:
        if type(raw) is not dict or (exact and len(raw) != count):
            return general(raw)
        value: Any = raw.get(partition)
        encoded = _encode_short(value, _SAFE_PARTITION)
        if encoded is None:
            return general(raw)
        if sort is None:
            return {partition: value}, *place_row(prefix, encoded)
        sort_value: Any = raw.get(sort)
        encoded_sort = _encode_short(sort_value, _SAFE_SORT)
        if encoded_sort is None:
            return general(raw)
        key = {partition: value, sort: sort_value}
        return key, *place_row(prefix, encoded, encoded_sort)

    return short


def _compile_hash(keys: KeySchema, locate: Locate) -> Callable[[Any], int]:
    """Return a function from a key or an item to its partition hash.

    It has a short way where the partition key is a short string, and leaves all others to `locate`.
    """
    names = keys.names
    partition = keys.partition[0]

    def general(raw: Any) -> int:
        return locate({name: raw[name] for name in names})[1]

    def short(raw: Any) -> int:
        encoded = _encode_short(raw.get(partition.name), _SAFE_PARTITION)
        return general(raw) if encoded is None else partition_hash(encoded)

    return short if partition.type == "S" else general


def _encode_short(value: Any, limit: int) -> bytes | None:
    """Return a component that is surely a string, not empty and not too long; None for others."""
    if type(value) is not dict or len(value) != 1:
        return None
    text = value.get("S")
    return encode_text(text) if type(text) is str and 0 < len(text) <= limit else None
