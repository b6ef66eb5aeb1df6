"""What the service says of itself, and settings of tables that name the table."""

import time
from collections.abc import Callable
from typing import Any, Final

from streamtable.core.context import Handler, RequestContext
from streamtable.core.errors import ResourceNotFound, TableNotFound
from streamtable.core.operations.contributor_insights import (
    describe_insights,
    list_insights,
    plan_insights,
)
from streamtable.core.operations.read_only import check_time_to_live
from streamtable.core.operations.time_to_live import describe_time_to_live, plan_time_to_live
from streamtable.operations.lookup import find_changed, find_described
from streamtable.streams.catalog import Catalog

__all__ = ["service_handlers"]

# The quotas of a new account in most regions. Source: API_DescribeLimits
_LIMITS: Final = {
    "AccountMaxReadCapacityUnits": 80_000,
    "AccountMaxWriteCapacityUnits": 80_000,
    "TableMaxReadCapacityUnits": 40_000,
    "TableMaxWriteCapacityUnits": 40_000,
}
_ENDPOINT_MINUTES: Final = 1440


def service_handlers(catalog: Catalog, address: Callable[[], str]) -> dict[str, Handler]:
    """Return the handlers of DescribeLimits and the like.

    Args:
        catalog: the region's tables.
        address: tells host and port of this node's endpoint.
    """

    async def limits(_body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        return dict(_LIMITS)

    async def endpoints(_body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        return {"Endpoints": [{"Address": address(), "CachePeriodInMinutes": _ENDPOINT_MINUTES}]}

    async def describe_ttl(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        table = find_described(catalog, body["TableName"])
        return {"TimeToLiveDescription": describe_time_to_live(table.document)}

    async def update_ttl(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        table = find_changed(catalog, body["TableName"])
        check_time_to_live(table.document)
        await catalog.update(plan_time_to_live(body, table.document, time.time()))
        return {"TimeToLiveSpecification": body["TimeToLiveSpecification"]}

    async def describe_backups(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        try:
            find_described(catalog, body["TableName"])
        except ResourceNotFound:
            raise TableNotFound(f"Table not found: {body['TableName']}") from None
        return {
            "ContinuousBackupsDescription": {
                # ENABLED on every table, says the API, whether or not anything can be restored.
                "ContinuousBackupsStatus": "ENABLED",
                "PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": "DISABLED"},
            }
        }

    async def describe_one(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        table = find_described(catalog, body["TableName"])
        return describe_insights(table.document, body.get("IndexName"))

    async def update_insights(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        table = find_described(catalog, body["TableName"])
        document, answer = plan_insights(body, table.document, time.time())
        await catalog.update(document)
        return answer

    async def list_all(body: dict[str, Any], _context: RequestContext) -> dict[str, Any]:
        if "TableName" in body:
            documents = [find_described(catalog, body["TableName"]).document]
        else:
            documents = [table.document for table in catalog.tables()]
        return list_insights(body, documents)

    return {
        "DescribeLimits": limits,
        "DescribeEndpoints": endpoints,
        "DescribeTimeToLive": describe_ttl,
        "UpdateTimeToLive": update_ttl,
        "DescribeContinuousBackups": describe_backups,
        "DescribeContributorInsights": describe_one,
        "UpdateContributorInsights": update_insights,
        "ListContributorInsights": list_all,
    }
