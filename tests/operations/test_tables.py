import asyncio
from typing import Any

import pytest

from streamtable.core.errors import ResourceInUse, ResourceNotFound, ValidationError
from tests.operations.conftest import Service

INVALID = "One or more parameter values were invalid: "


async def refusal(service, operation, kind=ValidationError, **body):
    with pytest.raises(kind) as caught:
        await service(operation, **body)
    return caught.value.message


async def describe(service, name="users"):
    return (await service("DescribeTable", TableName=name))["Table"]


async def until(service, status):
    """Wait for a status; DELETED when the table is gone."""
    async with asyncio.timeout(60):
        while True:
            try:
                if (await describe(service))["TableStatus"] == status:
                    return
            except ResourceNotFound:
                assert status == "DELETED"
                return
            await asyncio.sleep(0.005)


class TestLife:
    async def test_a_table_is_made_used_and_deleted(self, service):
        created = await service(
            "CreateTable",
            TableName="users",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            ProvisionedThroughput={"ReadCapacityUnits": 3, "WriteCapacityUnits": 4},
        )
        description = created["TableDescription"]
        assert description["TableStatus"] == "CREATING"
        assert await describe(service) == {**description, "TableStatus": "ACTIVE"}
        assert description["TableArn"] == "arn:aws:dynamodb:local:000000000000:table/users"
        assert description["ProvisionedThroughput"] == {
            "NumberOfDecreasesToday": 0,
            "ReadCapacityUnits": 3,
            "WriteCapacityUnits": 4,
        }
        assert "BillingModeSummary" not in description

        await service("PutItem", TableName="users", Item={"id": {"S": "a"}})
        deleted = await service("DeleteTable", TableName="users")
        assert deleted["TableDescription"]["TableStatus"] == "DELETING"
        await refusal(
            service, "GetItem", ResourceNotFound, TableName="users", Key={"id": {"S": "a"}}
        )

    async def test_a_table_made_again_is_empty(self, service):
        await service.table()
        first = await describe(service)
        await service("PutItem", TableName="users", Item={"id": {"S": "a"}})
        await service("DeleteTable", TableName="users")
        await service.table()
        assert (await describe(service))["TableId"] != first["TableId"]
        assert (await service("Scan", TableName="users"))["Count"] == 0

    async def test_a_name_that_is_taken(self, service):
        await service.table()
        with pytest.raises(ResourceInUse) as caught:
            await service.table()
        assert caught.value.message == "Table already exists: users"

    async def test_what_is_not_there(self, service):
        for operation in ("DescribeTable", "DeleteTable"):
            message = await refusal(service, operation, ResourceNotFound, TableName="users")
            assert message == "Requested resource not found: Table: users not found"

    async def test_a_protected_table(self, service):
        await service.table(DeletionProtectionEnabled=True)
        message = await refusal(service, "DeleteTable", TableName="users")
        assert message == (
            "Resource cannot be deleted as it is currently protected against deletion. "
            "Disable deletion protection first."
        )
        await service("UpdateTable", TableName="users", DeletionProtectionEnabled=False)
        await service("DeleteTable", TableName="users")

    async def test_states_that_take_time(self):
        service = Service(table_delay_ms=20)
        await service.table()
        assert (await describe(service))["TableStatus"] == "CREATING"
        await refusal(
            service, "PutItem", ResourceNotFound, TableName="users", Item={"id": {"S": "a"}}
        )
        assert await refusal(service, "DeleteTable", ResourceInUse, TableName="users") == (
            "Attempt to change a resource which is still in use: Table is being created: users"
        )
        await until(service, "ACTIVE")
        await service("UpdateTable", TableName="users", TableClass="STANDARD")
        assert (await describe(service))["TableStatus"] == "UPDATING"
        await service("PutItem", TableName="users", Item={"id": {"S": "a"}})
        await until(service, "ACTIVE")
        await service("DeleteTable", TableName="users")
        assert (await describe(service))["TableStatus"] == "DELETING"
        await refusal(
            service, "GetItem", ResourceNotFound, TableName="users", Key={"id": {"S": "a"}}
        )
        await until(service, "DELETED")


class TestList:
    async def test_pages(self, service):
        names = [f"table{number:03}" for number in range(105)]
        for name in reversed(names):
            await service.table(name)

        first = await service("ListTables")
        rest = await service("ListTables", ExclusiveStartTableName=first["LastEvaluatedTableName"])
        three = await service("ListTables", ExclusiveStartTableName="table0", Limit=3)

        assert first == {"TableNames": names[:100], "LastEvaluatedTableName": "table099"}
        assert rest == {"TableNames": names[100:]}
        assert three == {"TableNames": names[:3], "LastEvaluatedTableName": "table002"}


class TestUpdate:
    async def test_billing_back_and_forth(self, service):
        await service.table()
        before = await describe(service)
        assert before["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        assert (
            before["BillingModeSummary"]["LastUpdateToPayPerRequestDateTime"]
            == (before["CreationDateTime"])
        )

        answer = await service(
            "UpdateTable",
            TableName="users",
            BillingMode="PROVISIONED",
            ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5},
        )
        assert answer["TableDescription"]["TableStatus"] == "UPDATING"
        after = await describe(service)
        assert after["TableStatus"] == "ACTIVE"
        assert after["BillingModeSummary"]["BillingMode"] == "PROVISIONED"
        assert after["ProvisionedThroughput"]["ReadCapacityUnits"] == 5

    async def test_throughput(self, service):
        await service.table(
            BillingMode="PROVISIONED",
            ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5},
        )
        for units in (9, 2, 1):
            await service(
                "UpdateTable",
                TableName="users",
                ProvisionedThroughput={"ReadCapacityUnits": units, "WriteCapacityUnits": units},
            )
        throughput = (await describe(service))["ProvisionedThroughput"]
        assert throughput["NumberOfDecreasesToday"] == 2
        assert throughput["LastIncreaseDateTime"] <= throughput["LastDecreaseDateTime"]
        message = await refusal(
            service,
            "UpdateTable",
            TableName="users",
            ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 1},
        )
        assert message.startswith(
            "The provisioned throughput for the table will not change. The requested value equals "
            "the current value. Current ReadCapacityUnits provisioned for the table: 1. "
        )

    async def test_a_stream_is_switched_on_off_and_on(self, service):
        await service.table()
        on = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        first = await service("UpdateTable", TableName="users", StreamSpecification=on)
        arn = first["TableDescription"]["LatestStreamArn"]
        assert arn.startswith("arn:aws:dynamodb:local:000000000000:table/users/stream/")
        assert arn.endswith(first["TableDescription"]["LatestStreamLabel"])
        assert first["TableDescription"]["StreamSpecification"] == on
        assert (
            await refusal(service, "UpdateTable", TableName="users", StreamSpecification=on)
            == "Table already has an enabled stream: TableName: users"
        )

        off = {"StreamEnabled": False}
        await service("UpdateTable", TableName="users", StreamSpecification=off)
        table = await describe(service)
        assert "StreamSpecification" not in table
        assert table["LatestStreamArn"] == arn

        again = await service("UpdateTable", TableName="users", StreamSpecification=on)
        assert again["TableDescription"]["LatestStreamArn"] != arn
        assert len(service.catalog.table("users").document.streams) == 2

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {},
                (
                    "At least one of ProvisionedThroughput, BillingMode, UpdateStreamEnabled, "
                    "GlobalSecondaryIndexUpdates or SSESpecification or ReplicaUpdates is required"
                ),
            ),
            (
                {"ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1}},
                INVALID + "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when "
                "BillingMode is PAY_PER_REQUEST",
            ),
            (
                {"BillingMode": "PROVISIONED"},
                INVALID + "ReadCapacityUnits and WriteCapacityUnits must both be specified when "
                "BillingMode is PROVISIONED",
            ),
            (
                {"ReplicaUpdates": [{"Create": {"RegionName": "eu"}}]},
                "ReplicaUpdates is not available in this version of streamtable",
            ),
        ],
    )
    async def test_what_is_refused(self, service, changes, message):
        await service.table()
        assert await refusal(service, "UpdateTable", TableName="users", **changes) == message


class TestIndexUpdates:
    async def test_updates_of_nothing(self, service):
        await service.table()
        request: dict[str, Any] = {"TableName": "users", "GlobalSecondaryIndexUpdates": []}
        message = await refusal(service, "UpdateTable", **request)
        assert message.startswith("At least one of ProvisionedThroughput")
        request["GlobalSecondaryIndexUpdates"] = [{}]
        message = await refusal(service, "UpdateTable", **request)
        assert message == (
            "One or more parameter values were invalid: One of GlobalSecondaryIndexUpdate.Update, "
            "GlobalSecondaryIndexUpdate.Create, GlobalSecondaryIndexUpdate.Delete must not be null"
        )

    def create(self, name="by_mail", attribute="mail"):
        return {
            "TableName": "users",
            "AttributeDefinitions": [{"AttributeName": attribute, "AttributeType": "S"}],
            "GlobalSecondaryIndexUpdates": [
                {
                    "Create": {
                        "IndexName": name,
                        "KeySchema": [{"AttributeName": attribute, "KeyType": "HASH"}],
                        "Projection": {"ProjectionType": "ALL"},
                    }
                }
            ],
        }

    async def test_an_index_is_created(self, service):
        await service.table()
        await service("UpdateTable", **self.create())
        (index,) = (await describe(service))["GlobalSecondaryIndexes"]
        assert index["IndexStatus"] == "CREATING"
        assert index["Backfilling"] is True
        assert index["IndexArn"].endswith("table/users/index/by_mail")
        message = await refusal(
            service,
            "Query",
            TableName="users",
            IndexName="by_mail",
            KeyConditionExpression="mail = :m",
            ExpressionAttributeValues={":m": {"S": "x"}},
        )
        assert message == "Cannot read from backfilling global secondary index: by_mail"

    async def test_an_index_that_is_not_there(self, service):
        await service.table()
        updates = [{"Delete": {"IndexName": "none"}}]
        await refusal(
            service,
            "UpdateTable",
            ResourceNotFound,
            TableName="users",
            GlobalSecondaryIndexUpdates=updates,
        )


async def test_an_operation_on_a_table_names_it(service):
    for operation in ("CreateTable", "DescribeTable", "UpdateTable", "DeleteTable"):
        message = await refusal(service, operation)
        assert message == "The parameter 'TableName' is required but was not present in the request"
