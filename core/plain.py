"""Items as Python values: what an SDK's deserializer gives.

A string is `str`, a number `Decimal`, binary `bytes`, a set `set` of those, a list `list`, a map
`dict`, and NULL is None. boto3's `TypeDeserializer` gives the same, but wraps binary.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import Any, Final, TypeAlias

from streamtable.core.errors import ValidationError
from streamtable.core.numbers import normalize, to_decimal
from streamtable.core.values import Item, Value

__all__ = ["PlainItem", "plain_item", "plain_value", "wire_item", "wire_value"]

PlainItem: TypeAlias = dict[str, Any]


def plain_item(item: Item) -> PlainItem:
    """Return a canonical item's attributes as Python values."""
    plain = {}
    for name, value in item.items():
        for kind, content in value.items():
            plain[name] = content if kind == "S" else _CONVERT[kind](content)
    return plain


def plain_value(value: Value) -> Any:
    """Return one canonical attribute value as a Python value."""
    for kind, content in value.items():
        return _CONVERT[kind](content)
    raise AssertionError("a canonical value has one type")


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


def wire_item(item: Mapping[str, Any]) -> Item:
    """Return an item of Python values in canonical wire form; the reverse of `plain_item`.

    Raises:
        TypeError: a value is of a type that no attribute has.
        ValidationError: a number is out of range or has more than 38 digits, or a set is empty.
    """
    return {name: wire_value(value) for name, value in item.items()}


def wire_value(value: Any) -> Value:
    """Return a Python value in canonical wire form.

    `str`, `int`, `Decimal`, `float` (by its shortest text), `bytes`, `bool`, None, and lists,
    tuples, sets and mappings of those.

    Raises:
        TypeError: the value is of a type that no attribute has.
        ValidationError: a number is out of range or has more than 38 digits, or a set is empty.
    """
    kind = type(value)
    if kind is str:
        return {"S": value}
    if kind is bool:
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": str.__str__(value)}
    if isinstance(value, (int, float, Decimal)):
        return {"N": normalize(str(value))}
    if value is None:
        return {"NULL": True}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"B": b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {"M": wire_item(value)}
    if isinstance(value, (list, tuple)):
        return {"L": [wire_value(member) for member in value]}
    if isinstance(value, (set, frozenset)):
        return _wire_set(value)
    raise TypeError(
        f"{value!r} of type {kind.__name__} can't be an attribute's value: str, int, Decimal, "
        "float, bytes, bool, None, and lists, sets and dicts of them can"
    )


def _wire_set(members: AbstractSet[Any]) -> Value:
    if not members:
        raise ValidationError("a set may not be empty: leave the attribute out")
    values = [wire_value(member) for member in members]
    kinds = {next(iter(value)) for value in values}
    if len(kinds) != 1 or not kinds <= {"S", "N", "B"}:
        raise TypeError(f"{members!r}: a set has strings, or numbers, or bytes")
    (kind,) = kinds
    return {f"{kind}S": sorted(value[kind] for value in values)}
