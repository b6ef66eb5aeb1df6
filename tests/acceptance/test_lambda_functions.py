"""Lambda functions as people write them, with Powertools and with Chalice, run unchanged."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import chalice
import pytest
from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    process_partial_response,
)
from aws_lambda_powertools.utilities.data_classes import DynamoDBStreamEvent, event_source
from aws_lambda_powertools.utilities.data_classes.dynamo_db_stream_event import (
    DynamoDBRecord,
    DynamoDBRecordEventName,
    StreamViewType,
)
from aws_lambda_powertools.utilities.parser.models import DynamoDBStreamModel
from aws_lambda_powertools.utilities.typing import LambdaContext

from streamtable import App
from streamtable.consumers.triggers.deliveries import Answer, Delivery
from streamtable.core.plain import wire_item
from streamtable.core.positions import Position
from tests.support.changelog import change
from tests.support.waiting import wait_until
from tests.support.worker import Worker, create_table, put

pytestmark = [
    pytest.mark.acceptance,
    # Chalice still calls it, and Python 3.12 warns.
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp:DeprecationWarning"),
]

ARN = "arn:aws:dynamodb:local:000000000000:table/users"


async def describe(_: str) -> Mapping[str, Any]:
    return {
        "TableArn": ARN,
        "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        "LatestStreamLabel": "2023-11-14T22:13:21.500",
        "LatestStreamArn": f"{ARN}/stream/2023-11-14T22:13:21.500",
    }


async def call(handler: Any, *items: dict[str, Any]) -> Answer:
    app = App("shop")
    app.lambda_trigger("users", handler, name="handler")
    deliveries = [
        Delivery(
            change(f"u{index}", old=wire_item({"n": 0}), new=wire_item(item)),
            Position(3, 17, index),
        )
        for index, item in enumerate(items)
    ]
    return await app.triggers["handler"].invoke(describe)(deliveries, None)


async def test_powertools_data_class() -> None:
    seen: list[Any] = []

    @event_source(data_class=DynamoDBStreamEvent)
    def handler(event: DynamoDBStreamEvent, context: LambdaContext) -> None:
        for record in event.records:
            assert record.event_name is DynamoDBRecordEventName.MODIFY
            assert record.event_source_arn == f"{ARN}/stream/2023-11-14T22:13:21.500"
            assert record.event_version == "1.1"
            assert record.aws_region == "local"
            stream = record.dynamodb
            assert stream is not None
            assert stream.approximate_creation_date_time == 1_700_000_000
            assert stream.stream_view_type is StreamViewType.NEW_AND_OLD_IMAGES
            assert stream.size_bytes
            seen.append((stream.sequence_number, stream.keys, stream.old_image, stream.new_image))
        assert context.get_remaining_time_in_millis() > 0

    assert await call(handler, {"n": 1, "tags": {"a"}, "blob": b"x"}) == Answer()
    assert seen == [
        (
            "000000000000001700000",
            {"id": "u0"},
            {"id": "u0", "n": Decimal(0)},
            {"id": "u0", "n": Decimal(1), "tags": {"a"}, "blob": "eA=="},
        )
    ]


async def test_powertools_batch_processor() -> None:
    processor = BatchProcessor(event_type=EventType.DynamoDBStreams)
    seen: list[Any] = []

    def take(record: DynamoDBRecord) -> None:
        assert record.dynamodb is not None
        assert record.dynamodb.new_image is not None
        number = record.dynamodb.new_image["n"]
        seen.append(number)
        if number == 2:
            raise ValueError("two")

    def handler(event: dict[str, Any], context: LambdaContext) -> Any:
        return process_partial_response(
            event=event, record_handler=take, processor=processor, context=context
        )

    answer = await call(handler, {"n": 1}, {"n": 2}, {"n": 3})
    assert seen == [1, 2, 3]
    assert answer.checkpoint == 1
    assert list(answer.failed) == [1]
    assert await call(handler, {"n": 1}, {"n": 3}) == Answer()


async def test_powertools_batch_of_which_all_fails() -> None:
    processor = BatchProcessor(event_type=EventType.DynamoDBStreams)

    def take(record: DynamoDBRecord) -> None:
        raise ValueError("no")

    def handler(event: dict[str, Any], context: LambdaContext) -> Any:
        return process_partial_response(
            event=event, record_handler=take, processor=processor, context=context
        )

    with pytest.raises(Exception, match="All records failed processing"):
        await call(handler, {"n": 1}, {"n": 2})


async def test_powertools_parser_model() -> None:
    seen: list[Any] = []

    def handler(event: dict[str, Any], _context: LambdaContext) -> None:
        parsed = DynamoDBStreamModel.model_validate(event)
        seen.extend((record.eventName, record.dynamodb.NewImage) for record in parsed.Records)

    await call(handler, {"n": 1})
    assert seen == [("MODIFY", {"id": "u0", "n": Decimal(1)})]


async def test_chalice_event_handler() -> None:
    seen: list[Any] = []
    app = chalice.Chalice(app_name="shop")  # type: ignore[attr-defined]

    @app.on_dynamodb_record(stream_arn=f"{ARN}/stream/2023-11-14T22:13:21.500")
    def take(event: Any) -> None:
        seen.extend(
            (
                record.table_name,
                record.event_name,
                record.keys,
                record.new_image,
                record.sequence_number,
                record.stream_view_type,
                record.aws_region,
                record.event_id,
                record.size_bytes,
            )
            for record in event
        )

    await call(take, {"n": 1})
    assert [each[:7] for each in seen] == [
        (
            "users",
            "MODIFY",
            {"id": {"S": "u0"}},
            {"id": {"S": "u0"}, "n": {"N": "1"}},
            "000000000000001700000",
            "NEW_AND_OLD_IMAGES",
            "local",
        )
    ]


async def test_chalice_record_class() -> None:
    seen: list[Any] = []

    def handler(event: Any, context: Any) -> None:
        seen.extend(
            (record.timestamp.replace(tzinfo=UTC), record.old_image)
            for record in chalice.app.DynamoDBEvent(event, context)
        )

    await call(handler, {"n": 1})
    assert seen == [
        (
            datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
            {"id": {"S": "u0"}, "n": {"N": "0"}},
        )
    ]


POWERTOOLS_FUNCTION = """
import os
from pathlib import Path

from aws_lambda_powertools.utilities.batch import (
    BatchProcessor, EventType, process_partial_response,
)
from aws_lambda_powertools.utilities.data_classes.dynamo_db_stream_event import DynamoDBRecord

processor = BatchProcessor(event_type=EventType.DynamoDBStreams)
tries = {}


def record_handler(record: DynamoDBRecord):
    image = record.dynamodb.new_image
    tries[image["id"]] = tries.get(image["id"], 0) + 1
    if image["id"] == "b" and tries["b"] < 3:
        raise ValueError("not yet")
    with Path(os.environ["OUT"]).open("a") as out:
        print(record.event_name.name, image["id"], image["n"], tries[image["id"]], file=out)


def lambda_handler(event, context):
    return process_partial_response(
        event=event, record_handler=record_handler, processor=processor, context=context
    )
"""


def test_a_function_of_a_module_in_a_worker(
    client: Any, endpoint: str, table_name: str, tmp_path: Path
) -> None:
    create_table(client, table_name)
    (tmp_path / "shop_function.py").write_text(POWERTOOLS_FUNCTION)
    worker = Worker(tmp_path, endpoint, table_name, "")
    for name in ("a", "b", "c"):
        put(client, table_name, name, n={"N": "5"})
    options = ("--handler", "shop_function.lambda_handler", "--table", table_name)
    with worker.start(*options, app=False) as running:
        # What came again after the checkpoint is noted again.
        wait_until(lambda: "INSERT b 5 3" in worker.noted(), "the third try of b")
        wait_until(
            lambda: {line.split()[1] for line in worker.noted()} == {"a", "b", "c"}, "the others"
        )
        assert running.stop() == 0, running.text()


def test_the_knobs_of_a_function_on_the_command_line(
    client: Any, endpoint: str, table_name: str, tmp_path: Path
) -> None:
    create_table(client, table_name)
    (tmp_path / "knobs.py").write_text("""
import os

def handler(event, context):
    ids = sorted(record["dynamodb"]["Keys"]["id"]["S"] for record in event["Records"])
    with open(os.environ["OUT"], "a") as out:
        print(*ids, file=out)
    if "bad" in ids:
        raise ValueError("bad")
    if "named" in ids:
        return {"batchItemFailures": [{"itemIdentifier": "none"}]}
""")
    pattern = {"dynamodb": {"NewImage": {"n": {"N": ["1"]}}}}
    criteria = {"Filters": [{"Pattern": json.dumps(pattern)}]}
    (tmp_path / "criteria.json").write_text(json.dumps(criteria))
    put(client, table_name, "before", n={"N": "1"})
    worker = Worker(tmp_path, endpoint, table_name, "")
    options = [
        *["--handler", "knobs.handler", "--table", table_name, "--name", f"f-{table_name}"],
        *["--on", "INSERT", "--filter", "criteria.json", "--batch-size", "1", "--retries", "0"],
        *["--on-failure", "drop", "--start", "LATEST", "--no-report-batch-item-failures"],
    ]
    with worker.start(*options, app=False) as running:
        running.wait_for("is new and begins at LATEST")
        for name in ("a", "bad", "named", "c"):
            put(client, table_name, name, n={"N": "1"})
            put(client, table_name, f"not-{name}", n={"N": "2"})
            put(client, table_name, name, n={"N": "1"}, again={"BOOL": True})
        worker.wait_noted(4)
        put(client, table_name, "last", n={"N": "1"})
        wait_until(lambda: "last" in worker.noted(), "the last one")
        assert running.stop() == 0, running.text()
    assert sorted(worker.noted()) == ["a", "bad", "c", "last", "named"]
    with worker.start(*options, "--batch-size", "0", app=False) as running:
        running.wait_for("batch_size=0 must be 1 to 10000")


def test_an_app_of_a_lambda_function_with_the_tables_view_type(
    client: Any, endpoint: str, table_name: str, tmp_path: Path
) -> None:
    create_table(client, table_name)
    client.update_table(
        TableName=table_name,
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
    )
    arn = client.describe_table(TableName=table_name)["Table"]["LatestStreamArn"]
    worker = Worker(
        tmp_path,
        endpoint,
        table_name,
        """
        def handler(event, context):
            for record in event["Records"]:
                stream = record["dynamodb"]
                images = sorted({"NewImage", "OldImage"} & stream.keys())
                note(record["eventSourceARN"], stream["StreamViewType"], images)

        app.lambda_trigger(TABLE, handler, where={"dynamodb": {"NewImage": {"n": {"N": ["2"]}}}})
        """,
    )
    put(client, table_name, "a", n={"N": "1"})
    put(client, table_name, "a", n={"N": "2"})
    with worker.start() as running:
        assert worker.wait_noted(1) == [f"{arn} KEYS_ONLY []"]
        assert running.stop() == 0, running.text()
