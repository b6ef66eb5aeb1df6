"""Values as statements spell them, with parameters that a request fills in.

A value without parameters is a constant of the parsed statement. One with parameters is a
template: the parsed statement is shared by all requests with its text, and each of them builds
the value with its own parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from streamtable.core.errors import ValidationError
from streamtable.core.values import Value, type_of

__all__ = ["Constant", "ListOf", "MapOf", "Parameter", "SetOf", "Template", "build", "is_constant"]


@dataclass(frozen=True, slots=True)
class Constant:
    """A scalar that stands in the statement."""

    value: Value


@dataclass(frozen=True, slots=True)
class Parameter:
    """A question mark; `index` counts from 0."""

    index: int


@dataclass(frozen=True, slots=True)
class ListOf:
    """`[element, ...]`."""

    elements: tuple["Template", ...]


@dataclass(frozen=True, slots=True)
class MapOf:
    """`{'name': member, ...}`."""

    members: tuple[tuple[str, "Template"], ...]


@dataclass(frozen=True, slots=True)
class SetOf:
    """`<<member, ...>>`."""

    members: tuple["Template", ...]


Template: TypeAlias = Constant | Parameter | ListOf | MapOf | SetOf


def is_constant(template: Template) -> bool:
    """Say whether a template has no parameters."""
    if isinstance(template, ListOf):
        return all(map(is_constant, template.elements))
    if isinstance(template, MapOf):
        return all(is_constant(member) for _, member in template.members)
    if isinstance(template, SetOf):
        return all(map(is_constant, template.members))
    return isinstance(template, Constant)


def build(template: Template, parameters: Sequence[Value]) -> Value:
    """Return the value; it is in wire form, but what `parse_value` checks is not checked yet.

    Raises:
        ValidationError: the members of a set are not of one type that a set can have.
    """
    if isinstance(template, Constant):
        return template.value
    if isinstance(template, Parameter):
        return parameters[template.index]
    if isinstance(template, ListOf):
        return {"L": [build(element, parameters) for element in template.elements]}
    if isinstance(template, MapOf):
        return {"M": {name: build(member, parameters) for name, member in template.members}}
    members = [build(member, parameters) for member in template.members]
    kinds = {type_of(member) for member in members}
    if not kinds:
        raise ValidationError(
            "One or more parameter values were invalid: An string set  may not be empty"
        )
    kind = kinds.pop()
    if kinds or kind not in ("S", "N", "B"):
        raise ValidationError(
            "One or more parameter values were invalid: the members of a set must be strings, "
            "numbers or binary, all of one type"
        )
    return {kind + "S": [member[kind] for member in members]}
