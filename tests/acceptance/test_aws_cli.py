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

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, "dynamodb", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def __call__(self, *arguments: str) -> Any:
        done = self.run(*arguments)
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
