import asyncio
import gzip
import logging
import zlib

import boto3
import botocore.config
import botocore.exceptions
import orjson
import pytest

from streamtable.core.errors import (
    ConditionalCheckFailed,
    ResourceNotFound,
    ServiceUnavailable,
    TransactionCanceled,
)
from streamtable.gateway import Content, create_app
from streamtable.streams.log import LogUnavailable

GET = {"TableName": "users", "Key": {"id": {"S": "a"}}}


async def get_item(body, context):
    return {"Item": body["Key"]}


async def empty(body, context):
    return {}


def failing_with(error):
    async def handler(body, context):
        raise error

    return handler


def client_of(endpoint, service="dynamodb"):
    return boto3.client(
        service,
        endpoint_url=endpoint.server.endpoint,
        region_name="us-east-1",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="secret",
        config=botocore.config.Config(retries={"max_attempts": 0}, parameter_validation=False),
    )


async def call(endpoint, method, service="dynamodb", **parameters):
    def run():
        client = client_of(endpoint, service)
        try:
            return getattr(client, method)(**parameters)
        finally:
            client.close()

    return await asyncio.to_thread(run)


async def error_of(endpoint, method, **parameters):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        await call(endpoint, method, **parameters)
    return caught.value


async def test_an_operation_gets_body_and_context_and_its_answer_goes_back(serve):
    seen = []

    async def put_item(body, context):
        seen.append((body, context))
        return {}

    endpoint = await serve({"PutItem": put_item})
    answer = await call(endpoint, "put_item", TableName="users", Item={"id": {"S": "ä"}})
    ((body, context),) = seen
    assert body == {"TableName": "users", "Item": {"id": {"S": "ä"}}}
    assert context.principal == "AKIDEXAMPLE"
    assert context.source_address == "127.0.0.1"
    assert context.request_id == answer["ResponseMetadata"]["RequestId"]
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


async def test_bytes_go_out_as_they_are(serve):
    async def handler(body, context):
        return b'{"Item":{"id":{"S":"a"}}}'

    endpoint = await serve({"GetItem": handler})
    answer = await endpoint.ask(endpoint.operation("GetItem", GET))
    assert answer.raw == b'{"Item":{"id":{"S":"a"}}}'
    assert answer.headers["content-type"] == "application/x-amz-json-1.0"
    assert answer.headers["server"] == "Server"
    assert answer.headers["date"].endswith(" GMT")
    request_id = answer.headers["x-amzn-requestid"]
    assert len(request_id) == 52
    assert request_id.isalnum()
    assert request_id == request_id.upper()
    assert int(answer.headers["x-amz-crc32"]) == zlib.crc32(answer.raw)


async def test_streams_have_a_target_of_their_own(serve):
    async def list_streams(body, context):
        return {"Streams": []}

    endpoint = await serve({"ListStreams": list_streams})
    assert (await call(endpoint, "list_streams", "dynamodbstreams"))["Streams"] == []
    wrong = await endpoint.ask(endpoint.operation("ListStreams"))
    assert wrong.code == "UnknownOperationException"


async def test_errors_become_the_sdk_s_own_exceptions(serve):
    endpoint = await serve(
        {
            "GetItem": failing_with(ResourceNotFound("Requested resource not found")),
            "UpdateItem": failing_with(ConditionalCheckFailed({"id": {"S": "old"}})),
            "TransactWriteItems": failing_with(
                TransactionCanceled([{"Code": "None"}, {"Code": "ValidationError"}])
            ),
            "Scan": failing_with(ServiceUnavailable("no owner")),
        }
    )
    error = await error_of(endpoint, "get_item", **GET)
    assert type(error).__name__ == "ResourceNotFoundException"
    assert error.response["Error"]["Message"] == "Requested resource not found"
    error = await error_of(endpoint, "update_item", **GET)
    assert type(error).__name__ == "ConditionalCheckFailedException"
    assert error.response["Item"] == {"id": {"S": "old"}}
    error = await error_of(
        endpoint,
        "transact_write_items",
        TransactItems=[{"Delete": GET}, {"Delete": GET}],
    )
    assert type(error).__name__ == "TransactionCanceledException"
    assert error.response["CancellationReasons"] == [
        {"Code": "None"},
        {"Code": "ValidationError"},
    ]
    assert "[None, ValidationError]" in error.response["Error"]["Message"]
    error = await error_of(endpoint, "scan", TableName="users")
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 503


async def test_the_shape_is_checked_before_the_handler(serve):
    endpoint = await serve({"GetItem": get_item})
    error = await error_of(endpoint, "get_item", TableName="users")
    assert error.response["Error"] == {
        "Code": "ValidationException",
        "Message": "1 validation error detected: Value null at 'key' failed to satisfy "
        "constraint: Member must not be null",
    }
    answer = await endpoint.ask(endpoint.operation("GetItem", {"TableName": 5}))
    assert answer.json == {
        "__type": "com.amazon.coral.service#SerializationException",
        "Message": "NUMBER_VALUE cannot be converted to String",
    }


async def test_what_no_handler_serves_is_an_unknown_operation(serve):
    endpoint = await serve({"GetItem": get_item})
    error = await error_of(endpoint, "transact_get_items", TransactItems=[{"Get": GET}])
    assert error.response["Error"]["Code"] == "UnknownOperationException"
    assert "TransactGetItems" in error.response["Error"]["Message"]
    for target in ("DynamoDB_20120810.MakeCoffee", "DynamoDB_20120810", "GetItem", None):
        answer = await endpoint.ask(endpoint.operation("", x_amz_target=target))
        assert answer.status == 400
        assert answer.json == {"__type": "com.amazon.coral.service#UnknownOperationException"}


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/cbor"])
async def test_what_is_not_json_is_no_operation(serve, content_type):
    endpoint = await serve({"GetItem": get_item})
    answer = await endpoint.ask(endpoint.operation("GetItem", GET, content_type=content_type))
    assert (answer.status, answer.raw) == (404, b"<UnknownOperationException/>\n")


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/X-Amz-JSON-1.0; charset=utf-8"]
)
async def test_json_has_several_names(serve, content_type):
    endpoint = await serve({"GetItem": get_item})
    answer = await endpoint.ask(endpoint.operation("GetItem", GET, content_type=content_type))
    assert answer.status == 200


async def test_what_is_damaged_is_told_before_what_it_is_about(serve):
    endpoint = await serve({"GetItem": get_item})
    answer = await endpoint.ask(endpoint.operation("Nothing", b"{", authorization=None))
    assert (answer.status, answer.code) == (400, "SerializationException")


def test_a_handler_of_no_operation_is_our_mistake():
    with pytest.raises(ValueError, match="MakeCoffee"):
        create_app({"MakeCoffee": get_item})


async def test_unsigned_requests_are_told_so(serve):
    endpoint = await serve({"GetItem": get_item})
    answer = await endpoint.ask(endpoint.operation("GetItem", GET, authorization=None))
    assert answer.status == 400
    assert answer.json == {
        "__type": "com.amazon.coral.service#MissingAuthenticationTokenException",
        "message": "Request must contain either a valid (registered) AWS access key ID or X.509 "
        "certificate.",
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"5",
        b"[]",
        b'"x"',
        b"{'a': 1}",
        b'{"a": NaN}',
        b'{"TableName": "\xff\xfe"}',
        b'{"TableName": "\\ud800"}',
        b'{"a":' * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b"[" * 1_000_000,
    ],
)
async def test_a_body_that_is_no_json_object_is_a_serialization_error(serve, body):
    endpoint = await serve({"GetItem": get_item})
    answer = await endpoint.ask(endpoint.operation("GetItem", body))
    assert answer.status == 400
    assert answer.code == "SerializationException"
    assert (await endpoint.ask(endpoint.operation("GetItem", GET))).status == 200


async def test_an_unexpected_exception_is_logged_once_and_not_told(serve, caplog):
    endpoint = await serve({"GetItem": failing_with(RuntimeError("secret"))})
    with caplog.at_level(logging.ERROR):
        answer = await endpoint.ask(endpoint.operation("GetItem", GET))
    assert answer.status == 500
    assert answer.json == {
        "__type": "com.amazonaws.dynamodb.v20120810#InternalServerError",
        "message": "The request processing has failed because of an unknown error, exception or "
        "failure.",
    }
    (record,) = caplog.records
    assert record.getMessage() == f"GetItem {answer.headers['x-amzn-requestid']} failed"
    assert "secret" in str(record.exc_info[1])


async def test_what_cannot_be_written_as_json_is_an_internal_error(serve, caplog):
    async def handler(body, context):
        return {"Item": object()}

    endpoint = await serve({"GetItem": handler})
    answer = await endpoint.ask(endpoint.operation("GetItem", GET))
    assert (answer.status, answer.code) == (500, "InternalServerError")
    assert len(caplog.records) == 1


async def test_health(serve):
    endpoint = await serve()
    answer = await endpoint.ask(endpoint.request("GET"))
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain"
    assert answer.raw.decode() == f"healthy: 127.0.0.1:{endpoint.server.port} "


async def test_a_page_can_answer_other_than_json(serve):
    async def metrics(query):
        return Content(b"up 1\n", b"text/plain; version=1", 503)

    endpoint = await serve(pages={"/metrics": metrics})
    answer = await endpoint.ask(endpoint.request("GET", "/metrics"))
    assert (answer.status, answer.raw) == (503, b"up 1\n")
    assert answer.headers["content-type"] == "text/plain; version=1"


async def test_what_fails_by_no_fault_of_the_client_s_is_logged(serve, caplog):
    endpoint = await serve(
        {
            "GetItem": failing_with(ServiceUnavailable("Shard 3 is not served right now.")),
            "ListTables": failing_with(ResourceNotFound()),
        }
    )
    await endpoint.ask(endpoint.operation("ListTables"))
    answer = await endpoint.ask(endpoint.operation("GetItem", GET))
    number = answer.headers["x-amzn-requestid"]
    assert caplog.messages == [f"GetItem {number} failed: Shard 3 is not served right now."]


async def test_each_operation_that_is_answered_is_counted(serve):
    counted = []
    endpoint = await serve(
        {
            "ListTables": empty,
            "DescribeLimits": failing_with(RuntimeError()),
            "DescribeEndpoints": failing_with(ServiceUnavailable("not now")),
        },
        meter=lambda operation, status, seconds: counted.append((operation, status, seconds > 0)),
    )
    await endpoint.ask(endpoint.operation("ListTables"))
    await endpoint.ask(endpoint.operation("DescribeLimits"))
    await endpoint.ask(endpoint.operation("DescribeEndpoints"))
    await endpoint.ask(endpoint.operation("PutItem", b"no JSON"))
    await endpoint.ask(endpoint.operation("Nothing"))
    await endpoint.ask(endpoint.request("GET", "/"))
    assert counted == [
        ("ListTables", 200, True),
        ("DescribeLimits", 500, True),
        ("DescribeEndpoints", 503, True),
        ("PutItem", 400, True),
        ("unknown", 400, True),
    ]


async def test_each_request_is_told_of_at_debug(serve, caplog):
    endpoint = await serve({"ListTables": empty})
    with caplog.at_level("DEBUG", "streamtable.gateway"):
        answer = await endpoint.ask(endpoint.operation("ListTables"))
    [record] = [each for each in caplog.records if each.name == "streamtable.gateway.app"]
    assert record.request_id == answer.headers["x-amzn-requestid"]
    assert (record.operation, record.status) == ("ListTables", 200)


async def test_pages_answer_json(serve, caplog):
    async def epochs(parameters):
        if parameters.get("shard") == "9":
            raise ResourceNotFound("no such shard")
        if not parameters:
            raise RuntimeError
        return dict(parameters)

    endpoint = await serve(pages={"/_streamtable/epochs": epochs})
    answer = await endpoint.ask(endpoint.request("GET", "/_streamtable/epochs?shard=1&offset=5"))
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {"shard": "1", "offset": "5"}
    answer = await endpoint.ask(endpoint.request("GET", "/_streamtable/epochs?shard=9"))
    assert (answer.status, answer.code) == (400, "ResourceNotFoundException")
    answer = await endpoint.ask(endpoint.request("GET", "/_streamtable/epochs"))
    assert (answer.status, answer.code) == (500, "InternalServerError")
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/x"), ("POST", "/x"), ("PUT", "/"), ("DELETE", "/"), ("OPTIONS", "/")],
)
async def test_other_paths_and_methods_do_not_exist(serve, method, path):
    endpoint = await serve()
    async with endpoint.wire() as wire:
        body = b"x" * 300_000
        for _ in range(2):  # the body is not taken for the next request
            await wire.send(endpoint.request(method, path, body))
            answer = await wire.read()
            assert (answer.status, answer.code) == (404, "UnknownOperationException")


async def test_an_endpoint_may_have_a_path(serve):
    endpoint = await serve({"GetItem": get_item})
    for path in ("//", "/dynamodb/", "/a/b?c=d"):
        request = endpoint.operation("GetItem", GET).replace(b"POST / ", f"POST {path} ".encode())
        answer = await endpoint.ask(request)
        assert (answer.status, answer.json) == (200, {"Item": GET["Key"]})


async def test_browsers_from_anywhere_are_let_in(serve):
    endpoint = await serve({"GetItem": get_item})
    answer = await endpoint.ask(
        endpoint.request(
            "OPTIONS",
            origin="https://example.com",
            access_control_request_method="POST",
            access_control_request_headers="x-amz-target,authorization",
        )
    )
    assert answer.status == 200
    assert answer.raw == b""
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-methods"] == "POST"
    assert answer.headers["access-control-allow-headers"] == "x-amz-target,authorization"
    assert answer.headers["access-control-max-age"] == "172800"
    answer = await endpoint.ask(endpoint.operation("GetItem", GET, origin="https://example.com"))
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "x-amz-crc32" in answer.headers["access-control-expose-headers"]
    answer = await endpoint.ask(endpoint.operation("GetItem", GET))
    assert "access-control-allow-origin" not in answer.headers


async def test_packed_requests_are_read(serve):
    endpoint = await serve({"GetItem": get_item}, body_bytes=100_000)
    packed = gzip.compress(orjson.dumps(GET))
    answer = await endpoint.ask(endpoint.operation("GetItem", packed, content_encoding="gzip"))
    assert answer.json == {"Item": GET["Key"]}
    for damaged in (packed[:-1], packed + b"x", b"x" + packed, b""):
        answer = await endpoint.ask(endpoint.operation("GetItem", damaged, content_encoding="gzip"))
        assert answer.code == "SerializationException"
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < 100_000
    answer = await endpoint.ask(endpoint.operation("GetItem", bomb, content_encoding="gzip"))
    assert answer.status == 413
    answer = await endpoint.ask(endpoint.operation("GetItem", packed, content_encoding="br"))
    assert answer.code == "SerializationException"


@pytest.mark.parametrize("size", [5_000, 500_000])
async def test_answers_are_packed_for_those_who_ask(serve, size):
    async def handler(body, context):
        return {"Item": {"id": {"S": "x" * size}}}

    endpoint = await serve({"GetItem": handler})
    plain = await endpoint.ask(endpoint.operation("GetItem", GET, accept_encoding="identity"))
    assert "content-encoding" not in plain.headers
    packed = await endpoint.ask(endpoint.operation("GetItem", GET, accept_encoding="br, gzip"))
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.raw) == plain.raw


async def test_a_body_in_pieces_is_put_together(serve):
    endpoint = await serve({"GetItem": get_item})
    body = orjson.dumps(GET | {"ProjectionExpression": "a" * 300_000})
    request = endpoint.operation("GetItem", body, content_length=None, transfer_encoding="chunked")
    head = request[: -len(body)]
    async with endpoint.wire() as wire:
        await wire.send(head)
        for start in range(0, len(body), 10_000):
            piece = body[start : start + 10_000]
            await wire.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
        await wire.send(b"0\r\n\r\n")
        assert (await wire.read()).json == {"Item": GET["Key"]}


async def test_a_large_body_is_refused_by_its_length_and_by_its_pieces(serve):
    endpoint = await serve({"GetItem": get_item}, body_bytes=1_000_000)
    answer = await endpoint.ask(endpoint.operation("GetItem", b" " * 3_000_000))
    assert (answer.status, answer.code) == (413, "RequestEntityTooLargeException")
    assert answer.closed
    head = endpoint.operation("GetItem", b"", content_length=None, transfer_encoding="chunked")
    async with endpoint.wire() as wire:
        await wire.send(head + (b"%x\r\n" % 50_000 + b" " * 50_000 + b"\r\n") * 40 + b"0\r\n\r\n")
        answer = await wire.read()
        assert answer.status == 413
        assert await wire.at_end()


async def test_all_bodies_together_are_bounded(serve):
    endpoint = await serve({"GetItem": get_item}, buffered_bytes=2_000_000)
    half = b" " * 1_500_000
    async with endpoint.wire() as first, endpoint.wire() as second:
        await first.send(endpoint.operation("GetItem", half, content_length=2_000_000))
        await second.send(endpoint.operation("GetItem", half, content_length=2_000_000))
        done, _ = await asyncio.wait(
            {asyncio.create_task(first.read()), asyncio.create_task(second.read())},
            return_when=asyncio.FIRST_COMPLETED,
        )
        (refused,) = done
        assert (await refused).status == 503
    await endpoint.is_left()
    answer = await endpoint.ask(endpoint.operation("GetItem", b" " * 1_900_000))
    assert answer.code == "SerializationException"  # there is room again


async def test_requests_at_once_are_bounded(serve):
    entered, leave = asyncio.Event(), asyncio.Event()

    async def handler(body, context):
        entered.set()
        await leave.wait()
        return {}

    endpoint = await serve({"GetItem": handler}, requests=1)
    first = asyncio.create_task(endpoint.ask(endpoint.operation("GetItem", GET)))
    await entered.wait()
    answer = await endpoint.ask(endpoint.operation("GetItem", GET))
    assert (answer.status, answer.code) == (503, "ServiceUnavailable")
    leave.set()
    assert (await first).status == 200
    assert (await endpoint.ask(endpoint.operation("GetItem", GET))).status == 200


async def test_a_client_that_leaves_does_not_stop_its_request(serve):
    entered, leave, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(body, context):
        entered.set()
        await leave.wait()
        finished.set()
        return {}

    endpoint = await serve({"PutItem": handler, "GetItem": get_item})
    async with endpoint.wire() as wire:
        await wire.send(endpoint.operation("PutItem", {"TableName": "users", "Item": {}}))
        await entered.wait()
    leave.set()
    await asyncio.wait_for(finished.wait(), 20)
    assert (await endpoint.ask(endpoint.operation("GetItem", GET))).status == 200


async def test_requests_follow_each_other_on_a_connection(serve):
    endpoint = await serve({"GetItem": get_item})
    async with endpoint.wire() as wire:
        await wire.send(endpoint.operation("GetItem", GET) * 3)
        for _ in range(3):
            assert (await wire.read()).json == {"Item": GET["Key"]}


async def test_a_page_says_that_the_log_is_away_and_no_more(serve, caplog):
    async def register(body):
        raise LogUnavailable("local.changelog can't be read")

    endpoint = await serve(posts={"/_streamtable/register": register})
    answer = await endpoint.ask(endpoint.request("POST", "/_streamtable/register", body=b"{}"))
    assert (answer.status, answer.code) == (500, "InternalServerError")
    assert answer.json["message"] == "local.changelog can't be read"
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("WARNING", None)
