import pytest

from streamtable.core.errors import (
    ConditionalCheckFailed,
    ResourceNotFound,
    SerializationError,
    ValidationError,
)

KEY = {"id": {"S": "a"}}
INVALID = "One or more parameter values were invalid: "


async def refusal(service, operation, kind=ValidationError, **body):
    with pytest.raises(kind) as caught:
        await service(operation, **body)
    return caught.value.message


class TestPutAndGet:
    async def test_an_item_comes_back(self, service):
        await service.table()
        item = {**KEY, "name": {"S": "Ada"}, "age": {"N": "36.0"}}

        assert await service("PutItem", TableName="users", Item=item) == {}
        answer = await service("GetItem", TableName="users", Key=KEY)

        assert answer == {"Item": {**KEY, "name": {"S": "Ada"}, "age": {"N": "36"}}}

    async def test_no_item(self, service):
        await service.table()
        assert await service("GetItem", TableName="users", Key=KEY) == {}

    async def test_by_arn(self, service):
        await service.table()
        arn = "arn:aws:dynamodb:local:000000000000:table/users"
        await service("PutItem", TableName=arn, Item=KEY)
        assert await service("GetItem", TableName=arn, Key=KEY) == {"Item": KEY}

    async def test_projections(self, service):
        await service.table()
        item = {**KEY, "name": {"S": "Ada"}, "tags": {"L": [{"S": "x"}, {"S": "y"}]}}
        await service("PutItem", TableName="users", Item=item)

        by_expression = await service(
            "GetItem",
            TableName="users",
            Key=KEY,
            ProjectionExpression="#n, tags[1]",
            ExpressionAttributeNames={"#n": "name"},
        )
        by_name = await service(
            "GetItem", TableName="users", Key=KEY, AttributesToGet=["name", "no"]
        )
        nothing = await service(
            "GetItem", TableName="users", Key=KEY, ProjectionExpression="nowhere"
        )

        assert by_expression == {"Item": {"name": {"S": "Ada"}, "tags": {"L": [{"S": "y"}]}}}
        assert by_name == {"Item": {"name": {"S": "Ada"}}}
        assert nothing == {"Item": {}}

    async def test_capacity(self, service):
        await service.table()
        big = {**KEY, "x": {"S": "x" * 5000}}

        put = await service("PutItem", TableName="users", Item=big, ReturnConsumedCapacity="TOTAL")
        get = await service(
            "GetItem",
            TableName="users",
            Key=KEY,
            ConsistentRead=True,
            ReturnConsumedCapacity="INDEXES",
        )
        missing = await service(
            "GetItem",
            TableName="users",
            Key={"id": {"S": "b"}},
            ReturnConsumedCapacity="TOTAL",
        )

        assert put == {"ConsumedCapacity": {"TableName": "users", "CapacityUnits": 5.0}}
        assert get["ConsumedCapacity"] == {
            "TableName": "users",
            "CapacityUnits": 2.0,
            "Table": {"CapacityUnits": 2.0},
        }
        assert missing == {"ConsumedCapacity": {"TableName": "users", "CapacityUnits": 0.5}}

    async def test_the_old_item(self, service):
        await service.table()
        first, second = {**KEY, "n": {"N": "1"}}, {**KEY, "n": {"N": "2"}}

        assert await service("PutItem", TableName="users", Item=first, ReturnValues="ALL_OLD") == {}
        assert await service("PutItem", TableName="users", Item=second, ReturnValues="ALL_OLD") == {
            "Attributes": first
        }

    async def test_conditions(self, service):
        await service.table()
        request = {
            "TableName": "users",
            "Item": {**KEY, "n": {"N": "1"}},
            "ConditionExpression": "attribute_not_exists(id)",
        }
        await service("PutItem", **request)

        with pytest.raises(ConditionalCheckFailed) as plain:
            await service("PutItem", **request)
        with pytest.raises(ConditionalCheckFailed) as telling:
            await service("PutItem", **request, ReturnValuesOnConditionCheckFailure="ALL_OLD")

        assert plain.value.members == {}
        assert telling.value.members == {"Item": {**KEY, "n": {"N": "1"}}}
        await service(
            "PutItem",
            TableName="users",
            Item=KEY,
            Expected={"n": {"ComparisonOperator": "EQ", "AttributeValueList": [{"N": "1"}]}},
        )

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ({"Item": {"no": {"S": "a"}}}, INVALID + "Missing the key id in the item"),
            (
                {"Item": {"id": {"N": "1"}}},
                INVALID + "Type mismatch for key id expected: S actual: N",
            ),
            (
                {"Item": KEY, "ReturnValues": "ALL_NEW"},
                "ReturnValues can only be ALL_OLD or NONE",
            ),
            (
                {"Item": {**KEY, "x": {"S": "x" * 409_600}}},
                "Item size has exceeded the maximum allowed size",
            ),
            (
                {"Item": KEY, "ExpressionAttributeNames": {"#a": "a"}},
                "ExpressionAttributeNames can only be specified when using expressions",
            ),
            (
                {"Item": KEY, "ExpressionAttributeValues": {":a": {"S": "a"}}},
                (
                    "ExpressionAttributeValues can only be specified when using expressions: "
                    "ConditionExpression is null"
                ),
            ),
            (
                {
                    "Item": KEY,
                    "ConditionExpression": "attribute_exists(id)",
                    "ExpressionAttributeValues": {":a": {"S": "a"}},
                },
                "Value provided in ExpressionAttributeValues unused in expressions: keys: {:a}",
            ),
            (
                {
                    "Item": KEY,
                    "Expected": {"id": {"Exists": False}},
                    "ConditionExpression": "attribute_exists(id)",
                },
                (
                    "Can not use both expression and non-expression parameters in the same "
                    "request: Non-expression parameters: {Expected} "
                    "Expression parameters: {ConditionExpression}"
                ),
            ),
        ],
    )
    async def test_what_is_refused(self, service, body, message):
        await service.table()
        assert await refusal(service, "PutItem", TableName="users", **body) == message

    @pytest.mark.parametrize(
        "key",
        [{"no": {"S": "a"}}, {"id": {"N": "1"}}, {}, {**KEY, "more": {"S": "x"}}],
    )
    async def test_keys_of_another_schema(self, service, key):
        await service.table()
        for operation in ("GetItem", "DeleteItem", "UpdateItem"):
            message = await refusal(service, operation, TableName="users", Key=key)
            assert message == "The provided key element does not match the schema"

    async def test_an_empty_key(self, service):
        await service.table()
        message = await refusal(service, "GetItem", TableName="users", Key={"id": {"S": ""}})
        assert message == (
            "One or more parameter values are not valid. The AttributeValue for a key attribute "
            "cannot contain an empty string value. Key: id"
        )

    async def test_a_wrong_json_type(self, service):
        await service.table()
        await refusal(
            service, "PutItem", SerializationError, TableName="users", Item={"id": {"S": 1}}
        )


class TestOrder:
    """Which of two faults is answered."""

    async def test_a_missing_table_comes_after_expressions(self, service):
        message = await refusal(
            service,
            "PutItem",
            TableName="nowhere",
            Item=KEY,
            ConditionExpression="attribute_exists(",
        )
        assert message.startswith("Invalid ConditionExpression: Syntax error")

    async def test_a_missing_table_comes_after_values(self, service):
        for operation in ("GetItem", "DeleteItem", "UpdateItem"):
            message = await refusal(service, operation, TableName="nowhere", Key={"id": {"N": "x"}})
            assert message == ("The parameter cannot be converted to a numeric value: x")

    async def test_a_missing_table_comes_before_keys(self, service):
        message = await refusal(
            service, "GetItem", ResourceNotFound, TableName="nowhere", Key={"no": {"S": "a"}}
        )
        assert message == "Requested resource not found"

    async def test_expressions_come_before_keys(self, service):
        await service.table()
        message = await refusal(
            service,
            "DeleteItem",
            TableName="users",
            Key={"no": {"S": "a"}},
            ConditionExpression="a = :a",
        )
        assert message == (
            "Invalid ConditionExpression: An expression attribute value used in expression is not "
            "defined; attribute value: :a"
        )


class TestUpdate:
    async def test_an_item_is_made_and_changed(self, service):
        await service.table()
        request = {
            "TableName": "users",
            "Key": KEY,
            "UpdateExpression": "SET #n = if_not_exists(#n, :zero) + :one",
            "ExpressionAttributeNames": {"#n": "n"},
            "ExpressionAttributeValues": {":zero": {"N": "0"}, ":one": {"N": "1"}},
        }
        assert await service("UpdateItem", **request) == {}
        answer = await service("UpdateItem", **request, ReturnValues="ALL_NEW")
        assert answer == {"Attributes": {**KEY, "n": {"N": "2"}}}

    @pytest.mark.parametrize(
        ("kind", "attributes"),
        [
            ("ALL_OLD", {**KEY, "a": {"N": "1"}, "b": {"S": "x"}, "c": {"S": "y"}}),
            ("ALL_NEW", {**KEY, "a": {"N": "2"}, "c": {"S": "y"}}),
            ("UPDATED_OLD", {"a": {"N": "1"}, "b": {"S": "x"}}),
            ("UPDATED_NEW", {"a": {"N": "2"}}),
        ],
    )
    async def test_return_values(self, service, kind, attributes):
        await service.table()
        item = {**KEY, "a": {"N": "1"}, "b": {"S": "x"}, "c": {"S": "y"}}
        await service("PutItem", TableName="users", Item=item)
        answer = await service(
            "UpdateItem",
            TableName="users",
            Key=KEY,
            UpdateExpression="ADD a :one REMOVE b",
            ExpressionAttributeValues={":one": {"N": "1"}},
            ReturnValues=kind,
        )
        assert answer == {"Attributes": attributes}

    async def test_nothing_to_return(self, service):
        await service.table()
        for kind in ("ALL_OLD", "UPDATED_OLD"):
            answer = await service(
                "UpdateItem",
                TableName="users",
                Key={"id": {"S": kind}},
                UpdateExpression="SET a = :a",
                ExpressionAttributeValues={":a": {"N": "1"}},
                ReturnValues=kind,
            )
            assert answer == {}

    async def test_no_update_makes_an_item(self, service):
        await service.table()
        await service("UpdateItem", TableName="users", Key=KEY)
        await service("UpdateItem", TableName="users", Key={"id": {"S": "b"}}, AttributeUpdates={})
        assert (await service("Scan", TableName="users"))["Count"] == 2

    async def test_removals_make_no_item(self, service):
        await service.table()
        await service("UpdateItem", TableName="users", Key=KEY, UpdateExpression="REMOVE a")
        await service(
            "UpdateItem",
            TableName="users",
            Key=KEY,
            AttributeUpdates={"a": {"Action": "DELETE"}},
        )
        assert await service("GetItem", TableName="users", Key=KEY) == {}

    async def test_attribute_updates(self, service):
        await service.table()
        answer = await service(
            "UpdateItem",
            TableName="users",
            Key=KEY,
            AttributeUpdates={
                "a": {"Action": "ADD", "Value": {"N": "3"}},
                "b": {"Value": {"S": "x"}},
            },
            Expected={"id": {"Exists": False}},
            ReturnValues="ALL_NEW",
        )
        assert answer == {"Attributes": {**KEY, "a": {"N": "3"}, "b": {"S": "x"}}}

    async def test_the_key_stays(self, service):
        await service.table()
        message = await refusal(
            service,
            "UpdateItem",
            TableName="users",
            Key=KEY,
            UpdateExpression="SET id = :a",
            ExpressionAttributeValues={":a": {"S": "b"}},
        )
        assert message == (
            INVALID + "Cannot update attribute id. This attribute is part of the key"
        )

    async def test_an_item_grows_too_large(self, service):
        await service.table()
        await service("PutItem", TableName="users", Item={**KEY, "x": {"S": "x" * 300_000}})
        message = await refusal(
            service,
            "UpdateItem",
            TableName="users",
            Key=KEY,
            UpdateExpression="SET y = x, z = x",
        )
        assert message == "Item size to update has exceeded the maximum allowed size"

    async def test_a_failed_condition_changes_nothing(self, service):
        await service.table()
        with pytest.raises(ConditionalCheckFailed):
            await service(
                "UpdateItem",
                TableName="users",
                Key=KEY,
                UpdateExpression="SET a = :a",
                ConditionExpression="attribute_exists(id)",
                ExpressionAttributeValues={":a": {"N": "1"}},
            )
        assert await service("GetItem", TableName="users", Key=KEY) == {}


class TestDelete:
    async def test_an_item_goes(self, service):
        await service.table()
        item = {**KEY, "a": {"N": "1"}}
        await service("PutItem", TableName="users", Item=item)

        answer = await service(
            "DeleteItem",
            TableName="users",
            Key=KEY,
            ReturnValues="ALL_OLD",
            ReturnConsumedCapacity="TOTAL",
        )

        assert answer == {
            "Attributes": item,
            "ConsumedCapacity": {"TableName": "users", "CapacityUnits": 1.0},
        }
        assert await service("GetItem", TableName="users", Key=KEY) == {}
        assert await service("DeleteItem", TableName="users", Key=KEY) == {}

    async def test_a_condition(self, service):
        await service.table()
        with pytest.raises(ConditionalCheckFailed):
            await service(
                "DeleteItem",
                TableName="users",
                Key=KEY,
                ConditionExpression="attribute_exists(id)",
            )

    async def test_other_return_values(self, service):
        await service.table()
        message = await refusal(
            service, "DeleteItem", TableName="users", Key=KEY, ReturnValues="UPDATED_OLD"
        )
        assert message == "ReturnValues can only be ALL_OLD or NONE"
