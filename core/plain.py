"""Items as Python values: what an SDK's deserializer gives.

A string is `str`, a number `Decimal`, binary `bytes`, a set `set` of those, a list `list`, a map
`dict`, and NULL is None. boto3's `TypeDeserializer` gives the same, but wraps binary.
"""

from base64 import b64decode
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from streamtable.core.numbers import to_decimal
from streamtable.core.values import Item, Value

__all__ = ["PlainItem", "plain_item", "plain_value"]

PlainItem: TypeAlias = dict[str, Any]


def plain_item(item: Item) -> PlainItem:
    """Return a canonical item's attributes as Python values."""
    return {name: plain_value(value) for name, value in item.items()}


def plain_value(value: Value) -> Any:
    """Return one canonical attribute value as a Python value."""
    ((kind, content),) = value.items()
    return _CONVERT[kind](content)


def _as_it_is(content: Any) -> Any:
    return content


_CONVERT: Final[dict[str, Callable[[Any], Any]]] = {
    "S": _as_it_is,
    "N": to_decimal,
    "B": b64decode,
    "BOOL": _as_it_is,
    "NULL": lambda _: None,
    "SS": set,
    "NS": lambda content: {to_decimal(text) for text in content},
    "BS": lambda content: {b64decode(text) for text in content},
    "L": lambda content: [plain_value(value) for value in content],
    "M": plain_item,
}
