"""Expire: an item goes because its time to live is over, if it still is."""

from typing import Any

from streamtable.core.expiry import expires_at
from streamtable.core.keys import HASH_BYTES
from streamtable.core.tables import PREFIX_BYTES, Table
from streamtable.core.values import Item

__all__ = ["EXPIRY_SERVICE", "Expire"]

EXPIRY_SERVICE = "dynamodb.amazonaws.com"
"""Who removes expired items: the principal in the log and in the stream's userIdentity."""


class Expire:
    """The plan to remove one expired item; an item that was renewed since stays as it is.

    Attributes:
        table: the table, as it was when the item was found.
        key: the item's key.
        row_key: where the item is in the store.
        second: when it expires; an item that expires at another time now is left alone.
        hash: hash of the partition key.
        needs_old: always; the time is looked at in the item as it is when it would go.
        service: shown as the userIdentity of its stream record.
    """

    __slots__ = ("hash", "key", "row_key", "second", "table")

    needs_old = True
    service = EXPIRY_SERVICE

    def __init__(self, table: Table, item: Item, row_key: bytes, second: int) -> None:
        self.table = table
        self.key = table.keys.extract(item)
        self.row_key = row_key
        self.second = second
        self.hash = int.from_bytes(row_key[PREFIX_BYTES : PREFIX_BYTES + HASH_BYTES], "big")

    def evaluate(self, old: dict[str, Any] | None) -> tuple[dict[str, Any] | None, int]:
        """Return that there is no item afterwards, or `old` itself where it must stay."""
        settings = self.table.document.time_to_live
        assert settings is not None
        if old is not None and expires_at(old, settings.attribute) != self.second:
            return old, 0
        return None, 0
