"""EnableKinesisStreamingDestination and what then is in the table's topic, with boto3."""

import asyncio
import time
from contextlib import closing
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.support.server import Server
from tests.support.topics import Message, read_topic
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

ARN = "arn:aws:kinesis:eu-central-1:000000000000:stream/changes"
NAMES = {"TableName": "users", "StreamArn": ARN}


def connect(server: Server) -> Any:
    return boto3.client(
        "dynamodb",
        endpoint_url=server.endpoint,
        region_name="local",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=60),
    )


def read(server: Server) -> list[Message]:
    return asyncio.run(read_topic(server.broker, "local.table.users"))


def wait_status(client: Any, status: str) -> None:
    def there() -> bool:
        answer = client.describe_kinesis_streaming_destination(TableName="users")
        (found,) = answer["KinesisDataStreamDestinations"]
        return bool(found["DestinationStatus"] == status)

    wait_until(there, f"the destination to be {status}")


def names(messages: list[Message]) -> list[str]:
    return [f"{each.value['eventName']} {each.key['id']['S']}" for each in messages]


def test_a_tables_changes_are_in_its_topic(new_server: Server):
    server = new_server.start()
    with closing(connect(server)) as client:
        client.create_table(
            TableName="users",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        client.put_item(TableName="users", Item={"id": {"S": "before"}})
        before_ms = time.time() * 1000
        answer = client.enable_kinesis_streaming_destination(**NAMES)
        assert answer["DestinationStatus"] == "ENABLING"
        assert answer["StreamArn"] == ARN
        # Nobody need wait: what is written from now on is copied.
        client.put_item(TableName="users", Item={"id": {"S": "ada"}, "n": {"N": "1"}})
        client.put_item(TableName="users", Item={"id": {"S": "ada"}, "n": {"N": "2"}})
        client.delete_item(TableName="users", Key={"id": {"S": "ada"}})
        wait_status(client, "ACTIVE")
        with pytest.raises(client.exceptions.ResourceInUseException):
            client.enable_kinesis_streaming_destination(**NAMES)
        wait_until(lambda: len(read(server)) >= 3, "three changes to be copied")
    # A kill and a start: what is copied twice has the same eventID.
    server.kill()
    server.start()
    with closing(connect(server)) as client:
        client.put_item(TableName="users", Item={"id": {"S": "bob"}})
        client.disable_kinesis_streaming_destination(**NAMES)
        wait_status(client, "DISABLED")
        client.put_item(TableName="users", Item={"id": {"S": "after"}})
        found = {each.value["eventID"]: each for each in read(server)}
        assert sorted(names(list(found.values()))) == [
            "INSERT ada",
            "INSERT bob",
            "MODIFY ada",
            "REMOVE ada",
        ]
        modified = next(each for each in found.values() if each.value["eventName"] == "MODIFY")
        created_ms = modified.value["dynamodb"].pop("ApproximateCreationDateTime")
        assert before_ms - 1 <= created_ms <= time.time() * 1000
        assert modified.timestamp_ms == created_ms
        assert modified.value.pop("eventID")
        assert modified.value == {
            "awsRegion": "local",
            "eventName": "MODIFY",
            "userIdentity": None,
            "recordFormat": "application/json",
            "tableName": "users",
            "dynamodb": {
                "ApproximateCreationDateTimePrecision": "MILLISECOND",
                "Keys": {"id": {"S": "ada"}},
                "NewImage": {"id": {"S": "ada"}, "n": {"N": "2"}},
                "OldImage": {"id": {"S": "ada"}, "n": {"N": "1"}},
                "SizeBytes": 5 + 8 + 8,
            },
            "eventSource": "aws:dynamodb",
        }
        mine = [name for name in names(list(found.values())) if name.endswith("ada")]
        assert mine == ["INSERT ada", "MODIFY ada", "REMOVE ada"]
