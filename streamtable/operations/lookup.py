"""Finding tables, as requests name them."""

from collections.abc import Callable

from streamtable.core.errors import ResourceNotFound
from streamtable.core.operations.read_only import check_changed_by_users, writable
from streamtable.core.shapes import table_name
from streamtable.core.tables import Table
from streamtable.streams.catalog import Catalog

__all__ = ["find_changed", "find_described", "item_lookup", "write_lookup"]


def item_lookup(catalog: Catalog) -> Callable[[str], Table]:
    """Return the lookup for operations on items: by name or ARN, of a table that serves."""

    def find(name: str) -> Table:
        try:
            table = catalog.table(name)
        except ResourceNotFound:
            # Not under what was said, but an ARN is a name too.
            table = catalog.table(table_name(name))
        if not table.serving:
            raise ResourceNotFound("Requested resource not found")
        return table

    return find


def write_lookup(catalog: Catalog) -> Callable[[str], Table]:
    """Return the lookup for writes of items: as `item_lookup`, but views refuse them."""
    find = item_lookup(catalog)

    def find_written(name: str) -> Table:
        table = find(name)
        return table if table.view is None else writable(table)

    return find_written


def find_described(catalog: Catalog, name: str) -> Table:
    """Return a table for an operation on the table itself, whatever its status.

    Raises:
        ResourceNotFound: there is none; the message says which.
    """
    plain = table_name(name)
    try:
        return catalog.table(plain)
    except ResourceNotFound:
        raise ResourceNotFound(f"Requested resource not found: Table: {plain} not found") from None


def find_changed(catalog: Catalog, name: str) -> Table:
    """Return a table that is to be changed or deleted, whatever its status.

    Raises:
        ResourceNotFound: there is none; the message says which.
        ValidationError: it is not one that users see.
    """
    table = find_described(catalog, name)
    check_changed_by_users(table.document)
    return table
