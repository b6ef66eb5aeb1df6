"""Several statements in one request: each for itself in a batch, all or none in a transaction.

Source: API_BatchExecuteStatement, API_ExecuteTransaction.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from streamtable.core.errors import ApiError, ValidationError
from streamtable.core.operations.writes import Write
from streamtable.core.partiql.parameters import Filled, fill
from streamtable.core.partiql.select import Get, plan_get
from streamtable.core.partiql.statements import Delete, Exists, Select, Update
from streamtable.core.partiql.writes import plan_check, plan_write
from streamtable.core.tables import Table

__all__ = ["BatchEntry", "plan_batch", "plan_transaction"]

_BATCH = "BatchExecuteStatement"
_TRANSACTION = "ExecuteTransaction"


@dataclass(frozen=True, slots=True)
class BatchEntry:
    """A statement of a batch.

    Attributes:
        table: its table, as it names it; None where it has none that can be read.
        plan: what to do, or why it is not done.
        consistent: the read must see every write answered before.
    """

    table: str | None
    plan: Get | Write | ApiError
    consistent: bool


def plan_batch(statements: list[dict[str, Any]], find: Callable[[str], Table]) -> list[BatchEntry]:
    """Plan the statements of a BatchExecuteStatement request, each with its own error.

    Args:
        statements: the request's Statements.
        find: returns the table of a name, or raises ResourceNotFound.

    Raises:
        ValidationError: reads and writes are mixed.
    """
    parsed: list[Filled | ApiError] = []
    for statement in statements:
        try:
            parsed.append(fill(statement))
        except ApiError as error:
            parsed.append(error)
    _check_kinds((filled for filled in parsed if isinstance(filled, Filled)), _BATCH)
    return [
        _plan_entry(filled, statement, find)
        for filled, statement in zip(parsed, statements, strict=True)
    ]


def plan_transaction(
    statements: list[dict[str, Any]], find: Callable[[str], Table]
) -> list[Write] | list[Get]:
    """Plan the statements of an ExecuteTransaction request, in order.

    Args:
        statements: the request's TransactStatements.
        find: returns the table of a name, or raises ResourceNotFound.

    Raises:
        ValidationError: a statement is not valid, two are about the same item, or reads and
            writes are mixed.
        ResourceNotFound: there is no such table.
    """
    parsed = [fill(statement) for statement in statements]
    _check_kinds(parsed, _TRANSACTION)
    gets: list[Get] = []
    writes: list[Write] = []
    for filled, request in zip(parsed, statements, strict=True):
        statement = filled.statement
        if isinstance(statement, Select):
            gets.append(plan_get(statement, filled, find, _TRANSACTION))
        elif isinstance(statement, Exists):
            writes.append(plan_check(statement, filled, request, find))
        else:
            if isinstance(statement, Update | Delete) and statement.returning != "NONE":
                raise ValidationError(f"RETURNING is not supported within {_TRANSACTION}")
            writes.append(plan_write(filled, request, find))
    plans: list[Write] | list[Get] = gets or writes
    if len({plan.row_key for plan in plans}) < len(plans):
        raise ValidationError("Transaction request cannot include multiple operations on one item")
    return plans


def _plan_entry(
    filled: Filled | ApiError, request: dict[str, Any], find: Callable[[str], Table]
) -> BatchEntry:
    if isinstance(filled, ApiError):
        return BatchEntry(None, filled, consistent=False)
    statement = filled.statement
    plan: Get | Write | ApiError
    try:
        if isinstance(statement, Select):
            plan = plan_get(statement, filled, find, _BATCH)
        else:
            plan = plan_write(filled, request, find)
    except ApiError as error:
        plan = error
    return BatchEntry(statement.table, plan, request.get("ConsistentRead", False))


def _check_kinds(parsed: Iterable[Filled], operation: str) -> None:
    if len({filled.reads for filled in parsed}) > 1:
        raise ValidationError(
            f"{operation} API does not support both read and write operations in the same request"
        )
