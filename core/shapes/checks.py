"""Requests checked against their shapes: quickly when they are right, in words when not.

Each operation's shape is compiled once into closures that only say yes or no, visiting only the
members that are there. Whatever they say no to goes through `streamtable.core.shapes.faults`,
which finds the words (or finds that it was all right after all: a null member, a fraction where
an integer is meant).
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from streamtable.core.errors import ValidationError
from streamtable.core.shapes.faults import find_faults, normalize_types
from streamtable.core.shapes.model import Shape, operations

__all__ = ["unknown_members", "validate"]

Check = Callable[[Any], bool]

# The service reports no more than this many at once.
_MOST_REPORTED = 10


def validate(operation: str, body: dict[str, Any]) -> None:
    """Check the body of a request against the shape of its operation.

    A right body is left as it is, with two exceptions that the service makes too: members that
    are null are taken out, and where an integer is meant a fraction is cut off. Members that the
    operation does not know are ignored. Attribute values are not looked into.

    Args:
        operation: a name in `OPERATIONS` or `STREAMS_OPERATIONS`.
        body: the parsed JSON object.

    Raises:
        SerializationError: a member has another JSON type than the operation's.
        ValidationError: all that breaks a constraint, in one message: "2 validation errors
            detected: Value 'ab' at 'tableName' failed to satisfy constraint: Member must have
            length greater than or equal to 3; ...".
        KeyError: no such operation.
    """
    if _check(operation)(body):
        return
    shape = _input_shape(operation)
    normalize_types(shape, body)
    faults = find_faults(shape, body)[:_MOST_REPORTED]
    if faults:
        detected = "1 validation error" if len(faults) == 1 else f"{len(faults)} validation errors"
        raise ValidationError(f"{detected} detected: {'; '.join(faults)}")


def unknown_members(operation: str, body: dict[str, Any]) -> list[str]:
    """Return the paths of members that the operation does not know, such as `KeySchema.1.Name`."""
    found: list[str] = []
    _collect_unknown(_input_shape(operation), body, "", found)
    return found


def _collect_unknown(shape: Shape, value: Any, path: str, found: list[str]) -> None:
    if shape.kind == "structure" and type(value) is dict:
        for name, inner in value.items():
            member = shape.members.get(name)
            if member is None:
                found.append(f"{path}{name}")
            else:
                _collect_unknown(member, inner, f"{path}{name}.", found)
    elif shape.member is not None and shape.member.kind != "opaque":
        if type(value) is list:
            for number, inner in enumerate(value, 1):
                _collect_unknown(shape.member, inner, f"{path}{number}.", found)
        elif type(value) is dict:
            for name, inner in value.items():
                _collect_unknown(shape.member, inner, f"{path}{name}.", found)


def _input_shape(operation: str) -> Shape:
    shape = operations("dynamodb").get(operation)
    return operations("dynamodbstreams")[operation] if shape is None else shape


@lru_cache(maxsize=256)
def _check(operation: str) -> Check:
    return _compile(_input_shape(operation))


def _compile(shape: Shape) -> Check:
    match shape.kind:
        case "structure":
            return _structure(shape)
        case "list":
            return _list(shape)
        case "map":
            return _map(shape)
        case "string":
            return _string(shape)
        case "boolean":
            return lambda value: value is True or value is False
        case "integer" | "long":
            return _integer(shape)
        case "double" | "timestamp":
            return lambda value: type(value) is float or type(value) is int
        case "opaque":
            return lambda value: value is not None
        case kind:
            raise AssertionError(f"{shape.name} is a {kind}, which no request had so far")


def _structure(shape: Shape) -> Check:
    checks = {name: _compile(member) for name, member in shape.members.items()}
    check_of = checks.get
    required = shape.required

    def check(value: Any) -> bool:
        if type(value) is not dict or not required <= value.keys():
            return False
        for name, inner in value.items():
            check_member = check_of(name)
            if check_member is not None and not check_member(inner):
                return False
        return True

    return check


def _list(shape: Shape) -> Check:
    assert shape.member is not None
    least = shape.least or 0
    most = _most(shape)
    if shape.member.kind == "opaque":
        return lambda value: type(value) is list and least <= len(value) <= most
    check_member = _compile(shape.member)

    def check(value: Any) -> bool:
        return type(value) is list and least <= len(value) <= most and all(map(check_member, value))

    return check


def _map(shape: Shape) -> Check:
    assert shape.member is not None
    assert shape.key is not None
    least = shape.least or 0
    most = _most(shape)
    if shape.member.kind == "opaque":
        # An attribute's name and value are judged together, where the value is read.
        return lambda value: type(value) is dict and least <= len(value) <= most
    check_key = _compile(shape.key)
    check_member = _compile(shape.member)

    def check(value: Any) -> bool:
        return (
            type(value) is dict
            and least <= len(value) <= most
            and all(map(check_key, value))
            and all(map(check_member, value.values()))
        )

    return check


def _string(shape: Shape) -> Check:
    if shape.enum:
        enum = frozenset(shape.enum)
        return lambda value: type(value) is str and value in enum
    if shape.regex is None and not shape.least and shape.most is None:
        return lambda value: type(value) is str
    least = shape.least or 0
    most = _most(shape)
    if shape.unless_arn is not None:
        # The same few tables are named again and again.
        is_name = lru_cache(maxsize=4096)(_string(shape.unless_arn))
        return lambda value: (
            type(value) is str
            and len(value) <= most
            and (is_name(value) or value.startswith("arn:"))
        )
    if shape.regex is None:
        return lambda value: type(value) is str and least <= len(value) <= most
    matches = shape.regex.fullmatch
    return lambda value: (
        type(value) is str and least <= len(value) <= most and matches(value) is not None
    )


def _integer(shape: Shape) -> Check:
    if shape.least is None and shape.most is None:
        return lambda value: type(value) is int
    least = float("-inf") if shape.least is None else shape.least
    most = _most(shape)
    return lambda value: type(value) is int and least <= value <= most


def _most(shape: Shape) -> float:
    return float("inf") if shape.most is None else shape.most
