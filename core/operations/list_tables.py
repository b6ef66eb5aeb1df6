"""ListTables: names in order, a page at a time."""

from collections.abc import Iterable
from typing import Any

from streamtable.core.limits import LIST_TABLES_PAGE

__all__ = ["list_tables"]


def list_tables(body: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the answer to a ListTables request. Source: API_ListTables.

    Args:
        body: the request, its shape already validated.
        names: the names of all tables.
    """
    after = body.get("ExclusiveStartTableName", "")
    limit = body.get("Limit", LIST_TABLES_PAGE)
    found = sorted(name for name in names if name > after)
    answer: dict[str, Any] = {"TableNames": found[:limit]}
    if len(found) > limit:
        answer["LastEvaluatedTableName"] = found[limit - 1]
    return answer
