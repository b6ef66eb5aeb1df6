"""TransactGetItems: up to 100 items as they are at one moment. Source: API_TransactGetItems."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from streamtable.core.expressions.projection import Projection
from streamtable.core.operations.projections import plan_projection
from streamtable.core.operations.transactions import Action, fit_actions
from streamtable.core.tables import Table

__all__ = ["TransactGet", "plan_transact_get"]

_PROJECTING: Final = frozenset({"ProjectionExpression", "ExpressionAttributeNames"})


class TransactGet(NamedTuple):
    """The read of one item.

    Attributes:
        named: what the request calls the table, its name or its ARN.
        hash: hash of the partition key; decides the shard.
        row_key: where the item is in the store.
        projection: which attributes, None for all.
    """

    named: str
    hash: int
    row_key: bytes
    projection: Projection | None


def plan_transact_get(body: dict[str, Any], find: Callable[[str], Table]) -> list[TransactGet]:
    """Check a TransactGetItems request and return what it reads, in order.

    Args:
        body: the request, its shape already validated.
        find: returns the table of a name, or raises ResourceNotFound.

    Raises:
        ValidationError: one of DynamoDB's rules is broken.
        ResourceNotFound: one of the tables does not exist.
        TransactionCanceled: a key does not fit the schema of its table.
    """
    actions: list[Action[TransactGet]] = []
    for action in body["TransactItems"]:
        request = action["Get"]
        actions.append((request, _parse(request)))
    return fit_actions(actions, find)


def _parse(request: dict[str, Any]) -> Callable[[Table], TransactGet]:
    # AttributesToGet is not among the parameters of a transaction's reads, and names without an
    # expression are passed over.
    projection = None
    if "ProjectionExpression" in request:
        projection = plan_projection({name: request[name] for name in _PROJECTING & request.keys()})

    def fit(table: Table) -> TransactGet:
        _, number, row_key = table.locate_key(request["Key"])
        return TransactGet(request["TableName"], number, row_key, projection)

    return fit
