"""The rows of secondary indexes that follow from a change of an item.

One function decides them, for the owner that answers reads before anything is materialized, for
the stores that apply the log, and for the backfill of a new index.
"""

from dataclasses import dataclass

from streamtable.core.images import Image
from streamtable.core.tables import Index, Table
from streamtable.core.values import Item, dump_item, item_size

__all__ = ["IndexRow", "index_row", "index_rows"]


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One row of an index to be written or removed.

    Attributes:
        index: the index.
        hash: hash of the index's partition key; for a local index the item's own.
        row_key: the row's key in the store.
        image: what the index keeps of the item, None to remove the row.
    """

    index: Index
    hash: int
    row_key: bytes
    image: Image | None


def index_rows(table: Table, old: Item | None, new: Image | None) -> list[IndexRow]:
    """Return what a change does to the table's indexes.

    Args:
        table: the table with its indexes.
        old: the item before, None if there was none.
        new: the image after, None if there is none.

    Returns:
        For each index at most one row to remove, then at most one to write; nothing where the
        index keeps the same of both.
    """
    rows = []
    for index in table.indexes.values():
        before = index.locate(old) if old is not None and index.contains(old) else None
        after = index_row(index, new)
        if before is not None and (after is None or after.row_key != before[1]):
            rows.append(IndexRow(index, *before, None))
            before = None
        if after is not None and (
            before is None
            or old is None
            or new is None
            or index.project(old) != index.project(new.item)
        ):
            rows.append(after)
    return rows


def index_row(index: Index, image: Image | None) -> IndexRow | None:
    """Return the row that an index has of an item, None if the item is not in it."""
    if image is None or not index.contains(image.item):
        return None
    item = index.project(image.item)
    if item is not image.item:
        image = Image(dump_item(item), item_size(item), image.time, image.region, item)
    return IndexRow(index, *index.locate(item), image)
