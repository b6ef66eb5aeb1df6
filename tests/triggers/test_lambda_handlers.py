"""Lambda functions are called with their event, and their answer is Lambda's."""

from collections.abc import Mapping
from typing import Any

import pytest

from streamtable import App
from streamtable.consumers.triggers.deliveries import (
    Answer,
    BatchItemFailed,
    Delivery,
    HandlerTimeout,
)
from streamtable.consumers.triggers.deliveries import Window as ShardWindow
from streamtable.core.positions import Position
from streamtable.triggers import InvalidAnswer, InvalidDeclaration, InvalidHandler
from streamtable.triggers.event_sources import EventSources, event_source
from streamtable.triggers.lambda_apps import lambda_app
from streamtable.triggers.lambda_context import LambdaContext
from tests.support.changelog import change

TABLE = {
    "TableName": "users",
    "TableArn": "arn:aws:dynamodb:local:000000000000:table/users",
    "CreationDateTime": 1_700_000_000.25,
}
STREAM = {
    "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    "LatestStreamLabel": "2023-11-14T22:13:21.500",
    "LatestStreamArn": f"{TABLE['TableArn']}/stream/2023-11-14T22:13:21.500",
}


async def describe(name: str) -> Mapping[str, Any]:
    assert name == "users"
    return {**TABLE, **STREAM}


def batch(*names: str) -> list[Delivery]:
    return [Delivery(change(name), Position(3, 17, index)) for index, name in enumerate(names)]


async def call(
    function: Any, *names: str, window: ShardWindow | None = None, **options: Any
) -> Any:
    app = App("shop")
    app.lambda_trigger("users", function, name="function", **options)
    return await app.triggers["function"].invoke(describe)(batch(*names), window)


async def test_the_event_and_the_context() -> None:
    seen: list[Any] = []

    def handler(event, context):
        seen.append((event, context))

    assert await call(handler, "a", "b") == Answer()
    ((event, context),) = seen
    assert [record["dynamodb"]["Keys"] for record in event["Records"]] == [
        {"id": {"S": "a"}},
        {"id": {"S": "b"}},
    ]
    assert {record["eventSourceARN"] for record in event["Records"]} == {STREAM["LatestStreamArn"]}
    assert {record["dynamodb"]["StreamViewType"] for record in event["Records"]} == {"NEW_IMAGE"}
    assert "window" not in event
    assert context.function_name.endswith("handler")
    assert context.function_version == "$LATEST"
    assert context.invoked_function_arn.startswith("arn:aws:lambda:local:000000000000:function:")
    assert context.log_group_name == f"/aws/lambda/{context.function_name}"
    assert 899_000 < context.get_remaining_time_in_millis() <= 900_000


async def test_each_call_has_a_request_id_of_its_own() -> None:
    seen = set()

    def handler(event, context):
        seen.add(context.aws_request_id)

    await call(handler, "a")
    await call(handler, "a")
    assert len(seen) == 2


def test_the_remaining_time() -> None:
    now = [100.0]
    context = LambdaContext("f", "arn", 3.0, _monotonic=lambda: now[0])
    assert context.get_remaining_time_in_millis() == 3000
    now[0] = 101.5
    assert context.get_remaining_time_in_millis() == 1500
    now[0] = 104
    assert context.get_remaining_time_in_millis() == 0


def test_the_context_logs_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    LambdaContext("f", "arn", 3.0).log("hello\n")
    assert capsys.readouterr().out == "hello\n"


async def test_an_async_handler() -> None:
    seen = []

    async def handler(event, context):
        seen.append(len(event["Records"]))

    await call(handler, "a", "b")
    assert seen == [2]


async def test_what_it_raises_is_the_batchs_failure() -> None:
    def handler(event, context):
        raise KeyError("Order")

    with pytest.raises(KeyError):
        await call(handler, "a")


async def test_a_handler_has_its_time() -> None:
    async def handler(event, context):
        import asyncio

        await asyncio.Event().wait()

    with pytest.raises(HandlerTimeout):
        await call(handler, "a", timeout_s=0.01)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "ok",
        {"statusCode": 200},
        {},
        {"batchItemFailures": []},
        {"batchItemFailures": None},
    ],
)
async def test_these_answers_are_success(answer: Any) -> None:
    assert await call(lambda event, context: answer, "a", "b") == Answer()


async def test_the_lowest_failure_is_the_checkpoint() -> None:
    def handler(event, context):
        numbers = [record["dynamodb"]["SequenceNumber"] for record in event["Records"]]
        failed = [{"itemIdentifier": numbers[3]}, {"itemIdentifier": numbers[1]}]
        return {"batchItemFailures": failed}

    answer = await call(handler, "a", "b", "c", "d")
    assert answer.checkpoint == 1
    assert list(answer.failed) == [1]
    assert isinstance(answer.failed[1], BatchItemFailed)


@pytest.mark.parametrize(
    "failure", [{"itemIdentifier": ""}, {"itemIdentifier": None}, {"item": "1"}, "1", {}]
)
async def test_an_identifier_that_is_none_fails_the_batch(failure: Any) -> None:
    with pytest.raises(InvalidAnswer, match="is the SequenceNumber of a record"):
        await call(lambda event, context: {"batchItemFailures": [failure]}, "a")


async def test_failures_that_are_not_asked_for_do_not_count() -> None:
    answer = await call(
        lambda event, context: {"batchItemFailures": [{"itemIdentifier": ""}]},
        "a",
        report_batch_item_failures=False,
    )
    assert answer == Answer()


async def test_a_window_and_its_state() -> None:
    seen = []

    def handler(event, context):
        seen.append(event)
        return {"state": {"n": event["state"].get("n", 0) + len(event["Records"])}}

    window = ShardWindow(3, 0, 60_000, {"n": 2})
    answer = await call(handler, "a", "b", window=window, tumbling_window_s=60)
    assert answer == Answer(state={"n": 4})
    assert seen[0]["window"] == {"start": "1970-01-01T00:00:00Z", "end": "1970-01-01T00:01:00Z"}
    assert seen[0]["shardId"] == "shardId-00000001700000001500-00000003"
    assert not seen[0]["isFinalInvokeForWindow"]
    await call(
        handler,
        window=ShardWindow(3, 0, 60_000, {"n": 4}, final=True),
        tumbling_window_s=60,
    )
    assert seen[1]["Records"] == []
    assert seen[1]["isFinalInvokeForWindow"]


async def test_a_table_without_a_stream_has_events_all_the_same() -> None:
    source = event_source("users", TABLE)
    assert source.arn == f"{TABLE['TableArn']}/stream/2023-11-14T22:13:20.250"
    assert source.view_type == "NEW_AND_OLD_IMAGES"
    assert event_source("users", {**TABLE, **STREAM}).arn == STREAM["LatestStreamArn"]
    off = {**TABLE, **STREAM, "StreamSpecification": {"StreamEnabled": False}}
    assert event_source("users", off) == source
    gone = event_source("users", {})
    assert gone.arn == f"{TABLE['TableArn']}/stream/1970-01-01T00:00:00.000"


async def test_a_stream_that_is_switched_on_is_noticed() -> None:
    now = [1000.0]
    table = dict(TABLE)
    asked = []

    async def describe(name: str) -> Mapping[str, Any]:
        asked.append(name)
        return table

    sources = EventSources(describe, monotonic=lambda: now[0])
    assert (await sources.of("users")).view_type == "NEW_AND_OLD_IMAGES"
    table.update(STREAM)
    assert (await sources.of("users")).view_type == "NEW_AND_OLD_IMAGES"
    assert asked == ["users"]
    now[0] += 31
    assert (await sources.of("users")).view_type == "NEW_IMAGE"


def test_what_takes_no_event_is_refused() -> None:
    with pytest.raises(InvalidHandler, match="must take an event and a context"):
        App("shop").lambda_trigger("users", lambda event: None, name="x")


def test_as_a_decorator() -> None:
    app = App("shop")

    @app.lambda_trigger("users", batch_size=7, where={"eventName": ["INSERT"]})
    def handler(event, context): ...

    assert app.triggers["handler"].batch_size == 7
    assert handler(None, None) is None


def test_an_app_of_a_dotted_name(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_functions.py").write_text(
        "import os\nNAME = os.environ['AWS_LAMBDA_FUNCTION_NAME']\n"
        "def on_change(event, context): ...\n"
    )
    for name in ("_HANDLER", *(f"AWS_LAMBDA_FUNCTION_{end}" for end in ("NAME", "VERSION"))):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "shop")
    (tmp_path / "broken_functions.py").write_text("import nothing_like_it\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    app = lambda_app("shop_functions.on_change", "users", batch_size=5)
    assert app.name == "shop_functions"
    assert app.triggers["on_change"].batch_size == 5
    with pytest.raises(InvalidDeclaration, match="there is no module nothing_here"):
        lambda_app("nothing_here.on_change", "users")
    with pytest.raises(InvalidDeclaration, match=r"shop_functions has no function on_chance"):
        lambda_app("shop_functions.on_chance", "users")
    with pytest.raises(InvalidDeclaration, match=r"as module\.function"):
        lambda_app("on_change", "users")
    with pytest.raises(ModuleNotFoundError, match="nothing_like_it"):
        lambda_app("broken_functions.on_change", "users")
