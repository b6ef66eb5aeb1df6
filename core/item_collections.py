"""Item collections: all items of one partition key, in a table and in its local indexes.

Only tables with local indexes have them, and only those limit them. Source: "Item collections in
local secondary indexes" in the developer guide.
"""

from streamtable.core.images import Image
from streamtable.core.index_rows import index_row
from streamtable.core.keys import row_key
from streamtable.core.tables import Table
from streamtable.core.values import Item

__all__ = ["collection_change", "collection_key"]


def collection_key(table: Table, key: Item) -> bytes:
    """Return what the row keys of a collection's items begin with; it names the collection.

    Args:
        table: the table.
        key: the key of any item in it.
    """
    return row_key(table.prefix, table.keys.encode_partition(key))


def collection_change(table: Table, old: Image | None, new: Image | None) -> int:
    """Return by how many bytes a change of one item makes its collection larger."""
    return _size(table, new) - _size(table, old)


def _size(table: Table, image: Image | None) -> int:
    """What an item takes, with what the local indexes keep of it."""
    if image is None:
        return 0
    size = image.size_bytes
    for index in table.indexes.values():
        if not index.is_global:
            row = index_row(index, image)
            if row is not None and row.image is not None:
                size += row.image.size_bytes
    return size
