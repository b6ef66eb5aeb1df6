"""The AWS CLI, as a person types it."""

import json
import subprocess
from typing import Any

import pytest

from tests.support.commands import aws_environment, require

pytestmark = pytest.mark.acceptance


class Aws:
    def __init__(self, endpoint: str) -> None:
        self.program = require("aws", "install awscli to test with the AWS CLI")
        self.environment = aws_environment(endpoint)

    def run(self, *arguments: str, service: str = "dynamodb") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, service, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def __call__(self, *arguments: str, service: str = "dynamodb") -> Any:
        done = self.run(*arguments, service=service)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None


@pytest.fixture
def aws(endpoint):
    return Aws(endpoint)


@pytest.fixture
def table(aws, table_name):
    created = aws(
        *("create-table", "--table-name", table_name),
        *("--attribute-definitions", "AttributeName=artist,AttributeType=S"),
        *("AttributeName=year,AttributeType=N",),
        *("--key-schema", "AttributeName=artist,KeyType=HASH", "AttributeName=year,KeyType=RANGE"),
        *("--billing-mode", "PAY_PER_REQUEST"),
    )
    assert created["TableDescription"]["TableName"] == table_name
    aws("wait", "table-exists", "--table-name", table_name)
    yield table_name
    aws("delete-table", "--table-name", table_name)
    aws("wait", "table-not-exists", "--table-name", table_name)


def test_a_round_through_every_verb(aws, table):
    assert table in aws("list-tables")["TableNames"]
    key = '{"artist": {"S": "Nina Simone"}, "year": {"N": "1965"}}'
    item = (
        '{"artist": {"S": "Nina Simone"}, "year": {"N": "1965"}, "title": {"S": "I Put a Spell"}}'
    )
    aws("put-item", "--table-name", table, "--item", item)
    found = aws("get-item", "--table-name", table, "--key", key, "--consistent-read")
    assert found["Item"] == json.loads(item)

    updated = aws(
        *("update-item", "--table-name", table, "--key", key),
        *("--update-expression", "SET title = :title ADD plays :one"),
        *("--expression-attribute-values", '{":title": {"S": "Feeling Good"}, ":one": {"N": "1"}}'),
        *("--return-values", "ALL_NEW"),
    )
    assert updated["Attributes"]["title"] == {"S": "Feeling Good"}
    assert updated["Attributes"]["plays"] == {"N": "1"}

    queried = aws(
        *("query", "--table-name", table),
        *("--key-condition-expression", "artist = :artist AND #year > :year"),
        *("--expression-attribute-names", '{"#year": "year"}'),
        *("--expression-attribute-values",),
        '{":artist": {"S": "Nina Simone"}, ":year": {"N": "1960"}}',
    )
    assert queried["Count"] == 1
    assert aws("scan", "--table-name", table)["Items"] == queried["Items"]

    aws("delete-item", "--table-name", table, "--key", key)
    assert aws("scan", "--table-name", table)["Count"] == 0


def test_a_false_condition_is_told_as_the_service_tells_it(aws, table):
    done = aws.run(
        *("delete-item", "--table-name", table),
        *("--key", '{"artist": {"S": "nobody"}, "year": {"N": "1"}}'),
        *("--condition-expression", "attribute_exists(artist)"),
    )
    assert done.returncode != 0
    assert "ConditionalCheckFailedException" in done.stderr
    assert "The conditional request failed" in done.stderr


def test_a_missing_table_is_told_as_the_service_tells_it(aws, table_name):
    done = aws.run("describe-table", "--table-name", table_name)
    assert done.returncode != 0
    assert "ResourceNotFoundException" in done.stderr
    assert table_name in done.stderr


def test_settings_transactions_statements_and_the_stream(aws, table):
    aws(
        *("update-table", "--table-name", table, "--stream-specification"),
        "StreamEnabled=true,StreamViewType=NEW_IMAGE",
    )
    aws("wait", "table-exists", "--table-name", table)
    described = aws("describe-table", "--table-name", table)["Table"]
    aws(
        *("update-time-to-live", "--table-name", table),
        *("--time-to-live-specification", "Enabled=true,AttributeName=until"),
    )
    ttl = aws("describe-time-to-live", "--table-name", table)["TimeToLiveDescription"]
    assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "until"}
    aws("tag-resource", "--resource-arn", described["TableArn"], "--tags", "Key=team,Value=red")
    tags = aws("list-tags-of-resource", "--resource-arn", described["TableArn"])["Tags"]
    assert tags == [{"Key": "team", "Value": "red"}]

    keys = [{"artist": {"S": "Bach"}, "year": {"N": str(year)}} for year in (1721, 1722)]
    puts = [{"Put": {"TableName": table, "Item": key}} for key in keys]
    aws("transact-write-items", "--transact-items", json.dumps(puts))
    gets = [{"Get": {"TableName": table, "Key": key}} for key in keys]
    read = aws("transact-get-items", "--transact-items", json.dumps(gets))
    assert [response["Item"] for response in read["Responses"]] == keys

    statement = f'UPDATE "{table}" SET title=? WHERE artist=? AND "year"=?'
    parameters = '[{"S": "Brandenburg Concertos"}, {"S": "Bach"}, {"N": "1721"}]'
    aws("execute-statement", "--statement", statement, "--parameters", parameters)

    stream = aws("list-streams", "--table-name", table, service="dynamodbstreams")["Streams"][0]
    assert stream["StreamArn"] == described["LatestStreamArn"]
    shards = aws(
        *("describe-stream", "--stream-arn", stream["StreamArn"]), service="dynamodbstreams"
    )["StreamDescription"]["Shards"]
    told = []
    for shard in shards:
        iterator = aws(
            *("get-shard-iterator", "--stream-arn", stream["StreamArn"]),
            *("--shard-id", shard["ShardId"], "--shard-iterator-type", "TRIM_HORIZON"),
            service="dynamodbstreams",
        )["ShardIterator"]
        page = aws("get-records", "--shard-iterator", iterator, service="dynamodbstreams")
        told += page["Records"]
    names = [(one["eventName"], one["dynamodb"]["NewImage"]["year"]["N"]) for one in told]
    assert names == [("INSERT", "1721"), ("INSERT", "1722"), ("MODIFY", "1721")]
