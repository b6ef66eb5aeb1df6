"""Streams as programs read them: boto3's client, and what Lambda's helpers make of the records."""

import time
from decimal import Decimal
from typing import Any

import boto3
import pytest
from aws_lambda_powertools.utilities.data_classes.dynamo_db_stream_event import (
    DynamoDBRecord,
    DynamoDBRecordEventName,
    StreamViewType,
)
from boto3.dynamodb.types import TypeSerializer

from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance


@pytest.fixture
def streams(endpoint):
    made = boto3.client(
        "dynamodbstreams",
        endpoint_url=endpoint,
        region_name="local",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    yield made
    made.close()


def read(streams: Any, arn: str) -> list[Any]:
    """Return the records of all shards up to now, shard by shard."""
    records = []
    described = streams.describe_stream(StreamArn=arn)["StreamDescription"]
    for shard in described["Shards"]:
        iterator = streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while page := streams.get_records(ShardIterator=iterator):
            if not page["Records"]:
                break
            records += page["Records"]
            iterator = page["NextShardIterator"]
    return records


@pytest.fixture
def table(client, table_name):
    created = client.create_table(
        TableName=table_name,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    client.get_waiter("table_exists").wait(TableName=table_name, WaiterConfig={"Delay": 1})
    yield created["TableDescription"]
    client.delete_table(TableName=table_name)


def test_lambda_s_helpers_understand_the_records(client, streams, table):
    name = table["TableName"]
    value = {
        "number": Decimal("12345678901234567890.5"),
        "list": ["a", Decimal(1), None, {"deep": True}],
        "strings": {"a", "b"},
        "numbers": {Decimal(1), Decimal("2.5")},
        "binary": b"\x00\xff",
        "text": "",
    }
    serialize = TypeSerializer().serialize
    item = {"id": {"S": "ada"}, **{key: serialize(member) for key, member in value.items()}}
    client.put_item(TableName=name, Item=item)
    client.put_item(TableName=name, Item=item)  # changes nothing, so it is not in the stream
    client.update_item(
        TableName=name,
        Key={"id": {"S": "ada"}},
        UpdateExpression="REMOVE #list SET #text = :text",
        ExpressionAttributeNames={"#list": "list", "#text": "text"},
        ExpressionAttributeValues={":text": {"S": "full"}},
    )
    client.delete_item(TableName=name, Key={"id": {"S": "ada"}})

    put, updated, deleted = (DynamoDBRecord(record) for record in read(streams, _arn(table)))
    assert put.event_name is DynamoDBRecordEventName.INSERT
    assert updated.event_name is DynamoDBRecordEventName.MODIFY
    assert deleted.event_name is DynamoDBRecordEventName.REMOVE
    assert (put.event_source, put.aws_region) == ("aws:dynamodb", table["TableArn"].split(":")[3])
    change = put.dynamodb
    assert change is not None
    assert change.keys == {"id": "ada"}
    assert change.stream_view_type is StreamViewType.NEW_AND_OLD_IMAGES
    assert change.old_image == {}
    assert {**change.new_image} == {"id": "ada", **value}
    assert updated.dynamodb is not None
    assert updated.dynamodb.old_image["list"] == value["list"]
    assert "list" not in updated.dynamodb.new_image
    assert updated.dynamodb.new_image["text"] == "full"
    numbers = [
        int(record.dynamodb.sequence_number or "")
        for record in (put, updated, deleted)
        if record.dynamodb is not None
    ]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 3


def test_an_expired_item_leaves_as_the_service_s_own_removal(client, streams, table):
    name = table["TableName"]
    client.update_time_to_live(
        TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "until"}
    )
    now = int(time.time())
    client.put_item(TableName=name, Item={"id": {"S": "old"}, "until": {"N": str(now - 60)}})
    client.put_item(TableName=name, Item={"id": {"S": "young"}, "until": {"N": str(now + 3600)}})
    assert client.describe_time_to_live(TableName=name)["TimeToLiveDescription"] == {
        "TimeToLiveStatus": "ENABLED",
        "AttributeName": "until",
    }
    removed = wait_until(
        lambda: [one for one in read(streams, _arn(table)) if one["eventName"] == "REMOVE"],
        "the expired item to go",
    )
    assert [one["dynamodb"]["Keys"] for one in removed] == [{"id": {"S": "old"}}]
    assert removed[0]["userIdentity"] == {
        "Type": "Service",
        "PrincipalId": "dynamodb.amazonaws.com",
    }
    assert client.scan(TableName=name)["Count"] == 1


def _arn(table: Any) -> str:
    return str(table["LatestStreamArn"])
