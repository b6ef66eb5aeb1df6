from typing import Any

import pytest

from streamtable.core.errors import ResourceNotFound, ServiceUnavailable, ValidationError


def put(name: str, **attributes: Any) -> dict[str, Any]:
    return {"PutRequest": {"Item": {"id": {"S": name}, **attributes}}}


def delete(name: str) -> dict[str, Any]:
    return {"DeleteRequest": {"Key": {"id": {"S": name}}}}


def keys(*names: str) -> list[dict[str, Any]]:
    return [{"id": {"S": name}} for name in names]


async def refusal(service, operation, kind=ValidationError, **body):
    with pytest.raises(kind) as caught:
        await service(operation, **body)
    return caught.value.message


class TestBatchWrite:
    async def test_puts_and_deletes_of_two_tables(self, service):
        await service.table("users")
        await service.table("shops")
        await service("PutItem", TableName="users", Item={"id": {"S": "old"}})

        answer = await service(
            "BatchWriteItem",
            RequestItems={"users": [put("a"), put("b"), delete("old")], "shops": [put("c")]},
            ReturnConsumedCapacity="TOTAL",
        )

        assert answer["UnprocessedItems"] == {}
        assert sorted(answer["ConsumedCapacity"], key=lambda units: units["TableName"]) == [
            {"TableName": "shops", "CapacityUnits": 1.0},
            {"TableName": "users", "CapacityUnits": 3.0},
        ]
        users = await service("Scan", TableName="users")
        assert sorted(item["id"]["S"] for item in users["Items"]) == ["a", "b"]
        assert (await service("Scan", TableName="shops"))["Count"] == 1

    async def test_what_a_shard_cannot_take_comes_back(self, service):
        await service.table()
        requests = [put(f"u{number}") for number in range(20)]
        broken = service.shards[0]

        async def unavailable(writes, context):
            raise ServiceUnavailable("not now")

        broken.write_many = unavailable
        answer = await service("BatchWriteItem", RequestItems={"users": requests})

        left = answer["UnprocessedItems"]["users"]
        assert 0 < len(left) < 20
        assert all(request in requests for request in left)
        assert (await service("Scan", TableName="users"))["Count"] == 20 - len(left)

    async def test_nothing_can_be_taken(self, service):
        await service.table()

        async def unavailable(writes, context):
            raise ServiceUnavailable("not now")

        for number in range(service.shards.count):
            service.shards[number].write_many = unavailable
        await refusal(
            service, "BatchWriteItem", ServiceUnavailable, RequestItems={"users": [put("a")]}
        )

    @pytest.mark.parametrize(
        ("requests", "message"),
        [
            ([put("a"), delete("a")], "Provided list of item keys contains duplicates"),
            (
                [{**put("a"), **delete("a")}],
                (
                    "Supplied AttributeValue has more than one datatypes set, must contain exactly "
                    "one of the supported datatypes"
                ),
            ),
            (
                [{}],
                (
                    "Supplied AttributeValue is empty, must contain exactly one of the supported "
                    "datatypes"
                ),
            ),
            (
                [put("a", x={"S": "x" * 409_600})],
                "Item size has exceeded the maximum allowed size",
            ),
            (
                [{"DeleteRequest": {"Key": {"no": {"S": "a"}}}}],
                "The provided key element does not match the schema",
            ),
            (
                [{"PutRequest": {"Item": {"no": {"S": "a"}}}}],
                "The provided key element does not match the schema",
            ),
            (
                [{"PutRequest": {"Item": {"id": {"N": "1"}}}}],
                "The provided key element does not match the schema",
            ),
            (
                [put("")],
                (
                    "One or more parameter values are not valid. The AttributeValue for a key "
                    "attribute cannot contain an empty string value. Key: id"
                ),
            ),
        ],
    )
    async def test_what_is_refused(self, service, requests, message):
        await service.table()
        assert await refusal(service, "BatchWriteItem", RequestItems={"users": requests}) == message
        assert (await service("Scan", TableName="users"))["Count"] == 0

    async def test_too_many(self, service):
        await service.table("users")
        await service.table("shops")
        half = [put(str(number)) for number in range(13)]
        message = await refusal(
            service, "BatchWriteItem", RequestItems={"users": half, "shops": half}
        )
        assert message == "Too many items requested for the BatchWriteItem call"

    async def test_a_missing_table(self, service):
        await service.table()
        await refusal(
            service,
            "BatchWriteItem",
            ResourceNotFound,
            RequestItems={"users": [put("a")], "nowhere": [put("a")]},
        )
        assert (await service("Scan", TableName="users"))["Count"] == 0


class TestBatchGet:
    @pytest.fixture
    async def service(self, service):
        for table in ("users", "shops"):
            await service.table(table)
            for name in "abc":
                item = {"id": {"S": name}, "n": {"N": "1"}, "text": {"S": f"{table} {name}"}}
                await service("PutItem", TableName=table, Item=item)
        return service

    async def test_items_of_two_tables(self, service):
        answer = await service(
            "BatchGetItem",
            RequestItems={
                "users": {"Keys": keys("a", "none"), "ConsistentRead": True},
                "shops": {
                    "Keys": keys("b", "c"),
                    "ProjectionExpression": "#n",
                    "ExpressionAttributeNames": {"#n": "n"},
                },
            },
            ReturnConsumedCapacity="TOTAL",
        )
        assert answer == {
            "Responses": {
                "users": [{"id": {"S": "a"}, "n": {"N": "1"}, "text": {"S": "users a"}}],
                "shops": [{"n": {"N": "1"}}, {"n": {"N": "1"}}],
            },
            "UnprocessedKeys": {},
            "ConsumedCapacity": [
                {"TableName": "users", "CapacityUnits": 2.0},
                {"TableName": "shops", "CapacityUnits": 1.0},
            ],
        }

    async def test_what_does_not_fit_comes_back(self, service):
        big = {"S": "x" * 400_000}
        names = [f"big{number}" for number in range(50)]
        for name in names:
            await service("PutItem", TableName="users", Item={"id": {"S": name}, "text": big})
        request = {"Keys": keys(*names), "ProjectionExpression": "id"}

        first = await service("BatchGetItem", RequestItems={"users": request})
        left = first["UnprocessedKeys"]["users"]
        second = await service("BatchGetItem", RequestItems=first["UnprocessedKeys"])

        assert len(first["Responses"]["users"]) == 41
        assert left == {**request, "Keys": keys(*names[41:])}
        assert len(second["Responses"]["users"]) == 9
        assert second["UnprocessedKeys"] == {}

    @pytest.mark.parametrize(
        ("request_items", "message"),
        [
            (
                {"users": {"Keys": keys("a", "a")}},
                "Provided list of item keys contains duplicates",
            ),
            (
                {"users": {"Keys": [{"no": {"S": "a"}}]}},
                "The provided key element does not match the schema",
            ),
            (
                {
                    "users": {
                        "Keys": keys("a"),
                        "AttributesToGet": ["id"],
                        "ProjectionExpression": "id",
                    }
                },
                (
                    "Can not use both expression and non-expression parameters in the same "
                    "request: Non-expression parameters: {AttributesToGet} "
                    "Expression parameters: {ProjectionExpression}"
                ),
            ),
            (
                {
                    "users": {"Keys": keys("a"), "AttributesToGet": ["id"]},
                    "shops": {"Keys": keys("a"), "ProjectionExpression": "id"},
                },
                (
                    "Can not use both expression and non-expression parameters in the same "
                    "request: Non-expression parameters: {AttributesToGet} "
                    "Expression parameters: {ProjectionExpression}"
                ),
            ),
            (
                {name: {"Keys": keys(*map(str, range(51)))} for name in ("users", "shops")},
                "Too many items requested for the BatchGetItem call",
            ),
        ],
    )
    async def test_what_is_refused(self, service, request_items, message):
        assert await refusal(service, "BatchGetItem", RequestItems=request_items) == message

    async def test_a_missing_table(self, service):
        await refusal(
            service, "BatchGetItem", ResourceNotFound, RequestItems={"no.": {"Keys": keys("a")}}
        )
        message = await refusal(
            service, "BatchGetItem", RequestItems={"no.": {"Keys": keys("a", "b", "a")}}
        )
        assert message == "Provided list of item keys contains duplicates"


async def test_a_batch_of_nothing_is_refused(service):
    for operation in ("BatchGetItem", "BatchWriteItem"):
        message = await refusal(service, operation, RequestItems={})
        assert message == f"The requestItems parameter is required for {operation}"
