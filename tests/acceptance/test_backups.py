"""Backups of tables, and tables of backups, with boto3."""

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

QUICKLY = {"Delay": 1, "MaxAttempts": 60}


def create(client: Any, name: str) -> None:
    client.create_table(
        TableName=name,
        AttributeDefinitions=[
            {"AttributeName": each, "AttributeType": "S"} for each in ("id", "seq", "owner")
        ],
        KeySchema=[
            {"AttributeName": "id", "KeyType": "HASH"},
            {"AttributeName": "seq", "KeyType": "RANGE"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by_owner",
                "KeySchema": [{"AttributeName": "owner", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        LocalSecondaryIndexes=[
            {
                "IndexName": "local",
                "KeySchema": [
                    {"AttributeName": "id", "KeyType": "HASH"},
                    {"AttributeName": "owner", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )


def fill(resource: Any, name: str) -> None:
    with resource.Table(name).batch_writer() as batch:
        for number in range(300):
            item = {"id": f"i{number % 40}", "seq": f"{number:03}", "n": number, "b": b"\x00\xff"}
            # Of some there is nothing in the indexes.
            batch.put_item(Item=item if number % 7 == 0 else {**item, "owner": f"o{number % 5}"})


def rows(client: Any, name: str, **arguments: Any) -> list[Any]:
    pages = client.get_paginator("scan").paginate(TableName=name, **arguments)
    found = [item for page in pages for item in page["Items"]]
    return sorted(found, key=lambda item: (item["id"]["S"], item["seq"]["S"]))


def back_up(client: Any, name: str) -> str:
    answer = client.create_backup(TableName=name, BackupName="daily")
    arn: str = answer["BackupDetails"]["BackupArn"]

    def status() -> bool:
        found = client.describe_backup(BackupArn=arn)["BackupDescription"]
        return bool(found["BackupDetails"]["BackupStatus"] == "AVAILABLE")

    wait_until(status, f"{arn} to be available")
    return arn


def files_of(data: Path, arn: str) -> list[Path]:
    """The parts of a backup."""
    folder = data / "checkpoints" / "local" / "backups" / arn.rpartition("/")[2]
    return [path for path in folder.rglob("*.json.gz") if path.is_file()]


def test_a_table_comes_back(client, resource, table_name):
    create(client, table_name)
    fill(resource, table_name)
    before = rows(client, table_name)
    arn = back_up(client, table_name)
    source = client.describe_backup(BackupArn=arn)["BackupDescription"]["SourceTableDetails"]
    assert source["ItemCount"] == len(before) == 300
    # What comes later is not in it, and the table need not be there any more.
    client.put_item(TableName=table_name, Item={"id": {"S": "later"}, "seq": {"S": "1"}})
    client.delete_table(TableName=table_name)
    copy = f"{table_name}-copy"
    answer = client.restore_table_from_backup(TargetTableName=copy, BackupArn=arn)
    description = answer["TableDescription"]
    assert description["TableStatus"] == "CREATING"
    assert description["RestoreSummary"]["RestoreInProgress"]
    client.get_waiter("table_exists").wait(TableName=copy, WaiterConfig=QUICKLY)
    table = client.describe_table(TableName=copy)["Table"]
    assert not table["RestoreSummary"]["RestoreInProgress"]
    assert table["ItemCount"] == 300
    assert rows(client, copy, ConsistentRead=True) == before
    owned = [item for item in before if "owner" in item]
    # What the indexes have they have when the table is ACTIVE.
    assert rows(client, copy, IndexName="by_owner") == owned
    assert rows(client, copy, IndexName="local") == owned
    # It is a table like any other.
    resource.Table(copy).put_item(Item={"id": "new", "seq": "1"})
    assert len(rows(client, copy)) == 301
    client.delete_table(TableName=copy)
    client.delete_backup(BackupArn=arn)


def test_backups_are_listed_and_deleted(client, server, table_name):
    create(client, table_name)
    arns = [back_up(client, table_name) for _ in range(3)]
    pages = client.get_paginator("list_backups").paginate(
        TableName=table_name, PaginationConfig={"PageSize": 2}
    )
    assert [each["BackupArn"] for page in pages for each in page["BackupSummaries"]] == arns
    client.put_item(TableName=table_name, Item={"id": {"S": "a"}, "seq": {"S": "1"}})
    arns.append(back_up(client, table_name))
    assert files_of(server.data, arns[-1])
    for arn in arns:
        client.delete_backup(BackupArn=arn)
        with pytest.raises(client.exceptions.BackupNotFoundException):
            client.describe_backup(BackupArn=arn)
    assert client.list_backups(TableName=table_name)["BackupSummaries"] == []
    wait_until(lambda: not files_of(server.data, arns[-1]), "the files to be gone")
    client.delete_table(TableName=table_name)


def test_a_damaged_backup_is_no_table(client, resource, server, table_name):
    create(client, table_name)
    fill(resource, table_name)
    arn = back_up(client, table_name)
    path = max(files_of(server.data, arn))
    content = path.read_bytes()
    path.write_bytes(bytes([*content[:-1], content[-1] ^ 1]))
    copy = f"{table_name}-copy"
    client.restore_table_from_backup(TargetTableName=copy, BackupArn=arn)
    # Half a table is none.
    client.get_waiter("table_not_exists").wait(TableName=copy, WaiterConfig=QUICKLY)
    told = f"table {copy} can't be restored and is removed: {path.relative_to(path.parents[4])}"
    assert told in server.output()
    path.unlink()
    with pytest.raises(ClientError, match=f"Backup is damaged: {arn}: .*{path.name} .* missing"):
        client.restore_table_from_backup(TargetTableName=copy, BackupArn=arn)
    client.delete_table(TableName=table_name)
    client.delete_backup(BackupArn=arn)
