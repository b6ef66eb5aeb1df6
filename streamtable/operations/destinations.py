"""EnableKinesisStreamingDestination and its siblings."""

import time
import uuid
from typing import Any

from streamtable.core.context import Handler, RequestContext
from streamtable.core.documents import TableDocument
from streamtable.core.operations.destinations import (
    describe_destinations,
    destination_answer,
    plan_disable,
    plan_enable,
    plan_update,
)
from streamtable.operations.lookup import find_described
from streamtable.streams.catalog import Catalog

__all__ = ["destination_handlers"]


def destination_handlers(catalog: Catalog) -> dict[str, Handler]:
    """Return the handlers of the operations on a table's Kinesis destinations.

    They change the table's document; whoever copies the changes follows it.
    """

    async def enable(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        table = find_described(catalog, body["TableName"])
        document = plan_enable(body, table.document, uuid.uuid4().hex[:12], _now_ms())
        await catalog.update(document)
        return _answer(document, body, "ENABLING", "EnableKinesisStreamingConfiguration")

    async def disable(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        table = find_described(catalog, body["TableName"])
        document = plan_disable(body, table.document, _now_ms())
        await catalog.update(document)
        return destination_answer(document, body["StreamArn"], "DISABLING")

    async def update(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        table = find_described(catalog, body["TableName"])
        document = plan_update(body, table.document)
        await catalog.update(document)
        # What comes after it at once is ACTIVE.
        return _answer(document, body, "UPDATING", "UpdateKinesisStreamingConfiguration")

    async def describe(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        return describe_destinations(find_described(catalog, body["TableName"]).document)

    return {
        "EnableKinesisStreamingDestination": enable,
        "DisableKinesisStreamingDestination": disable,
        "UpdateKinesisStreamingDestination": update,
        "DescribeKinesisStreamingDestination": describe,
    }


def _answer(
    document: TableDocument, body: dict[str, Any], status: str, configuration: str
) -> dict[str, Any]:
    answer = destination_answer(document, body["StreamArn"], status)
    if configuration in body:
        answer[configuration] = body[configuration]
    return answer


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
