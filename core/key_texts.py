"""Keys as people write them: `id=ada`, `user_id=7 order_id=a`, or JSON."""

import json
import re
from typing import Any

from streamtable.core.errors import StreamtableError, ValidationError
from streamtable.core.keys import KeySchema
from streamtable.core.values import Item

__all__ = ["InvalidKeyText", "parse_key_text"]


class InvalidKeyText(StreamtableError, ValueError):
    """A text that does not say a key of the table; its message says how to write one."""


def parse_key_text(keys: KeySchema, text: str) -> Item:
    """Return the key that a text says, canonical, in the schema's order.

    The schema gives the types, so `7` is a number where the table has one and a string where it
    has that. What follows `name=` is the value up to the next key attribute's name, spaces
    included. In JSON an attribute is a plain value or DynamoDB's, `{"S": "ada"}`; binary is base64.

    Raises:
        InvalidKeyText: it says no key of this schema.
    """
    stripped = text.strip()
    raw = _parse_json(keys, stripped) if stripped.startswith("{") else _parse_pairs(keys, stripped)
    try:
        return keys.parse_key(raw)
    except ValidationError as error:
        raise InvalidKeyText(f"{text!r} is no key of the table: {_expected(keys)}") from error
    except StreamtableError as error:
        raise InvalidKeyText(f"{text!r}: {error}") from error


def _parse_json(keys: KeySchema, text: str) -> dict[str, Any]:
    types = {attribute.name: attribute.type for attribute in keys.attributes}
    try:
        # Numbers stay as they are written.
        found = json.loads(text, parse_int=str, parse_float=str)
    except ValueError as error:
        raise InvalidKeyText(f"{text!r} is no JSON ({error})") from error
    return {
        name: value if isinstance(value, dict) else {types.get(name, "S"): value}
        for name, value in found.items()
    }


def _parse_pairs(keys: KeySchema, text: str) -> dict[str, Any]:
    names = "|".join(re.escape(name) for name in sorted(keys.names, key=len, reverse=True))
    found = list(re.finditer(rf"(?:^|(?<=\s))({names})=", text))
    if not found or found[0].start() != 0 or len({match[1] for match in found}) != len(found):
        raise InvalidKeyText(f"{text!r} is no key of the table: {_expected(keys)}")
    ends = [match.start() for match in found[1:]] + [len(text)]
    types = {attribute.name: attribute.type for attribute in keys.attributes}
    return {
        match[1]: {types[match[1]]: text[match.end() : end].strip()}
        for match, end in zip(found, ends, strict=True)
    }


def _expected(keys: KeySchema) -> str:
    pairs = " ".join(f"{attribute.name}=..." for attribute in keys.attributes)
    types = ", ".join(f"{attribute.name} is {attribute.type}" for attribute in keys.attributes)
    return f"write {pairs} ({types}), or JSON"
