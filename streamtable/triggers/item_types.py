"""Items as an annotation wants them: plain dicts, or models that pydantic validates."""

from collections.abc import Mapping, MutableMapping
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, PydanticUserError, TypeAdapter
from pydantic_core import to_jsonable_python

from streamtable.core.plain import plain_item
from streamtable.core.values import Item
from streamtable.triggers.errors import InvalidHandler

__all__ = ["ItemType", "dump_plain"]

_STORED: Final = (str, int, float, Decimal, bytes, bytearray)
_PLAIN: Final = frozenset({None, Any, dict, Mapping, MutableMapping})


class ItemType:
    """Makes items as an annotation wants them.

    Without an annotation, and for `dict`, `Mapping` and `Any`, an item is a dict with the values
    that boto3 gives. Anything else is validated by pydantic: a model, a dataclass, a TypedDict.

    Args:
        annotation: the annotation, None without one; `| None` in it is left out.
        function: the name of the function that has it, for the error.

    Raises:
        InvalidHandler: pydantic does not know how to validate it.
    """

    __slots__ = ("_model", "_validate")

    def __init__(self, annotation: Any, function: str) -> None:
        annotation = _without_none(annotation)
        self._model = annotation
        self._validate: TypeAdapter[Any] | None = None
        if (get_origin(annotation) or annotation) in _PLAIN:
            return
        try:
            self._validate = TypeAdapter(annotation)
        except PydanticUserError as error:
            raise InvalidHandler(f"{function} takes {annotation!r}: {error.message}") from error

    @property
    def name(self) -> str:
        """What the items are, for a person."""
        return getattr(self._model, "__name__", "dict") if self._validate else "dict"

    def read(self, item: Item) -> Any:
        """Return a canonical item as the annotation wants it.

        Raises:
            pydantic.ValidationError: it does not fit the model.
        """
        plain = plain_item(item)
        return plain if self._validate is None else self._validate.validate_python(plain)


def dump_plain(value: Any) -> Any:
    """Return a pydantic model as a dict that can be stored, anything else as it is.

    What no attribute can be (a time, a UUID, an enum's member) becomes what it is in the model's
    JSON.
    """
    return _storable(value.model_dump()) if isinstance(value, BaseModel) else value


def _storable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _storable(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_storable(member) for member in value]
    if isinstance(value, (set, frozenset)):
        return {_storable(member) for member in value}
    if value is None or isinstance(value, Enum) or not isinstance(value, _STORED):
        return to_jsonable_python(value)
    return value


def _without_none(annotation: Any) -> Any:
    arguments = get_args(annotation)
    if NoneType not in arguments:
        return annotation
    rest = [argument for argument in arguments if argument is not NoneType]
    return rest[0] if len(rest) == 1 else annotation
