"""DeleteItem: an item goes, if it was there."""

from collections.abc import Callable
from typing import Any, Final

from streamtable.core.errors import ValidationError
from streamtable.core.operations.conditions import CONDITIONAL, plan_condition
from streamtable.core.operations.keyed import find_keyed
from streamtable.core.operations.writes import Write
from streamtable.core.tables import Table
from streamtable.core.values import Item

__all__ = ["Delete", "plan_delete"]

_RETURN_VALUES: Final = frozenset({"NONE", "ALL_OLD"})


class Delete(Write):
    """The plan of a DeleteItem, or of the Delete of a batch or a transaction."""

    __slots__ = ()

    def evaluate(self, old: Item | None) -> tuple[Item | None, int]:
        """Return that there is no item afterwards."""
        if self.condition is not None:
            self.check(old)
        return None, 0


def plan_delete(body: dict[str, Any], find: Callable[[str], Table]) -> Delete:
    """Check a DeleteItem request and plan its write. Source: API_DeleteItem.

    Args:
        body: the request, its shape already validated.
        find: returns the table of a name, or raises ResourceNotFound.

    Raises:
        ValidationError: one of DynamoDB's rules is broken.
        ResourceNotFound: there is no such table.
    """
    if body.get("ReturnValues", "NONE") not in _RETURN_VALUES:
        raise ValidationError("ReturnValues can only be ALL_OLD or NONE")
    condition = None
    if not CONDITIONAL.isdisjoint(body):
        condition = plan_condition(body)
    table = find_keyed(body, find)
    return Delete(table, table.locate_key(body["Key"]), condition, ("DeleteItem", body))
