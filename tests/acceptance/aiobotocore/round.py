"""One round with aiobotocore; the endpoint and the table's name are arguments.

A program of its own, because aiobotocore wants an older botocore than the product is tested with.
"""

import asyncio
import sys
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session


def _client(service: str, endpoint: str) -> Any:
    return get_session().create_client(
        service,
        endpoint_url=endpoint,
        region_name="local",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=AioConfig(retries={"total_max_attempts": 1}, max_pool_connections=20),
    )


async def _round(endpoint: str, table_name: str) -> None:
    async with (
        _client("dynamodb", endpoint) as client,
        _client("dynamodbstreams", endpoint) as streams,
    ):
        created = await client.create_table(
            TableName=table_name,
            AttributeDefinitions=[
                {"AttributeName": "user", "AttributeType": "S"},
                {"AttributeName": "at", "AttributeType": "N"},
            ],
            KeySchema=[
                {"AttributeName": "user", "KeyType": "HASH"},
                {"AttributeName": "at", "KeyType": "RANGE"},
            ],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
        )
        table = {"TableName": table_name}
        await client.get_waiter("table_exists").wait(**table, WaiterConfig={"Delay": 1})
        await asyncio.gather(
            *(
                client.put_item(**table, Item={"user": {"S": f"u{n % 4}"}, "at": {"N": str(n)}})
                for n in range(100)
            )
        )
        counter = {"user": {"S": "counter"}, "at": {"N": "0"}}
        counted = await asyncio.gather(
            *(
                client.update_item(
                    **table,
                    Key=counter,
                    UpdateExpression="ADD hits :one",
                    ExpressionAttributeValues={":one": {"N": "1"}},
                    ReturnValues="UPDATED_NEW",
                )
                for _ in range(40)
            )
        )
        hits = sorted(int(answer["Attributes"]["hits"]["N"]) for answer in counted)
        assert hits == list(range(1, 41))

        found = [
            int(item["at"]["N"])
            async for page in client.get_paginator("query").paginate(
                **table,
                KeyConditionExpression="#u = :u",
                ExpressionAttributeNames={"#u": "user"},
                ExpressionAttributeValues={":u": {"S": "u1"}},
                PaginationConfig={"PageSize": 6},
            )
            for item in page["Items"]
        ]
        assert found == list(range(1, 100, 4))

        try:
            await client.transact_write_items(
                TransactItems=[
                    {"Delete": {**table, "Key": counter}},
                    {
                        "Put": {
                            **table,
                            "Item": {"user": {"S": "u1"}, "at": {"N": "1"}},
                            "ConditionExpression": "attribute_not_exists(#at)",
                            "ExpressionAttributeNames": {"#at": "at"},
                        }
                    },
                ]
            )
        except client.exceptions.TransactionCanceledException as cancelled:
            reasons = [one["Code"] for one in cancelled.response["CancellationReasons"]]
            assert reasons == ["None", "ConditionalCheckFailed"]
        else:
            raise AssertionError("the transaction was carried out")
        kept = await client.get_item(**table, Key=counter, ConsistentRead=True)
        assert kept["Item"]["hits"] == {"N": "40"}

        arn = created["TableDescription"]["LatestStreamArn"]
        described = await streams.describe_stream(StreamArn=arn)
        read = await asyncio.gather(
            *(
                _read(streams, arn, shard["ShardId"])
                for shard in described["StreamDescription"]["Shards"]
            )
        )
        records = [record for records in read for record in records]
        names = [record["eventName"] for record in records]
        assert sorted(names) == ["INSERT"] * 101 + ["MODIFY"] * 39
        assert not any("NewImage" in record["dynamodb"] for record in records)
        await client.delete_table(**table)
        await client.get_waiter("table_not_exists").wait(**table, WaiterConfig={"Delay": 1})


async def _read(streams: Any, arn: str, shard: str) -> list[Any]:
    """Read a shard's records up to now."""
    asked = await streams.get_shard_iterator(
        StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
    )
    records: list[Any] = []
    iterator = asked["ShardIterator"]
    while page := await streams.get_records(ShardIterator=iterator, Limit=50):
        records += page["Records"]
        iterator = page["NextShardIterator"]
        if not page["Records"]:
            break
    return records


asyncio.run(_round(*sys.argv[1:]))
print("round complete")
