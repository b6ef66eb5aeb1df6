"""What is wrong with a request, in the service's own words.

Two passes, as the service makes them: reading the JSON into typed structures, which stops at the
first member of a wrong type (`normalize_types`), then the constraints, which are all collected
(`find_faults`).
"""

import zlib
from collections.abc import Iterator
from typing import Any

import orjson

from streamtable.core.errors import SerializationError
from streamtable.core.shapes.model import Shape

__all__ = ["find_faults", "normalize_types"]

_JAVA_PACKAGE = "com.amazonaws.dynamodb.v20120810"
_JAVA_CLASSES = {
    "string": "String",
    "boolean": "Boolean",
    "integer": "Integer",
    "long": "Long",
    "double": "Double",
    "timestamp": "Date",
}
_NUMBERS = ("integer", "long", "double", "timestamp")
# A value printed in a message is cut here, so that a wrong 16 MB body is not sent back.
_MOST_PRINTED = 16_384


def normalize_types(shape: Shape, value: Any) -> None:
    """Check the JSON types in a structure, depth first and in the order of the text.

    Changes it in place: null members go (those that the shape knows), integers lose
    their fractions.

    Raises:
        SerializationError: a value has a wrong type.
    """
    if shape.kind == "structure":
        for name in [name for name in shape.members if name in value and value[name] is None]:
            del value[name]
        for name, inner in value.items():
            member = shape.members.get(name)
            if member is not None:
                value[name] = _normal(member, inner)
    elif shape.kind == "map":
        assert shape.member is not None
        for name, inner in value.items():
            value[name] = _normal(shape.member, inner)
    elif shape.kind == "list":
        assert shape.member is not None
        for index, inner in enumerate(value):
            value[index] = _normal(shape.member, inner)


def _normal(shape: Shape, value: Any) -> Any:
    if value is None or shape.kind == "opaque":
        return value
    kind = shape.kind
    if kind in ("structure", "map"):
        if type(value) is list:
            raise SerializationError(f"Unrecognized collection type {_java_type(shape)}")
        if type(value) is not dict:
            raise SerializationError("Unexpected field type")
        normalize_types(shape, value)
        return value
    if type(value) is dict:
        raise SerializationError("Start of structure or map found where not expected.")
    if kind == "list":
        if type(value) is not list:
            raise SerializationError("Unexpected field type")
        normalize_types(shape, value)
        return value
    if type(value) is list:
        raise SerializationError(f"Unrecognized collection type {_java_type(shape)}")
    return _normal_scalar(shape, value)


def _normal_scalar(shape: Shape, value: Any) -> Any:
    kind = shape.kind
    if type(value) is str:
        if kind == "string":
            return value
        if kind == "boolean":
            raise SerializationError("Unexpected token received from parser")
        raise SerializationError(f"STRING_VALUE cannot be converted to {_JAVA_CLASSES[kind]}")
    if type(value) is bool:
        if kind == "boolean":
            return value
        token = "TRUE_VALUE" if value else "FALSE_VALUE"
        raise SerializationError(f"{token} cannot be converted to {_JAVA_CLASSES[kind]}")
    if kind not in _NUMBERS:
        raise SerializationError(f"NUMBER_VALUE cannot be converted to {_JAVA_CLASSES[kind]}")
    return int(value) if kind in ("integer", "long") else value


def _java_type(shape: Shape) -> str:
    """The Java type of a shape, as far as the service prints it."""
    match shape.kind:
        case "list":
            assert shape.member is not None
            return f"java.util.List<{_java_type(shape.member).removeprefix('class ')}>"
        case "map":
            assert shape.member is not None
            inner = _java_type(shape.member).removeprefix("class ")
            return f"java.util.Map<java.lang.String, {inner}>"
        case "structure" | "opaque":
            return f"class {_JAVA_PACKAGE}.{shape.name}"
        case "timestamp":
            return "class java.util.Date"
        case kind:
            return f"class java.lang.{_JAVA_CLASSES[kind]}"


def find_faults(shape: Shape, body: dict[str, Any]) -> list[str]:
    """Return each constraint that a body of the right types breaks, in the model's order."""
    return list(_structure_faults(shape, body, ""))


def _structure_faults(shape: Shape, value: dict[str, Any], path: str) -> Iterator[str]:
    for name, member in shape.members.items():
        inner = value.get(name)
        member_path = f"{path}{_lower_first(name)}"
        if inner is not None:
            for rule in _broken(member, inner):
                if member.unquoted:
                    capital = f"{path[:1].upper()}{path[1:]}{name}"
                    yield f"Value at '{capital}' failed to satisfy constraint: {rule}"
                else:
                    yield _fault(member, inner, member_path, rule)
            yield from _inner_faults(member, inner, member_path)
        elif name in shape.required:
            yield _null_fault(member_path)


def _inner_faults(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """What is wrong inside a structure, list or map.

    What an element of a collection breaks itself is told where the collection stands, with every
    rule that the element has; what is deeper inside is told where it stands.
    """
    if shape.kind == "structure":
        yield from _structure_faults(shape, value, f"{path}.")
    if shape.kind not in ("list", "map"):
        return
    member = shape.member
    assert member is not None
    if member.kind == "opaque":
        return
    elements: list[tuple[Any, Any]]
    if shape.kind == "map":
        assert shape.key is not None
        elements = list(value.items())
        if any(_broken(shape.key, name) for name in value):
            rules = _collection_rule("Map keys", shape.key.unless_arn or shape.key)
            yield _fault(shape, value, path, rules)
    else:
        elements = list(enumerate(value, 1))
    if any(each is not None and _broken(member, each) for _, each in elements):
        whose = "Map value" if shape.kind == "map" else "Member"
        yield _fault(shape, value, path, _collection_rule(whose, member))
    for name, each in elements:
        element_path = f"{path}.{name}.member"
        if each is None:
            yield _null_fault(element_path)
        else:
            yield from _inner_faults(member, each, element_path)


def _broken(shape: Shape, value: Any) -> list[str]:
    """The rules of a shape that a value breaks, without what is inside it."""
    match shape.kind:
        case "string":
            if shape.unless_arn is not None and value and not value.startswith("arn:"):
                return _broken(shape.unless_arn, value)
            broken = []
            if shape.regex is not None and shape.regex.fullmatch(value) is None:
                broken.append(_pattern_rule(shape))
            if shape.enum and value not in shape.enum:
                broken.append(_enum_rule(shape))
            return broken + _broken_range(shape, len(value))
        case "list" | "map":
            return _broken_range(shape, len(value))
        case kind if kind in _NUMBERS:
            return _broken_range(shape, value)
        case _:
            return []


def _broken_range(shape: Shape, size: float) -> list[str]:
    broken = []
    if shape.least is not None and size < shape.least:
        broken.append(_range_rule(shape, "greater", shape.least))
    if shape.most is not None and size > shape.most:
        broken.append(_range_rule(shape, "less", shape.most))
    return broken


def _collection_rule(whose: str, shape: Shape) -> str:
    """Every rule of a collection's elements (or keys), as listed when one of them is broken."""
    rules = []
    if shape.most is not None:
        rules.append(_range_rule(shape, "less", shape.most))
    if shape.least is not None:
        rules.append(_range_rule(shape, "greater", shape.least))
    if shape.pattern is not None:
        rules.append(_pattern_rule(shape))
    if shape.enum:
        rules.append(_enum_rule(shape))
    return f"{whose} must satisfy constraint: [{', '.join(rules)}]"


def _range_rule(shape: Shape, direction: str, bound: int) -> str:
    what = "value" if shape.kind in _NUMBERS else "length"
    return f"Member must have {what} {direction} than or equal to {bound}"


def _pattern_rule(shape: Shape) -> str:
    return f"Member must satisfy regular expression pattern: {shape.pattern}"


def _enum_rule(shape: Shape) -> str:
    return f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"


def _fault(shape: Shape, value: Any, path: str, rule: str) -> str:
    printed = _printed(shape, value)
    if len(printed) > _MOST_PRINTED:
        # The end stays, so that what is a list still ends as one.
        printed = printed[: _MOST_PRINTED - 1] + printed[-1]
    return f"Value '{printed}' at '{path}' failed to satisfy constraint: {rule}"


def _null_fault(path: str) -> str:
    return f"Value null at '{path}' failed to satisfy constraint: Member must not be null"


def _printed(shape: Shape, value: Any) -> str:
    """A value as the service's Java objects print themselves."""
    if value is None:
        return "null"
    match shape.kind:
        case "opaque":
            return f"{_JAVA_PACKAGE}.{shape.name}@{_hash_code(value):x}"
        case "list":
            assert shape.member is not None
            return f"[{', '.join(_printed(shape.member, each) for each in value)}]"
        case "map":
            assert shape.member is not None
            pairs = (f"{name}={_printed(shape.member, each)}" for name, each in value.items())
            return f"{{{', '.join(pairs)}}}"
        case "structure":
            fields = (
                f"{_lower_first(name)}={_printed(member, value.get(name))}"
                for name, member in shape.members.items()
            )
            return f"{shape.name}({', '.join(fields)})"
        case "boolean":
            return "true" if value else "false"
        case _:
            return str(value)


def _hash_code(value: Any) -> int:
    try:
        return zlib.crc32(orjson.dumps(value))
    except orjson.JSONEncodeError:  # nested more deeply than orjson writes
        return 0


def _lower_first(name: str) -> str:
    return name[:1].lower() + name[1:]
