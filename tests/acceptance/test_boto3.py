"""boto3's client and resource, with the exceptions and helpers that programs use."""

from decimal import Decimal
from typing import Any

import pytest
from boto3.dynamodb.conditions import Attr, Key
from boto3.dynamodb.types import Binary

from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance


@pytest.fixture
def users(resource, table_name):
    table = resource.create_table(
        TableName=table_name,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    table.wait_until_exists()
    yield table
    table.delete()
    table.wait_until_not_exists()


@pytest.fixture
def events(resource, table_name):
    table = resource.create_table(
        TableName=f"{table_name}-events",
        AttributeDefinitions=[
            {"AttributeName": "user", "AttributeType": "S"},
            {"AttributeName": "at", "AttributeType": "N"},
        ],
        KeySchema=[
            {"AttributeName": "user", "KeyType": "HASH"},
            {"AttributeName": "at", "KeyType": "RANGE"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    table.wait_until_exists()
    yield table
    table.delete()


def test_all_ten_types_come_back_as_they_went(users):
    item = {
        "id": "ada",
        "string": "é \U0001f600",
        "number": Decimal("-123.4560000000000000000000000000000001"),
        "binary": Binary(bytes(range(256))),
        "strings": {"a", "b"},
        "numbers": {Decimal(1), Decimal("2.5")},
        "binaries": {Binary(b"x"), Binary(b"y")},
        "list": ["a", Decimal(1), [None], {}],
        "map": {"deep": {"er": True}},
        "true": True,
        "null": None,
    }
    users.put_item(Item=item)
    assert users.get_item(Key={"id": "ada"}, ConsistentRead=True)["Item"] == item


def test_a_second_put_if_not_exists_raises_and_shows_the_item(users):
    client = users.meta.client
    unless_there = Attr("id").not_exists()
    users.put_item(Item={"id": "ada", "n": 1}, ConditionExpression=unless_there)
    with pytest.raises(client.exceptions.ConditionalCheckFailedException) as failed:
        users.put_item(
            Item={"id": "ada", "n": 2},
            ConditionExpression=unless_there,
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    assert failed.value.response["Error"]["Message"] == "The conditional request failed"
    assert failed.value.response["Item"] == {"id": {"S": "ada"}, "n": {"N": "1"}}
    assert failed.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_an_update_returns_what_was_asked_for(users):
    users.put_item(Item={"id": "ada", "visits": 1, "tags": {"new"}, "settings": {}, "old": "x"})
    updated = users.update_item(
        Key={"id": "ada"},
        UpdateExpression="SET visits = visits + :n, #s.#t = :v REMOVE #old ADD tags :tags",
        ConditionExpression="visits < :limit",
        ExpressionAttributeNames={"#s": "settings", "#t": "theme", "#old": "old"},
        ExpressionAttributeValues={":n": 2, ":v": "dark", ":tags": {"more"}, ":limit": 10},
        ReturnValues="ALL_NEW",
    )
    expected = {"id": "ada", "visits": 3, "tags": {"new", "more"}, "settings": {"theme": "dark"}}
    assert updated["Attributes"] == expected
    assert users.get_item(Key={"id": "ada"}, ConsistentRead=True)["Item"] == expected


def test_a_delete_returns_the_old_item(users):
    users.put_item(Item={"id": "ada", "n": 1})
    gone = users.delete_item(Key={"id": "ada"}, ReturnValues="ALL_OLD")
    assert gone["Attributes"] == {"id": "ada", "n": 1}
    assert "Item" not in users.get_item(Key={"id": "ada"})


def test_numbers_sort_as_numbers_both_ways(events):
    times = [Decimal(text) for text in ["-100", "-1.5", "0", "1e-3", "2", "10", "1e20"]]
    with events.batch_writer() as batch:
        for time in reversed(times):
            batch.put_item(Item={"user": "ada", "at": time})
    ordered = events.query(KeyConditionExpression=Key("user").eq("ada"), ConsistentRead=True)
    assert [item["at"] for item in ordered["Items"]] == times
    backwards = events.query(
        KeyConditionExpression=Key("user").eq("ada") & Key("at").between(-2, 10),
        ScanIndexForward=False,
    )
    assert [item["at"] for item in backwards["Items"]] == times[5:0:-1]


def test_pages_have_every_item_once(events):
    with events.batch_writer() as batch:
        for n in range(60):
            batch.put_item(Item={"user": f"user-{n % 3}", "at": n, "even": n % 2 == 0})
    paginator = events.meta.client.get_paginator("query")
    pages = list(
        paginator.paginate(
            TableName=events.name,
            KeyConditionExpression=Key("user").eq("user-1"),
            FilterExpression=Attr("even").eq(value=True),
            PaginationConfig={"PageSize": 7},
        )
    )
    assert len(pages) == 3
    assert sum(page["ScannedCount"] for page in pages) == 20
    assert [item["at"] for page in pages for item in page["Items"]] == list(range(4, 60, 6))

    segments = [
        item["at"]
        for segment in range(4)
        for page in events.meta.client.get_paginator("scan").paginate(
            TableName=events.name, Segment=segment, TotalSegments=4, Limit=5
        )
        for item in page["Items"]
    ]
    assert sorted(segments) == list(range(60))


def test_batches_span_tables(resource, users, events):
    client = resource.meta.client
    written = client.batch_write_item(
        RequestItems={
            users.name: [{"PutRequest": {"Item": {"id": str(n)}}} for n in range(10)],
            events.name: [{"PutRequest": {"Item": {"user": "ada", "at": n}}} for n in range(10)],
        }
    )
    assert written["UnprocessedItems"] == {}
    read = client.batch_get_item(
        RequestItems={
            users.name: {"Keys": [{"id": str(n)} for n in range(20)]},
            events.name: {"Keys": [{"user": "ada", "at": 3}], "ConsistentRead": True},
        }
    )
    assert sorted(int(item["id"]) for item in read["Responses"][users.name]) == list(range(10))
    assert read["Responses"][events.name] == [{"user": "ada", "at": 3}]


def test_the_endpoint_that_is_described_is_the_one_that_answers(client, endpoint):
    [described] = client.describe_endpoints()["Endpoints"]
    assert f"http://{described['Address']}" == endpoint


def test_errors_are_the_sdk_s_own_exceptions(client, users, table_name):
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_item(TableName=f"{table_name}-none", Key={"id": {"S": "x"}})
    with pytest.raises(client.exceptions.ResourceInUseException) as used:
        client.create_table(
            TableName=users.name,
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
    assert users.name in used.value.response["Error"]["Message"]
    with pytest.raises(client.exceptions.ClientError, match="ValidationException"):
        client.put_item(TableName=users.name, Item={"id": {"N": "1"}})


def test_indexes_of_a_table_and_one_that_is_added_later(client, events):
    with events.batch_writer() as batch:
        for n in range(12):
            batch.put_item(Item={"user": "ada", "at": n, "kind": "even" if n % 2 == 0 else "odd"})
    client.update_table(
        TableName=events.name,
        AttributeDefinitions=[
            {"AttributeName": "kind", "AttributeType": "S"},
            {"AttributeName": "at", "AttributeType": "N"},
        ],
        GlobalSecondaryIndexUpdates=[
            {
                "Create": {
                    "IndexName": "by-kind",
                    "KeySchema": [
                        {"AttributeName": "kind", "KeyType": "HASH"},
                        {"AttributeName": "at", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            }
        ],
    )

    def status() -> str:
        events.reload()
        return str(events.global_secondary_indexes[0]["IndexStatus"])

    wait_until(lambda: status() == "ACTIVE", "the index to be built")
    assert events.scan(IndexName="by-kind")["Count"] == 12
    odd = events.query(
        IndexName="by-kind",
        KeyConditionExpression=Key("kind").eq("odd") & Key("at").gt(5),
        ScanIndexForward=False,
    )
    assert odd["Items"] == [{"user": "ada", "at": n, "kind": "odd"} for n in (11, 9, 7)]
    with pytest.raises(client.exceptions.ClientError, match="Consistent reads are not supported"):
        events.query(
            IndexName="by-kind",
            KeyConditionExpression=Key("kind").eq("odd"),
            ConsistentRead=True,
        )


def test_transactions_do_all_or_nothing_and_once(resource, users, events):
    client = resource.meta.client
    users.put_item(Item={"id": "ada", "left": 10})
    order: dict[str, Any] = {
        "ClientRequestToken": f"order-{users.name}"[:36],
        "TransactItems": [
            {
                "Update": {
                    "TableName": users.name,
                    "Key": {"id": "ada"},
                    "UpdateExpression": "SET #left = #left - :n",
                    "ConditionExpression": "#left >= :n",
                    "ExpressionAttributeNames": {"#left": "left"},
                    "ExpressionAttributeValues": {":n": 3},
                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                }
            },
            {"Put": {"TableName": events.name, "Item": {"user": "ada", "at": 1}}},
        ],
    }
    client.transact_write_items(**order)
    client.transact_write_items(**order)
    read = client.transact_get_items(
        TransactItems=[
            {"Get": {"TableName": users.name, "Key": {"id": "ada"}}},
            {"Get": {"TableName": events.name, "Key": {"user": "ada", "at": 1}}},
            {"Get": {"TableName": events.name, "Key": {"user": "ada", "at": 2}}},
        ]
    )
    items = [response.get("Item") for response in read["Responses"]]
    assert items == [{"id": "ada", "left": 7}, {"user": "ada", "at": 1}, None]

    with pytest.raises(client.exceptions.IdempotentParameterMismatchException):
        client.transact_write_items(**(order | {"TransactItems": order["TransactItems"][1:]}))
    order["TransactItems"][0]["Update"]["ExpressionAttributeValues"] = {":n": 8}
    order["ClientRequestToken"] = f"again-{users.name}"[:36]
    with pytest.raises(client.exceptions.TransactionCanceledException) as cancelled:
        client.transact_write_items(**order)
    reasons = cancelled.value.response["CancellationReasons"]
    assert [reason["Code"] for reason in reasons] == ["ConditionalCheckFailed", "None"]
    assert reasons[0]["Item"] == {"id": {"S": "ada"}, "left": {"N": "7"}}


def test_statements_page_and_change_items(resource, events):
    client = resource.meta.client
    for n in range(7):
        client.execute_statement(
            Statement=f"INSERT INTO \"{events.name}\" VALUE {{'user': ?, 'at': ?}}",
            Parameters=["ada", n],
        )
    select = f'SELECT "at" FROM "{events.name}" WHERE "user" = ? AND "at" >= ? ORDER BY "at" DESC'
    found: list[int] = []
    token: dict[str, str] = {}
    while True:
        page = client.execute_statement(
            Statement=select, Parameters=["ada", 2], Limit=2, ConsistentRead=True, **token
        )
        found += [item["at"] for item in page["Items"]]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert found == [6, 5, 4, 3, 2]
    deleted = client.execute_statement(
        Statement=f'DELETE FROM "{events.name}" WHERE "user" = ? AND "at" = ? RETURNING ALL OLD *',
        Parameters=["ada", 6],
    )
    assert deleted["Items"] == [{"user": "ada", "at": 6}]
    with pytest.raises(client.exceptions.DuplicateItemException):
        client.execute_statement(
            Statement=f"INSERT INTO \"{events.name}\" VALUE {{'user': ?, 'at': ?}}",
            Parameters=["ada", 1],
        )
