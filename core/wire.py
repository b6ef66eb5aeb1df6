"""The JSON types of attribute values in a request.

The service reads a request into typed structures before it looks at what is in them. Where a type
is wrong it answers a SerializationException, in the words of its JSON reader.
"""

from base64 import b64encode
from binascii import a2b_base64
from typing import Any, Final

from streamtable.core.errors import SerializationError

__all__ = [
    "SET_MEMBERS",
    "check_types",
    "decode_binary",
    "expect_list",
    "expect_map",
    "expect_scalar",
]

SET_MEMBERS: Final = {"SS": "S", "NS": "N", "BS": "B"}
"""The type of a set's members."""

_SCALARS: Final = ("S", "N", "B", "BOOL", "NULL")
_STRUCTURE: Final = "Start of structure or map found where not expected."
_ATTRIBUTE_VALUE: Final = "com.amazonaws.dynamodb.v20120810.AttributeValue"


def check_types(raw: Any) -> None:
    """Check that a map of attributes has the JSON types of the service's model, and no more.

    For a request that is refused: an error of this kind anywhere in it comes before all others.

    Raises:
        SerializationError: something has another type.
    """
    expect_map(raw)
    pending = [*raw.values()]
    pending.reverse()  # in the order of the text
    while pending:
        value = pending.pop()
        if value is None:
            continue
        if type(value) is not dict:
            if type(value) is list:
                raise SerializationError(f"Unrecognized collection type class {_ATTRIBUTE_VALUE}")
            raise SerializationError("Unexpected value type in payload")
        for kind, content in value.items():
            if content is None:
                continue
            if kind == "M":
                expect_map(content)
                pending.extend(reversed(content.values()))
            elif kind == "L":
                expect_list(content)
                pending.extend(reversed(content))
            elif kind in SET_MEMBERS:
                expect_list(content)
                for member in content:
                    if member is not None:
                        expect_scalar(SET_MEMBERS[kind], member)
            elif kind in _SCALARS:
                expect_scalar(kind, content)


def decode_binary(content: Any) -> bytes:
    """Return the bytes of a base64 text.

    Raises:
        SerializationError: it is no text, or not the one canonical text of some bytes.
    """
    if type(content) is not str:
        expect_scalar("B", content)
    if len(content) % 4:
        raise SerializationError(
            f"Base64 encoded length is expected a multiple of 4 bytes but found: {len(content)}"
        )
    try:
        decoded = a2b_base64(content, strict_mode=True)
    except ValueError:
        decoded = None
    if decoded is None or (
        content.endswith("=") and b64encode(decoded[-(len(decoded) % 3) :]).decode() != content[-4:]
    ):
        raise SerializationError("Invalid last non-pad Base64 character dectected")
    return decoded


def expect_scalar(kind: str, content: Any) -> None:
    """Refuse content that is not what the JSON of a scalar type has.

    Raises:
        SerializationError: it is something else.
    """
    expected = bool if kind in ("BOOL", "NULL") else str
    if type(content) is expected:
        if kind == "B":
            decode_binary(content)
        return
    if kind == "B":
        raise SerializationError("only base-64-encoded strings are convertible to bytes")
    target = "Boolean" if expected is bool else "String"
    if type(content) is list:
        raise SerializationError(f"Unrecognized collection type class java.lang.{target}")
    if type(content) is dict:
        raise SerializationError(_STRUCTURE)
    if type(content) is str:
        raise SerializationError("Unexpected token received from parser")
    raise SerializationError(f"{_token(content)} cannot be converted to {target}")


def expect_map(content: Any) -> None:
    """Refuse what is not a map of attribute values.

    Raises:
        SerializationError: it is something else.
    """
    if type(content) is list:
        raise SerializationError(
            f"Unrecognized collection type java.util.Map<java.lang.String, {_ATTRIBUTE_VALUE}>"
        )
    if type(content) is not dict:
        raise SerializationError("Unexpected field type")


def expect_list(content: Any) -> None:
    """Refuse what is not a list.

    Raises:
        SerializationError: it is something else.
    """
    if type(content) is dict:
        raise SerializationError(_STRUCTURE)
    if type(content) is not list:
        raise SerializationError("Unexpected field type")


def _token(content: Any) -> str:
    """Return what the service's JSON parser calls a number or a boolean."""
    if type(content) is bool:
        return "TRUE_VALUE" if content else "FALSE_VALUE"
    return "NUMBER_VALUE" if type(content) is int else "DECIMAL_VALUE"
