"""What an item is in Elasticsearch: the id of its document, and the document."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final, TypeAlias

import orjson

from streamtable.core.values import Item, Value

__all__ = ["MAX_ID_BYTES", "MakeDocument", "document_id", "item_json"]

MakeDocument: TypeAlias = Callable[[Item], Any]
"""Makes a JSON object of an item in wire form; None keeps the item out of the index."""

MAX_ID_BYTES: Final = 512
"""Elasticsearch's limit ("id is too long, must be no longer than 512 bytes")."""

_HASHED: Final = "sha256:"
_INTEGERS: Final = range(-(2**63), 2**63)


def document_id(keys: Item) -> str:
    r"""Return the id of an item's document: always the same for the same key.

    It is the text of the partition key; with a sort key, both texts with `|` between them and a
    `\` before each `|` and `\` of their own. The text of a number is DynamoDB's shortest form,
    that of binary is base64. What is longer than 512 bytes in UTF-8, or begins with `sha256:`
    itself, is `sha256:` and the hexadecimal SHA-256 of that text.

    Args:
        keys: the key attributes in wire form, the partition key first.
    """
    texts = [content for value in keys.values() for content in value.values()]
    if len(texts) == 1:
        text: str = texts[0]
    else:
        text = "|".join(each.replace("\\", "\\\\").replace("|", "\\|") for each in texts)
    data = text.encode()
    if len(data) > MAX_ID_BYTES or text.startswith(_HASHED):
        return _HASHED + sha256(data).hexdigest()
    return text


def item_json(item: Item, make: MakeDocument | None) -> bytes | None:
    """Return an item's document as JSON on one line, None if it is not to be in the index.

    Without `make` it is the item itself. A number becomes an integer where it is one of up to 64
    bits, and a float otherwise, as Elasticsearch reads it; a set becomes a list, binary is base64.

    Args:
        item: in wire form.
        make: makes the document.

    Raises:
        TypeError: what `make` returned can't be written as a JSON object.
        Exception: what `make` raised.
    """
    if make is None:
        return orjson.dumps({name: _json_value(value) for name, value in item.items()})
    document = make(item)
    if document is None:
        return None
    data = orjson.dumps(document)
    if not data.startswith(b"{"):
        raise TypeError(f"a document is a dict or None, not {type(document).__name__}")
    return data


def _json_value(value: Value) -> Any:
    ((kind, content),) = value.items()
    return _CONVERT[kind](content)


def _as_it_is(content: Any) -> Any:
    return content


def _json_number(text: str) -> int | float:
    if text.lstrip("-").isdigit():
        number = int(text)
        if number in _INTEGERS:
            return number
    return float(text)


_CONVERT: Final[dict[str, Callable[[Any], Any]]] = {
    "S": _as_it_is,
    "N": _json_number,
    "B": _as_it_is,
    "BOOL": _as_it_is,
    "NULL": lambda _: None,
    "SS": _as_it_is,
    "NS": lambda content: [_json_number(text) for text in content],
    "BS": _as_it_is,
    "L": lambda content: [_json_value(value) for value in content],
    "M": lambda content: {name: _json_value(value) for name, value in content.items()},
}
