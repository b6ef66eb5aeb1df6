"""What a trigger's handler is given: one change of one item."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic

from typing_extensions import TypeVar

from streamtable.core.positions import Position

__all__ = ["Change"]

ModelT = TypeVar("ModelT", default=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Change(Generic[ModelT]):
    """One change of one item.

    `Change[User]` has the item as a `User`, a pydantic model (or anything else that pydantic
    validates: a dataclass, a TypedDict). Plain `Change` has dicts, with the values that boto3
    gives: `Decimal` for numbers, `set`, `bytes`.

    Attributes:
        old: the item before; None for an INSERT.
        new: the item after; None for a REMOVE.
        keys: the key attributes, as plain values, the partition key first.
        event_name: INSERT, MODIFY or REMOVE.
        table: the table's name.
        position: where the change is in the log. The same change has the same position each
            time it is delivered, and no other change has it.
        version: the item's version, `time@region`; for one item a later change has a greater
            time.
        request_id: id of the request that made the change, as its answer told the client.
        principal: access key id of who made it.
        created_at: when the table's owner accepted it.
    """

    old: ModelT | None
    new: ModelT | None
    keys: dict[str, Any]
    event_name: str
    table: str
    position: Position
    version: str
    request_id: str
    principal: str
    created_at: datetime
