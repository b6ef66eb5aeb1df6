"""The operations on backups, as far as no item is copied."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from streamtable.consumers.backups.manifests import BackupNames, Manifest
from streamtable.consumers.checkpoints.objects import Objects
from streamtable.core.backups import AVAILABLE, FAILED, REMOVING, BackupDocument
from streamtable.core.errors import (
    BackupInUse,
    BackupNotFound,
    ContinuousBackupsUnavailable,
    LimitExceeded,
    ResourceInUse,
    TableAlreadyExists,
    TableInUse,
    TableNotFound,
    ValidationError,
)
from streamtable.core.limits import RESTORES
from tests.operations.conftest import Service

ARN = "arn:aws:dynamodb:local:000000000000:table/users/backup/01489602797149-73d8d5bc"
GLOBAL = {
    "IndexName": "by_mail",
    "KeySchema": [{"AttributeName": "mail", "KeyType": "HASH"}],
    "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["a", "b"]},
}
LOCAL = {
    "IndexName": "by_day",
    "KeySchema": [
        {"AttributeName": "id", "KeyType": "HASH"},
        {"AttributeName": "day", "KeyType": "RANGE"},
    ],
    "Projection": {"ProjectionType": "KEYS_ONLY"},
}
UNITS = {"ReadCapacityUnits": 3, "WriteCapacityUnits": 4}


class Backed(Service):
    """The operations, and what makes their backups: it has no items to write."""

    def __init__(self, objects: Objects) -> None:
        super().__init__(objects=objects)
        self.objects = objects

    async def rich_table(self) -> None:
        await self.table(
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"}
                for name in ("id", "seq", "mail", "day")
            ],
            KeySchema=[
                {"AttributeName": "id", "KeyType": "HASH"},
                {"AttributeName": "seq", "KeyType": "RANGE"},
            ],
            BillingMode="PROVISIONED",
            ProvisionedThroughput=UNITS,
            LocalSecondaryIndexes=[LOCAL],
            GlobalSecondaryIndexes=[{**GLOBAL, "ProvisionedThroughput": UNITS}],
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
            SSESpecification={"Enabled": True},
            Tags=[{"Key": "team", "Value": "a"}],
            DeletionProtectionEnabled=True,
            TableClass="STANDARD_INFREQUENT_ACCESS",
        )
        await self(
            "UpdateTimeToLive",
            TableName="users",
            TimeToLiveSpecification={"AttributeName": "until", "Enabled": True},
        )

    async def backup(self, table: str = "users", name: str = "daily") -> str:
        """Make a backup that is not done yet; return its ARN."""
        answer = await self("CreateBackup", TableName=table, BackupName=name)
        arn: str = answer["BackupDetails"]["BackupArn"]
        return arn

    def document(self, arn: str) -> BackupDocument:
        return next(each for each in self.catalog.backups() if each.arn == arn)

    async def done(self, arn: str, **changes: Any) -> None:
        """Do what makes a backup available."""
        changed = self.document(arn).model_copy(update={"status": AVAILABLE, **changes})
        await self.catalog.put_backup(changed)
        manifest = Manifest(region="local", backup=changed, shards=())
        name = BackupNames("local", changed.id).manifest
        await self.objects.put(name, manifest.model_dump_json().encode())

    async def available(self) -> str:
        arn = await self.backup()
        await self.done(arn)
        return arn


@pytest.fixture
def service(tmp_path: Path) -> Backed:
    return Backed(Objects(str(tmp_path)))


async def refusal(service: Service, kind: type[BaseException], operation: str, **body: Any) -> str:
    with pytest.raises(kind) as refused:
        await service(operation, **body)
    return str(refused.value)


async def test_what_a_backup_tells_of_its_table(service):
    await service.rich_table()
    table = (await service("DescribeTable", TableName="users"))["Table"]
    answer = await service("CreateBackup", TableName=table["TableArn"], BackupName="daily")
    details = answer["BackupDetails"]
    arn = details["BackupArn"]
    assert details == {
        "BackupArn": arn,
        "BackupName": "daily",
        "BackupSizeBytes": 0,
        "BackupStatus": "CREATING",
        "BackupType": "USER",
        "BackupCreationDateTime": details["BackupCreationDateTime"],
    }
    milliseconds = round(details["BackupCreationDateTime"] * 1000)
    prefix, _, chance = arn.rpartition("-")
    assert len(chance) == 8
    assert prefix.startswith(f"{table['TableArn']}/backup/0")
    assert abs(int(prefix.rpartition("/")[2]) - milliseconds) <= 1
    await service.done(arn, item_count=7, size_bytes=700)
    answer = await service("DescribeBackup", BackupArn=arn)
    assert answer["BackupDescription"] == {
        "BackupDetails": {**details, "BackupStatus": "AVAILABLE", "BackupSizeBytes": 700},
        "SourceTableDetails": {
            "TableName": "users",
            "TableId": table["TableId"],
            "TableArn": table["TableArn"],
            "TableSizeBytes": 700,
            "KeySchema": table["KeySchema"],
            "TableCreationDateTime": table["CreationDateTime"],
            "ProvisionedThroughput": UNITS,
            "ItemCount": 7,
            "BillingMode": "PROVISIONED",
        },
        "SourceTableFeatureDetails": {
            "LocalSecondaryIndexes": [LOCAL],
            "GlobalSecondaryIndexes": [{**GLOBAL, "ProvisionedThroughput": UNITS}],
            "StreamDescription": {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
            "TimeToLiveDescription": {"TimeToLiveStatus": "ENABLED", "AttributeName": "until"},
            "SSEDescription": table["SSEDescription"],
        },
    }


async def test_a_backup_needs_a_table_that_is_there(service):
    told = await refusal(service, TableNotFound, "CreateBackup", TableName="none", BackupName="day")
    assert told == "Table not found: none"
    await service.table()
    document = service.catalog.table("users").document
    for status, state in (("CREATING", "created"), ("DELETING", "deleted")):
        await service.catalog.update(document.model_copy(update={"status": status}))
        told = await refusal(
            service, TableInUse, "CreateBackup", TableName="users", BackupName="day"
        )
        assert told == f"Table is being {state}: users"


@pytest.mark.parametrize(
    ("operation", "body", "told"),
    [
        ("CreateBackup", {"BackupName": "ab"}, "greater than or equal to 3"),
        ("CreateBackup", {"BackupName": "a b c"}, "[a-zA-Z0-9_.-]+"),
        ("CreateBackup", {"BackupName": "a" * 256}, "less than or equal to 255"),
        ("DescribeBackup", {"BackupArn": "arn"}, "greater than or equal to 37"),
        ("ListBackups", {"Limit": 0}, "greater than or equal to 1"),
        ("ListBackups", {"Limit": 101}, "less than or equal to 100"),
        ("ListBackups", {"BackupType": "OTHER"}, "USER"),
        ("ListBackups", {"ExclusiveStartBackupArn": "a" * 40}, "Invalid ExclusiveStartBackupArn"),
        ("RestoreTableFromBackup", {"BackupArn": ARN, "TargetTableName": "a"}, "equal to 3"),
    ],
)
async def test_what_is_no_request(service, operation, body, told):
    await service.table()
    if operation == "CreateBackup":
        body = {"TableName": "users", **body}
    assert told in await refusal(service, ValidationError, operation, **body)


async def test_one_backup_of_a_table_at_a_time(service):
    await service.table()
    await service.table("posts")
    arn = await service.backup()
    told = await refusal(service, BackupInUse, "CreateBackup", TableName="users", BackupName="day")
    assert told == "Backup is being created for the table: users"
    await service.backup("posts")
    assert arn in await refusal(service, BackupInUse, "DeleteBackup", BackupArn=arn)
    assert arn in await refusal(
        service, BackupInUse, "RestoreTableFromBackup", BackupArn=arn, TargetTableName="copy"
    )
    told = await refusal(service, ResourceInUse, "DeleteTable", TableName="users")
    assert told.endswith("Table is being backed up: users")
    await service.done(arn)
    await service("DeleteTable", TableName="users")
    # It outlives its table, and finds another one of its name.
    await service.table()
    assert await service.backup() != arn
    assert len((await service("ListBackups", TableName="users"))["BackupSummaries"]) == 2


async def test_no_such_backup(service):
    for operation, more in (
        ("DescribeBackup", {}),
        ("DeleteBackup", {}),
        ("RestoreTableFromBackup", {"TargetTableName": "copy"}),
    ):
        told = await refusal(service, BackupNotFound, operation, BackupArn=ARN, **more)
        assert told == f"Backup not found: {ARN}"


async def test_a_deleted_backup_is_not_found(service):
    await service.table()
    arn = await service.available()
    answers = await asyncio.gather(
        service("DeleteBackup", BackupArn=arn),
        service("DeleteBackup", BackupArn=arn),
        return_exceptions=True,
    )
    [deleted] = [answer for answer in answers if isinstance(answer, dict)]
    [refused] = [answer for answer in answers if not isinstance(answer, dict)]
    assert deleted["BackupDescription"]["BackupDetails"]["BackupStatus"] == "DELETED"
    assert isinstance(refused, BackupNotFound)
    assert service.document(arn).status == REMOVING
    assert (await service("ListBackups"))["BackupSummaries"] == []


async def test_a_backup_that_failed_shows_as_deleted_until_it_is_deleted(service):
    await service.table()
    arn = await service.backup()
    failed = service.document(arn).model_copy(update={"status": FAILED})
    await service.catalog.put_backup(failed)
    [summary] = (await service("ListBackups"))["BackupSummaries"]
    assert summary["BackupStatus"] == "DELETED"
    told = await refusal(
        service, ValidationError, "RestoreTableFromBackup", BackupArn=arn, TargetTableName="copy"
    )
    assert "the backup failed" in told
    await service("DeleteBackup", BackupArn=arn)
    await service("DeleteTable", TableName="users")


async def list_names(service, **body):
    answer = await service("ListBackups", **body)
    names = [summary["BackupName"] for summary in answer["BackupSummaries"]]
    return names, answer.get("LastEvaluatedBackupArn")


async def test_backups_are_listed_in_pages(service):
    await service.table()
    await service.table("posts")
    for number in range(5):
        arn = await service.backup("posts" if number == 3 else "users", f"day-{number}")
        await service.done(arn, created=1000.0 + number)
    found: list[str] = []
    more: dict[str, Any] = {}
    while True:
        names, last = await list_names(service, Limit=2, **more)
        found += names
        if last is None:
            break
        assert len(names) == 2
        more = {"ExclusiveStartBackupArn": last}
    assert sorted(found) == [f"day-{number}" for number in range(5)]
    assert await list_names(service, TableName="posts") == (["day-3"], None)
    arn = "arn:aws:dynamodb:local:000000000000:table/posts"
    assert await list_names(service, TableName=arn) == (["day-3"], None)
    assert await list_names(service, TableName="nothing") == ([], None)
    names, _ = await list_names(service, TimeRangeLowerBound=1001, TimeRangeUpperBound=1003)
    assert sorted(names) == ["day-1", "day-2"]
    for kind, count in (("USER", 5), ("ALL", 5), ("SYSTEM", 0), ("AWS_BACKUP", 0)):
        names, _ = await list_names(service, BackupType=kind)
        assert len(names) == count


async def restored(service, arn, **overrides):
    answer = await service(
        "RestoreTableFromBackup", TargetTableName="copy", BackupArn=arn, **overrides
    )
    description = answer["TableDescription"]
    assert (await service("DescribeTable", TableName="copy"))["Table"] == description
    return description


async def test_what_a_restored_table_has_of_its_source(service):
    await service.rich_table()
    source = (await service("DescribeTable", TableName="users"))["Table"]
    arn = await service.available()
    found = await restored(service, arn)
    assert found["TableStatus"] == "CREATING"
    assert found["TableId"] != source["TableId"]
    assert found["RestoreSummary"] == {
        "SourceBackupArn": arn,
        "SourceTableArn": source["TableArn"],
        "RestoreDateTime": found["CreationDateTime"],
        "RestoreInProgress": True,
    }
    for name in ("KeySchema", "AttributeDefinitions", "ProvisionedThroughput", "SSEDescription"):
        assert found[name] == source[name]
    assert found["TableClassSummary"] == source["TableClassSummary"]
    [local], [world] = found["LocalSecondaryIndexes"], found["GlobalSecondaryIndexes"]
    assert {name: local[name] for name in LOCAL} == LOCAL
    assert {name: world[name] for name in GLOBAL} == GLOBAL
    # It is a table of its own, with nothing that has to be set up anew.
    assert "LatestStreamArn" not in found
    assert not found["DeletionProtectionEnabled"]
    assert await service("ListTagsOfResource", ResourceArn=found["TableArn"]) == {"Tags": []}
    answer = await service("DescribeTimeToLive", TableName="copy")
    assert answer["TimeToLiveDescription"] == {"TimeToLiveStatus": "DISABLED"}


async def test_nothing_else_happens_to_a_table_while_it_is_restored(service):
    await service.table()
    arn = await service.available()
    await restored(service, arn)
    body = {"BackupArn": arn, "TargetTableName": "copy"}
    told = await refusal(service, TableInUse, "RestoreTableFromBackup", **body)
    assert told == "Table is being created: copy"
    assert "is being restored to the table copy" in await refusal(
        service, BackupInUse, "DeleteBackup", BackupArn=arn
    )
    await refusal(service, ResourceInUse, "DeleteTable", TableName="copy")
    body = {"BackupArn": arn, "TargetTableName": "users"}
    told = await refusal(service, TableAlreadyExists, "RestoreTableFromBackup", **body)
    assert told == "Table already exists: users"


async def test_so_many_tables_are_restored_at_once(service):
    await service.table()
    arn = await service.available()
    for number in range(RESTORES):
        await service("RestoreTableFromBackup", TargetTableName=f"copy-{number}", BackupArn=arn)
    await refusal(
        service, LimitExceeded, "RestoreTableFromBackup", TargetTableName="one", BackupArn=arn
    )


async def test_a_restored_table_may_have_other_settings(service):
    await service.rich_table()
    arn = await service.available()
    found = await restored(
        service,
        arn,
        BillingModeOverride="PAY_PER_REQUEST",
        OnDemandThroughputOverride={"MaxReadRequestUnits": 10, "MaxWriteRequestUnits": 20},
        LocalSecondaryIndexOverride=[],
        GlobalSecondaryIndexOverride=[GLOBAL],
        SSESpecificationOverride={"Enabled": False},
    )
    assert found["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert found["OnDemandThroughput"] == {"MaxReadRequestUnits": 10, "MaxWriteRequestUnits": 20}
    assert "LocalSecondaryIndexes" not in found
    assert "SSEDescription" not in found
    [index] = found["GlobalSecondaryIndexes"]
    assert index["ProvisionedThroughput"]["ReadCapacityUnits"] == 0
    assert [each["AttributeName"] for each in found["AttributeDefinitions"]] == [
        "id",
        "seq",
        "mail",
    ]


async def test_a_restored_table_may_have_other_capacity(service):
    await service.rich_table()
    arn = await service.available()
    units = {"ReadCapacityUnits": 8, "WriteCapacityUnits": 9}
    found = await restored(
        service,
        arn,
        ProvisionedThroughputOverride=units,
        GlobalSecondaryIndexOverride=[GLOBAL],
    )
    assert found["ProvisionedThroughput"] == {"NumberOfDecreasesToday": 0, **units}
    [index] = found["GlobalSecondaryIndexes"]
    assert index["ProvisionedThroughput"] == {"NumberOfDecreasesToday": 0, **UNITS}


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"GlobalSecondaryIndexOverride": [{**GLOBAL, "IndexName": "other"}]}, "index other"),
        (
            {"GlobalSecondaryIndexOverride": [{**GLOBAL, "Projection": {"ProjectionType": "ALL"}}]},
            "index by_mail does not match",
        ),
        (
            {"LocalSecondaryIndexOverride": [{**LOCAL, "Projection": {"ProjectionType": "ALL"}}]},
            "index by_day does not match",
        ),
        (
            {"BillingModeOverride": "PAY_PER_REQUEST", "ProvisionedThroughputOverride": UNITS},
            "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified",
        ),
        ({"OnDemandThroughputOverride": {"MaxReadRequestUnits": 5}}, "PAY_PER_REQUEST"),
        ({"SSESpecificationOverride": {"Enabled": False, "SSEType": "KMS"}}, "Enabled is true"),
    ],
)
async def test_overrides_that_do_not_fit(service, overrides, told):
    await service.rich_table()
    arn = await service.available()
    overrides = {
        name: [{**each, "ProvisionedThroughput": UNITS} for each in value]
        if name == "GlobalSecondaryIndexOverride"
        else value
        for name, value in overrides.items()
    }
    assert told in await refusal(
        service,
        ValidationError,
        "RestoreTableFromBackup",
        TargetTableName="copy",
        BackupArn=arn,
        **overrides,
    )


async def test_capacity_has_to_be_named_for_a_table_that_had_none(service):
    await service.table(
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": "S"} for name in ("id", "mail")
        ],
        GlobalSecondaryIndexes=[GLOBAL],
    )
    arn = await service.available()
    body = {"TargetTableName": "copy", "BackupArn": arn, "BillingModeOverride": "PROVISIONED"}
    told = await refusal(service, ValidationError, "RestoreTableFromBackup", **body)
    assert "must both be specified" in told
    body["ProvisionedThroughputOverride"] = UNITS
    told = await refusal(service, ValidationError, "RestoreTableFromBackup", **body)
    assert "must be specified for index: by_mail" in told
    body["GlobalSecondaryIndexOverride"] = [{**GLOBAL, "ProvisionedThroughput": UNITS}]
    answer = await service("RestoreTableFromBackup", **body)
    assert answer["TableDescription"]["BillingModeSummary"]["BillingMode"] == "PROVISIONED"


async def test_a_backup_whose_objects_are_gone_is_not_restored(service):
    await service.table()
    arn = await service.available()
    await service.objects.delete([BackupNames("local", service.document(arn).id).manifest])
    told = await refusal(
        service, BackupNotFound, "RestoreTableFromBackup", TargetTableName="copy", BackupArn=arn
    )
    assert told.startswith(f"Backup is damaged: {arn}: can't read local/backups/")
    assert (await service("ListTables"))["TableNames"] == ["users"]


async def test_a_node_without_a_place_says_what_to_set(service):
    await service.table()
    arn = await service.available()
    without = Service()
    await without.table()
    await without.catalog.put_backup(service.document(arn))
    for kind, operation, body in (
        (
            ContinuousBackupsUnavailable,
            "CreateBackup",
            {"TableName": "users", "BackupName": "day"},
        ),
        (ValidationError, "DeleteBackup", {"BackupArn": arn}),
        (ValidationError, "RestoreTableFromBackup", {"BackupArn": arn, "TargetTableName": "copy"}),
    ):
        told = await refusal(without, kind, operation, **body)
        assert told.endswith("Name a folder or a bucket with --checkpoints")
