"""Which tables and indexes a request reads."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from streamtable.core.errors import ApiError
from streamtable.core.partiql.parameters import fill
from streamtable.core.partiql.statements import Select

__all__ = ["read_targets"]

Target = tuple[str, str | None]


def read_targets(operation: str, body: dict[str, Any]) -> set[Target]:
    """Return the tables that a request reads, as it names them, each with an index or None.

    Args:
        operation: the operation's name; one that reads no items has none.
        body: the request, its shape already validated.
    """
    find = _FIND.get(operation)
    return set() if find is None else set(find(body))


def _one(body: dict[str, Any]) -> Iterator[Target]:
    yield body["TableName"], body.get("IndexName")


def _batch(body: dict[str, Any]) -> Iterator[Target]:
    for name in body["RequestItems"]:
        yield name, None


def _transaction(body: dict[str, Any]) -> Iterator[Target]:
    for action in body["TransactItems"]:
        if "Get" in action:
            yield from _one(action["Get"])


def _statement(body: dict[str, Any]) -> Iterator[Target]:
    try:
        statement = fill(body).statement
    except ApiError:
        return  # whoever carries it out says what is wrong with it
    if isinstance(statement, Select):
        yield statement.table, statement.index


def _statements(member: str) -> Callable[[dict[str, Any]], Iterator[Target]]:
    def find(body: dict[str, Any]) -> Iterator[Target]:
        for statement in body[member]:
            yield from _statement(statement)

    return find


_FIND: Final[dict[str, Callable[[dict[str, Any]], Iterator[Target]]]] = {
    "GetItem": _one,
    "Query": _one,
    "Scan": _one,
    "BatchGetItem": _batch,
    "TransactGetItems": _transaction,
    "ExecuteStatement": _statement,
    "BatchExecuteStatement": _statements("Statements"),
    "ExecuteTransaction": _statements("TransactStatements"),
}
