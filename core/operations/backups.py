"""CreateBackup, DescribeBackup, ListBackups and DeleteBackup: what they check and answer."""

import re
from collections.abc import Iterable
from typing import Any, Final

from streamtable.core.backups import AVAILABLE, CREATING, FAILED, REMOVING, BackupDocument
from streamtable.core.descriptions import describe_table
from streamtable.core.documents import PAY_PER_REQUEST, TableDocument
from streamtable.core.errors import (
    BackupInUse,
    BackupNotFound,
    LimitExceeded,
    TableInUse,
    ValidationError,
)
from streamtable.core.limits import LIST_BACKUPS_PAGE, TABLE_OPERATIONS
from streamtable.core.operations.time_to_live import describe_time_to_live
from streamtable.core.shapes import table_name

__all__ = [
    "describe_backup",
    "describe_details",
    "find_backup",
    "is_backed_up",
    "list_backups",
    "plan_backup",
    "plan_removal",
]

# Milliseconds since 1970, and chance.
_ARN: Final = re.compile(
    r"arn:[^:]*:dynamodb:[^:]*:[^:]*:table/[^/]+/backup/([0-9]{14}-[0-9a-f]{8})"
)
_USER: Final = "USER"
_STATUSES: Final = {CREATING: "CREATING", AVAILABLE: "AVAILABLE", FAILED: "DELETED"}
_INDEX: Final = ("IndexName", "KeySchema", "Projection")
_UNITS: Final = ("ReadCapacityUnits", "WriteCapacityUnits")


def plan_backup(
    body: dict[str, Any],
    table: TableDocument,
    backups: Iterable[BackupDocument],
    *,
    now: float,
    chance: str,
) -> BackupDocument:
    """Check a CreateBackup request and return the new backup's document. Source: API_CreateBackup.

    Args:
        body: the request, its shape already validated.
        table: the table.
        backups: all that there are.
        now: seconds since 1970.
        chance: eight hexadecimal digits, other ones each time.

    Raises:
        BackupInUse: another backup of the table is being made.
        LimitExceeded: too many are.
        TableInUse: the table is being created or deleted.
    """
    if table.status in ("CREATING", "DELETING"):
        state = "created" if table.status == "CREATING" else "deleted"
        raise TableInUse(f"Table is being {state}: {table.name}")
    under_way = [each for each in backups if each.status == CREATING]
    if is_backed_up(table, under_way):
        raise BackupInUse(f"Backup is being created for the table: {table.name}")
    if len(under_way) >= TABLE_OPERATIONS:
        raise LimitExceeded(f"Too many backups are being created at once: {TABLE_OPERATIONS}")
    return BackupDocument(
        id=f"{int(now * 1000):014}-{chance}",
        name=body["BackupName"],
        status=CREATING,
        created=round(now, 3),
        table=table,
        item_count=0,
        size_bytes=0,
    )


def is_backed_up(table: TableDocument, backups: Iterable[BackupDocument]) -> bool:
    """Whether a backup of a table is being made."""
    return any(each.status == CREATING and each.table.id == table.id for each in backups)


def find_backup(arn: str, backups: Iterable[BackupDocument]) -> BackupDocument:
    """Return the backup of an ARN.

    Raises:
        BackupNotFound: there is none.
    """
    for each in backups:
        if each.arn == arn and each.status != REMOVING:
            return each
    raise BackupNotFound(f"Backup not found: {arn}")


def plan_removal(
    backup: BackupDocument, tables: Iterable[TableDocument]
) -> tuple[BackupDocument, dict[str, Any]]:
    """Check that a backup may be deleted; return its next document, and what is answered.

    Args:
        backup: the backup.
        tables: all tables.

    Raises:
        BackupInUse: it is being made, or a table is being restored from it.
    """
    if backup.status == CREATING:
        raise BackupInUse(f"Backup is being created: {backup.arn}")
    for table in tables:
        if table.restore is not None and table.restoring and table.restore.backup == backup.arn:
            raise BackupInUse(f"Backup is being restored to the table {table.name}: {backup.arn}")
    described = describe_backup(backup)
    described["BackupDetails"]["BackupStatus"] = "DELETED"
    return backup.model_copy(update={"status": REMOVING}), described


def describe_details(backup: BackupDocument) -> dict[str, Any]:
    """Return the BackupDetails."""
    return {
        "BackupArn": backup.arn,
        "BackupName": backup.name,
        "BackupSizeBytes": backup.size_bytes,
        "BackupStatus": _STATUSES[backup.status],
        "BackupType": _USER,
        "BackupCreationDateTime": round(backup.created, 3),
    }


def describe_backup(backup: BackupDocument) -> dict[str, Any]:
    """Return the BackupDescription."""
    table = backup.table
    described = describe_table(table)
    source: dict[str, Any] = {
        "TableName": table.name,
        "TableId": table.id,
        "TableArn": table.arn,
        "TableSizeBytes": backup.size_bytes,
        "KeySchema": described["KeySchema"],
        "TableCreationDateTime": described["CreationDateTime"],
        "ProvisionedThroughput": _units(described),
        "ItemCount": backup.item_count,
        "BillingMode": table.billing,
    }
    if table.billing == PAY_PER_REQUEST and "OnDemandThroughput" in described:
        source["OnDemandThroughput"] = described["OnDemandThroughput"]
    return {
        "BackupDetails": describe_details(backup),
        "SourceTableDetails": source,
        "SourceTableFeatureDetails": _features(table, described),
    }


def _features(table: TableDocument, described: dict[str, Any]) -> dict[str, Any]:
    """What the table had beside its items; what it had not is left out."""
    features: dict[str, Any] = {}
    local = described.get("LocalSecondaryIndexes", [])
    if local:
        features["LocalSecondaryIndexes"] = [{name: i[name] for name in _INDEX} for i in local]
    world = []
    for index in described.get("GlobalSecondaryIndexes", []):
        found = {name: index[name] for name in _INDEX}
        found["ProvisionedThroughput"] = _units(index)
        if "OnDemandThroughput" in index:
            found["OnDemandThroughput"] = index["OnDemandThroughput"]
        world.append(found)
    if world:
        features["GlobalSecondaryIndexes"] = world
    if "StreamSpecification" in described:
        features["StreamDescription"] = described["StreamSpecification"]
    if table.time_to_live is not None and table.time_to_live.enabled:
        features["TimeToLiveDescription"] = describe_time_to_live(table)
    if "SSEDescription" in described:
        features["SSEDescription"] = described["SSEDescription"]
    return features


def _units(described: dict[str, Any]) -> dict[str, int]:
    return {name: described["ProvisionedThroughput"][name] for name in _UNITS}


def list_backups(body: dict[str, Any], backups: Iterable[BackupDocument]) -> dict[str, Any]:
    """Return the answer to a ListBackups request, oldest first. Source: API_ListBackups.

    Args:
        body: the request, its shape already validated.
        backups: all that there are.

    Raises:
        ValidationError: the ARN to go on after is none.
    """
    after = ""
    if "ExclusiveStartBackupArn" in body:
        # It may have been deleted meanwhile.
        found = _ARN.fullmatch(body["ExclusiveStartBackupArn"])
        if found is None:
            raise ValidationError(
                f"Invalid ExclusiveStartBackupArn: {body['ExclusiveStartBackupArn']}"
            )
        after = found[1]
    limit = body.get("Limit", LIST_BACKUPS_PAGE)
    named = table_name(body["TableName"]) if "TableName" in body else None
    lower = body.get("TimeRangeLowerBound", float("-inf"))
    upper = body.get("TimeRangeUpperBound", float("inf"))
    # There are only those that users make.
    wanted = body.get("BackupType", _USER) in (_USER, "ALL")
    chosen = [
        each
        for each in sorted(backups, key=lambda backup: backup.id)
        if wanted
        and each.id > after
        and each.status != REMOVING
        and named in (None, each.table.name)
        and lower <= each.created < upper
    ]
    answer: dict[str, Any] = {"BackupSummaries": [_summary(each) for each in chosen[:limit]]}
    if len(chosen) > limit:
        answer["LastEvaluatedBackupArn"] = chosen[limit - 1].arn
    return answer


def _summary(backup: BackupDocument) -> dict[str, Any]:
    return {
        "TableName": backup.table.name,
        "TableId": backup.table.id,
        "TableArn": backup.table.arn,
        **describe_details(backup),
    }
