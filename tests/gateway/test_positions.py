"""Where a request's writes are in the log, and what a read is to show: the headers."""

import pytest

from streamtable.core.errors import NotYetVisible, ServiceUnavailable

GET = {"TableName": "users", "Key": {"id": {"S": "a"}}}


async def empty(body, context):
    return {}


async def test_an_answer_names_what_was_written(serve):
    async def put_item(body, context):
        context.note_written(3, 977)
        context.note_written(0, 12)
        context.note_written(0, 11)
        context.note_written(1, -1)
        return {}

    endpoint = await serve({"PutItem": put_item, "GetItem": empty})
    answer = await endpoint.ask(endpoint.operation("PutItem", {"TableName": "users", "Item": {}}))
    assert answer.headers["x-streamtable-position"] == "3:977,0:12"
    answer = await endpoint.ask(endpoint.operation("GetItem", GET))
    assert "x-streamtable-position" not in answer.headers


async def test_what_was_written_is_named_if_the_rest_fails_too(serve):
    async def batch_write_item(body, context):
        context.note_written(2, 5)
        raise ServiceUnavailable("shard 3 is away")

    endpoint = await serve({"BatchWriteItem": batch_write_item})
    answer = await endpoint.ask(endpoint.operation("BatchWriteItem", {"RequestItems": {}}))
    assert answer.status == 503
    assert answer.headers["x-streamtable-position"] == "2:5"


async def test_a_read_waits_for_what_it_names(serve):
    asked = []

    async def get_item(body, context):
        asked.append("read")
        return {}

    async def visible(operation, body, after):
        asked.append((operation, body, dict(after.positions), after.wait_s))  # type: ignore[arg-type]

    endpoint = await serve({"GetItem": get_item}, visible=visible)
    await endpoint.ask(endpoint.operation("GetItem", GET))
    assert asked == ["read"]
    asked.clear()
    headers = {"x_streamtable_after": "0:12,3:977", "x_streamtable_wait_ms": "250"}
    answer = await endpoint.ask(endpoint.operation("GetItem", GET, **headers))
    assert answer.status == 200
    assert asked == [("GetItem", GET, {0: 12, 3: 977}, 0.25), "read"]


async def test_what_is_not_shown_in_time_is_an_error(serve):
    async def visible(operation, body, after):
        raise NotYetVisible("The view days is behind")

    endpoint = await serve({"GetItem": empty}, visible=visible)
    answer = await endpoint.ask(endpoint.operation("GetItem", GET, x_streamtable_after="0:1"))
    assert answer.status == 400
    assert answer.json == {
        "__type": "com.streamtable#NotYetVisible",
        "message": "The view days is behind",
    }


@pytest.mark.parametrize(
    "headers", [{"after": "x"}, {"after": "0:1", "wait_ms": "soon"}, {"after": ""}]
)
async def test_headers_that_can_not_be_read(serve, headers):
    endpoint = await serve({"GetItem": empty})
    named = {f"x_streamtable_{name}": value for name, value in headers.items()}
    answer = await endpoint.ask(endpoint.operation("GetItem", GET, **named))
    assert answer.code == "ValidationException"
    assert "x-streamtable-" in answer.json["message"]


async def test_browsers_may_send_and_see_them(serve):
    endpoint = await serve({"GetItem": empty})
    wanted = "x-streamtable-after,x-streamtable-wait-ms"
    asked = endpoint.request(
        "OPTIONS", origin="https://example.com", access_control_request_headers=wanted
    )
    answer = await endpoint.ask(asked)
    assert answer.headers["access-control-allow-headers"] == wanted
    answer = await endpoint.ask(endpoint.operation("GetItem", GET, origin="https://example.com"))
    exposed = answer.headers["access-control-expose-headers"].split(",")
    assert "x-streamtable-position" in exposed
