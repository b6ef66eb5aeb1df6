"""The operations over a real connection, as boto3 uses them."""

import asyncio
from decimal import Decimal
from typing import Any

import boto3
import pytest
from boto3.dynamodb.conditions import Attr, Key
from botocore.config import Config
from botocore.exceptions import ClientError

from streamtable.gateway import HttpServer, create_app

_CONFIG = Config(retries={"total_max_attempts": 1})
_ACCESS: dict[str, Any] = {
    "region_name": "local",
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
    "config": _CONFIG,
}


@pytest.fixture
async def endpoint(service):
    server = HttpServer(create_app(service.handlers), port=0)
    await server.start()
    yield server.endpoint
    await server.stop()


@pytest.fixture
async def run(endpoint):
    """Run a function of a boto3 resource in a thread, beside the server's loop."""
    resource = await asyncio.to_thread(boto3.resource, "dynamodb", endpoint_url=endpoint, **_ACCESS)

    async def run(function):
        return await asyncio.to_thread(function, resource)

    yield run
    await asyncio.to_thread(resource.meta.client.close)


def make_table(dynamodb):
    table = dynamodb.create_table(
        TableName="posts",
        AttributeDefinitions=[
            {"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "seq", "AttributeType": "N"},
        ],
        KeySchema=[
            {"AttributeName": "id", "KeyType": "HASH"},
            {"AttributeName": "seq", "KeyType": "RANGE"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    table.wait_until_exists()
    return table


async def test_a_table_and_its_items(run):
    def use(dynamodb):
        table = make_table(dynamodb)
        assert table.table_status == "CREATING"
        table.reload()
        assert table.table_status == "ACTIVE"
        item = {
            "id": "a",
            "seq": 1,
            "price": Decimal("12.50"),
            "raw": b"\x00\xff",
            "tags": {"x", "y"},
            "sizes": {1, 2},
            "nested": {"list": [1, "two", None, True]},
        }
        table.put_item(Item=item)
        found = table.get_item(Key={"id": "a", "seq": 1}, ConsistentRead=True)["Item"]
        assert found["raw"].value == b"\x00\xff"
        assert {**found, "raw": b"\x00\xff"} == item
        changed = table.update_item(
            Key={"id": "a", "seq": 1},
            UpdateExpression="SET price = price + :more, nested.#l[1] = :new ADD tags :tags",
            ConditionExpression=Attr("price").lt(100),
            ExpressionAttributeNames={"#l": "list"},
            ExpressionAttributeValues={":more": 1, ":new": "zwei", ":tags": {"z"}},
            ReturnValues="UPDATED_NEW",
        )["Attributes"]
        assert changed["price"] == Decimal("13.5")
        assert changed["tags"] == {"x", "y", "z"}
        with pytest.raises(dynamodb.meta.client.exceptions.ConditionalCheckFailedException):
            table.delete_item(Key={"id": "a", "seq": 1}, ConditionExpression=Attr("price").gt(100))
        table.delete()
        table.wait_until_not_exists()

    await run(use)


async def test_paginators_and_batches(run):
    def use(dynamodb):
        table = make_table(dynamodb)
        with table.batch_writer() as batch:
            for number in range(60):
                batch.put_item(Item={"id": "ab"[number % 2], "seq": number, "n": number})
        client = dynamodb.meta.client
        pages = list(client.get_paginator("scan").paginate(TableName="posts", Limit=7))
        assert len(pages) >= 9
        assert {item["seq"] for page in pages for item in page["Items"]} == set(range(60))
        answer = table.query(
            KeyConditionExpression=Key("id").eq("a") & Key("seq").between(10, 20),
            FilterExpression=Attr("n").ne(14),
            ScanIndexForward=False,
        )
        assert [item["seq"] for item in answer["Items"]] == [20, 18, 16, 12, 10]
        found = dynamodb.batch_get_item(
            RequestItems={"posts": {"Keys": [{"id": "a", "seq": 2}, {"id": "b", "seq": 99}]}}
        )
        assert found["Responses"]["posts"] == [{"id": "a", "seq": 2, "n": 2}]

    await run(use)


async def test_errors_have_their_classes(run):
    def use(dynamodb):
        exceptions = dynamodb.meta.client.exceptions
        client = dynamodb.meta.client
        make_table(dynamodb)
        with pytest.raises(exceptions.ResourceInUseException):
            make_table(dynamodb)
        with pytest.raises(exceptions.ResourceNotFoundException):
            client.describe_table(TableName="none")
        with pytest.raises(ClientError, match="ValidationException"):
            client.get_item(TableName="posts", Key={"id": 1})
        with pytest.raises(ClientError, match="UnknownOperationException"):
            client.describe_global_table(GlobalTableName="posts")

    await run(use)
