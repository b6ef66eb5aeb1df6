"""Key conditions: which part of a table or an index a Query reads.

All partition attributes stand in equalities. Sort attributes may follow from left to right, in
equalities too, except that the last of them may be a range.

Source: "Key condition expressions for the Query operation", developer guide; API_Query.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from streamtable.core.errors import ValidationError
from streamtable.core.expressions.condition import bind
from streamtable.core.expressions.nodes import (
    FLIPPED,
    And,
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
from streamtable.core.expressions.parser import parse_condition
from streamtable.core.expressions.placeholders import Placeholders, Scope
from streamtable.core.keys import KeySchema, after_prefix, encode_component, prefix_bounds
from streamtable.core.values import Item, Value

__all__ = ["KeyRange", "KeyTest", "bind_key_condition", "key_range"]

_PARAMETER: Final = "KeyConditionExpression"


@dataclass(frozen=True, slots=True)
class KeyTest:
    """One condition on one key attribute."""

    name: str
    operator: str
    operands: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The part of a table or an index that a Query reads.

    Attributes:
        partition: the values of the partition attributes.
        sort: the values of the sort attributes that stand in equalities, from the left.
        operator: what the next sort attribute is tested with (<, <=, >, >=, BETWEEN,
            begins_with); None if it is not tested.
        operands: what it is tested against: two values for BETWEEN, else one.
    """

    partition: Item
    sort: Item
    operator: str | None = None
    operands: tuple[Value, ...] = ()

    def encoded_bounds(self, before: bytes) -> tuple[bytes, bytes]:
        """Return the range of row keys, its start included, its end not.

        Args:
            before: what the row keys of the whole partition begin with, `keys.row_key` of the
                table's prefix and the encoded partition key.
        """
        before += b"".join(map(encode_component, self.sort.values()))
        operator = self.operator
        if operator is None:
            return before, after_prefix(before)
        value = self.operands[0]
        if operator == "begins_with":
            return prefix_bounds(before, value)
        if operator == "BETWEEN":
            high = self.operands[1]
            return before + encode_component(value), after_prefix(before + encode_component(high))
        at = before + encode_component(value)
        if operator == "<":
            return before, at
        if operator == "<=":
            return before, after_prefix(at)
        if operator == ">":
            return after_prefix(at), after_prefix(before)
        return at, after_prefix(before)


def bind_key_condition(
    text: str,
    placeholders: Placeholders,
    key_schema: KeySchema,
) -> KeyRange:
    """Parse a KeyConditionExpression, resolve its placeholders, and see which keys it asks for.

    Raises:
        ValidationError: it is not a condition, or none that a Query of this key can answer.
    """
    return key_range(_bind_key_tests(text, placeholders), key_schema)


def _bind_key_tests(text: str, placeholders: Placeholders) -> list[KeyTest]:
    """Return the text's tests, one an attribute; which of them are the key's is not looked at."""
    node = placeholders.take(parse_condition(text, _PARAMETER))
    scope = Scope(_PARAMETER, placeholders)
    bind(node, scope)
    tests: dict[str, KeyTest] = {}
    for condition in _conditions(node):
        test = _read(condition, scope)
        if test.name in tests:
            raise ValidationError("KeyConditionExpressions must only contain one condition per key")
        tests[test.name] = test
    return list(tests.values())


def key_range(tests: Iterable[KeyTest], key_schema: KeySchema) -> KeyRange:
    """Return what conditions on different attributes ask of a key.

    Raises:
        ValidationError: a Query of this key can't answer them.
    """
    by_name = {test.name: test for test in tests}
    if not by_name or len(by_name) > max(2, len(key_schema.names)):
        raise ValidationError("Conditions can be of length 1 or 2 only")
    partition: Item = {}
    for attribute in key_schema.partition:
        test = by_name.pop(attribute.name, None)
        if test is None:
            raise _missed(attribute.name)
        if test.operator != "=":
            raise _not_supported()
        partition[attribute.name] = test.operands[0]
        _check(test, attribute.type)
    sort: Item = {}
    last: KeyTest | None = None
    for attribute in key_schema.sort:
        if not by_name:
            break
        test = by_name.pop(attribute.name, None)
        if test is None:
            raise _missed(attribute.name)
        if last is not None:
            raise _not_supported()
        _check(test, attribute.type)
        if test.operator == "=":
            sort[attribute.name] = test.operands[0]
        else:
            last = test
    if by_name:
        raise _not_supported()
    key_schema.check_sizes({**partition, **sort})
    if last is None:
        return KeyRange(partition, sort)
    for value in last.operands:
        key_schema.check_sizes({**sort, last.name: value})
    return KeyRange(partition, sort, last.operator, last.operands)


def _conditions(node: Condition) -> list[Condition]:
    """Take the conditions out of their ANDs."""
    found: list[Condition] = []
    pending = [node]
    while pending:
        condition = pending.pop()
        if isinstance(condition, And):
            pending.extend(reversed(condition.conditions))
        elif isinstance(condition, Or | Not | In):
            raise _invalid_operator(type(condition).__name__.upper())
        else:
            found.append(condition)
    return found


def _read(condition: Condition, scope: Scope) -> KeyTest:
    if isinstance(condition, Compare):
        operator = condition.operator
        if operator == "<>":
            raise _invalid_operator(operator)
        left, right = condition.left, condition.right
        if not isinstance(left, Path) and isinstance(right, Path):
            left, right, operator = right, left, FLIPPED[operator]
        return _test(operator, (left, right), scope)
    if isinstance(condition, Between):
        return _test("BETWEEN", (condition.operand, condition.low, condition.high), scope)
    assert isinstance(condition, Call)
    if condition.function != "begins_with":
        raise _invalid_operator(condition.function)
    return _test("begins_with", condition.operands, scope)


def _test(operator: str, operands: tuple[Operand, ...], scope: Scope) -> KeyTest:
    first, *others = operands
    for operand in operands:
        if isinstance(operand, Call):
            raise _invalid_operator(operand.function)
    paths = sum(isinstance(operand, Path) for operand in operands)
    if paths > 1:
        raise _invalid("Multiple attribute names used in one condition")
    if not paths:
        raise _invalid("No key attribute specified")
    if not isinstance(first, Path):
        raise _invalid(f"{operator} operator must have the key attribute as its first operand")
    path = scope.path(first)
    if len(path) > 1:
        raise ValidationError("KeyConditionExpressions cannot have conditions on nested attributes")
    values = tuple(scope.value(v) for v in others if isinstance(v, ValueRef | Literal))
    name = path[0]
    assert isinstance(name, str)
    return KeyTest(name, operator, values)


def _check(test: KeyTest, kind: str) -> None:
    """Refuse values that the key attribute can't have."""
    for value in test.operands:
        if kind not in value:
            raise ValidationError(
                "One or more parameter values were invalid: Condition parameter type does not "
                "match schema type"
            )
        if not value[kind]:
            what = "string" if kind == "S" else "binary"
            raise ValidationError(
                "One or more parameter values are not valid. The AttributeValue for a key "
                f"attribute cannot contain an empty {what} value. Key: {test.name}"
            )


def _missed(name: str) -> ValidationError:
    return ValidationError(f"Query condition missed key schema element: {name}")


def _not_supported() -> ValidationError:
    return ValidationError("Query key condition not supported")


def _invalid_operator(operator: str) -> ValidationError:
    return ValidationError(f"Invalid operator used in {_PARAMETER}: {operator}")


def _invalid(message: str) -> ValidationError:
    return ValidationError(f"Invalid condition in {_PARAMETER}: {message}")
