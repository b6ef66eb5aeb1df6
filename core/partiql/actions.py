"""The grammar of SET and REMOVE clauses, which are read as an update of `core.expressions`.

Source: "PartiQL update statements for DynamoDB", developer guide.
"""

from typing import Final

from streamtable.core.errors import ValidationError
from streamtable.core.expressions.nodes import (
    AddAction,
    Call,
    DeleteAction,
    Literal,
    Operand,
    Path,
    RemoveAction,
    SetAction,
    UpdateAction,
    UpdateNode,
    ValueRef,
)
from streamtable.core.partiql.cursor import Cursor

__all__ = ["read_actions"]

_SET_FUNCTIONS: Final[dict[str, type[AddAction | DeleteAction]]] = {
    "set_add": AddAction,
    "set_delete": DeleteAction,
}
_FUNCTIONS: Final = dict.fromkeys(("if_not_exists", "list_append", *_SET_FUNCTIONS), 2)


def read_actions(cursor: Cursor) -> UpdateNode:
    """Read one or more SET and REMOVE clauses.

    Raises:
        ValidationError: there are none, or they are not well formed.
    """
    actions: list[UpdateAction] = []
    while True:
        section = cursor.accept_word("SET", "REMOVE")
        if section is None:
            break
        read = _read_set if section == "SET" else _read_remove
        actions.append(read(cursor))
        while cursor.accept(","):
            actions.append(read(cursor))
    if not actions:
        raise cursor.malformed("Expected data manipulation")
    return UpdateNode(tuple(actions))


def _read_remove(cursor: Cursor) -> UpdateAction:
    return RemoveAction(cursor.path())


def _read_set(cursor: Cursor) -> UpdateAction:
    path = cursor.path()
    cursor.expect("=")
    cursor.count_operator()
    value = _sum(cursor)
    if isinstance(value, Call) and value.function in _SET_FUNCTIONS:
        target, members = value.operands
        if target != path or not isinstance(members, Literal | ValueRef):
            raise ValidationError(
                f"{value.function} must change the attribute that it reads: {path}"
            )
        return _SET_FUNCTIONS[value.function](path, members)
    return SetAction(path, value)


def _sum(cursor: Cursor) -> Operand:
    return cursor.sum(_operand, _refuse_set_function)


def _operand(cursor: Cursor) -> Operand:
    if cursor.at_value():
        return cursor.value()
    if cursor.at("("):
        cursor.enter()
        cursor.advance()
        operand = _sum(cursor)
        cursor.expect(")")
        cursor.leave()
        return operand
    if cursor.at_call():
        return _call(cursor)
    return cursor.path()


def _call(cursor: Cursor) -> Call:
    call = cursor.call(_FUNCTIONS, _sum)
    for operand in call.operands:
        _refuse_set_function(operand)
    if call.function != "list_append" and not isinstance(call.operands[0], Path):
        raise ValidationError(
            f"Operator or function requires a document path; operator or function: {call.function}"
        )
    return call


def _refuse_set_function(operand: Operand) -> None:
    if isinstance(operand, Call) and operand.function in _SET_FUNCTIONS:
        raise ValidationError(
            "The function is not allowed to be used this way in an expression; "
            f"function: {operand.function}"
        )
