"""Attribute values and items: what DynamoDB accepts, in which form it is kept, and its size.

The wire form is the internal form: a value is the one-key object of DynamoDB's JSON, such as
`{"S": "x"}`, and an item maps names to values. What `parse_item` and `parse_value` return is
canonical: numbers have their canonical text, binary its canonical base64, and nothing is in it
that DynamoDB ignores. Values are never changed in place: where nothing had to be made canonical,
parsing returns the objects it was given.

Sources: API_AttributeValue for the types, "DynamoDB item sizes and formats" for the sizes.
"""

from binascii import a2b_base64
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import orjson

from streamtable.core.errors import INVALID, ValidationError
from streamtable.core.limits import ATTRIBUTE_NAME_BYTES, ITEM_BYTES, NESTING_LEVELS
from streamtable.core.numbers import normalize, to_decimal
from streamtable.core.numbers import size_bytes as number_size
from streamtable.core.wire import (
    SET_MEMBERS,
    check_types,
    decode_binary,
    expect_list,
    expect_map,
    expect_scalar,
)

__all__ = [
    "AttributeNameTooLarge",
    "Item",
    "Value",
    "check_attribute_name",
    "check_item_size",
    "compare",
    "dump_item",
    "equal",
    "item_size",
    "parse_item",
    "parse_value",
    "type_of",
    "value_size",
]

Value: TypeAlias = dict[str, Any]
Item: TypeAlias = dict[str, Value]


class AttributeNameTooLarge(ValidationError):
    """An attribute's name is too long; told without saying where in the request it stands."""


_DOCUMENT_OVERHEAD: Final = 3  # of a list or a map; each of its elements adds one byte more


def parse_item(raw: Any) -> tuple[Item, int]:
    """Check a map of attributes from a request; return it in canonical form, and its size.

    The limit of 400 KB is not checked here, see `check_item_size`.

    Raises:
        SerializationError: something in it has the wrong JSON type.
        ValidationError: a value is one that DynamoDB refuses.
    """
    if type(raw) is not dict:
        expect_map(raw)
    try:
        item, size = _parse_attributes(raw, 1)
        if size > ATTRIBUTE_NAME_BYTES:
            _check_names(item)
    except ValidationError:
        # The service reads the whole request before it validates any of it.
        check_types(raw)
        raise
    return item, size


def parse_value(raw: Any) -> Value:
    """Check one attribute value from a request; return it in canonical form.

    Raises:
        SerializationError: something in it has the wrong JSON type.
        ValidationError: it is a value that DynamoDB refuses.
    """
    try:
        value, size = _parse(raw, 1)
        if size > ATTRIBUTE_NAME_BYTES:
            _check_names({"_": value})
    except ValidationError:
        check_types({"_": raw})
        raise
    return value


def check_attribute_name(name: str) -> None:
    """Refuse an attribute's name that is too long.

    Raises:
        AttributeNameTooLarge: it is.
    """
    # A character has at most four bytes, so most names are short enough at first sight.
    if len(name) * 4 > ATTRIBUTE_NAME_BYTES and len(name.encode()) > ATTRIBUTE_NAME_BYTES:
        raise AttributeNameTooLarge(
            "1 validation error detected: Attribute name is too large, must be less than "
            f"{ATTRIBUTE_NAME_BYTES + 1} bytes"
        )


def check_item_size(size_bytes: int, *, updated: bool = False) -> None:
    """Refuse an item above 400 KB; `updated` says that an update made it so large.

    Raises:
        ValidationError: the item is too large.
    """
    if size_bytes > ITEM_BYTES:
        what = "Item size to update" if updated else "Item size"
        raise ValidationError(f"{what} has exceeded the maximum allowed size")


def item_size(item: Item) -> int:
    """Return the size of a canonical item in bytes, by DynamoDB's rules."""
    size = 0
    for name, value in item.items():
        size += len(name) if name.isascii() else len(name.encode())
        for kind, content in value.items():
            if kind == "S":
                size += len(content) if content.isascii() else len(content.encode())
            else:
                size += _SIZES[kind](content)
    return size


def value_size(value: Value) -> int:
    """Return the size of a canonical value in bytes, by DynamoDB's rules."""
    for kind, content in value.items():
        return _SIZES[kind](content)
    raise AssertionError("a canonical value has one type")


def dump_item(item: Item) -> bytes:
    """Return the item as JSON, UTF-8."""
    return orjson.dumps(item)


def type_of(value: Value) -> str:
    """Return the type of a canonical value: S, N, B, SS, NS, BS, M, L, BOOL or NULL."""
    return next(iter(value))


def equal(left: Value, right: Value) -> bool:
    """Say whether two canonical values are equal: of one type, sets in any order."""
    if left == right:
        return True
    kind = type_of(left)
    if type_of(right) != kind:
        return False
    a, b = left[kind], right[kind]
    if kind in SET_MEMBERS:
        return len(a) == len(b) and set(a) == set(b)
    if kind == "L":
        return len(a) == len(b) and all(map(equal, a, b))
    if kind == "M":
        return a.keys() == b.keys() and all(equal(a[name], b[name]) for name in a)
    return False


def compare(left: Value, right: Value) -> int | None:
    """Return how two canonical values are ordered: below 0, 0 or above 0.

    Strings are ordered by their UTF-8 bytes, binary by unsigned bytes. None where there is no
    order: the types differ, or are not strings, numbers or binary.
    """
    kind = type_of(left)
    if kind != type_of(right):
        return None
    a, b = left[kind], right[kind]
    if kind == "N":
        a, b = to_decimal(a), to_decimal(b)
    elif kind == "B":
        a, b = a2b_base64(a), a2b_base64(b)
    elif kind != "S":
        return None
    # Code points are ordered as their UTF-8 bytes are.
    if a == b:
        return 0
    return -1 if a < b else 1


def _parse_attributes(raw: dict[str, Any], depth: int) -> tuple[Item, int]:
    if "" in raw:
        raise ValidationError(f"{INVALID}Attribute name must not be empty")
    size = 0
    changed: Item = {}
    for name, value in raw.items():
        if type(value) is dict and len(value) == 1:
            for kind, content in value.items():
                if kind == "S" and type(content) is str:
                    if name.isascii() and content.isascii():
                        size += len(name) + len(content)
                    else:
                        size += len(name.encode()) + len(content.encode())
                elif kind == "N" and type(content) is str:
                    text = normalize(content)
                    if text != content:
                        changed[name] = {"N": text}
                    size += number_size(text)
                    size += len(name) if name.isascii() else len(name.encode())
                else:
                    parsed, value_bytes = _parse(value, depth)
                    if parsed is not value:
                        changed[name] = parsed
                    size += value_bytes
                    size += len(name) if name.isascii() else len(name.encode())
        else:
            changed[name], value_bytes = _parse(value, depth)
            size += value_bytes
            size += len(name) if name.isascii() else len(name.encode())
    return ({**raw, **changed} if changed else raw), size


def _parse(raw: Any, depth: int) -> tuple[Value, int]:
    """Return a value in canonical form, the same object where it is so already, and its size."""
    if type(raw) is dict and len(raw) == 1:
        for kind, content in raw.items():
            parse = _PARSERS.get(kind)
            if parse is not None and content is not None:
                canonical, size = parse(content, depth)
                return (raw if canonical is content else {kind: canonical}), size
    return _parse_unusual(raw, depth)


def _parse_unusual(raw: Any, depth: int) -> tuple[Value, int]:
    """Parse a value that does not have exactly one member. What is unknown or null is ignored."""
    if raw is None:
        raw = {}
    if type(raw) is not dict:
        check_types({"_": raw})
    found = {
        kind: parse(raw[kind], depth)
        for kind, parse in _PARSERS.items()
        if raw.get(kind) is not None
    }
    if len(found) > 1:
        raise ValidationError(
            "Supplied AttributeValue has more than one datatypes set, must contain exactly one "
            "of the supported datatypes"
        )
    for kind, (canonical, size) in found.items():
        return {kind: canonical}, size
    raise ValidationError(
        "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"
    )


# One parser a type: content in, canonical content (the same object where nothing changes) and
# size out. The second argument is the level of nesting that the value is on.


def _parse_string(content: Any, _depth: int) -> tuple[str, int]:
    if type(content) is not str:
        expect_scalar("S", content)
    return content, len(content) if content.isascii() else len(content.encode())


def _parse_number(content: Any, _depth: int) -> tuple[str, int]:
    if type(content) is not str:
        expect_scalar("N", content)
    text = normalize(content)
    return (content if text == content else text), number_size(text)


def _parse_binary(content: Any, _depth: int) -> tuple[str, int]:
    return content, len(decode_binary(content))


def _parse_bool(content: Any, _depth: int) -> tuple[bool, int]:
    if type(content) is not bool:
        expect_scalar("BOOL", content)
    return content, 1


def _parse_null(content: Any, _depth: int) -> tuple[bool, int]:
    if type(content) is not bool:
        expect_scalar("NULL", content)
    if not content:
        raise ValidationError(f"{INVALID}Null attribute value types must have the value of true")
    return True, 1


def _parse_string_set(content: Any, _depth: int) -> tuple[list[str], int]:
    expect_list(content)
    if not content:
        raise ValidationError(f"{INVALID}An string set  may not be empty")
    size = 0
    for member in content:
        if member is None:
            raise ValidationError(f"{INVALID}An string set may not have a null string as a member")
        size += _parse_string(member, 0)[1]
    if len(set(content)) != len(content):
        members = ", ".join(content)
        raise ValidationError(f"{INVALID}Input collection [{members}] contains duplicates.")
    return content, size


def _parse_number_set(content: Any, _depth: int) -> tuple[list[str], int]:
    expect_list(content)
    if not content:
        raise ValidationError(f"{INVALID}An number set  may not be empty")
    if None in content:
        raise ValidationError(f"{INVALID}An number set may not have a null string as a member")
    numbers = [_parse_number(member, 0) for member in content]
    texts = [text for text, _ in numbers]
    if len(set(texts)) != len(texts):
        raise ValidationError("Input collection contains duplicates")
    return (content if texts == content else texts), sum(size for _, size in numbers)


def _parse_binary_set(content: Any, _depth: int) -> tuple[list[str], int]:
    expect_list(content)
    if not content:
        raise ValidationError(f"{INVALID}Binary sets should not be empty")
    size = 0
    for member in content:
        if member is None:
            raise ValidationError(f"{INVALID}Binary sets may not contain null or empty values")
        size += len(decode_binary(member))
    if len(set(content)) != len(content):
        members = ", ".join(content)
        raise ValidationError(
            f"{INVALID}Input collection [{members}]of type BS contains duplicates."
        )
    return content, size


def _parse_map(content: Any, depth: int) -> tuple[Item, int]:
    if type(content) is not dict:
        expect_map(content)
    if content and depth >= NESTING_LEVELS:
        raise _too_deep()
    item, size = _parse_attributes(content, depth + 1)
    return item, _DOCUMENT_OVERHEAD + len(content) + size


def _parse_list(content: Any, depth: int) -> tuple[list[Value], int]:
    if type(content) is not list:
        expect_list(content)
    if content and depth >= NESTING_LEVELS:
        raise _too_deep()
    size = _DOCUMENT_OVERHEAD + len(content)
    changed: list[Value] | None = None
    for index, element in enumerate(content):
        parsed, element_bytes = _parse(element, depth + 1)
        size += element_bytes
        if parsed is not element:
            if changed is None:
                changed = list(content)
            changed[index] = parsed
    return (content if changed is None else changed), size


_PARSERS: Final[dict[str, Callable[[Any, int], tuple[Any, int]]]] = {
    "S": _parse_string,
    "N": _parse_number,
    "B": _parse_binary,
    "SS": _parse_string_set,
    "NS": _parse_number_set,
    "BS": _parse_binary_set,
    "BOOL": _parse_bool,
    "NULL": _parse_null,
    "M": _parse_map,
    "L": _parse_list,
}


def _string_size(content: str) -> int:
    return len(content) if content.isascii() else len(content.encode())


def _binary_size(content: str) -> int:
    return len(content) // 4 * 3 - content.count("=", -2)


def _map_size(content: Item) -> int:
    return _DOCUMENT_OVERHEAD + len(content) + item_size(content)


def _list_size(content: list[Value]) -> int:
    return _DOCUMENT_OVERHEAD + len(content) + sum(map(value_size, content))


_SIZES: Final[dict[str, Callable[[Any], int]]] = {
    "S": _string_size,
    "N": number_size,
    "B": _binary_size,
    "SS": lambda content: sum(map(_string_size, content)),
    "NS": lambda content: sum(map(number_size, content)),
    "BS": lambda content: sum(map(_binary_size, content)),
    "BOOL": lambda _: 1,
    "NULL": lambda _: 1,
    "M": _map_size,
    "L": _list_size,
}


def _check_names(item: Item) -> None:
    """Refuse attribute names that are too long, at any level."""
    pending = [item]
    while pending:
        for name, value in pending.pop().items():
            check_attribute_name(name)
            if "M" in value:
                pending.append(value["M"])
            elif "L" in value:
                pending.extend({"": element} for element in value["L"])


def _too_deep() -> ValidationError:
    return ValidationError(
        "Nesting Levels have exceeded supported limits: Attributes in the item have nested "
        "levels beyond supported limit"
    )
