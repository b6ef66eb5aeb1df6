"""Ranges of row keys: where a Query or a Scan reads, and where it goes on."""

from typing import Any, Final

from streamtable.core.capacity import read_units
from streamtable.core.errors import ValidationError
from streamtable.core.keys import HASH_BYTES, KeyAttribute, KeySchema, after_prefix
from streamtable.core.operations.pages import Page
from streamtable.core.tables import Index, Table
from streamtable.core.values import Item, parse_item

__all__ = ["Reading", "ScanRange", "check_start", "start_schema"]

_HASHES: Final = 1 << (8 * HASH_BYTES)


class Reading:
    """What Query and Scan have in common.

    Attributes:
        table: the table.
        index: the index that is read, or None.
        prefix: what the row keys begin with.
        named: what the request calls the table, its name or its ARN.
        names: the attributes of a LastEvaluatedKey.
        page: takes in what is read.
        consistent: the read must see every write answered before.
        fetches: the rows of a local index lack what is asked for; read the table's items.
        capacity: the ReturnConsumedCapacity of the request.
        index_bytes: the size of the index's rows whose items were fetched.
        fetched_units: what fetching these items cost.
    """

    __slots__ = (
        "capacity",
        "consistent",
        "fetched_units",
        "fetches",
        "index",
        "index_bytes",
        "named",
        "names",
        "page",
        "prefix",
        "table",
    )

    def __init__(
        self, table: Table, index: Index | None, page: Page, body: dict[str, Any], *, fetches: bool
    ) -> None:
        self.table = table
        self.index = index
        self.named: str = body.get("TableName", table.name)
        self.prefix = table.prefix if index is None else index.prefix
        self.names = table.key_names if index is None else index.row_keys
        self.page = page
        self.consistent = body.get("ConsistentRead", False)
        self.fetches = fetches
        self.capacity = body.get("ReturnConsumedCapacity", "NONE")
        self.index_bytes = 0
        self.fetched_units = 0.0

    def count_fetch(self, row_bytes: int, item_bytes: int) -> None:
        """Count the fetch of an item: each one costs as much as a GetItem of it."""
        self.index_bytes += row_bytes
        self.fetched_units += read_units(item_bytes, consistent=self.consistent)

    def locate(self, key: Item) -> tuple[int, bytes]:
        """Return the partition hash and the row key of a LastEvaluatedKey."""
        if self.index is None:
            return self.table.keys.locate(self.prefix, key)
        return self.index.locate(key)


class ScanRange:
    """A segment of a scan: an interval of the space of (shard, hash), shard by shard.

    Args:
        reading: what is scanned.
        shards: number of shards.
        segment: number of the segment.
        segments: how many there are.
        start: a LastEvaluatedKey to go on after, or None.

    Raises:
        ValidationError: `start` is in another segment.
    """

    def __init__(
        self, reading: Reading, shards: int, segment: int, segments: int, start: Item | None
    ) -> None:
        self._prefix = reading.prefix
        space = shards * _HASHES
        self._low = segment * space // segments
        self._high = (segment + 1) * space // segments
        self._after: bytes | None = None
        if start is not None:
            number, row = reading.locate(start)
            position = number % shards * _HASHES + number
            if not self._low <= position < self._high:
                raise ValidationError(
                    "The provided starting key is invalid: Invalid ExclusiveStartKey. Please use "
                    f"ExclusiveStartKey with correct Segment. TotalSegments: {segments} "
                    f"Segment: {segment}"
                )
            self._low = position
            # No row key begins with another one, so this is the smallest key after it.
            self._after = row + b"\x00"

    def parts(self) -> list[tuple[int, bytes, bytes]]:
        """Return the shards to be read in order, each with its first row key and its end."""
        parts = []
        first, last = self._low // _HASHES, (self._high - 1) // _HASHES
        for shard in range(first, last + 1):
            low = max(self._low - shard * _HASHES, 0)
            high = min(self._high - shard * _HASHES, _HASHES)
            start = self._prefix + low.to_bytes(HASH_BYTES, "big")
            if shard == first and self._after is not None:
                start = self._after
            end = (
                after_prefix(self._prefix)
                if high == _HASHES
                else self._prefix + high.to_bytes(HASH_BYTES, "big")
            )
            parts.append((shard, start, end))
        return parts


def check_start(body: dict[str, Any]) -> None:
    """Check the values of an ExclusiveStartKey; that it is a key is for the table to say.

    Raises:
        ValidationError: a value is not valid.
    """
    try:
        parse_item(body.get("ExclusiveStartKey", {}))
    except ValidationError as error:
        raise ValidationError(f"The provided starting key is invalid: {error.message}") from None


def start_schema(table: Table, index: Index | None) -> KeySchema:
    """Return the attributes that an ExclusiveStartKey must have: of the index, and of the table."""
    if index is None:
        return table.keys
    attributes: dict[str, KeyAttribute] = {
        attribute.name: attribute for attribute in (*index.keys.attributes, *table.keys.attributes)
    }
    return KeySchema(tuple(attributes.values()))
