"""TableDescription: what DescribeTable, CreateTable, UpdateTable and DeleteTable answer."""

from typing import Any, Final

from streamtable.core.documents import (
    CREATING,
    DELETING,
    PAY_PER_REQUEST,
    IndexDocument,
    KeyElement,
    Status,
    TableDocument,
    Throughput,
    UnitLimits,
)

__all__ = ["describe_table"]

# Warm throughput of a table billed per request from the start. Source: "Warm throughput"
_WARM_READ: Final = 12_000
_WARM_WRITE: Final = 4_000


def describe_table(
    document: TableDocument,
    *,
    item_count: int = 0,
    size_bytes: int = 0,
    index_totals: dict[str, tuple[int, int]] | None = None,
    status: Status | None = None,
) -> dict[str, Any]:
    """Return the TableDescription of a table.

    Args:
        document: the table.
        item_count: number of its items.
        size_bytes: their size by DynamoDB's rules.
        index_totals: the same two for each index, by name.
        status: what to answer instead of the document's status (CREATING right after a
            creation that needed no time).
    """
    shown = status or document.status
    totals = index_totals or {}
    description: dict[str, Any] = {
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": kind}
            for name, kind in document.attributes.items()
        ],
        "TableName": document.name,
        "KeySchema": _key_schema(document.keys),
        "TableStatus": shown,
        "CreationDateTime": round(document.created, 3),
        "ProvisionedThroughput": _throughput(document.throughput),
        "TableSizeBytes": size_bytes,
        "ItemCount": item_count,
        "TableArn": document.arn,
        "TableId": document.id,
        "DeletionProtectionEnabled": document.deletion_protection,
        "WarmThroughput": _warm(document.warm, document.throughput, document.billing),
    }
    if document.billing_named:
        summary: dict[str, Any] = {"BillingMode": document.billing}
        if document.on_demand_since is not None and shown != CREATING:
            summary["LastUpdateToPayPerRequestDateTime"] = round(document.on_demand_since, 3)
        description["BillingModeSummary"] = summary
        description["TableThroughputModeSummary"] = {
            "TableThroughputMode": document.billing,
            **{k: v for k, v in summary.items() if k != "BillingMode"},
        }
    if document.on_demand is not None:
        description["OnDemandThroughput"] = _on_demand(document.on_demand)
    local = [
        _index(document, index, totals, shown)
        for index in document.indexes
        if index.scope == "LOCAL"
    ]
    if local:
        description["LocalSecondaryIndexes"] = local
    world = [
        _index(document, index, totals, shown)
        for index in document.indexes
        if index.scope == "GLOBAL"
    ]
    if world:
        description["GlobalSecondaryIndexes"] = world
    stream = document.stream
    if stream is not None:
        description["StreamSpecification"] = {
            "StreamEnabled": True,
            "StreamViewType": stream.view_type,
        }
    if document.streams:
        latest = document.streams[-1]
        description["LatestStreamLabel"] = latest.label
        description["LatestStreamArn"] = document.stream_arn(latest)
    if document.encrypted:
        description["SSEDescription"] = _encryption(document)
    if document.table_class is not None:
        summary = {"TableClass": document.table_class}
        if document.table_class_changed is not None:
            summary["LastUpdateDateTime"] = round(document.table_class_changed, 3)
        description["TableClassSummary"] = summary
    if document.restore is not None:
        description["RestoreSummary"] = {
            "SourceBackupArn": document.restore.backup,
            "SourceTableArn": document.restore.source,
            "RestoreDateTime": round(document.restore.at, 3),
            "RestoreInProgress": document.restore.in_progress,
        }
    return description


def _key_schema(keys: tuple[KeyElement, ...]) -> list[dict[str, str]]:
    return [{"AttributeName": key.name, "KeyType": key.kind} for key in keys]


def _throughput(throughput: Throughput) -> dict[str, Any]:
    described: dict[str, Any] = {}
    if throughput.last_increase is not None:
        described["LastIncreaseDateTime"] = round(throughput.last_increase, 3)
    if throughput.last_decrease is not None:
        described["LastDecreaseDateTime"] = round(throughput.last_decrease, 3)
    described["NumberOfDecreasesToday"] = throughput.decreases_today
    described["ReadCapacityUnits"] = throughput.read_units
    described["WriteCapacityUnits"] = throughput.write_units
    return described


def _warm(warm: UnitLimits | None, throughput: Throughput, billing: str) -> dict[str, Any]:
    on_demand = billing == PAY_PER_REQUEST
    read = _WARM_READ if on_demand else throughput.read_units
    write = _WARM_WRITE if on_demand else throughput.write_units
    if warm is not None:
        read = max(read, warm.read_units or 0)
        write = max(write, warm.write_units or 0)
    return {"ReadUnitsPerSecond": read, "WriteUnitsPerSecond": write, "Status": "ACTIVE"}


def _on_demand(limits: UnitLimits) -> dict[str, Any]:
    return {
        "MaxReadRequestUnits": -1 if limits.read_units is None else limits.read_units,
        "MaxWriteRequestUnits": -1 if limits.write_units is None else limits.write_units,
    }


def _index(
    document: TableDocument,
    index: IndexDocument,
    totals: dict[str, tuple[int, int]],
    table_status: Status,
) -> dict[str, Any]:
    count, size = totals.get(index.name, (0, 0))
    projection: dict[str, Any] = {"ProjectionType": index.projection.kind}
    if index.projection.attributes:
        projection["NonKeyAttributes"] = list(index.projection.attributes)
    described: dict[str, Any] = {
        "IndexName": index.name,
        "KeySchema": _key_schema(index.keys),
        "Projection": projection,
        "IndexSizeBytes": size,
        "ItemCount": count,
        "IndexArn": f"{document.arn}/index/{index.name}",
    }
    if index.scope == "GLOBAL":
        moving = table_status in (CREATING, DELETING)
        described["IndexStatus"] = table_status if moving else index.status
        if index.backfilling:
            described["Backfilling"] = True
        described["ProvisionedThroughput"] = _throughput(index.throughput)
        described["WarmThroughput"] = _warm(index.warm, index.throughput, document.billing)
        if index.on_demand is not None:
            described["OnDemandThroughput"] = _on_demand(index.on_demand)
    return described


def _encryption(document: TableDocument) -> dict[str, Any]:
    key = document.encryption_key or "alias/aws/dynamodb"
    if not key.startswith("arn:"):
        kind = "" if key.startswith("alias/") else "key/"
        key = f"arn:aws:kms:{document.region}:{document.account}:{kind}{key}"
    return {"Status": "ENABLED", "SSEType": "KMS", "KMSMasterKeyArn": key}
