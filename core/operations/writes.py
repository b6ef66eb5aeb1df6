"""A write: one planned mutation of one item, evaluated by the owner of its shard."""

from typing import Any, ClassVar, TypeAlias

from streamtable.core.errors import ConditionalCheckFailed
from streamtable.core.expressions.condition import Condition
from streamtable.core.images import Image
from streamtable.core.tables import Table
from streamtable.core.values import Item

__all__ = ["Source", "Write"]

Source: TypeAlias = tuple[str, dict[str, Any]]
"""What a write was planned from: its kind, and the request or the part of one that asks for it."""


class Write:
    """A mutation of one item; the kinds of it (`Put`, `Update`, `Delete`) say what becomes of it.

    Attributes:
        table: the table, as it was when the request was checked.
        key: the item's key attributes, canonical.
        hash: hash of the partition key; decides the shard.
        row_key: where the item is in the store.
        needs_old: `evaluate` looks at the old item; otherwise it may be given None.
        condition: what must hold for the old item, or None.
        returns_failed: a failed condition is answered with the old item.
        return_values: the ReturnValues of the request.
        capacity: its ReturnConsumedCapacity.
        named: what the request calls the table, its name or its ARN.
        collects: the request asks for item collection metrics, and the table has some.
        service: the AWS service on whose behalf an item goes; None, these are clients' writes.
    """

    __slots__ = (
        "_source",
        "capacity",
        "collects",
        "condition",
        "hash",
        "key",
        "named",
        "needs_old",
        "return_values",
        "returns_failed",
        "row_key",
        "table",
    )

    service: ClassVar[str | None] = None

    table: Table
    key: Item
    hash: int
    row_key: bytes
    needs_old: bool
    condition: Condition | None
    returns_failed: bool
    return_values: str
    capacity: str
    named: str
    collects: bool

    def __init__(
        self,
        table: Table,
        located: tuple[Item, int, bytes],
        condition: Condition | None,
        source: Source,
    ) -> None:
        self.table = table
        self.key, self.hash, self.row_key = located
        self.condition = condition
        self.needs_old = condition is not None
        self._source = source
        get = source[1].get
        self.returns_failed = get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
        self.return_values = get("ReturnValues", "NONE")
        self.capacity = get("ReturnConsumedCapacity", "NONE")
        self.named = get("TableName", table.name)
        self.collects = get("ReturnItemCollectionMetrics") == "SIZE" and table.has_collections

    @property
    def source(self) -> Source:
        """What it was planned from, so that another node can plan it again."""
        return self._source

    def evaluate(self, old: Item | None) -> tuple[Item | bytes | None, int]:
        """Return the new item, or its JSON, and its size in bytes.

        Pure: it may be called again with another old item. The very object `old` as the new item
        means that nothing changes (its size is not computed then and is 0); None means that
        there is no item afterwards.

        Raises:
            ConditionalCheckFailed: the condition does not hold.
            ValidationError: the new item breaks one of DynamoDB's rules.
        """
        raise NotImplementedError

    def updated(self, image: Image | None) -> Item | None:
        """Return the parts of an image that UPDATED_OLD and UPDATED_NEW are about."""
        return None if image is None else image.item

    def check(self, old: Item | None) -> None:
        """Check the condition on the old item.

        Raises:
            ConditionalCheckFailed: it does not hold.
        """
        if self.condition is not None and not self.condition.matches(old or {}):
            raise ConditionalCheckFailed(old if self.returns_failed else None)
