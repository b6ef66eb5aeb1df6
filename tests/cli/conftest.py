from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def table(client: Any) -> Iterator[str]:
    name = "log-of-test"
    client.create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    client.put_item(TableName=name, Item={"id": {"S": "a"}, "n": {"N": "1"}, "x": {"S": "y"}})
    client.put_item(TableName=name, Item={"id": {"S": "a"}, "n": {"N": "2"}, "z": {"NULL": True}})
    client.delete_item(TableName=name, Key={"id": {"S": "a"}})
    yield name
    client.delete_table(TableName=name)
