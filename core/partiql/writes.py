"""INSERT, UPDATE, DELETE and EXISTS, planned as the writes that an owner evaluates.

Source: the pages on these statements in the developer guide.
"""

from collections.abc import Callable
from typing import Any, Final

from streamtable.core.errors import DuplicateItem, ValidationError
from streamtable.core.expressions import nodes, update
from streamtable.core.expressions.condition import Condition, Test, bind
from streamtable.core.expressions.placeholders import Scope
from streamtable.core.keys import KeySchema
from streamtable.core.operations.check import Check
from streamtable.core.operations.delete import Delete
from streamtable.core.operations.put import Put
from streamtable.core.operations.read_only import writable
from streamtable.core.operations.update import UpdateItem
from streamtable.core.operations.writes import Write
from streamtable.core.partiql import statements
from streamtable.core.partiql.keys import check_key_paths, find_key
from streamtable.core.partiql.parameters import Filled
from streamtable.core.tables import Table
from streamtable.core.values import Item, type_of

__all__ = ["Insert", "plan_check", "plan_write"]

_SETS: Final = ("SS", "NS", "BS")


class Insert(Put):
    """The plan of an INSERT: a put that finds no item with its key."""

    __slots__ = ()

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.needs_old = True

    def evaluate(self, old: Item | None) -> tuple[Item | bytes | None, int]:
        """Return the new item and its size.

        Raises:
            DuplicateItem: there is an item.
        """
        if old is not None:
            raise DuplicateItem("Duplicate primary key exists in table")
        return super().evaluate(old)


def plan_write(filled: Filled, request: dict[str, Any], find: Callable[[str], Table]) -> Write:
    """Plan an INSERT, an UPDATE or a DELETE.

    Args:
        filled: the statement with its parameters.
        request: the request, or its part for this statement.
        find: returns the table of a name, or raises ResourceNotFound.

    Raises:
        ValidationError: one of DynamoDB's rules is broken.
        ResourceNotFound: there is no such table.
    """
    statement = filled.statement
    if isinstance(statement, statements.Insert):
        return _plan_insert(statement, filled, request, find)
    if isinstance(statement, statements.Update):
        return _plan_update(statement, filled, request, find)
    if isinstance(statement, statements.Delete):
        return _plan_delete(statement, filled, request, find)
    assert isinstance(statement, statements.Exists)
    raise ValidationError("EXISTS can only be used as a statement of a transaction")


def plan_check(
    statement: statements.Exists,
    filled: Filled,
    request: dict[str, Any],
    find: Callable[[str], Table],
) -> Check:
    """Plan an EXISTS; arguments and errors are those of `plan_write`."""
    select = statement.select
    table = writable(find(select.table))
    if select.index is not None:
        raise _no_key()
    key, test = _locate(select.where, filled, table)
    return Check(table, table.locate_key(key), _of_an_item(test), ("Statement", request))


def _plan_insert(
    statement: statements.Insert,
    filled: Filled,
    request: dict[str, Any],
    find: Callable[[str], Table],
) -> Write:
    item, size = filled.item(statement.item)
    table = writable(find(statement.table))
    located = table.locate_item(item)
    if table.indexes:
        table.check_index_keys(item)
    return Insert(table, item, size, located, None, ("Statement", request))


def _plan_update(
    statement: statements.Update,
    filled: Filled,
    request: dict[str, Any],
    find: Callable[[str], Table],
) -> Write:
    table = writable(find(statement.table))
    key, test = _locate(statement.where, filled, table)
    scope = Scope("UpdateExpression", filled.placeholders)
    for action in statement.actions.actions:
        if isinstance(action, nodes.AddAction):
            kind = type_of(scope.value(action.value))
            if kind not in _SETS:
                raise scope.mismatch("set_add", kind)
    change = update.bind(statement.actions, scope)
    change.check_keys(table.key_names)
    body = {**request, "ReturnValues": statement.returning}
    # An UPDATE never makes an item.
    return UpdateItem(table, change, table.locate_key(key), _of_an_item(test), ("Statement", body))


def _plan_delete(
    statement: statements.Delete,
    filled: Filled,
    request: dict[str, Any],
    find: Callable[[str], Table],
) -> Write:
    table = writable(find(statement.table))
    key, test = _locate(statement.where, filled, table)
    condition = None
    if test is not None:
        # Where there is no item there is nothing to delete, whatever the condition.
        condition = Condition(lambda item: not item or test(item), ())
    body = {**request, "ReturnValues": statement.returning}
    return Delete(table, table.locate_key(key), condition, ("Statement", body))


def _locate(
    where: nodes.Condition | None, filled: Filled, table: Table
) -> tuple[Item, Test | None]:
    """Return the key in a WHERE clause and a test of what else it says."""
    keys: KeySchema = table.keys
    scope = Scope("ConditionExpression", filled.placeholders)
    check_key_paths(where, keys)
    found = find_key(where, keys, scope)
    if found is None:
        raise _no_key()
    key, rest = found
    return key, None if rest is None else bind(rest, scope)


def _of_an_item(test: Test | None) -> Condition:
    """Return the condition that there is an item, and that it passes the test."""
    return Condition(lambda item: bool(item) and (test is None or test(item)), ())


def _no_key() -> ValidationError:
    return ValidationError(
        "Where clause does not contain a mandatory equality on all key attributes"
    )
