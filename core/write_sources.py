"""Writes planned once more from their sources, on the node that carries them out."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from streamtable.core.operations.delete import plan_delete
from streamtable.core.operations.put import plan_put
from streamtable.core.operations.transact_write import plan_action
from streamtable.core.operations.update import plan_update
from streamtable.core.operations.writes import Source, Write
from streamtable.core.partiql.parameters import fill
from streamtable.core.partiql.statements import Exists
from streamtable.core.partiql.writes import plan_check, plan_write
from streamtable.core.tables import Table

__all__ = ["plan_again"]

_Find = Callable[[str], Table]


def plan_again(source: Source, find: _Find) -> Write:
    """Plan a write as it was planned before; what it does is the same.

    Args:
        source: the `source` of the write.
        find: returns the table of a name, or raises ResourceNotFound.

    Raises:
        ApiError: the table has changed since, and the write does not fit it any more.
    """
    kind, request = source
    return _PLANNERS[kind](request, find)


def _plan_statement(request: dict[str, Any], find: _Find) -> Write:
    filled = fill(request)
    if isinstance(filled.statement, Exists):
        return plan_check(filled.statement, filled, request, find)
    return plan_write(filled, request, find)


_PLANNERS: Final[dict[str, Callable[[dict[str, Any], _Find], Write]]] = {
    "PutItem": plan_put,
    "UpdateItem": plan_update,
    "DeleteItem": plan_delete,
    "Statement": _plan_statement,
    **{kind: partial(plan_action, kind) for kind in ("Put", "Update", "Delete", "ConditionCheck")},
}
