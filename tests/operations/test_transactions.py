import pytest

from streamtable.core.errors import (
    IdempotentParameterMismatch,
    ResourceNotFound,
    TransactionCanceled,
    ValidationError,
)

LOCAL = {
    "AttributeDefinitions": [
        {"AttributeName": "id", "AttributeType": "S"},
        {"AttributeName": "seq", "AttributeType": "N"},
        {"AttributeName": "n", "AttributeType": "N"},
    ],
    "KeySchema": [
        {"AttributeName": "id", "KeyType": "HASH"},
        {"AttributeName": "seq", "KeyType": "RANGE"},
    ],
    "LocalSecondaryIndexes": [
        {
            "IndexName": "by_n",
            "KeySchema": [
                {"AttributeName": "id", "KeyType": "HASH"},
                {"AttributeName": "n", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "ALL"},
        }
    ],
}


def key(text):
    return {"id": {"S": text}}


def put(text, table="users", **attributes):
    return {"Put": {"TableName": table, "Item": {**key(text), **attributes}}}


def increment(text, **more):
    return {
        "Update": {
            "TableName": "users",
            "Key": key(text),
            "UpdateExpression": "SET n = n + :one",
            "ExpressionAttributeValues": {":one": {"N": "1"}},
            **more,
        }
    }


def delete(text):
    return {"Delete": {"TableName": "users", "Key": key(text)}}


def check(text, condition="attribute_exists(id)", **more):
    return {
        "ConditionCheck": {
            "TableName": "users",
            "Key": key(text),
            "ConditionExpression": condition,
            **more,
        }
    }


async def write(service, *actions, **body):
    return await service("TransactWriteItems", TransactItems=list(actions), **body)


async def read(service, *texts, table="users", **body):
    gets = [{"Get": {"TableName": table, "Key": key(text)}} for text in texts]
    return await service("TransactGetItems", TransactItems=gets, **body)


async def cancelled(service, *actions):
    with pytest.raises(TransactionCanceled) as caught:
        await write(service, *actions)
    return caught.value


@pytest.fixture
async def users(service):
    await service.table()
    for text in "ab":
        await service("PutItem", TableName="users", Item={**key(text), "n": {"N": "1"}})


@pytest.mark.usefixtures("users")
class TestWrite:
    async def test_all_or_none(self, service):
        assert (
            await write(
                service,
                put("c"),
                increment("a"),
                delete("b"),
                check("d", "attribute_not_exists(id)"),
            )
            == {}
        )
        found = await read(service, "a", "b", "c")
        assert found == {
            "Responses": [{"Item": {**key("a"), "n": {"N": "2"}}}, {}, {"Item": key("c")}]
        }

        await cancelled(service, put("d"), increment("a"), check("b"))
        assert await read(service, "a", "d") == {
            "Responses": [{"Item": {**key("a"), "n": {"N": "2"}}}, {}]
        }

    async def test_reasons_in_order_with_the_item_where_asked(self, service):
        error = await cancelled(
            service,
            put("c"),
            check("a", "n > id", ReturnValuesOnConditionCheckFailure="ALL_OLD"),
            check("nobody", ReturnValuesOnConditionCheckFailure="ALL_OLD"),
            increment("b", ConditionExpression="n = id"),
            increment("d"),
        )
        assert error.message == (
            "Transaction cancelled, please refer cancellation reasons for specific reasons "
            "[None, ConditionalCheckFailed, ConditionalCheckFailed, ConditionalCheckFailed, "
            "ValidationError]"
        )
        failed = {"Code": "ConditionalCheckFailed", "Message": "The conditional request failed"}
        assert error.members["CancellationReasons"] == [
            {"Code": "None"},
            {**failed, "Item": {**key("a"), "n": {"N": "1"}}},
            failed,
            failed,
            {
                "Code": "ValidationError",
                "Message": (
                    "The provided expression refers to an attribute that does not exist in the item"
                ),
            },
        ]

    async def test_it_costs_twice(self, service):
        await service.table("others")
        big = {"x": {"S": "x" * 1500}}
        answer = await write(
            service,
            put("c", **big),
            put("c", "others"),
            check("nobody", "attribute_not_exists(id)"),
            ReturnConsumedCapacity="INDEXES",
        )
        units = answer["ConsumedCapacity"]
        assert units == [
            {
                "TableName": name,
                "CapacityUnits": amount,
                "WriteCapacityUnits": amount,
                "Table": {"CapacityUnits": amount, "WriteCapacityUnits": amount},
            }
            for name, amount in [("users", 6.0), ("others", 2.0)]
        ]

    async def test_indexes_cost_twice_and_have_collections(self, service):
        await service.table("posts", **LOCAL)
        post = {"seq": {"N": "1"}, "n": {"N": "5"}}
        answer = await write(
            service,
            put("c", "posts", **post),
            put("c", "posts", **{**post, "seq": {"N": "2"}}),
            put("c"),
            ReturnConsumedCapacity="INDEXES",
            ReturnItemCollectionMetrics="SIZE",
        )
        posts = answer["ConsumedCapacity"][0]
        assert posts["CapacityUnits"] == 8.0
        assert posts["LocalSecondaryIndexes"] == {
            "by_n": {"CapacityUnits": 4.0, "WriteCapacityUnits": 4.0}
        }
        assert answer["ItemCollectionMetrics"] == {
            "posts": [{"ItemCollectionKey": key("c"), "SizeEstimateRangeGB": [0.0, 1.0]}]
        }

    async def test_a_token_makes_it_once(self, service):
        first = await write(
            service, increment("a"), ClientRequestToken="t", ReturnConsumedCapacity="TOTAL"
        )
        assert first["ConsumedCapacity"] == [
            {"TableName": "users", "CapacityUnits": 2.0, "WriteCapacityUnits": 2.0}
        ]
        again = await write(
            service, increment("a"), ClientRequestToken="t", ReturnConsumedCapacity="INDEXES"
        )
        assert again["ConsumedCapacity"] == [
            {
                "TableName": "users",
                "CapacityUnits": 2.0,
                "ReadCapacityUnits": 2.0,
                "Table": {"CapacityUnits": 2.0, "ReadCapacityUnits": 2.0},
            }
        ]
        assert await write(service, increment("a"), ClientRequestToken="t") == {}
        found = await read(service, "a")
        assert found["Responses"][0]["Item"]["n"] == {"N": "2"}

    async def test_a_token_is_for_one_request(self, service):
        await write(service, put("c"), ClientRequestToken="t")
        with pytest.raises(IdempotentParameterMismatch):
            await write(service, put("d"), ClientRequestToken="t")
        # The order of an object's members means nothing.
        item = dict(reversed({"TableName": "users", "Item": key("c")}.items()))
        assert await write(service, {"Put": item}, ClientRequestToken="t") == {}

    @pytest.mark.parametrize("token", ["", "t" * 37])
    async def test_how_long_a_token_is(self, service, token):
        with pytest.raises(ValidationError, match="at 'clientRequestToken' failed to satisfy"):
            await write(service, put("c"), ClientRequestToken=token)

    async def test_a_check_has_a_condition(self, service):
        action = check("a")
        del action["ConditionCheck"]["ConditionExpression"]
        with pytest.raises(ValidationError) as caught:
            await write(service, action)
        assert caught.value.message == (
            "1 validation error detected: Value null at "
            "'transactItems.1.member.conditionCheck.conditionExpression' failed to satisfy "
            "constraint: Member must not be null"
        )

    async def test_by_arn(self, service):
        arn = "arn:aws:dynamodb:local:000000000000:table/users"
        await write(service, put("c", arn))
        assert await read(service, "c", table=arn) == {"Responses": [{"Item": key("c")}]}
        with pytest.raises(ValidationError, match="multiple operations on one item"):
            await write(service, put("c", arn), delete("c"))

    async def test_a_table_that_does_not_exist(self, service):
        with pytest.raises(ResourceNotFound) as caught:
            await write(service, put("c"), put("c", "nobody"))
        assert caught.value.message == "Requested resource not found"
        assert await read(service, "c") == {"Responses": [{}]}

    async def test_how_many_actions(self, service):
        assert await write(service, *(put(str(number)) for number in range(100))) == {}
        with pytest.raises(ValidationError, match="Member must have length less than or equal"):
            await write(service, *(put(str(number)) for number in range(101)))
        with pytest.raises(ValidationError, match="Member must have length greater than or equal"):
            await write(service)


@pytest.mark.usefixtures("users")
class TestRead:
    async def test_items_in_order_and_what_they_cost(self, service):
        await write(service, put("c", x={"S": "x" * 5000}))
        answer = await read(service, "nobody", "c", "a", ReturnConsumedCapacity="TOTAL")
        assert [bool(response) for response in answer["Responses"]] == [False, True, True]
        assert answer["Responses"][2] == {"Item": {**key("a"), "n": {"N": "1"}}}
        assert answer["ConsumedCapacity"] == [
            {"TableName": "users", "CapacityUnits": 8.0, "ReadCapacityUnits": 8.0}
        ]

    async def test_projections(self, service):
        gets = [
            {"Get": {"TableName": "users", "Key": key(text), "ProjectionExpression": projection}}
            for text, projection in [("a", "n"), ("b", "nowhere"), ("nobody", "n")]
        ]
        assert await service("TransactGetItems", TransactItems=gets) == {
            "Responses": [{"Item": {"n": {"N": "1"}}}, {}, {}]
        }

    async def test_how_many_items(self, service):
        answer = await read(service, *map(str, range(100)))
        assert answer == {"Responses": [{}] * 100}
        with pytest.raises(ValidationError, match="Member must have length less than or equal"):
            await read(service, *map(str, range(101)))

    async def test_no_more_than_4_mb(self, service):
        texts = [f"big{number}" for number in range(11)]
        for text in texts:
            await service(
                "PutItem", TableName="users", Item={**key(text), "x": {"S": "x" * 400_000}}
            )
        assert len((await read(service, *texts[:10]))["Responses"]) == 10
        with pytest.raises(ValidationError, match="cannot exceed 4 MB"):
            await read(service, *texts)
