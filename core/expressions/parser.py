"""The grammars of condition, update and projection expressions.

Conditions are parsed with a stack of their own instead of recursion, and so are calls in calls
(see `cursor`), so that no depth of parentheses, hostile as it may be, gets near Python's limit.

Source: the grammars in "Condition and filter expressions, operators, and functions", "Update
expressions" and "Projection expressions", developer guide. Filters and key conditions have the
grammar of conditions.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Generic, TypeVar

from streamtable.core.expressions.cursor import Cursor
from streamtable.core.expressions.nodes import (
    ARITHMETIC_FUNCTIONS,
    COMPARATORS,
    CONDITION_FUNCTIONS,
    OPERAND_FUNCTIONS,
    AddAction,
    And,
    Arithmetic,
    Between,
    Call,
    Compare,
    Condition,
    DeleteAction,
    In,
    Not,
    Operand,
    Or,
    Path,
    ProjectionNode,
    RemoveAction,
    SetAction,
    UpdateAction,
    UpdateNode,
    ValueRef,
)
from streamtable.core.limits import IN_OPERANDS

__all__ = ["NodeT", "Parsed", "parse_condition", "parse_projection", "parse_update"]

NodeT = TypeVar("NodeT")

_CONDITION_KEYWORDS: Final = frozenset({"AND", "OR", "NOT", "BETWEEN", "IN"})
_SECTIONS: Final = frozenset({"SET", "REMOVE", "ADD", "DELETE"})
_PRECEDENCE: Final = {"(": 0, "OR": 1, "AND": 2, "NOT": 3}
_KINDS: Final = {
    "FilterExpression": "a filter expression",
    "KeyConditionExpression": "a key condition expression",
}


@dataclass(frozen=True, slots=True)
class Parsed(Generic[NodeT]):
    """An expression that was parsed, with the placeholders that it uses."""

    node: NodeT
    names: frozenset[str]
    values: frozenset[str]


@lru_cache(maxsize=512)
def parse_condition(text: str, parameter: str = "ConditionExpression") -> Parsed[Condition]:
    """Parse a condition, a filter or a key condition; `parameter` is its name in the request.

    Raises:
        ValidationError: it is not a condition, with DynamoDB's text.
    """
    kind = _KINDS.get(parameter, "a condition expression")
    cursor = Cursor(text, parameter, _CONDITION_KEYWORDS, ARITHMETIC_FUNCTIONS, kind)
    node = _ConditionGrammar(cursor).parse()
    return _finish(cursor, node)


@lru_cache(maxsize=512)
def parse_update(text: str) -> Parsed[UpdateNode]:
    """Parse an update expression.

    Raises:
        ValidationError: it is not an update, with DynamoDB's text.
    """
    refused = {**CONDITION_FUNCTIONS, **OPERAND_FUNCTIONS}
    cursor = Cursor(text, "UpdateExpression", _SECTIONS, refused, "an update expression")
    seen: set[str] = set()
    actions: list[UpdateAction] = []
    while cursor.token.kind != "end" or not seen:
        section = cursor.keyword()
        if section is None:
            raise cursor.unexpected()
        cursor.advance()
        if section in seen:
            cursor.defer(f'The "{section}" section can only be used once in an update expression;')
        seen.add(section)
        actions.append(_action(cursor, section))
        while cursor.accept(","):
            actions.append(_action(cursor, section))
    return _finish(cursor, UpdateNode(tuple(actions)))


@lru_cache(maxsize=512)
def parse_projection(text: str) -> Parsed[ProjectionNode]:
    """Parse a projection expression.

    Raises:
        ValidationError: it is not a projection, with DynamoDB's text.
    """
    cursor = Cursor(text, "ProjectionExpression", frozenset(), {}, "a projection expression")
    paths = [cursor.path()]
    while cursor.accept(","):
        paths.append(cursor.path())
    if cursor.token.kind != "end":
        raise cursor.unexpected()
    return _finish(cursor, ProjectionNode(tuple(paths)))


def _finish(cursor: Cursor, node: NodeT) -> Parsed[NodeT]:
    cursor.finish()
    return Parsed(node, frozenset(cursor.aliases), frozenset(cursor.values))


def _action(cursor: Cursor, section: str) -> UpdateAction:
    path = cursor.path()
    if section == "REMOVE":
        return RemoveAction(path)
    if section == "ADD":
        return AddAction(path, cursor.value())
    if section == "DELETE":
        return DeleteAction(path, cursor.value())
    cursor.expect("=")
    cursor.count_operator()
    return SetAction(path, _set_value(cursor))


def _set_value(cursor: Cursor) -> Operand:
    """Read an operand or the sum or difference of two, perhaps in parentheses."""
    opened = 0
    while cursor.accept("("):
        opened += 1
    node = cursor.operand(bare=True)
    wraps_operand, wraps_sum = 0, 0
    while True:
        if opened and cursor.at(")"):
            cursor.advance()
            opened -= 1
            if isinstance(node, Arithmetic):
                wraps_sum += 1
            else:
                wraps_operand += 1
        elif not isinstance(node, Arithmetic) and (cursor.at("+") or cursor.at("-")):
            operator = cursor.advance().text
            cursor.count_operator()
            node = Arithmetic(operator, node, cursor.operand())
        else:
            break
    if opened:
        raise cursor.unexpected()
    if wraps_operand > 1 or wraps_sum > 1:
        cursor.refuse_parentheses()
    return node


class _ConditionGrammar:
    """Parses one condition: operators wait in `_pending` until their operands are there."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._pending: list[str] = []
        # What was read, and whether it stands in parentheses.
        self._read: list[tuple[Condition | Operand, bool]] = []

    def parse(self) -> Condition:
        cursor = self._cursor
        while True:
            self._before_operand()
            if not self._after_operand():
                break
        if cursor.token.kind != "end":
            raise cursor.unexpected()
        self._require_condition()
        self._combine(0)
        if self._pending:
            raise cursor.unexpected()
        node, _ = self._read.pop()
        assert not isinstance(node, Path | ValueRef)
        return node  # type: ignore[return-value]  # _require_condition has looked at it

    def _before_operand(self) -> None:
        cursor = self._cursor
        while True:
            if cursor.accept("("):
                self._pending.append("(")
            elif cursor.keyword() == "NOT":
                cursor.advance()
                cursor.count_operator()
                self._pending.append("NOT")
            else:
                break
        self._read.append((cursor.operand(bare=True), False))

    def _after_operand(self) -> bool:
        """Read what can follow an operand; say whether another operand has to come."""
        cursor = self._cursor
        while True:
            word = cursor.keyword()
            if word in ("AND", "OR"):
                self._require_condition()
                self._combine(_PRECEDENCE[word])
                cursor.advance()
                cursor.count_operator()
                self._pending.append(word)
                return True
            if word in ("BETWEEN", "IN") or (
                cursor.token.kind == "symbol" and cursor.token.text in COMPARATORS
            ):
                self._compare()
            elif cursor.at(")") and "(" in self._pending:
                self._close()
            else:
                return False

    def _compare(self) -> None:
        cursor = self._cursor
        left, _ = self._read[-1]
        if not isinstance(left, Path | ValueRef | Call):
            raise cursor.unexpected()
        operator = cursor.advance().text
        cursor.check_operand(left)
        cursor.count_operator()
        node: Condition
        if operator in COMPARATORS:
            node = Compare(operator, left, cursor.argument())
        elif operator.upper() == "BETWEEN":
            low = cursor.argument()
            if cursor.keyword() != "AND":
                raise cursor.unexpected()
            cursor.advance()
            node = Between(left, low, cursor.argument())
        else:
            cursor.expect("(")
            choices = [cursor.argument()]
            while cursor.accept(","):
                choices.append(cursor.argument())
            cursor.expect(")")
            if len(choices) > IN_OPERANDS:
                cursor.defer(
                    "The IN operator is provided with too many operands; "
                    f"number of operands: {len(choices)}"
                )
            node = In(left, tuple(choices))
        self._read[-1] = (node, False)

    def _close(self) -> None:
        if self._pending[-1] != "(":
            self._require_condition()
            self._combine(_PRECEDENCE["OR"])
        self._pending.pop()
        self._cursor.advance()
        node, wrapped = self._read[-1]
        if wrapped:
            self._cursor.refuse_parentheses()
        self._read[-1] = (node, True)

    def _require_condition(self) -> None:
        node, _ = self._read[-1]
        if isinstance(node, Path | ValueRef):
            raise self._cursor.unexpected()
        if isinstance(node, Call) and node.function in OPERAND_FUNCTIONS:
            self._cursor.refuse_use(node.function)

    def _combine(self, precedence: int) -> None:
        """Apply the operators that wait and bind at least as strongly, up to a parenthesis."""
        pending, read = self._pending, self._read
        while pending and pending[-1] != "(" and _PRECEDENCE[pending[-1]] >= precedence:
            operator = pending.pop()
            right: Condition = read.pop()[0]  # type: ignore[assignment]  # was required to be one
            if operator == "NOT":
                read.append((Not(right), False))
                continue
            left: Condition
            left, wrapped = read.pop()  # type: ignore[assignment]  # likewise
            kind = And if operator == "AND" else Or
            both: tuple[Condition, ...] = (left, right)
            if isinstance(left, kind) and not wrapped:
                both = (*left.conditions, right)
            read.append((kind(both), False))
