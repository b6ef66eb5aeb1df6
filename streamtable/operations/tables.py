"""CreateTable, DescribeTable, ListTables, UpdateTable and DeleteTable."""

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from streamtable.core.context import Handler, RequestContext
from streamtable.core.descriptions import describe_table
from streamtable.core.documents import CREATING, DELETING, UPDATING, Status, TableDocument
from streamtable.core.errors import ResourceInUse
from streamtable.core.operations.backups import is_backed_up
from streamtable.core.operations.create_table import plan_create_table
from streamtable.core.operations.list_tables import list_tables
from streamtable.core.operations.table_settings import check_named
from streamtable.core.operations.update_table import (
    check_changeable,
    check_unprotected,
    check_update_table,
    plan_update_table,
)
from streamtable.core.tables import Table
from streamtable.operations.lookup import find_changed, find_described
from streamtable.operations.transitions import Transitions
from streamtable.settings import NodeSettings
from streamtable.streams.catalog import Catalog

__all__ = ["Totals", "table_handlers"]

Totals: TypeAlias = Callable[[Table], Awaitable[Mapping[str | None, tuple[int, int]]]]
"""Number of items and their size in bytes, of a table (None) and of its indexes by name."""


def table_handlers(
    catalog: Catalog, settings: NodeSettings, transitions: Transitions, totals: Totals
) -> dict[str, Handler]:
    """Return the handlers of the operations on tables."""
    delay_s = settings.table_delay_ms / 1000

    async def describe(
        table: Table | TableDocument, status: Status | None = None
    ) -> dict[str, Any]:
        if isinstance(table, TableDocument):
            return describe_table(table, status=status)
        found = await totals(table)
        item_count, size_bytes = found.get(None, (0, 0))
        return describe_table(
            table.document,
            item_count=item_count,
            size_bytes=size_bytes,
            index_totals={name: total for name, total in found.items() if name is not None},
            status=status,
        )

    async def create_table(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        document = plan_create_table(
            body,
            region=settings.region,
            account=settings.account,
            now=time.time(),
            delay_s=delay_s,
            new_id=_new_id,
        )
        await catalog.create(document)
        transitions.watch(document)
        return {"TableDescription": await describe(document, CREATING)}

    async def describe_one(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        check_named(body)
        table = find_described(catalog, body["TableName"])
        transitions.watch(table.document)
        return {"Table": await describe(table)}

    async def list_all(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        shown = (table.name for table in catalog.tables() if not table.document.hidden)
        return list_tables(body, shown)

    async def update_table(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        check_named(body)
        check_update_table(body)
        table = find_changed(catalog, body["TableName"])
        document = plan_update_table(
            body, table.document, now=time.time(), delay_s=delay_s, new_id=_new_id
        )
        await catalog.update(document)
        transitions.watch(document)
        return {"TableDescription": await describe(Table(document), UPDATING)}

    async def delete_table(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        check_named(body)
        description = await describe(find_changed(catalog, body["TableName"]), DELETING)
        # From here on nothing is awaited before the change.
        document = find_changed(catalog, body["TableName"]).document
        # A view that was not built yet has nothing that could be under way.
        if document.view is None or document.status != CREATING:
            check_changeable(document)
        check_unprotected(document)
        if is_backed_up(document, catalog.backups()):
            raise ResourceInUse(
                "Attempt to change a resource which is still in use: Table is being backed up: "
                f"{document.name}"
            )
        if delay_s:
            document = document.model_copy(
                update={"status": DELETING, "status_until": time.time() + delay_s}
            )
            await catalog.update(document)
            transitions.watch(document)
        else:
            await catalog.delete(document.name)
        return {"TableDescription": description}

    return {
        "CreateTable": create_table,
        "DescribeTable": describe_one,
        "ListTables": list_all,
        "UpdateTable": update_table,
        "DeleteTable": delete_table,
    }


def _new_id() -> str:
    return str(uuid.uuid4())
