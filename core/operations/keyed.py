"""Requests that name one item by a Key."""

from collections.abc import Callable
from typing import Any

from streamtable.core.errors import ResourceNotFound
from streamtable.core.tables import Table
from streamtable.core.values import parse_item

__all__ = ["find_keyed"]


def find_keyed(body: dict[str, Any], find: Callable[[str], Table]) -> Table:
    """Return the table of a request that has a Key; a Key that no table can have is told first.

    Raises:
        ValidationError: there is no such table, and the Key has a malformed value.
        ResourceNotFound: there is no such table.
    """
    try:
        return find(body["TableName"])
    except ResourceNotFound:
        parse_item(body["Key"])
        raise
