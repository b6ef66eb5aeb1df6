"""The parameters that requests had before there were expressions, compiled to the same nodes.

Source: "Legacy conditional parameters", developer guide: Expected, QueryFilter, ScanFilter,
KeyConditions, AttributeUpdates, AttributesToGet and ConditionalOperator.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from streamtable.core.errors import INVALID, ValidationError
from streamtable.core.expressions import condition as conditions
from streamtable.core.expressions import nodes, update
from streamtable.core.expressions.condition import Condition
from streamtable.core.expressions.key_condition import KeyRange, KeyTest, key_range
from streamtable.core.expressions.nodes import Call, Compare, Literal, Path
from streamtable.core.expressions.placeholders import NO_PLACEHOLDERS, Scope
from streamtable.core.expressions.projection import Projection
from streamtable.core.expressions.update import LEGACY_UPDATES, Update
from streamtable.core.keys import KeySchema
from streamtable.core.values import Value, compare, parse_value, type_of

__all__ = [
    "compile_attribute_updates",
    "compile_attributes_to_get",
    "compile_conditions",
    "compile_key_conditions",
    "reject_mixed",
]

_ORDERED: Final = frozenset({"S", "N", "B"})
_SETS: Final = frozenset({"SS", "NS", "BS"})


def _compare(operator: str) -> Callable[[Path, tuple[Literal, ...]], nodes.Condition]:
    return lambda path, values: Compare(operator, path, values[0])


def _call(function: str) -> Callable[[Path, tuple[Literal, ...]], nodes.Condition]:
    return lambda path, values: Call(function, (path, *values))


_NODES: Final[dict[str, Callable[[Path, tuple[Literal, ...]], nodes.Condition]]] = {
    "EQ": _compare("="),
    "NE": _compare("<>"),
    "LT": _compare("<"),
    "LE": _compare("<="),
    "GT": _compare(">"),
    "GE": _compare(">="),
    "BETWEEN": lambda path, values: nodes.Between(path, *values),
    "IN": nodes.In,
    "NULL": _call("attribute_not_exists"),
    "NOT_NULL": _call("attribute_exists"),
    "BEGINS_WITH": _call("begins_with"),
    "CONTAINS": _call("contains"),
    # What is not there does not lack anything either: the attribute must exist.
    "NOT_CONTAINS": lambda path, values: nodes.And(
        (Call("attribute_exists", (path,)), nodes.Not(Call("contains", (path, *values))))
    ),
}

# How many values an operator takes; the others take one, IN at least one.
_COUNTS: Final = {"BETWEEN": 2, "NULL": 0, "NOT_NULL": 0}

# The types of the values, where not every type will do.
_TYPES: Final = {
    **dict.fromkeys(("LT", "LE", "GT", "GE", "BETWEEN", "IN"), _ORDERED),
    **dict.fromkeys(("CONTAINS", "NOT_CONTAINS"), _ORDERED),
    "BEGINS_WITH": frozenset({"S", "B"}),
}

_KEY_OPERATORS: Final = {
    "EQ": "=",
    "LT": "<",
    "LE": "<=",
    "GT": ">",
    "GE": ">=",
    "BETWEEN": "BETWEEN",
    "BEGINS_WITH": "begins_with",
}


def reject_mixed(
    body: Mapping[str, Any], legacy: Sequence[str], expressions: Sequence[str]
) -> None:
    """Refuse a request that has both legacy parameters and expressions.

    Args:
        body: the request.
        legacy: the operation's legacy parameters, in the order that the message has them.
        expressions: its expression parameters, likewise.

    Raises:
        ValidationError: it has both.
    """
    old = [parameter for parameter in legacy if body.get(parameter) is not None]
    if not old:
        return
    new = [parameter for parameter in expressions if body.get(parameter) is not None]
    if new:
        raise ValidationError(
            "Can not use both expression and non-expression parameters in the same request: "
            f"Non-expression parameters: {{{', '.join(old)}}} "
            f"Expression parameters: {{{', '.join(new)}}}"
        )


def compile_conditions(
    parameter: str,
    given: Mapping[str, Mapping[str, Any]] | None,
    conditional_operator: str | None = None,
) -> Condition | None:
    """Compile Expected, QueryFilter or ScanFilter; None if the request has no conditions.

    Args:
        parameter: which of the three it is.
        given: its value in the request.
        conditional_operator: ConditionalOperator in the request: AND, the default, or OR.

    Raises:
        SerializationError: a value has the wrong JSON type.
        ValidationError: a condition is not complete, or does not go with its values.
    """
    if given is None:
        if conditional_operator is not None:
            raise ValidationError("ConditionalOperator cannot be used without Filter or Expected")
        return None
    if conditional_operator is not None and len(given) < 2:
        raise ValidationError(
            "ConditionalOperator can only be used when Filter or Expected has two or more elements"
        )
    read = _expected if parameter == "Expected" else _comparison
    found = tuple(read(name, entry) for name, entry in given.items())
    if not found:
        return None
    node = found[0]
    if len(found) > 1:
        node = nodes.Or(found) if conditional_operator == "OR" else nodes.And(found)
    scope = Scope(parameter, NO_PLACEHOLDERS)
    return Condition(conditions.bind(node, scope), scope.attributes)


def compile_key_conditions(
    given: Mapping[str, Mapping[str, Any]], key_schema: KeySchema
) -> KeyRange:
    """Compile KeyConditions.

    Raises:
        SerializationError: a value has the wrong JSON type.
        ValidationError: a condition does not go with its values, or a Query can't answer it.
    """
    tests = []
    for name, entry in given.items():
        values = _values(entry)
        operator = entry["ComparisonOperator"]
        _check_values(operator, values)
        if operator not in _KEY_OPERATORS:
            raise ValidationError("Attempted conditional constraint is not an indexable operation")
        tests.append(KeyTest(name, _KEY_OPERATORS[operator], values))
    return key_range(tests, key_schema)


def compile_attribute_updates(given: Mapping[str, Mapping[str, Any]]) -> Update:
    """Compile AttributeUpdates.

    Raises:
        SerializationError: a value has the wrong JSON type.
        ValidationError: an action does not go with its value.
    """
    actions = tuple(_update_action(name, entry) for name, entry in given.items())
    return update.bind(nodes.UpdateNode(actions), Scope(LEGACY_UPDATES, NO_PLACEHOLDERS))


def compile_attributes_to_get(given: Sequence[str]) -> Projection:
    """Compile AttributesToGet.

    Raises:
        ValidationError: an attribute is in it twice.
    """
    seen = set()
    for name in given:
        if name in seen:
            raise ValidationError(f"{INVALID}Duplicate value in attribute name: {name}")
        seen.add(name)
    return Projection.of_attributes(given)


def _comparison(name: str, entry: Mapping[str, Any]) -> nodes.Condition:
    """Read a condition of a filter."""
    operator = entry["ComparisonOperator"]
    values = _values(entry)
    _check_values(operator, values)
    return _NODES[operator](Path((name,)), tuple(map(Literal, values)))


def _expected(name: str, entry: Mapping[str, Any]) -> nodes.Condition:
    """Read a condition of Expected, which has an older form without an operator too."""
    operator, exists = entry.get("ComparisonOperator"), entry.get("Exists")
    value, listed = entry.get("Value"), entry.get("AttributeValueList")
    path = Path((name,))
    if operator is not None:
        if exists is not None:
            raise _inconsistent("Exists and ComparisonOperator cannot be used together", name)
        if value is not None and listed is not None:
            raise _inconsistent("Value and AttributeValueList cannot be used together", name)
        if value is None and listed is None and _COUNTS.get(operator) != 0:
            raise _inconsistent(
                f"Value or AttributeValueList must be used with ComparisonOperator: {operator}",
                name,
            )
        values = _values(entry) if value is None else (parse_value(value),)
        _check_values(operator, values)
        return _NODES[operator](path, tuple(map(Literal, values)))
    if listed is not None:
        raise _inconsistent("AttributeValueList can only be used with a ComparisonOperator", name)
    if exists is False:
        if value is not None:
            raise _inconsistent("Value cannot be used when Exists is false", name)
        return Call("attribute_not_exists", (path,))
    if value is None:
        shown = "null" if exists is None else "true"
        raise _inconsistent(f"Value must be provided when Exists is {shown}", name)
    return Compare("=", path, Literal(parse_value(value)))


def _values(entry: Mapping[str, Any]) -> tuple[Value, ...]:
    return tuple(map(parse_value, entry.get("AttributeValueList") or ()))


def _check_values(operator: str, values: tuple[Value, ...]) -> None:
    """Refuse values that an operator does not take."""
    expected = _COUNTS.get(operator, 1)
    if len(values) != expected and (operator != "IN" or not values):
        raise ValidationError(
            f"{INVALID}Invalid number of argument(s) for the {operator} ComparisonOperator"
        )
    allowed = _TYPES.get(operator)
    for value in values:
        kind = type_of(value)
        if allowed is not None and kind not in allowed:
            raise ValidationError(
                f"{INVALID}ComparisonOperator {operator} is not valid for {kind} "
                "AttributeValue type"
            )
        if kind != type_of(values[0]):
            raise ValidationError(
                f"{INVALID}AttributeValues inside AttributeValueList must be of same type"
            )
    if operator == "BETWEEN":
        order = compare(*values)
        assert order is not None
        if order > 0:
            raise ValidationError(
                "The BETWEEN condition was provided a range where the lower bound is greater than "
                "the upper bound"
            )


def _update_action(name: str, entry: Mapping[str, Any]) -> nodes.UpdateAction:
    action = entry.get("Action") or "PUT"
    path = Path((name,))
    raw = entry.get("Value")
    if raw is None:
        if action != "DELETE":
            raise ValidationError(
                f"{INVALID}Only DELETE action is allowed when no attribute value is specified"
            )
        return nodes.RemoveAction(path)
    value = parse_value(raw)
    kind = type_of(value)
    literal = Literal(value)
    if action == "DELETE":
        if kind not in _SETS:
            raise ValidationError(
                f"{INVALID}DELETE action with value is not supported for the type {kind}"
            )
        return nodes.DeleteAction(path, literal)
    if action == "ADD":
        if kind not in _SETS and kind not in ("N", "L"):
            raise ValidationError(f"{INVALID}ADD action is not supported for the type {kind}")
        return nodes.AddAction(path, literal)
    return nodes.SetAction(path, literal)


def _inconsistent(message: str, name: str) -> ValidationError:
    return ValidationError(f"{INVALID}{message} for Attribute: {name}")
