"""The shapes of requests, read from the service models that botocore ships."""

import gzip
import importlib.resources
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import orjson

from streamtable.core.shapes.overrides import (
    ENUM_ORDERS,
    EXISTING,
    LENGTHS,
    MEMBERS,
    OPTIONAL,
    PATTERNS,
    UNLESS_ARN,
    UNQUOTED,
)

__all__ = ["Shape", "operation_names", "operations"]

# `streamtable.core.values` reads attribute values: the only recursive shape, and the hot one.
_OPAQUE = "AttributeValue"


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What one value of a request may be.

    Attributes:
        name: the model's name of the shape.
        kind: string, boolean, integer, long, double, timestamp, list, map, structure, or opaque
            for an attribute value, which is not looked into.
        least: the least length of a string, list or map, or the least number.
        most: the most.
        pattern: the pattern as the service prints it, in Java's syntax.
        regex: the same, to match the whole text with.
        enum: the values allowed, in the order in which the service prints them.
        member: the shape of a list's elements or of a map's values.
        key: the shape of a map's keys.
        members: the members of a structure, in the model's order.
        required: the members that must be there.
        unless_arn: the shape that a string must have where it is no ARN.
        unquoted: what is wrong with it is told without its value.
    """

    name: str
    kind: str
    least: int | None = None
    most: int | None = None
    pattern: str | None = None
    regex: re.Pattern[str] | None = None
    enum: tuple[str, ...] = ()
    member: "Shape | None" = None
    key: "Shape | None" = None
    members: Mapping[str, "Shape"] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    unless_arn: "Shape | None" = None
    unquoted: bool = False


@lru_cache(maxsize=8)
def operations(service: str) -> Mapping[str, Shape]:
    """Return the input shape of each operation of "dynamodb" or "dynamodbstreams"."""
    model = _load(service)
    reader = _Reader(model["shapes"])
    return {
        name: reader.shape(operation["input"]["shape"])
        if "input" in operation
        else Shape(f"{name}Input", "structure")
        for name, operation in model["operations"].items()
    }


@lru_cache(maxsize=8)
def operation_names(service: str) -> frozenset[str]:
    """Return the names of the operations of "dynamodb" or "dynamodbstreams"."""
    return frozenset(operations(service))


def _load(service: str) -> dict[str, Any]:
    folder = importlib.resources.files("botocore") / "data" / service / "2012-08-10"
    packed = folder / "service-2.json.gz"
    if packed.is_file():
        text = gzip.decompress(packed.read_bytes())
    else:  # some distributions ship botocore's data unpacked
        text = (folder / "service-2.json").read_bytes()
    model: dict[str, Any] = orjson.loads(text)
    return model


class _Reader:
    """Turns the model's named shapes into trees of `Shape`."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        self._model = model
        self._read: dict[str, Shape] = {_OPAQUE: Shape(_OPAQUE, "opaque")}

    def shape(self, name: str) -> Shape:
        if name not in self._read:
            self._read[name] = self._make(name)
        return self._read[name]

    def _make(self, name: str) -> Shape:
        raw = self._model[name]
        pattern = raw.get("pattern")
        member = raw.get("member", raw.get("value"))
        return Shape(
            name=name,
            kind=raw["type"],
            least=raw.get("min"),
            most=raw.get("max"),
            pattern=pattern,
            regex=None if pattern is None else re.compile(PATTERNS.get(pattern, pattern), re.ASCII),
            enum=_ordered(name, raw.get("enum", ())),
            member=None if member is None else self.shape(member["shape"]),
            key=self.shape(raw["key"]["shape"]) if "key" in raw else None,
            members={
                member_name: self._member(name, member_name, member["shape"])
                for member_name, member in raw.get("members", {}).items()
            },
            required=frozenset(
                member_name
                for member_name in raw.get("required", ())
                if (name, member_name) not in OPTIONAL
            ),
            unless_arn=self._existing(UNLESS_ARN[name]) if name in UNLESS_ARN else None,
        )

    def _existing(self, name: str) -> Shape:
        return replace(self.shape(name), regex=re.compile(EXISTING[name], re.ASCII))

    def _member(self, structure: str, name: str, shape_name: str) -> Shape:
        shape = self.shape(MEMBERS.get((structure, name), shape_name))
        lengths = LENGTHS.get((structure, name))
        if lengths is not None:
            shape = replace(shape, least=lengths[0], most=lengths[1])
        return replace(shape, unquoted=True) if (structure, name) in UNQUOTED else shape


def _ordered(name: str, values: Sequence[str]) -> tuple[str, ...]:
    first = tuple(value for value in ENUM_ORDERS.get(name, ()) if value in values)
    return first + tuple(value for value in values if value not in first)
