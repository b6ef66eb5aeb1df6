"""Time to live: when an item expires, and the rows by which expired items are found.

Next to a table's rows the store keeps one row for each item that can expire: a kind byte, the
table's UUID, the second at which the item expires, and the rest of the item's row key. They are
ordered by time, so those that have expired are one range. Source: "Using time to live (TTL) in
DynamoDB".
"""

import struct
from decimal import ROUND_CEILING
from typing import Final
from uuid import UUID

from streamtable.core.documents import TableDocument
from streamtable.core.numbers import to_decimal
from streamtable.core.tables import EXPIRY_ROW, PREFIX_BYTES, TABLE_ROW
from streamtable.core.values import Item

__all__ = [
    "OLDEST_EXPIRY_S",
    "due_rows",
    "expires_at",
    "expiry_row",
    "expiry_rows",
    "item_row",
    "state_row",
    "table_rows",
]

OLDEST_EXPIRY_S: Final = 5 * 365 * 24 * 3600 + 24 * 3600
"""An item that expired longer ago than this, five years, is left alone."""

_SECOND = struct.Struct(">Q")
_SECOND_END: Final = PREFIX_BYTES + _SECOND.size
_LAST_SECOND: Final = 2**63 - 1
# A number of more digits than the last second has is no time; it is not turned into an integer.
_MAX_DIGITS: Final = 19


def expires_at(item: Item, attribute: str) -> int | None:
    """Return the second since 1970 at which an item expires, None where it doesn't.

    Only a number says when; a value of another type is ignored, and so is one that is not in the
    future of 1970. A fraction counts as the next second.

    Args:
        item: the item, canonical.
        attribute: name of the attribute that time to live looks at.
    """
    value = item.get(attribute)
    text = None if value is None else value.get("N")
    if text is None or text.startswith("-"):
        return None
    if text.isdigit():
        second = int(text) if len(text) <= _MAX_DIGITS else 0
    else:
        number = to_decimal(text)
        if number.adjusted() >= _MAX_DIGITS:
            return None
        second = int(number.to_integral_value(ROUND_CEILING))
    return second if 0 < second <= _LAST_SECOND else None


def expiry_row(row_key: bytes, second: int) -> bytes:
    """Return the key of the row that says when the item at `row_key` expires."""
    return (
        bytes([EXPIRY_ROW])
        + row_key[1:PREFIX_BYTES]
        + _SECOND.pack(second)
        + row_key[PREFIX_BYTES:]
    )


def item_row(expiry_key: bytes) -> tuple[bytes, int]:
    """Return the item's row key, and when it expires, from the key of an expiry row."""
    [second] = _SECOND.unpack_from(expiry_key, PREFIX_BYTES)
    row_key = bytes([TABLE_ROW]) + expiry_key[1:PREFIX_BYTES] + expiry_key[_SECOND_END:]
    return row_key, second


def expiry_rows(
    document: TableDocument, old: Item | None, new: Item | None, row_key: bytes
) -> list[tuple[bytes, bytes | None]]:
    """Return what a change of an item changes in the expiry rows of its table.

    Args:
        document: the table.
        old: the item before, None if there was none.
        new: the item after, None if it is gone.
        row_key: the item's row key.

    Returns:
        Rows to write, with an empty value, and rows to remove, with None; to go into the batch
        that writes the item's row. None of them where the table has no time to live.
    """
    settings = document.time_to_live
    if settings is None or not settings.enabled:
        return []
    attribute = settings.attribute
    before = None if old is None else expires_at(old, attribute)
    after = None if new is None else expires_at(new, attribute)
    if before == after:
        # Written again even so: the row may be missing while the table's rows are being built.
        return [] if after is None else [(expiry_row(row_key, after), b"")]
    rows: list[tuple[bytes, bytes | None]] = []
    if before is not None:
        rows.append((expiry_row(row_key, before), None))
    if after is not None:
        rows.append((expiry_row(row_key, after), b""))
    return rows


def table_rows(table_id: str) -> bytes:
    """Return what the keys of a table's expiry rows begin with."""
    return bytes([EXPIRY_ROW]) + UUID(table_id).bytes


def state_row(table_id: str) -> bytes:
    """Return the key of the row that says how far a table's expiry rows are built.

    It is among them, and goes with them; no item expires at its second, 0.
    """
    return table_rows(table_id) + _SECOND.pack(0)


def due_rows(table_id: str, now: int) -> tuple[bytes, bytes]:
    """Return the range of the expiry rows of a table's items that are to be removed at `now`."""
    prefix = table_rows(table_id)
    oldest = max(1, now - OLDEST_EXPIRY_S)
    return prefix + _SECOND.pack(oldest), prefix + _SECOND.pack(now + 1)
