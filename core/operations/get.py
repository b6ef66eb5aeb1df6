"""GetItem: one item by its key."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from streamtable.core.expressions.projection import Projection
from streamtable.core.operations.keyed import find_keyed
from streamtable.core.operations.projections import plan_projection
from streamtable.core.tables import Table

__all__ = ["PROJECTING", "PlannedGet", "plan_get"]

PlannedGet: TypeAlias = tuple[Table, int, bytes, Projection | None]
"""Table, partition hash, row key and projection of a GetItem."""

PROJECTING: Final = frozenset(
    {"ProjectionExpression", "AttributesToGet", "ExpressionAttributeNames"}
)
"""Parameters that say which attributes a read returns; most reads have none of them."""


def plan_get(body: dict[str, Any], find: Callable[[str], Table]) -> PlannedGet:
    """Check a GetItem request; return table, partition hash, row key and projection.

    Source: API_GetItem.

    Args:
        body: the request, its shape already validated.
        find: returns the table of a name, or raises ResourceNotFound.

    Raises:
        ValidationError: one of DynamoDB's rules is broken.
        ResourceNotFound: there is no such table.
    """
    projection = None
    if not PROJECTING.isdisjoint(body):
        projection = plan_projection(body)
    table = find_keyed(body, find)
    _, number, row_key = table.locate_key(body["Key"])
    return table, number, row_key, projection
