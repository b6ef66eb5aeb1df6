"""DynamoDB operations, executed on the shards."""

import asyncio
from collections.abc import Callable

from streamtable.consumers.checkpoints.objects import Objects
from streamtable.core.context import Handler
from streamtable.core.tables import Table
from streamtable.operations.backups import backup_handlers
from streamtable.operations.batches import batch_handlers
from streamtable.operations.destinations import destination_handlers
from streamtable.operations.items import item_handlers
from streamtable.operations.partiql import partiql_handlers
from streamtable.operations.reads import read_handlers
from streamtable.operations.resources import resource_handlers
from streamtable.operations.rounds import in_rounds
from streamtable.operations.service import service_handlers
from streamtable.operations.tables import Totals, table_handlers
from streamtable.operations.transactions import TransactionRunner, transaction_handlers
from streamtable.operations.transitions import Transitions
from streamtable.settings import NodeSettings
from streamtable.streams.catalog import Catalog
from streamtable.streams.shards import Shards

__all__ = ["Handler", "Totals", "handlers"]


async def _no_totals(_table: Table) -> dict[str | None, tuple[int, int]]:
    return {}


def handlers(
    catalog: Catalog,
    shards: Shards,
    transactions: TransactionRunner,
    settings: NodeSettings,
    totals: Totals = _no_totals,
    *,
    address: Callable[[], str] | None = None,
    objects: Objects | None = None,
) -> dict[str, Handler]:
    """Return the executor of each operation that there is, by name.

    An executor trusts that the gateway has checked the body against the operation's shape. Call
    this in the running event loop, with the catalog read.

    Args:
        catalog: the region's tables.
        shards: where items are written and read.
        transactions: carries out what is on several items, all or none.
        settings: the node's settings.
        totals: counts the items of a table and its indexes, for DescribeTable. DynamoDB's own
            counts are hours old, so the default, nothing, is a legal answer.
        address: tells host and port of the node's endpoint, for DescribeEndpoints; None where
            they are the settings'.
        objects: where backups are kept; None: nowhere.
    """

    def listened_on() -> str:
        return f"{settings.host}:{settings.port}"

    transitions = Transitions(catalog)
    for table in catalog.tables():
        transitions.watch(table.document)
    turn = asyncio.Lock()
    changing = {
        **table_handlers(catalog, settings, transitions, totals),
        **resource_handlers(catalog, settings),
        **service_handlers(catalog, address or listened_on),
        **destination_handlers(catalog),
        **backup_handlers(catalog, objects),
    }
    return {
        **item_handlers(catalog, shards),
        **read_handlers(catalog, shards),
        **batch_handlers(catalog, shards),
        **transaction_handlers(catalog, shards, transactions),
        **partiql_handlers(catalog, shards, transactions),
        **{name: in_rounds(handler, turn) for name, handler in changing.items()},
    }
