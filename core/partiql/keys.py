"""Which keys a WHERE clause asks for, and what is left of it to be tested.

Source: "PartiQL select statements for DynamoDB" for what is a query and what a scan, developer
guide.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Final, TypeAlias

from streamtable.core.errors import ValidationError
from streamtable.core.expressions.key_condition import KeyRange, KeyTest, key_range
from streamtable.core.expressions.nodes import (
    FLIPPED,
    And,
    Arithmetic,
    Between,
    Call,
    Compare,
    Condition,
    In,
    Literal,
    Not,
    Operand,
    Or,
    Path,
    ValueRef,
)
from streamtable.core.expressions.placeholders import Scope
from streamtable.core.keys import KeySchema
from streamtable.core.values import Item, Value

__all__ = ["KeyAccess", "check_key_paths", "find_access", "find_key"]

_PARTITIONS: Final = 50
"""Values of the partition key that one statement can ask for. Source: "PartiQL operators", IN."""

_RANGES: Final = 100
"""Ranges that are looked up one by one; where there would be more, the sort key is filtered."""

Choices: TypeAlias = tuple[str, list[Value]]
"""A key attribute and the values it may have."""


@dataclass(frozen=True, slots=True)
class KeyAccess:
    """The keys that a condition asks for.

    Attributes:
        ranges: parts of partitions, in the order of the text; they may overlap.
        rest: what is to be tested on their items, or None.
    """

    ranges: tuple[KeyRange, ...]
    rest: Condition | None


def find_access(where: Condition | None, keys: KeySchema, scope: Scope) -> KeyAccess | None:
    """Return the keys that a condition asks for, None if it asks for any partition.

    Raises:
        ValidationError: it has a value of another type than the key, or too many.
    """
    if where is None:
        return None
    branches = where.conditions if isinstance(where, Or) else (where,)
    ranges: list[KeyRange] = []
    rest: list[Condition] = []
    for branch in branches:
        rest = _conjuncts(branch)
        found = _ranges(rest, keys, scope)
        if found is None:
            return None
        ranges += found
    if len({keys.encode_partition(found.partition) for found in ranges}) > _PARTITIONS:
        raise _too_many(len(ranges))
    return KeyAccess(tuple(ranges), _joined(rest) if len(branches) == 1 else where)


def find_key(
    where: Condition | None, keys: KeySchema, scope: Scope
) -> tuple[Item, Condition | None] | None:
    """Return the one key that a condition asks for and what is left to be tested.

    None if there is an attribute of the key that the condition does not compare by `=`.
    """
    if where is None:
        return None
    rest = _conjuncts(where)
    key = {}
    for name in keys.names:
        for position, condition in enumerate(rest):
            test = _test(condition, scope)
            if test is not None and test.name == name and test.operator == "=":
                key[name] = test.operands[0]
                del rest[position]
                break
        else:
            return None
    return key, _joined(rest)


def check_key_paths(where: Condition | None, keys: KeySchema) -> None:
    """Refuse conditions on what is inside an attribute of the key.

    Raises:
        ValidationError: there is one.
    """
    for path in _paths(where):
        name = path.elements[0]
        if len(path.elements) > 1 and name in keys.names:
            raise ValidationError(
                "Key attributes must be scalars; list random access '[]' and map lookup '.' are "
                f"not allowed: IndexKey: {name}"
            )


def _ranges(rest: list[Condition], keys: KeySchema, scope: Scope) -> list[KeyRange] | None:
    """Return the ranges that conditions joined by AND ask for, and take these out of `rest`."""
    choices: list[Choices] = []
    for attribute in keys.partition:
        values = _take_values(rest, attribute.name, scope)
        if values is None:
            return None
        choices.append((attribute.name, values))
    count = prod(len(values) for _, values in choices)
    if count > _PARTITIONS:
        raise _too_many(count)
    last: list[KeyTest] = []
    for attribute in keys.sort:
        values = _take_values(rest, attribute.name, scope, most=_RANGES // count)
        if values is None:
            last = _take_test(rest, attribute.name, scope)
            break
        choices.append((attribute.name, values))
        count *= len(values)
    names = [name for name, _ in choices]
    return [
        key_range(
            [
                *(KeyTest(name, "=", (value,)) for name, value in zip(names, key, strict=True)),
                *last,
            ],
            keys,
        )
        for key in product(*(values for _, values in choices))
    ]


def _take_values(
    rest: list[Condition], name: str, scope: Scope, most: int | None = None
) -> list[Value] | None:
    """Take the first condition out of `rest` that leaves an attribute some values only."""
    for position, condition in enumerate(rest):
        values = _values(condition, name, scope)
        if values is not None and (most is None or len(values) <= most):
            del rest[position]
            return values
    return None


def _values(condition: Condition, name: str, scope: Scope) -> list[Value] | None:
    """Return the values that a condition leaves an attribute, None if it is no such condition."""
    found: list[Value] = []
    for part in condition.conditions if isinstance(condition, Or) else (condition,):
        if isinstance(part, In):
            if part.operand != Path((name,)):
                return None
            for choice in part.choices:
                if not isinstance(choice, Literal | ValueRef):
                    return None
                found.append(scope.value(choice))
        else:
            test = _test(part, scope)
            if test is None or test.name != name or test.operator != "=":
                return None
            found += test.operands
    distinct: list[Value] = []
    for value in found:
        if value not in distinct:
            distinct.append(value)
    return distinct


def _take_test(rest: list[Condition], name: str, scope: Scope) -> list[KeyTest]:
    """Take the first condition out of `rest` that leaves an attribute a range."""
    for position, condition in enumerate(rest):
        test = _test(condition, scope)
        if test is not None and test.name == name and test.operator != "=":
            del rest[position]
            return [test]
    return []


def _test(condition: Condition, scope: Scope) -> KeyTest | None:
    """Return a condition as a test of an attribute against values, None if it is no such test."""
    operator = ""
    operands: tuple[Operand, ...] = ()
    if isinstance(condition, Compare) and condition.operator in FLIPPED:
        operator, operands = condition.operator, (condition.left, condition.right)
        if not isinstance(condition.left, Path):
            operator, operands = FLIPPED[operator], (condition.right, condition.left)
    elif isinstance(condition, Between):
        operator = "BETWEEN"
        operands = (condition.operand, condition.low, condition.high)
    elif isinstance(condition, Call) and condition.function == "begins_with":
        operator, operands = condition.function, condition.operands
    if not operands:
        return None
    path, *others = operands
    if not isinstance(path, Path) or len(path.elements) > 1:
        return None
    values = tuple(scope.value(node) for node in others if isinstance(node, Literal | ValueRef))
    if len(values) < len(others):
        return None
    name = path.elements[0]
    assert isinstance(name, str)
    return KeyTest(name, operator, values)


def _paths(where: Condition | None) -> Iterator[Path]:
    pending: list[Condition | Operand] = [] if where is None else [where]
    while pending:
        node = pending.pop()
        if isinstance(node, Path):
            yield node
        else:
            pending.extend(_parts(node))


def _parts(node: Condition | Operand) -> Iterable[Condition | Operand]:
    if isinstance(node, And | Or):
        return node.conditions
    if isinstance(node, Not):
        return (node.condition,)
    if isinstance(node, Compare | Arithmetic):
        return (node.left, node.right)
    if isinstance(node, Between):
        return (node.operand, node.low, node.high)
    if isinstance(node, In):
        return (node.operand, *node.choices)
    if isinstance(node, Call):
        return node.operands
    return ()


def _conjuncts(condition: Condition) -> list[Condition]:
    return [*condition.conditions] if isinstance(condition, And) else [condition]


def _joined(conditions: list[Condition]) -> Condition | None:
    if len(conditions) > 1:
        return And(tuple(conditions))
    return conditions[0] if conditions else None


def _too_many(count: int) -> ValidationError:
    return ValidationError(
        f"The IN operator is provided with too many operands; number of operands: {count}"
    )
