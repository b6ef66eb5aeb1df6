"""Conditions: bound to the placeholders of a request, then evaluated on items.

Binding turns a node into functions once, so that a filter costs little for each item. What is
wrong with a condition whatever the item is (an operand's type, bounds in the wrong order) is
found while binding; on an item, what is missing or has another type makes a comparison false and
is never an error.

Source: "Condition and filter expressions, operators, and functions", developer guide.
"""

import operator
from binascii import a2b_base64
from collections.abc import Callable, Collection
from typing import Any, Final, TypeAlias

from streamtable.core.errors import ValidationError
from streamtable.core.expressions import nodes
from streamtable.core.expressions.nodes import Call, Literal, Operand, Path, ValueRef, show_value
from streamtable.core.expressions.operands import Bound, bind_operand
from streamtable.core.expressions.parser import parse_condition
from streamtable.core.expressions.placeholders import Placeholders, Scope
from streamtable.core.numbers import to_decimal
from streamtable.core.values import Item, Value, compare, equal, type_of

__all__ = ["Condition", "Test", "bind", "bind_condition"]

Test: TypeAlias = Callable[[Item], bool]
"""Says whether a condition holds for an item; for no item at all, of `{}`."""

_TESTS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ORDERED: Final[dict[str, Callable[[str], Any]]] = {"S": str, "N": to_decimal, "B": a2b_base64}
_SCALARS: Final = frozenset({"S", "N", "B", "BOOL", "NULL"})
_CONTAINERS: Final = frozenset({"S", "B", "SS", "NS", "BS", "L"})
_TYPES: Final = ("B", "NULL", "SS", "BOOL", "L", "BS", "N", "NS", "S", "M")


class Condition:
    """A condition that is ready for items.

    Attributes:
        matches: says whether the condition holds for an item; for no item, call it with `{}`.
        paths: the attributes of the item that the condition looks at.
    """

    __slots__ = ("matches", "paths")

    def __init__(self, matches: Test, paths: Collection[str]) -> None:
        self.matches = matches
        self.paths = paths

    def check_filter(
        self, key_names: Collection[str], parameter: str = "Filter Expression"
    ) -> None:
        """Refuse a filter of a Query that looks at the key.

        Raises:
            ValidationError: it does.
        """
        for name in key_names:
            if name in self.paths:
                raise ValidationError(
                    f"{parameter} can only contain non-primary key attributes: "
                    f"Primary key attribute: {name}"
                )


def bind_condition(text: str, parameter: str, placeholders: Placeholders) -> Condition:
    """Parse a ConditionExpression or FilterExpression and resolve its placeholders.

    Raises:
        ValidationError: it is not a condition, or does not go with its values.
    """
    scope = Scope(parameter, placeholders)
    test = bind(placeholders.take(parse_condition(text, parameter)), scope)
    return Condition(test, scope.attributes)


def bind(node: nodes.Condition, scope: Scope) -> Test:
    """Make a test of a condition's node.

    Raises:
        ValidationError: a placeholder is not defined, or an operand is not acceptable.
    """
    return _BINDERS[type(node)](node, scope)


def _bind_compare(node: nodes.Compare, scope: Scope) -> Test:
    left = bind_operand(node.left, scope)
    right = bind_operand(node.right, scope)
    if node.operator in _TESTS:
        for operand in (left, right):
            _require(scope, node.operator, operand, _ORDERED)
    _require_distinct(scope, node.operator, left, (right,))
    if node.operator in _TESTS:
        return _ordering(_TESTS[node.operator], left, right)
    return _equality(left, right) if node.operator == "=" else _inequality(left, right)


def _equality(left: Bound, right: Bound) -> Test:
    value = right.constant
    if value is not None and right.kind in _SCALARS:
        if left.path is not None and len(left.path) == 1:
            name: str = left.path[0]  # type: ignore[assignment]  # a path begins with a name
            return lambda item: item.get(name) == value
        get = left.get
        return lambda item: get(item) == value
    get_left, get_right = left.get, right.get

    def equals(item: Item) -> bool:
        a, b = get_left(item), get_right(item)
        return a is not None and b is not None and equal(a, b)

    return equals


def _inequality(left: Bound, right: Bound) -> Test:
    equals = _equality(left, right)
    return lambda item: not equals(item)


def _ordering(test: Callable[[Any, Any], bool], left: Bound, right: Bound) -> Test:
    get_left, get_right = left.get, right.get
    if right.constant is not None:
        # The usual case; the constant is decoded once, not for each item.
        kind = right.kind
        assert kind is not None
        decode = _ORDERED[kind]
        bound = decode(right.constant[kind])

        def precedes(item: Item) -> bool:
            value = get_left(item)
            if value is None or kind not in value:
                return False
            return test(decode(value[kind]), bound)

        return precedes

    def ordered(item: Item) -> bool:
        a, b = get_left(item), get_right(item)
        if a is None or b is None:
            return False
        order = compare(a, b)
        return order is not None and test(order, 0)

    return ordered


def _bind_between(node: nodes.Between, scope: Scope) -> Test:
    operand = bind_operand(node.operand, scope)
    low = bind_operand(node.low, scope)
    high = bind_operand(node.high, scope)
    for bound in (operand, low, high):
        _require(scope, "BETWEEN", bound, _ORDERED)
    if low.constant is not None and high.constant is not None:
        _check_bounds(scope, low.constant, high.constant)
    _require_distinct(scope, "BETWEEN", operand, (low, high))
    above = _ordering(operator.ge, operand, low)
    below = _ordering(operator.le, operand, high)
    return lambda item: above(item) and below(item)


def _check_bounds(scope: Scope, low: Value, high: Value) -> None:
    shown = f"lower bound operand: {show_value(low)}, upper bound operand: {show_value(high)}"
    order = compare(low, high)
    if order is None:
        raise scope.error(
            f"The BETWEEN operator requires same data type for lower and upper bounds; {shown}"
        )
    if order > 0:
        raise scope.error(
            "The BETWEEN operator requires upper bound to be greater than or equal to lower "
            f"bound; {shown}"
        )


def _bind_in(node: nodes.In, scope: Scope) -> Test:
    operand = bind_operand(node.operand, scope)
    choices = [bind_operand(choice, scope) for choice in node.choices]
    _require_distinct(scope, "IN", operand, choices)
    get = operand.get
    getters = [choice.get for choice in choices]

    def is_one(item: Item) -> bool:
        value = get(item)
        if value is None:
            return False
        for get_choice in getters:
            choice = get_choice(item)
            if choice is not None and equal(value, choice):
                return True
        return False

    return is_one


def _bind_not(node: nodes.Not, scope: Scope) -> Test:
    # A chain of NOTs takes one test however long it is.
    negative, condition = True, node.condition
    while isinstance(condition, nodes.Not):
        negative, condition = not negative, condition.condition
    test = bind(condition, scope)
    return (lambda item: not test(item)) if negative else test


def _bind_and(node: nodes.And, scope: Scope) -> Test:
    tests = [bind(condition, scope) for condition in node.conditions]
    if len(tests) == 2:
        first, second = tests
        return lambda item: first(item) and second(item)

    def every(item: Item) -> bool:
        for test in tests:  # noqa: SIM110 -- all() would cost a generator and a frame
            if not test(item):
                return False
        return True

    return every


def _bind_or(node: nodes.Or, scope: Scope) -> Test:
    tests = [bind(condition, scope) for condition in node.conditions]

    def some(item: Item) -> bool:
        for test in tests:  # noqa: SIM110 -- as above
            if test(item):
                return True
        return False

    return some


def _bind_call(node: Call, scope: Scope) -> Test:
    return _FUNCTIONS[node.function](node.operands, scope)


def _bind_exists(operands: tuple[Operand, ...], scope: Scope) -> Test:
    get, name = _attribute(operands[0], "attribute_exists", scope)
    if name is not None:
        return lambda item: name in item
    return lambda item: get(item) is not None


def _bind_not_exists(operands: tuple[Operand, ...], scope: Scope) -> Test:
    get, name = _attribute(operands[0], "attribute_not_exists", scope)
    if name is not None:
        return lambda item: name not in item
    return lambda item: get(item) is None


def _bind_type(operands: tuple[Operand, ...], scope: Scope) -> Test:
    operand = bind_operand(operands[0], scope)
    expected = operands[1]
    if not isinstance(expected, ValueRef | Literal):
        bind_operand(expected, scope)
        raise scope.mismatch("attribute_type", "{NS,SS,L,BS,N,M,B,S,NULL,BOOL}")
    value = scope.value(expected)
    if "S" not in value:
        raise scope.mismatch("attribute_type", type_of(value))
    kind = value["S"]
    if kind not in _TYPES:
        raise scope.error(
            f"Invalid attribute type name found; type: {kind}, valid types: {{{','.join(_TYPES)}}}"
        )
    get = operand.get

    def has_type(item: Item) -> bool:
        found = get(item)
        return found is not None and kind in found

    return has_type


def _bind_begins_with(operands: tuple[Operand, ...], scope: Scope) -> Test:
    operand, prefix = (bind_operand(node, scope) for node in operands)
    for bound in (operand, prefix):
        _require(scope, "begins_with", bound, ("S", "B"))
    _require_distinct(scope, "begins_with", operand, (prefix,))
    get, get_prefix = operand.get, prefix.get

    def begins(item: Item) -> bool:
        value, start = get(item), get_prefix(item)
        if value is None or start is None:
            return False
        if "S" in value and "S" in start:
            return bool(value["S"].startswith(start["S"]))
        if "B" in value and "B" in start:
            return a2b_base64(value["B"]).startswith(a2b_base64(start["B"]))
        return False

    return begins


def _bind_contains(operands: tuple[Operand, ...], scope: Scope) -> Test:
    operand, member = (bind_operand(node, scope) for node in operands)
    _require(scope, "contains", operand, _CONTAINERS)
    _require_distinct(scope, "contains", operand, (member,))
    get, get_member = operand.get, member.get

    def has(item: Item) -> bool:
        value, wanted = get(item), get_member(item)
        return value is not None and wanted is not None and _contains(value, wanted)

    return has


def _contains(value: Value, member: Value) -> bool:
    kind, content = next(iter(value.items()))
    if kind == "S":
        return "S" in member and member["S"] in content
    if kind == "B":
        return "B" in member and a2b_base64(member["B"]) in a2b_base64(content)
    if kind == "L":
        return any(equal(element, member) for element in content)
    if kind in ("SS", "NS", "BS"):
        return member.get(kind[0]) in content
    return False


def _attribute(
    node: Operand, function: str, scope: Scope
) -> tuple[Callable[[Item], Value | None], str | None]:
    """Return what reads the path that is a function's operand, and its name if it is top-level."""
    bound = bind_operand(node, scope)
    if bound.path is None or not isinstance(node, Path):
        raise scope.error(
            f"Operator or function requires a document path; operator or function: {function}"
        )
    if len(bound.path) == 1:
        return bound.get, bound.path[0]  # type: ignore[return-value]  # begins with a name
    return bound.get, None


def _require(scope: Scope, function: str, operand: Bound, kinds: Collection[str]) -> None:
    """Refuse an operand whose type is known before any item, and is not one of `kinds`."""
    if operand.kind is not None and operand.kind not in kinds:
        raise scope.mismatch(function, operand.kind)


def _require_distinct(scope: Scope, function: str, first: Bound, others: Collection[Bound]) -> None:
    if first.path is not None and any(other.path == first.path for other in others):
        raise scope.error(
            "The first operand must be distinct from the remaining operands for this operator or "
            f"function; operator: {function}, first operand: {nodes.show_path(first.path)}"
        )


_FUNCTIONS: Final[dict[str, Callable[[tuple[Operand, ...], Scope], Test]]] = {
    "attribute_exists": _bind_exists,
    "attribute_not_exists": _bind_not_exists,
    "attribute_type": _bind_type,
    "begins_with": _bind_begins_with,
    "contains": _bind_contains,
}

_BINDERS: Final[dict[type, Callable[[Any, Scope], Test]]] = {
    nodes.Compare: _bind_compare,
    nodes.Between: _bind_between,
    nodes.In: _bind_in,
    nodes.Not: _bind_not,
    nodes.And: _bind_and,
    nodes.Or: _bind_or,
    Call: _bind_call,
}
