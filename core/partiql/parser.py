"""The grammar of statements.

Source: "PartiQL statements for DynamoDB", developer guide. The words of syntax errors are those
of the PartiQL parser where they are known.
"""

from functools import lru_cache
from typing import Final

from streamtable.core.errors import ValidationError
from streamtable.core.expressions.nodes import Condition, Operand
from streamtable.core.partiql.actions import read_actions
from streamtable.core.partiql.conditions import read_condition, read_operand
from streamtable.core.partiql.cursor import Cursor
from streamtable.core.partiql.statements import (
    Delete,
    Exists,
    Insert,
    Order,
    Parsed,
    Select,
    Statement,
    Update,
)
from streamtable.core.partiql.templates import Parameter

__all__ = ["parse_statement"]

_UNSUPPORTED: Final = (
    *("AS", "DISTINCT", "EXCEPT", "GROUP", "HAVING", "INNER", "INTERSECT", "JOIN", "LEFT"),
    *("LIMIT", "OFFSET", "RIGHT", "UNION"),
)
"""Clauses of PartiQL that DynamoDB does not have."""

_RETURNING: Final = {
    ("ALL", "OLD"): "ALL_OLD",
    ("ALL", "NEW"): "ALL_NEW",
    ("MODIFIED", "OLD"): "UPDATED_OLD",
    ("MODIFIED", "NEW"): "UPDATED_NEW",
}


@lru_cache(maxsize=512)
def parse_statement(text: str) -> Parsed:
    """Parse a statement.

    Raises:
        ValidationError: it is no statement of PartiQL for DynamoDB.
    """
    cursor = Cursor(text)
    statement = _read_statement(cursor)
    cursor.accept(";")
    if cursor.token.kind != "end":
        _refuse_clause(cursor)
        raise cursor.unexpected()
    return Parsed(statement, tuple(cursor.templates), cursor.parameters)


def _read_statement(cursor: Cursor) -> Statement:
    if cursor.accept_word("SELECT"):
        return _read_select(cursor)
    if cursor.accept_word("INSERT"):
        return _read_insert(cursor)
    if cursor.accept_word("UPDATE"):
        table = _read_table(cursor)
        actions = read_actions(cursor)
        return Update(table, actions, _read_where(cursor), _read_returning(cursor))
    if cursor.accept_word("DELETE"):
        cursor.expect_word("FROM")
        table = _read_table(cursor)
        where = _read_where(cursor)
        returning = _read_returning(cursor)
        if returning not in ("NONE", "ALL_OLD"):
            raise ValidationError("ReturnValues can only be ALL_OLD or NONE")
        return Delete(table, where, returning)
    if cursor.accept_word("EXISTS"):
        cursor.expect("(")
        cursor.expect_word("SELECT")
        select = _read_select(cursor)
        cursor.expect(")")
        return Exists(select)
    raise cursor.malformed("Expected data manipulation")


def _read_select(cursor: Cursor) -> Select:
    _refuse_clause(cursor)
    columns: tuple[Operand, ...] | None = None
    if not cursor.accept("*"):
        found = [_read_column(cursor)]
        while cursor.accept(","):
            found.append(_read_column(cursor))
        columns = tuple(found)
        _refuse_clause(cursor)
    cursor.expect_word("FROM")
    table, index = _read_source(cursor)
    _refuse_clause(cursor)
    where = _read_where(cursor)
    _refuse_clause(cursor)
    order: list[Order] = []
    if cursor.accept_word("ORDER"):
        cursor.expect_word("BY")
        order.append(_read_order(cursor))
        while cursor.accept(","):
            order.append(_read_order(cursor))
    return Select(columns, table, index, where, tuple(order))


def _read_column(cursor: Cursor) -> Operand:
    if cursor.at_value():
        raise cursor.unexpected()  # the same for every item
    return read_operand(cursor)


def _read_order(cursor: Cursor) -> Order:
    name = cursor.name()
    return Order(name, cursor.accept_word("ASC", "DESC") == "DESC")


def _read_insert(cursor: Cursor) -> Insert:
    cursor.expect_word("INTO")
    table = _read_table(cursor)
    if cursor.at("<<"):
        raise _several_items()
    cursor.expect_word("VALUE")
    if cursor.at("<<"):
        raise _several_items()
    if cursor.at("?"):
        item = cursor.template()
        assert isinstance(item, Parameter)
        return Insert(table, item)
    return Insert(table, cursor.map_template(0))


def _several_items() -> ValidationError:
    return ValidationError(
        "Unsupported operation: Inserting multiple items in a single statement is not supported, "
        'use "INSERT INTO tableName VALUE item" instead'
    )


def _read_source(cursor: Cursor) -> tuple[str, str | None]:
    """Read the name of a table, and of an index after a dot."""
    if not cursor.at_name():
        raise cursor.malformed("Expected identifier for simple path")
    table = cursor.name()
    if not cursor.accept("."):
        return table, None
    return table, cursor.name()


def _read_table(cursor: Cursor) -> str:
    table, index = _read_source(cursor)
    if index is not None:
        raise cursor.malformed("Unexpected path component")
    return table


def _read_where(cursor: Cursor) -> Condition | None:
    return read_condition(cursor) if cursor.accept_word("WHERE") else None


def _read_returning(cursor: Cursor) -> str:
    if not cursor.accept_word("RETURNING"):
        return "NONE"
    scope = cursor.accept_word("ALL", "MODIFIED")
    age = cursor.accept_word("OLD", "NEW")
    if scope is None or age is None:
        raise cursor.unexpected()
    cursor.expect("*")
    return _RETURNING[scope, age]


def _refuse_clause(cursor: Cursor) -> None:
    word = cursor.accept_word(*_UNSUPPORTED)
    if word is not None:
        raise ValidationError(f"Unsupported clause: {word}")
