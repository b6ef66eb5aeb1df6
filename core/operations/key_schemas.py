"""Key schemas and attribute definitions: the rules that CreateTable and UpdateTable share."""

from collections.abc import Iterable
from typing import Any

from streamtable.core.documents import KeyElement
from streamtable.core.errors import INVALID, ValidationError
from streamtable.core.limits import COMPOSITE_KEY_ATTRIBUTES

__all__ = ["check_used", "parse_definitions", "parse_index_keys", "parse_table_keys"]


def parse_definitions(raw: list[dict[str, str]]) -> dict[str, str]:
    """Read AttributeDefinitions into a map from name to type.

    Raises:
        ValidationError: a name is defined twice.
    """
    definitions = {entry["AttributeName"]: entry["AttributeType"] for entry in raw}
    if len(definitions) != len(raw):
        raise ValidationError("Cannot have two attributes with the same name")
    return definitions


def parse_table_keys(
    raw: list[dict[str, str]], definitions: dict[str, str], *, alone: bool
) -> tuple[KeyElement, ...]:
    """Read the KeySchema of a table: one HASH element and perhaps one RANGE element.

    Args:
        raw: KeySchema as in the request.
        definitions: what `parse_definitions` gave.
        alone: the table has no secondary index, so the definitions are for these keys only.

    Raises:
        ValidationError: the elements don't form a key, or have no definition.
    """
    if len(definitions) < len(raw):
        raise ValidationError("Invalid KeySchema: Some index key attribute have no definition")
    keys = _elements(raw)
    names = [key.name for key in keys]
    missing = [name for name in names if name not in definitions]
    if missing:
        raise ValidationError(
            f"{INVALID}Some index key attributes are not defined in AttributeDefinitions. "
            f"Keys: {_listing(names)}, AttributeDefinitions: {_listing(definitions)}"
        )
    if alone and len(definitions) != len(names):
        raise ValidationError(
            f"{INVALID}Number of attributes in KeySchema does not exactly match number of "
            "attributes defined in AttributeDefinitions"
        )
    return keys


def parse_index_keys(
    raw: list[dict[str, str]], definitions: dict[str, str], *, composite: bool
) -> tuple[KeyElement, ...]:
    """Read the KeySchema of an index.

    Args:
        raw: KeySchema as in the request.
        definitions: the attribute definitions that the index may use.
        composite: up to four attributes may form each part of the key (global indexes).

    Raises:
        ValidationError: the elements don't form a key, or have no definition.
    """
    keys = _composite(raw) if composite and len(raw) > 1 else _elements(raw)
    missing = [key.name for key in keys if key.name not in definitions]
    if missing:
        raise ValidationError(
            f"{INVALID}Some index key attributes are not defined in AttributeDefinitions. "
            f"Keys: {_listing(missing)}, AttributeDefinitions: {_listing(definitions)}"
        )
    return keys


def check_used(definitions: dict[str, str], used: set[str]) -> None:
    """Check that each definition is a key of the table or of an index.

    Raises:
        ValidationError: some definition is not used.
    """
    if any(name not in used for name in definitions):
        names = [name for name in definitions if name in used]
        raise ValidationError(
            f"{INVALID}Some AttributeDefinitions are not used. AttributeDefinitions: "
            f"{_listing(definitions)}, keys used: {_listing(names)}"
        )


def _elements(raw: list[dict[str, str]]) -> tuple[KeyElement, ...]:
    if raw[0]["KeyType"] != "HASH":
        raise ValidationError(
            "Invalid KeySchema: The first KeySchemaElement is not a HASH key type"
        )
    if len(raw) == 2:
        if raw[1]["KeyType"] != "RANGE":
            raise ValidationError(
                "Invalid KeySchema: The second KeySchemaElement is not a RANGE key type"
            )
        if raw[0]["AttributeName"] == raw[1]["AttributeName"]:
            raise ValidationError(
                "Both the Hash Key and the Range Key element in the KeySchema have the same name"
            )
    return _parsed(raw)


def _composite(raw: list[dict[str, str]]) -> tuple[KeyElement, ...]:
    kinds = [entry["KeyType"] for entry in raw]
    hashes = kinds.count("HASH")
    if kinds[0] != "HASH":
        raise ValidationError(
            "Invalid KeySchema: The first KeySchemaElement is not a HASH key type"
        )
    if kinds != ["HASH"] * hashes + ["RANGE"] * (len(kinds) - hashes):
        raise ValidationError(
            "Invalid KeySchema: All HASH key elements must come before the RANGE key elements"
        )
    if hashes > COMPOSITE_KEY_ATTRIBUTES or len(kinds) - hashes > COMPOSITE_KEY_ATTRIBUTES:
        raise ValidationError(
            f"{INVALID}A KeySchema can have at most {COMPOSITE_KEY_ATTRIBUTES} HASH and at most "
            f"{COMPOSITE_KEY_ATTRIBUTES} RANGE key elements"
        )
    if len({entry["AttributeName"] for entry in raw}) != len(raw):
        raise ValidationError(
            "Both the Hash Key and the Range Key element in the KeySchema have the same name"
        )
    return _parsed(raw)


def _parsed(raw: list[dict[str, str]]) -> tuple[KeyElement, ...]:
    return tuple(
        KeyElement.model_validate({"name": entry["AttributeName"], "kind": entry["KeyType"]})
        for entry in raw
    )


def _listing(names: Iterable[Any]) -> str:
    return f"[{', '.join(names)}]"
