"""TransactWriteItems: up to 100 puts, updates, deletes and checks, all or none.

Source: API_TransactWriteItems; "Amazon DynamoDB Transactions: How it works".
"""

from collections.abc import Callable
from typing import Any, Final

from streamtable.core.errors import ValidationError
from streamtable.core.expressions.condition import Condition, bind_condition
from streamtable.core.expressions.placeholders import Placeholders
from streamtable.core.expressions.update import bind_update
from streamtable.core.limits import ITEM_BYTES, TRANSACTION_BYTES
from streamtable.core.operations.check import Check
from streamtable.core.operations.delete import Delete
from streamtable.core.operations.put import ItemPut, Put
from streamtable.core.operations.transactions import Action, check_transaction_size, fit_actions
from streamtable.core.operations.update import UpdateItem
from streamtable.core.operations.writes import Write
from streamtable.core.tables import Table
from streamtable.core.values import check_item_size, item_size, parse_item

__all__ = ["plan_action", "plan_transact_write"]

_Fit = Callable[[Table], Write]

_CONDITION: Final = "ConditionExpression"
_UPDATE: Final = "UpdateExpression"

# So many items are within the limit however large they are.
_SAFE_ITEMS: Final = TRANSACTION_BYTES // ITEM_BYTES


def plan_transact_write(body: dict[str, Any], find: Callable[[str], Table]) -> list[Write]:
    """Check a TransactWriteItems request and plan its writes, in order.

    Args:
        body: the request, its shape already validated.
        find: returns the table of a name, or raises ResourceNotFound.

    Raises:
        ValidationError: one of DynamoDB's rules is broken.
        ResourceNotFound: one of the tables does not exist.
        TransactionCanceled: an action does not fit the key schema of its table or an index.
    """
    actions: list[Action[Write]] = []
    for action in body["TransactItems"]:
        kind = _kind(action)
        request = action[kind]
        actions.append((request, _PARSERS[kind](request)))
    writes = fit_actions(actions, find)
    if len(writes) > _SAFE_ITEMS:
        check_transaction_size(sum(map(_size, writes)))
    return writes


def plan_action(kind: str, request: dict[str, Any], find: Callable[[str], Table]) -> Write:
    """Plan one action by itself.

    Args:
        kind: which of an action's members it is, for example `Put`.
        request: that member.
        find: returns the table of a name, or raises ResourceNotFound.

    Raises:
        ValidationError: one of DynamoDB's rules is broken.
        ResourceNotFound: there is no such table.
    """
    return _PARSERS[kind](request)(find(request["TableName"]))


def _kind(action: dict[str, Any]) -> str:
    kinds = [name for name in action if name in _PARSERS]
    if len(kinds) > 1:
        raise ValidationError("TransactItems can only contain one of Check, Put, Update or Delete")
    if not kinds:
        raise ValidationError(
            "Invalid Request: TransactWriteRequest should contain Delete or Put or Update request"
        )
    return kinds[0]


def _parse_put(request: dict[str, Any]) -> _Fit:
    item, size = parse_item(request["Item"])
    check_item_size(size)
    condition = _condition(request)
    rest = request.copy()
    del rest["Item"]

    def fit(table: Table) -> ItemPut:
        located = table.locate_item(item)
        if table.indexes:
            table.check_index_keys(item)
        return ItemPut(table, item, size, located, condition, ("Put", rest))

    return fit


def _parse_update(request: dict[str, Any]) -> _Fit:
    placeholders = Placeholders.of_request(request, _UPDATE, _CONDITION)
    update = bind_update(request[_UPDATE], placeholders)
    condition: Condition | None = None
    if _CONDITION in request:
        condition = bind_condition(request[_CONDITION], _CONDITION, placeholders)
    placeholders.check_unused()

    def fit(table: Table) -> UpdateItem:
        located = table.locate_key(request["Key"])
        update.check_keys(table.key_names)
        return UpdateItem(table, update, located, condition, ("Update", request))

    return fit


def _parse_delete(request: dict[str, Any]) -> _Fit:
    condition = _condition(request)
    source = ("Delete", request)
    return lambda table: Delete(table, table.locate_key(request["Key"]), condition, source)


def _parse_check(request: dict[str, Any]) -> _Fit:
    condition = _condition(request)
    source = ("ConditionCheck", request)
    return lambda table: Check(table, table.locate_key(request["Key"]), condition, source)


_PARSERS: Final[dict[str, Callable[[dict[str, Any]], _Fit]]] = {
    "Put": _parse_put,
    "Update": _parse_update,
    "Delete": _parse_delete,
    "ConditionCheck": _parse_check,
}


def _condition(request: dict[str, Any]) -> Condition | None:
    """Return the condition of an action; actions have no legacy parameters.

    Names and values that no expression could use are passed over, other than in a PutItem.
    """
    if _CONDITION not in request:
        return None
    placeholders = Placeholders.of_request(request, _CONDITION)
    condition = bind_condition(request[_CONDITION], _CONDITION, placeholders)
    placeholders.check_unused()
    return condition


def _size(write: Write) -> int:
    """Return how large the item is, as far as the request says it."""
    return write.size_bytes if isinstance(write, Put) else item_size(write.key)
