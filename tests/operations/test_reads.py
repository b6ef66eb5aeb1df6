from typing import Any

import pytest

from streamtable.core.errors import ResourceNotFound, ValidationError

INVALID = "One or more parameter values were invalid: "


async def refusal(service, operation, kind=ValidationError, **body):
    with pytest.raises(kind) as caught:
        await service(operation, **body)
    return caught.value.message


async def fill(service, partition="a", count=10, size=0, name="posts"):
    for number in range(count):
        item: dict[str, Any] = {
            "id": {"S": partition},
            "seq": {"N": str(number)},
            "even": {"BOOL": number % 2 == 0},
        }
        if size:
            item["text"] = {"S": "x" * size}
        await service("PutItem", TableName=name, Item=item)


def query(condition="id = :id", name="posts", **changes: Any) -> dict[str, Any]:
    values = {":id": {"S": "a"}, **changes.pop("values", {})}
    return {
        "TableName": name,
        "KeyConditionExpression": condition,
        "ExpressionAttributeValues": values,
        **changes,
    }


def times(answer) -> list[int]:
    return [int(item["seq"]["N"]) for item in answer["Items"]]


class TestQuery:
    async def test_a_partition_in_order(self, service):
        await service.sorted_table()
        await fill(service, count=12)
        await fill(service, "b", 3)

        answer = await service("Query", **query())
        backwards = await service("Query", **query(ScanIndexForward=False))

        assert times(answer) == list(range(12))
        assert (answer["Count"], answer["ScannedCount"]) == (12, 12)
        assert "LastEvaluatedKey" not in answer
        assert times(backwards) == list(range(11, -1, -1))

    @pytest.mark.parametrize(
        ("condition", "values", "expected"),
        [
            ("seq = :x", {":x": 3}, [3]),
            ("seq < :x", {":x": 3}, [0, 1, 2]),
            ("seq <= :x", {":x": 3}, [0, 1, 2, 3]),
            ("seq > :x", {":x": 7}, [8, 9]),
            ("seq >= :x", {":x": 7}, [7, 8, 9]),
            ("seq BETWEEN :x AND :y", {":x": 2, ":y": 4}, [2, 3, 4]),
        ],
    )
    async def test_sort_conditions(self, service, condition, values, expected):
        await service.sorted_table()
        await fill(service)
        numbers = {name: {"N": str(value)} for name, value in values.items()}
        answer = await service("Query", **query(f"id = :id AND {condition}", values=numbers))
        assert times(answer) == expected

    async def test_begins_with(self, service):
        await service.sorted_table(kind="S")
        for text in ("a", "ab", "abc", "ac", "b"):
            await service("PutItem", TableName="posts", Item={"id": {"S": "a"}, "seq": {"S": text}})
        answer = await service(
            "Query", **query("id = :id AND begins_with(seq, :p)", values={":p": {"S": "ab"}})
        )
        assert [item["seq"]["S"] for item in answer["Items"]] == ["ab", "abc"]

    @pytest.mark.parametrize("forward", [True, False])
    async def test_pages_of_a_limit(self, service, forward):
        await service.sorted_table()
        await fill(service)
        found: list[int] = []
        start: dict[str, Any] = {}
        pages = 0
        while True:
            answer = await service("Query", **query(Limit=4, ScanIndexForward=forward, **start))
            found += times(answer)
            pages += 1
            if "LastEvaluatedKey" not in answer:
                break
            assert list(answer["LastEvaluatedKey"]) == ["id", "seq"]
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}
        assert found == sorted(range(10), reverse=not forward)
        assert pages == 3

    async def test_a_limit_that_ends_with_the_items_still_has_a_key(self, service):
        await service.sorted_table()
        await fill(service, count=2)
        answer = await service("Query", **query(Limit=2))
        assert answer["LastEvaluatedKey"] == {"id": {"S": "a"}, "seq": {"N": "1"}}
        rest = await service(
            "Query", **query(Limit=2, ExclusiveStartKey=answer["LastEvaluatedKey"])
        )
        assert rest == {"Items": [], "Count": 0, "ScannedCount": 0}

    async def test_pages_of_a_megabyte(self, service):
        await service.sorted_table()
        await fill(service, count=5, size=300_000)
        answer = await service("Query", **query(ReturnConsumedCapacity="TOTAL"))
        assert times(answer) == [0, 1, 2, 3]
        assert answer["LastEvaluatedKey"]["seq"] == {"N": "3"}
        # four times 300,017 bytes are 293 blocks of 4 KB, half a unit each
        assert answer["ConsumedCapacity"]["CapacityUnits"] == 146.5

    async def test_a_filter_is_applied_after_the_limit(self, service):
        await service.sorted_table()
        await fill(service)
        answer = await service(
            "Query",
            **query(Limit=4, FilterExpression="even = :e", values={":e": {"BOOL": True}}),
        )
        assert times(answer) == [0, 2]
        assert (answer["Count"], answer["ScannedCount"]) == (2, 4)
        assert answer["LastEvaluatedKey"]["seq"] == {"N": "3"}

    async def test_what_is_selected(self, service):
        await service.sorted_table()
        await fill(service, count=2)
        count = await service("Query", **query(Select="COUNT"))
        some = await service("Query", **query(ProjectionExpression="seq"))
        assert count == {"Count": 2, "ScannedCount": 2}
        assert some["Items"] == [{"seq": {"N": "0"}}, {"seq": {"N": "1"}}]

    async def test_legacy_parameters(self, service):
        await service.sorted_table()
        await fill(service)
        answer = await service(
            "Query",
            TableName="posts",
            KeyConditions={
                "id": {"ComparisonOperator": "EQ", "AttributeValueList": [{"S": "a"}]},
                "seq": {"ComparisonOperator": "GT", "AttributeValueList": [{"N": "5"}]},
            },
            QueryFilter={
                "even": {"ComparisonOperator": "EQ", "AttributeValueList": [{"BOOL": True}]}
            },
            AttributesToGet=["seq"],
        )
        assert answer["Items"] == [{"seq": {"N": "6"}}, {"seq": {"N": "8"}}]

    async def test_key_conditions_beside_other_expressions(self, service):
        await service.sorted_table()
        await fill(service)
        body = {
            "TableName": "posts",
            "KeyConditions": {
                "id": {"ComparisonOperator": "EQ", "AttributeValueList": [{"S": "a"}]},
            },
            "FilterExpression": "#even = :yes",
            "ProjectionExpression": "seq",
            "ExpressionAttributeValues": {":yes": {"BOOL": True}},
        }
        names = {"#even": "even"}
        answer = await service("Query", **body, ExpressionAttributeNames=names)
        assert times(answer) == [0, 2, 4, 6, 8]
        names["#more"] = "more"
        assert await refusal(service, "Query", **body, ExpressionAttributeNames=names) == (
            "Value provided in ExpressionAttributeNames unused in expressions: keys: {#more}"
        )

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"Select": "SPECIFIC_ATTRIBUTES"},
                INVALID + "Must specify the AttributesToGet or ProjectionExpression when choosing "
                "to get SPECIFIC_ATTRIBUTES",
            ),
            (
                {"Select": "ALL_ATTRIBUTES", "ProjectionExpression": "seq"},
                INVALID + "Cannot specify the ProjectionExpression when choosing to get "
                "ALL_ATTRIBUTES",
            ),
            (
                {"Select": "COUNT", "ProjectionExpression": "seq"},
                INVALID + "Cannot specify the ProjectionExpression when choosing to get only the "
                "Count",
            ),
            (
                {"Select": "ALL_PROJECTED_ATTRIBUTES"},
                INVALID + "ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an "
                "IndexName",
            ),
            ({"IndexName": "none"}, "The table does not have the specified index: none"),
            (
                {"FilterExpression": "seq = :id"},
                (
                    "Filter Expression can only contain non-primary key attributes: "
                    "Primary key attribute: seq"
                ),
            ),
            (
                {"ExclusiveStartKey": {"id": {"S": "a"}}},
                "The provided starting key is invalid",
            ),
            (
                {"ExclusiveStartKey": {"id": {"S": "b"}, "seq": {"N": "1"}}},
                (
                    "The provided starting key is outside query boundaries based on provided "
                    "conditions"
                ),
            ),
            (
                {
                    "KeyConditionExpression": "id = :id AND seq > :n",
                    "values": {":n": {"N": "5"}},
                    "ExclusiveStartKey": {"id": {"S": "a"}, "seq": {"N": "1"}},
                },
                "The provided starting key does not match the range key predicate",
            ),
            (
                {"values": {":more": {"S": "x"}}},
                "Value provided in ExpressionAttributeValues unused in expressions: keys: {:more}",
            ),
            (
                {"condition": "seq = :id"},
                "Query condition missed key schema element: id",
            ),
            (
                {"KeyConditions": {}},
                (
                    "Can not use both expression and non-expression parameters in the same "
                    "request: Non-expression parameters: {KeyConditions} "
                    "Expression parameters: {KeyConditionExpression}"
                ),
            ),
        ],
    )
    async def test_what_is_refused(self, service, changes, message):
        await service.sorted_table()
        assert await refusal(service, "Query", **query(**changes)) == message

    async def test_a_start_key_with_a_wrong_value(self, service):
        start = {"id": {"S": "a"}, "seq": {"N": "x"}}
        for body in (query(name="nowhere"), {"TableName": "nowhere"}):
            operation = "Query" if "KeyConditionExpression" in body else "Scan"
            message = await refusal(service, operation, **body, ExclusiveStartKey=start)
            assert message == (
                "The provided starting key is invalid: The parameter cannot be converted to a "
                "numeric value: x"
            )

    async def test_a_table_named_by_arn(self, service):
        await service.sorted_table()
        arn = "arn:aws:dynamodb:local:000000000000:table/posts"
        for body in (query(name=arn), {"TableName": arn}):
            operation = "Query" if "KeyConditionExpression" in body else "Scan"
            answer = await service(operation, **body, ReturnConsumedCapacity="TOTAL")
            assert answer["ConsumedCapacity"]["TableName"] == arn

    async def test_no_condition(self, service):
        await service.sorted_table()
        assert await refusal(service, "Query", TableName="posts") == (
            "Either the KeyConditions or KeyConditionExpression parameter must be specified in "
            "the request."
        )

    async def test_a_missing_table_comes_after_the_condition(self, service):
        message = await refusal(
            service,
            "Query",
            TableName="nowhere",
            KeyConditionExpression="id = :no",
        )
        assert message == (
            "Invalid KeyConditionExpression: An expression attribute value used in expression is "
            "not defined; attribute value: :no"
        )
        assert (
            await refusal(service, "Query", ResourceNotFound, **query(name="nowhere"))
            == "Requested resource not found"
        )


class TestScan:
    async def test_every_item(self, service):
        await service.table()
        names = {f"user{n}" for n in range(50)}
        for name in names:
            await service("PutItem", TableName="users", Item={"id": {"S": name}})
        answer = await service("Scan", TableName="users", ConsistentRead=True)
        assert {item["id"]["S"] for item in answer["Items"]} == names
        assert (answer["Count"], answer["ScannedCount"]) == (50, 50)

    async def test_only_this_table(self, service):
        await service.table("first")
        await service.table("second")
        await service("PutItem", TableName="first", Item={"id": {"S": "a"}})
        assert (await service("Scan", TableName="second"))["Count"] == 0

    @pytest.mark.parametrize("limit", [1, 7, 50, 100])
    async def test_pages(self, service, limit):
        await service.table()
        for number in range(50):
            await service("PutItem", TableName="users", Item={"id": {"S": f"u{number}"}})
        assert sorted(await self.scan(service, Limit=limit)) == sorted(
            f"u{number}" for number in range(50)
        )

    @pytest.mark.parametrize("segments", [1, 2, 3, 4, 5, 16, 1000])
    async def test_segments_share_the_items(self, service, segments):
        await service.table()
        for number in range(40):
            await service("PutItem", TableName="users", Item={"id": {"S": f"u{number}"}})
        found = []
        for segment in range(segments):
            found += await self.scan(service, Segment=segment, TotalSegments=segments, Limit=3)
        assert sorted(found) == sorted(f"u{number}" for number in range(40))

    async def test_a_filter(self, service):
        await service.sorted_table()
        await fill(service)
        answer = await service(
            "Scan",
            TableName="posts",
            FilterExpression="#seq >= :n",
            ExpressionAttributeNames={"#seq": "seq"},
            ExpressionAttributeValues={":n": {"N": "7"}},
            Select="COUNT",
        )
        assert answer == {"Count": 3, "ScannedCount": 10}

    async def test_a_legacy_filter(self, service):
        await service.sorted_table()
        await fill(service)
        answer = await service(
            "Scan",
            TableName="posts",
            ScanFilter={
                "seq": {"ComparisonOperator": "LT", "AttributeValueList": [{"N": "2"}]},
                "even": {"ComparisonOperator": "EQ", "AttributeValueList": [{"BOOL": False}]},
            },
            ConditionalOperator="OR",
        )
        assert sorted(times(answer)) == [0, 1, 3, 5, 7, 9]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"Segment": 1},
                (
                    "The TotalSegments parameter is required but was not present in the request "
                    "when Segment parameter is present"
                ),
            ),
            (
                {"TotalSegments": 2},
                (
                    "The Segment parameter is required but was not present in the request when "
                    "parameter TotalSegments is present"
                ),
            ),
            (
                {"Segment": 2, "TotalSegments": 2},
                (
                    "The Segment parameter is zero-based and must be less than parameter "
                    "TotalSegments: Segment: 2 is not less than TotalSegments: 2"
                ),
            ),
            (
                {"ExclusiveStartKey": {"no": {"S": "a"}}},
                (
                    "The provided starting key is invalid: The provided key element does not match "
                    "the schema"
                ),
            ),
        ],
    )
    async def test_what_is_refused(self, service, changes, message):
        await service.table()
        assert await refusal(service, "Scan", TableName="users", **changes) == message

    async def test_a_key_of_another_segment(self, service):
        await service.table()
        await service("PutItem", TableName="users", Item={"id": {"S": "a"}})
        answers = [
            await service("Scan", TableName="users", Segment=n, TotalSegments=2, Limit=1)
            for n in (0, 1)
        ]
        here = next(n for n in (0, 1) if answers[n]["Count"])
        message = await refusal(
            service,
            "Scan",
            TableName="users",
            Segment=1 - here,
            TotalSegments=2,
            ExclusiveStartKey=answers[here]["LastEvaluatedKey"],
        )
        assert message == (
            "The provided starting key is invalid: Invalid ExclusiveStartKey. Please use "
            f"ExclusiveStartKey with correct Segment. TotalSegments: 2 Segment: {1 - here}"
        )

    async def scan(self, service, **changes: Any) -> list[str]:
        found: list[str] = []
        while True:
            answer = await service("Scan", TableName="users", **changes)
            found += [item["id"]["S"] for item in answer["Items"]]
            if "LastEvaluatedKey" not in answer:
                return found
            changes["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


class TestIndexes:
    @pytest.fixture
    async def service(self, service):
        definitions = {"id": "S", "seq": "N", "mail": "S", "rank": "N"}
        await service(
            "CreateTable",
            TableName="posts",
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": kind} for name, kind in definitions.items()
            ],
            KeySchema=[
                {"AttributeName": "id", "KeyType": "HASH"},
                {"AttributeName": "seq", "KeyType": "RANGE"},
            ],
            BillingMode="PAY_PER_REQUEST",
            LocalSecondaryIndexes=[
                {
                    "IndexName": "by_rank",
                    "KeySchema": [
                        {"AttributeName": "id", "KeyType": "HASH"},
                        {"AttributeName": "rank", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            ],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "by_mail",
                    "KeySchema": [
                        {"AttributeName": "mail", "KeyType": "HASH"},
                        {"AttributeName": "rank", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["text"]},
                }
            ],
        )
        for number in range(6):
            item = {
                "id": {"S": "a"},
                "seq": {"N": str(number)},
                "rank": {"N": str(-number)},
                "text": {"S": f"text {number}"},
                "more": {"S": "more"},
            }
            if number != 3:
                item["mail"] = {"S": "x@example.org"}
            await service("PutItem", TableName="posts", Item=item)
        return service

    def by_mail(self, **changes: Any) -> dict[str, Any]:
        return {
            "TableName": "posts",
            "IndexName": "by_mail",
            "KeyConditionExpression": "mail = :m",
            "ExpressionAttributeValues": {":m": {"S": "x@example.org"}},
            **changes,
        }

    async def test_a_global_index_is_sparse_and_has_its_own_order(self, service):
        answer = await service("Query", **self.by_mail())
        assert times(answer) == [5, 4, 2, 1, 0]
        assert set(answer["Items"][0]) == {"mail", "rank", "id", "seq", "text"}

    async def test_pages_of_an_index(self, service):
        found: list[int] = []
        start: dict[str, Any] = {}
        while True:
            answer = await service("Query", **self.by_mail(Limit=2, **start))
            found += times(answer)
            if "LastEvaluatedKey" not in answer:
                break
            assert set(answer["LastEvaluatedKey"]) == {"mail", "rank", "id", "seq"}
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}
        assert found == [5, 4, 2, 1, 0]

    async def test_a_scan_of_an_index(self, service):
        answer = await service("Scan", TableName="posts", IndexName="by_mail")
        assert sorted(times(answer)) == [0, 1, 2, 4, 5]

    async def test_a_local_index_fetches_what_it_lacks(self, service):
        request = query(IndexName="by_rank")
        own = await service("Query", **request)
        whole = await service("Query", **request, Select="ALL_ATTRIBUTES")
        some = await service("Query", **request, ProjectionExpression="more")

        assert times(own) == [5, 4, 3, 2, 1, 0]
        assert set(own["Items"][0]) == {"id", "seq", "rank"}
        assert set(whole["Items"][0]) == {"id", "seq", "rank", "text", "more", "mail"}
        assert some["Items"] == [{"more": {"S": "more"}}] * 6

    async def test_what_a_local_index_fetches_counts_item_by_item(self, service):
        request = query(IndexName="by_rank", Limit=4, ReturnConsumedCapacity="INDEXES")
        answer = await service("Query", **request, Select="ALL_ATTRIBUTES")
        assert answer["ConsumedCapacity"] == {
            "TableName": "posts",
            "CapacityUnits": 2.5,
            "Table": {"CapacityUnits": 2.0},
            "LocalSecondaryIndexes": {"by_rank": {"CapacityUnits": 0.5}},
        }

    async def test_a_row_moves_and_goes(self, service):
        key = {"id": {"S": "a"}, "seq": {"N": "5"}}
        await service(
            "UpdateItem",
            TableName="posts",
            Key=key,
            UpdateExpression="SET #r = :r",
            ExpressionAttributeNames={"#r": "rank"},
            ExpressionAttributeValues={":r": {"N": "9"}},
        )
        assert times(await service("Query", **self.by_mail())) == [4, 2, 1, 0, 5]
        await service("DeleteItem", TableName="posts", Key=key)
        assert times(await service("Query", **self.by_mail())) == [4, 2, 1, 0]

    async def test_capacity_of_indexes(self, service):
        put = await service(
            "PutItem",
            TableName="posts",
            Item={"id": {"S": "b"}, "seq": {"N": "1"}, "rank": {"N": "1"}, "mail": {"S": "m"}},
            ReturnConsumedCapacity="INDEXES",
        )
        read = await service("Query", **self.by_mail(ReturnConsumedCapacity="INDEXES"))
        assert put["ConsumedCapacity"] == {
            "TableName": "posts",
            "CapacityUnits": 3.0,
            "Table": {"CapacityUnits": 1.0},
            "LocalSecondaryIndexes": {"by_rank": {"CapacityUnits": 1.0}},
            "GlobalSecondaryIndexes": {"by_mail": {"CapacityUnits": 1.0}},
        }
        assert read["ConsumedCapacity"] == {
            "TableName": "posts",
            "CapacityUnits": 0.5,
            "Table": {"CapacityUnits": 0.0},
            "GlobalSecondaryIndexes": {"by_mail": {"CapacityUnits": 0.5}},
        }

    async def test_item_collections(self, service):
        item = {"id": {"S": "a"}, "seq": {"N": "9"}}
        metrics = {"ItemCollectionKey": {"id": {"S": "a"}}, "SizeEstimateRangeGB": [0.0, 1.0]}
        put = await service(
            "PutItem", TableName="posts", Item=item, ReturnItemCollectionMetrics="SIZE"
        )
        batch = await service(
            "BatchWriteItem",
            RequestItems={"posts": [{"PutRequest": {"Item": item}}]},
            ReturnItemCollectionMetrics="SIZE",
        )
        assert put == {"ItemCollectionMetrics": metrics}
        assert batch == {"UnprocessedItems": {}, "ItemCollectionMetrics": {"posts": [metrics]}}

    async def test_what_is_refused(self, service):
        assert await refusal(service, "Query", **self.by_mail(ConsistentRead=True)) == (
            "Consistent reads are not supported on global secondary indexes"
        )
        assert await refusal(service, "Query", **self.by_mail(Select="ALL_ATTRIBUTES")) == (
            INVALID + "Select type ALL_ATTRIBUTES is not supported for global secondary index "
            "by_mail because its projection type is not ALL"
        )
        assert await refusal(service, "Query", **self.by_mail(ProjectionExpression="more")) == (
            INVALID + "Global secondary index by_mail does not project [more]"
        )
        message = await refusal(
            service,
            "PutItem",
            TableName="posts",
            Item={"id": {"S": "b"}, "seq": {"N": "1"}, "mail": {"N": "1"}},
        )
        assert message == (
            INVALID + "Type mismatch for Index Key mail Expected: S Actual: N IndexName: by_mail"
        )
        message = await refusal(
            service,
            "UpdateItem",
            TableName="posts",
            Key={"id": {"S": "b"}, "seq": {"N": "1"}},
            UpdateExpression="SET mail = :m",
            ExpressionAttributeValues={":m": {"N": "1"}},
        )
        assert "Type mismatch for Index Key mail" in message
