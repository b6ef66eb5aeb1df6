"""The records of `{region}.indexes`: index rows on their way to the shard that holds them.

A record is JSON: `source` is the shard whose changes they follow from; `entries` are in the
source's order, each with its `position` there (offset, and a number that grows among what is
sent for one offset) and its `rows`. A record of a later format than the first has it in its header
`v`, see `streams.formats`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import orjson

from streamtable.core.images import Image
from streamtable.core.index_rows import IndexRow
from streamtable.streams.commit import Row
from streamtable.streams.formats import INDEXES, check_format

__all__ = ["Entry", "Position", "encode", "read"]

Position = tuple[int, int]


class Entry(NamedTuple):
    """Rows that follow from one place in the source's log."""

    position: Position
    rows: Sequence[Row]


def encode(source: int, entries: Iterable[tuple[Position, Sequence[IndexRow]]]) -> bytes:
    """Return a record's value."""
    return orjson.dumps(
        {
            "source": source,
            "entries": [
                {"position": position, "rows": [_row_to_json(row) for row in rows]}
                for position, rows in entries
            ],
        }
    )


def read(message: Any) -> tuple[int, list[Entry]]:
    """Read a record, of aiokafka or Faust, whose value `encode` made: the source and its entries.

    Raises:
        NewerFormat: it is of a newer format than this version knows.
    """
    check_format(
        message.headers or (), INDEXES, "the indexes' log", message.partition, message.offset
    )
    record = orjson.loads(message.value)
    entries = [
        Entry(
            (entry["position"][0], entry["position"][1]),
            [_row_from_json(row) for row in entry["rows"]],
        )
        for entry in record["entries"]
    ]
    return record["source"], entries


def _row_to_json(row: IndexRow) -> dict[str, Any]:
    result: dict[str, Any] = {"index": row.index.name, "key": row.row_key.hex()}
    if row.image is not None:
        result |= {
            "item": orjson.Fragment(row.image.json),
            "size": row.image.size_bytes,
            "version": f"{row.image.time}@{row.image.region}",
        }
    return result


def _row_from_json(row: dict[str, Any]) -> Row:
    image = None
    if "item" in row:
        time, _, region = row["version"].partition("@")
        image = Image(orjson.dumps(row["item"]), row["size"], int(time), region)
    return bytes.fromhex(row["key"]), image
