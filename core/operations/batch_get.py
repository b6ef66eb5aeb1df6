"""BatchGetItem: up to 100 items of one or more tables."""

from collections.abc import Callable
from typing import Any

from streamtable.core.errors import ResourceNotFound, ValidationError
from streamtable.core.expressions.legacy import reject_mixed
from streamtable.core.expressions.projection import Projection
from streamtable.core.limits import BATCH_READ_ITEMS
from streamtable.core.operations.get import PROJECTING
from streamtable.core.operations.projections import plan_projection
from streamtable.core.tables import Table
from streamtable.core.values import Item, parse_item

__all__ = ["TableKeys", "plan_batch_get"]


class TableKeys:
    """What a BatchGetItem wants of one table.

    Attributes:
        name: the table as the request names it.
        table: the table.
        request: the request's part for this table, for UnprocessedKeys.
        keys: each key, its partition hash and its row key.
        projection: which attributes, or None.
        consistent: whether every write answered before must be seen.
    """

    __slots__ = ("consistent", "keys", "name", "projection", "request", "table")

    def __init__(self, name: str, request: dict[str, Any], projection: Projection | None) -> None:
        self.name = name
        self.request = request
        self.projection = projection
        self.consistent: bool = request.get("ConsistentRead", False)
        self.table: Table
        self.keys: list[tuple[Item, int, bytes]]


def plan_batch_get(body: dict[str, Any], find: Callable[[str], Table]) -> list[TableKeys]:
    """Check a BatchGetItem request and return what it wants of each table.

    Args:
        body: the request, its shape already validated.
        find: returns the table of a name, or raises ResourceNotFound.

    Raises:
        ValidationError: one of DynamoDB's rules is broken.
        ResourceNotFound: one of the tables does not exist.
    """
    requests: dict[str, dict[str, Any]] = body["RequestItems"]
    if not requests:
        raise ValidationError("The requestItems parameter is required for BatchGetItem")
    if sum(len(request["Keys"]) for request in requests.values()) > BATCH_READ_ITEMS:
        raise ValidationError("Too many items requested for the BatchGetItem call")
    wanted = []
    # What is used for one table decides for the others, too.
    used = {name: True for request in requests.values() for name in PROJECTING & request.keys()}
    reject_mixed(used, ("AttributesToGet",), ("ProjectionExpression",))
    for name, request in requests.items():
        projection = None
        if not PROJECTING.isdisjoint(request):
            projection = plan_projection(request)
        wanted.append(TableKeys(name, request, projection))
    seen: set[bytes] = set()
    for part in wanted:
        try:
            part.table = table = find(part.name)
        except ResourceNotFound:
            # Whatever can be said of the keys without the table comes first.
            _check_keys(requests)
            raise
        part.keys = [table.locate_key(key) for key in part.request["Keys"]]
        for _, _, row_key in part.keys:
            if row_key in seen:
                raise _duplicates()
            seen.add(row_key)
    return wanted


def _check_keys(requests: dict[str, dict[str, Any]]) -> None:
    """Refuse keys that no table could have, and those that come twice.

    Raises:
        ValidationError: there are some.
    """
    for request in requests.values():
        keys = [parse_item(key)[0] for key in request["Keys"]]
        if any(key in keys[:place] for place, key in enumerate(keys)):
            raise _duplicates()


def _duplicates() -> ValidationError:
    return ValidationError("Provided list of item keys contains duplicates")
