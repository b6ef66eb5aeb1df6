"""What a write answers: the attributes asked for and the capacity consumed."""

from typing import Any

import orjson

from streamtable.core.capacity import ConsumedCapacity, write_units
from streamtable.core.images import Image
from streamtable.core.operations.writes import Write
from streamtable.core.tables import Index, Table
from streamtable.core.values import Item, dump_item, item_size

__all__ = ["answer_write", "write_capacity"]


def answer_write(
    write: Write,
    old: Image | None,
    new: Image | None,
    metrics: dict[str, Any] | None = None,
) -> bytes:
    """Return the JSON answer to PutItem, UpdateItem or DeleteItem.

    Args:
        write: the plan that was carried out.
        old: the image before.
        new: the image after, the very same object where nothing changed.
        metrics: the ItemCollectionMetrics, where they are asked for.
    """
    if write.return_values == "NONE" and write.capacity == "NONE" and metrics is None:
        return b"{}"
    members = []
    attributes = _attributes(write, old, new)
    if attributes is not None:
        members.append(b'"Attributes":' + attributes)
    report = write_capacity(write.table, old, new, named=write.named).report(write.capacity)
    if report is not None:
        members.append(b'"ConsumedCapacity":' + orjson.dumps(report))
    if metrics is not None:
        members.append(b'"ItemCollectionMetrics":' + orjson.dumps(metrics))
    return b"{" + b",".join(members) + b"}"


def write_capacity(
    table: Table, old: Image | None, new: Image | None, *, named: str | None = None
) -> ConsumedCapacity:
    """Return the units that a write consumed on the table and on its indexes.

    Args:
        table: the table.
        old: the image before.
        new: the image after, the very same object where nothing changed.
        named: what the answer calls the table, its name if None.
    """
    sizes = [0 if image is None else image.size_bytes for image in (old, new)]
    capacity = ConsumedCapacity(named or table.name, write_units(max(sizes)))
    for index in table.indexes.values():
        units = _index_units(index, old, new)
        if units:
            target = capacity.global_indexes if index.is_global else capacity.local_indexes
            target[index.name] = units
    return capacity


def _attributes(write: Write, old: Image | None, new: Image | None) -> bytes | None:
    kind = write.return_values
    if kind == "NONE":
        return None
    if kind == "ALL_OLD":
        return None if old is None else old.json
    if kind == "ALL_NEW":
        return None if new is None else new.json
    found = write.updated(old if kind == "UPDATED_OLD" else new)
    return dump_item(found) if found else None


def _index_units(index: Index, old: Image | None, new: Image | None) -> float:
    """Return the units of the index's own writes.

    One write where a row appears, goes or changes, two where it moves to another key.
    Source: "Write operations" of global secondary indexes.
    """
    before, after = _row(index, old), _row(index, new)
    if before == after:
        return 0.0
    if before is not None and after is not None:
        if any(before[name] != after[name] for name in index.keys.names):
            return write_units(item_size(before)) + write_units(item_size(after))
        return write_units(max(item_size(before), item_size(after)))
    row: Any = before if before is not None else after
    return write_units(item_size(row))


def _row(index: Index, image: Image | None) -> Item | None:
    if image is None or not index.contains(image.item):
        return None
    return index.project(image.item)
