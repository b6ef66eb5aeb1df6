"""kcat, so librdkafka as Debian ships it, on the embedded broker."""

import json
import subprocess

import pytest

from tests.support.commands import require

pytestmark = pytest.mark.acceptance


@pytest.fixture
def kcat(server):
    program = require("kcat", "apt install kcat to test with it")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [program, "-b", server.broker, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_log_has_a_readable_record_for_each_write(kcat, server, client, table_name):
    client.create_table(
        TableName=table_name,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    client.get_waiter("table_exists").wait(TableName=table_name, WaiterConfig={"Delay": 1})
    client.put_item(TableName=table_name, Item={"id": {"S": "ada"}, "n": {"N": "1"}})
    client.put_item(TableName=table_name, Item={"id": {"S": "ada"}, "n": {"N": "2"}})
    client.delete_item(TableName=table_name, Key={"id": {"S": "ada"}})

    printed = kcat(
        "-C", "-t", f"{server.node()['region']}.changelog", "-o", "beginning", "-e", "-q"
    )
    changes = [
        change
        for line in printed.splitlines()
        for change in json.loads(line).get("changes", [])
        if change["table"] == table_name
    ]
    assert [change["eventName"] for change in changes] == ["INSERT", "MODIFY", "REMOVE"]
    assert changes[1]["dynamodb"]["OldImage"] == {"id": {"S": "ada"}, "n": {"N": "1"}}
    assert changes[1]["dynamodb"]["NewImage"] == {"id": {"S": "ada"}, "n": {"N": "2"}}


def test_it_lists_the_topics(kcat, server):
    listed = json.loads(kcat("-L", "-J"))
    names = {topic["topic"]: topic for topic in listed["topics"]}
    node = server.node()
    changelog = names[f"{node['region']}.changelog"]
    assert len(changelog["partitions"]) == node["shards"]
    assert len(names[f"{node['region']}.catalog"]["partitions"]) == 1
