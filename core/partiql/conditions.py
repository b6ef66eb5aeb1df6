"""The grammar of WHERE clauses, which are read as the conditions of `core.expressions`.

Source: "PartiQL arithmetic, comparison, and logical operators for DynamoDB" and "Use PartiQL
functions with DynamoDB", developer guide.
"""

from typing import Final

from streamtable.core.errors import ValidationError
from streamtable.core.expressions.nodes import (
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
)
from streamtable.core.limits import IN_OPERANDS
from streamtable.core.partiql.cursor import Cursor

__all__ = ["read_condition", "read_operand"]

_COMPARATORS: Final = {
    "=": "=",
    "<>": "<>",
    "!=": "<>",
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
}
_TESTS: Final = {"begins_with": 2, "contains": 2, "attribute_type": 2}
_SIZE: Final = "size"
_FUNCTIONS: Final = {**_TESTS, _SIZE: 1}
_CLOSING: Final = {"[": "]", "(": ")", "<<": ">>"}

# PartiQL's types, as IS names them, and the types of DynamoDB's values that they cover.
_TYPES: Final = {
    "NULL": ("NULL",),
    "BOOL": ("BOOL",),
    "BOOLEAN": ("BOOL",),
    "DECIMAL": ("N",),
    "NUMERIC": ("N",),
    "STRING": ("S",),
    "BLOB": ("B",),
    "LIST": ("L",),
    "STRUCT": ("M",),
    "TUPLE": ("M",),
    "BAG": ("SS", "NS", "BS"),
}


def read_condition(cursor: Cursor) -> Condition:
    """Read a condition.

    Raises:
        ValidationError: there is none, or it is nested too deep or has too many operators.
    """
    cursor.enter()
    conditions = [_conjunction(cursor)]
    while cursor.accept_word("OR"):
        cursor.count_operator()
        conditions.append(_conjunction(cursor))
    cursor.leave()
    if len(conditions) == 1:
        return conditions[0]
    return Or(tuple(conditions))


def _conjunction(cursor: Cursor) -> Condition:
    conditions: list[Condition] = []
    while True:
        condition = _negation(cursor)
        # Parentheses around an AND in an AND mean nothing; without them the key is plain to see.
        conditions.extend(condition.conditions if isinstance(condition, And) else (condition,))
        if not cursor.accept_word("AND"):
            break
        cursor.count_operator()
    return conditions[0] if len(conditions) == 1 else And(tuple(conditions))


def _negation(cursor: Cursor) -> Condition:
    negated = False
    while cursor.accept_word("NOT"):
        cursor.count_operator()
        negated = not negated
    if cursor.accept("("):
        condition = read_condition(cursor)
        cursor.expect(")")
    else:
        condition = _predicate(cursor)
    return Not(condition) if negated else condition


def _predicate(cursor: Cursor) -> Condition:
    if cursor.token.kind == "keyword" and cursor.token.text == "EXISTS":
        raise ValidationError("EXISTS can only be used as a statement of a transaction")
    left = cursor.sum(_operand, _refuse_test)
    if isinstance(left, Call) and left.function in _TESTS:
        return left
    token = cursor.token
    if token.kind == "symbol" and token.text in _COMPARATORS:
        cursor.advance()
        cursor.count_operator()
        return Compare(_COMPARATORS[token.text], left, read_operand(cursor))
    if cursor.accept_word("IS"):
        cursor.count_operator()
        negated = cursor.accept_word("NOT") is not None
        return _type_test(cursor, left, negated=negated)
    negated = cursor.accept_word("NOT") is not None
    condition: Condition
    if cursor.accept_word("BETWEEN"):
        cursor.count_operator()
        low = read_operand(cursor)
        cursor.expect_word("AND")
        condition = Between(left, low, read_operand(cursor))
    elif cursor.accept_word("IN"):
        cursor.count_operator()
        condition = In(left, _choices(cursor))
    else:
        raise cursor.unexpected()
    return Not(condition) if negated else condition


def _type_test(cursor: Cursor, operand: Operand, *, negated: bool) -> Condition:
    if cursor.accept_word("MISSING"):
        function = "attribute_exists" if negated else "attribute_not_exists"
        return Call(function, (operand,))
    word = cursor.accept_word(*_TYPES)
    if word is None:
        raise cursor.unexpected()
    tests = tuple(Call("attribute_type", (operand, Literal({"S": kind}))) for kind in _TYPES[word])
    condition: Condition = tests[0] if len(tests) == 1 else Or(tests)
    return Not(condition) if negated else condition


def _choices(cursor: Cursor) -> tuple[Operand, ...]:
    closing = _CLOSING.get(cursor.token.text) if cursor.token.kind == "symbol" else None
    if closing is None:
        raise cursor.unexpected()
    cursor.advance()
    choices = [read_operand(cursor)]
    while cursor.accept(","):
        choices.append(read_operand(cursor))
    cursor.expect(closing)
    if len(choices) > IN_OPERANDS:
        raise ValidationError(
            "The IN operator is provided with too many operands; "
            f"number of operands: {len(choices)}"
        )
    return tuple(choices)


def read_operand(cursor: Cursor) -> Operand:
    """Read an operand that is not a condition itself."""
    operand = cursor.sum(_operand, _refuse_test)
    _refuse_test(operand)
    return operand


def _refuse_test(operand: Operand) -> None:
    if isinstance(operand, Call) and operand.function in _TESTS:
        raise ValidationError(
            "The function is not allowed to be used this way in an expression; "
            f"function: {operand.function}"
        )


def _operand(cursor: Cursor) -> Operand:
    if cursor.at_value():
        return cursor.value()
    if cursor.at_call():
        return cursor.call(_FUNCTIONS, read_operand)
    return cursor.path()
