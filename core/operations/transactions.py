"""What the two operations on transactions have in common: actions are fitted to their tables.

What is wrong with an action by itself refuses the request; what does not fit the schema of its
table cancels the transaction.

Source: API_TransactWriteItems, API_TransactGetItems, "Cancellation reason codes and possible
error messages".
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from streamtable.core.errors import ResourceNotFound, TransactionCanceled, ValidationError
from streamtable.core.limits import TRANSACTION_BYTES
from streamtable.core.tables import Table
from streamtable.core.values import parse_item

__all__ = ["Action", "check_transaction_size", "fit_actions"]

# How the error about an empty key begins: it is found before the transaction is tried.
_EMPTY_KEY: Final = "One or more parameter values are not valid. "


class _Plan(Protocol):
    @property
    def row_key(self) -> bytes:
        """Where the item is in the store."""


PlanT = TypeVar("PlanT", bound=_Plan)

Action = tuple[dict[str, Any], Callable[[Table], PlanT]]
"""The request of an action, and what makes its plan for its table or raises ValidationError."""


def fit_actions(actions: Sequence[Action[PlanT]], find: Callable[[str], Table]) -> list[PlanT]:
    """Return the plans of a transaction's actions, in order.

    Args:
        actions: the actions, each checked as far as that is possible without its table.
        find: returns the table of a name, or raises ResourceNotFound.

    Raises:
        ValidationError: a key is not valid, or two actions are on the same item.
        ResourceNotFound: one of the tables does not exist.
        TransactionCanceled: an action does not fit the key schema of its table or an index.
    """
    try:
        tables = [find(request["TableName"]) for request, _ in actions]
    except ResourceNotFound:
        for request, _ in actions:
            _check_key_values(request)
        raise
    plans: list[PlanT] = []
    refused: dict[int, ValidationError] = {}
    for place, ((request, fit), table) in enumerate(zip(actions, tables, strict=True)):
        try:
            plans.append(fit(table))
        except ValidationError as error:
            _check_key_values(request)
            if error.message.startswith(_EMPTY_KEY):
                raise
            refused[place] = error
    if refused:
        raise TransactionCanceled([_reason(refused.get(place)) for place in range(len(actions))])
    if len({plan.row_key for plan in plans}) < len(plans):
        raise ValidationError("Transaction request cannot include multiple operations on one item")
    return plans


def check_transaction_size(size_bytes: int) -> None:
    """Refuse a transaction whose items are above 4 MB together.

    Raises:
        ValidationError: they are.
    """
    if size_bytes > TRANSACTION_BYTES:
        raise ValidationError("Aggregate size of the items in the transaction cannot exceed 4 MB")


def _check_key_values(request: dict[str, Any]) -> None:
    """Refuse a Key that has a value which no table could have."""
    if "Key" in request:
        parse_item(request["Key"])


def _reason(error: ValidationError | None) -> dict[str, Any]:
    if error is None:
        return {"Code": "None"}
    return {"Code": "ValidationError", "Message": error.message}
