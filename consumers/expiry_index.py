"""The expiry rows of one shard: which items expire when, in the order of time."""

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import orjson

from streamtable.core.expiry import (
    due_rows,
    expires_at,
    expiry_row,
    item_row,
    state_row,
    table_rows,
)
from streamtable.core.images import Image
from streamtable.core.tables import Table

__all__ = ["ExpiryIndex", "ExpiryStore"]

_CHUNK: Final = 256


class ExpiryStore(Protocol):
    """A shard's store, as its expiry rows need it."""

    def get(self, row_key: bytes) -> Image | None:
        """Return an item's image, as materialized."""

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, Image]]:
        """Yield the items with `start <= row key < end`, as materialized."""

    def keys(self, start: bytes, end: bytes) -> Iterator[bytes]:
        """Yield the keys with `start <= key < end`, of rows of any kind, in order."""

    def load(self, key: bytes) -> bytes | None:
        """Return what is stored under a key."""

    def write(self, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Write rows in one batch; a value of None removes a row."""

    def purge(self, prefix: bytes) -> None:
        """Remove every row whose key begins with `prefix`."""


class ExpiryIndex:
    """Builds and reads the expiry rows of a shard.

    The store keeps them up to date with each change that it applies. Items that were there before
    time to live was switched on are added here, in chunks; how far that is stands beside the rows,
    so that it goes on after a restart. Nothing here awaits: between a look at the store and the
    write that follows from it no change is applied.

    Args:
        store: the shard's store.
    """

    def __init__(self, store: ExpiryStore) -> None:
        self._store = store

    def build(self, table: Table) -> bool:
        """Add the expiry rows of the next items that were there before.

        Args:
            table: a table with time to live.

        Returns:
            Whether the rows of all items are there.
        """
        settings = table.document.time_to_live
        assert settings is not None
        period = [settings.attribute, settings.changed]
        state = state_row(table.id)
        stored = self._store.load(state)
        start = table.prefix
        if stored is not None:
            *built, position = orjson.loads(stored)
            if built == period:
                if position is None:
                    return True
                start = bytes.fromhex(position)
            else:
                stored = None
        if stored is None:
            # What is there is of an earlier period.
            self._store.purge(table_rows(table.id))
        rows, following = self._read_chunk(start, table.end, settings.attribute)
        position = None if following is None else following.hex()
        self._store.write([*rows, (state, orjson.dumps([*period, position]))])
        return following is None

    def due(self, table: Table, now: int, after: bytes, limit: int) -> list[bytes]:
        """Return keys of the expiry rows of items that have expired, the oldest first.

        Args:
            table: a table with time to live.
            now: seconds since 1970.
            after: the last key of the call before, empty for the first call.
            limit: how many at most.
        """
        start, end = due_rows(table.id, now)
        found: list[bytes] = []
        for key in self._store.keys(max(start, after), end):
            if key == after:
                continue
            found.append(key)
            if len(found) == limit:
                break
        return found

    def expired(self, table: Table, expiry_key: bytes) -> tuple[bytes, int, Image] | None:
        """Return row key, time and image of the item that an expiry row is for.

        None if the item is not there or expires at another time, by the store; then the row is
        removed, for it says what is not so.
        """
        settings = table.document.time_to_live
        assert settings is not None
        row_key, second = item_row(expiry_key)
        image = self._store.get(row_key)
        if image is None or expires_at(image.item, settings.attribute) != second:
            self._store.write([(expiry_key, None)])
            return None
        return row_key, second, image

    def _read_chunk(
        self, start: bytes, end: bytes, attribute: str
    ) -> tuple[list[tuple[bytes, bytes | None]], bytes | None]:
        """Return the expiry rows of the next items, and where the chunk after them starts."""
        name = orjson.dumps(attribute)
        rows: list[tuple[bytes, bytes | None]] = []
        for number, (row_key, image) in enumerate(self._store.scan(start, end)):
            if number == _CHUNK:
                return rows, row_key
            if name not in image.json:
                continue  # most items of most tables: not parsed
            second = expires_at(image.item, attribute)
            if second is not None:
                rows.append((expiry_row(row_key, second), b""))
        return rows, None
