"""What a trigger's handler is given: one change of one item."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Generic

from pydantic import BaseModel
from typing_extensions import TypeVar

from streamtable.core.change_filters.predicates import parse_path
from streamtable.core.changes import Change as LogChange
from streamtable.core.expressions.nodes import Element
from streamtable.core.expressions.paths import find
from streamtable.core.positions import Position
from streamtable.core.values import equal

__all__ = ["Change"]

ModelT = TypeVar("ModelT", default=dict[str, Any])

_MISSING: Final = object()


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
        attempts: which attempt at it this is, from 1.
        expired: it was removed because its time to live was over.
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
    attempts: int = 1
    expired: bool = False
    _source: LogChange | None = field(default=None, repr=False, compare=False)

    def changed(self, *paths: str) -> bool:
        """Say whether the value of an attribute is another one after the change, came, or went.

        Values are compared as DynamoDB compares them: by type and value, sets in any order.

        Args:
            paths: names of attributes of the item, also such that the model does not have;
                `address.city` and `lines[0]` for what is in them. One of them is enough.

        Raises:
            ValidationError: something is no path.
        """
        return any(self._changed(parse_path(path)) for path in paths)

    def _changed(self, path: tuple[Element, ...]) -> bool:
        if self._source is None:
            # Made by hand, in a test.
            return bool(_get(self.old, path) != _get(self.new, path))
        before, after = (
            None if image is None else find(image.item, path)
            for image in (self._source.old, self._source.new)
        )
        if before is None or after is None:
            return before is not after
        return not equal(before, after)


def _get(value: Any, path: tuple[Element, ...]) -> Any:
    for step in path:
        if isinstance(value, BaseModel):
            value = value.model_dump(by_alias=True)
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and step < len(value) else _MISSING
        elif isinstance(value, Mapping):
            value = value.get(step, _MISSING)
        else:
            value = getattr(value, step, _MISSING)
    return value
