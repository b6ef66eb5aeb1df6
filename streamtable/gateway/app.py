"""The endpoint as an ASGI application: from a request's bytes to its handler and back.

One class and no layers of middleware: what a request costs here comes on top of each GetItem.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qsl
from zlib import crc32

import orjson

from streamtable.core.context import Handler, RequestContext
from streamtable.core.errors import (
    ApiError,
    InternalServerError,
    ServiceUnavailable,
    UnknownOperation,
)
from streamtable.core.visibility import (
    AFTER_HEADER,
    POSITION_HEADER,
    WAIT_HEADER,
    After,
    format_positions,
    parse_after,
)
from streamtable.gateway.answers import (
    NoOperation,
    error_body,
    gzip_answer,
    new_request_id,
    wants_gzip,
)
from streamtable.gateway.bodies import Bodies, Receive, parse_object, unpack
from streamtable.gateway.content import Content
from streamtable.gateway.credentials import read_credential
from streamtable.gateway.failures import Failures
from streamtable.gateway.limits import GatewayLimits
from streamtable.gateway.services import Service, dynamodb_services
from streamtable.gateway.streamed import Send, StreamPage, Streams
from streamtable.streams.log import LogUnavailable

__all__ = [
    "Gateway",
    "Handler",
    "Meter",
    "Page",
    "Post",
    "Sampler",
    "StreamPage",
    "TracedRequest",
    "create_app",
]

Page = Callable[[Mapping[str, str]], Awaitable[dict[str, Any] | Content]]
Post = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
Meter = Callable[[str, int, float], None]
"""Counts a request that is answered: operation, HTTP's status, seconds."""


class TracedRequest(Protocol):
    """A request that is sampled."""

    @property
    def trace(self) -> str:
        """What its changes name as their cause."""

    def answered(self, request_id: str, status: int) -> None:
        """Tell that it was answered, with this HTTP status."""


class Sampler(Protocol):
    """Says which requests are traced."""

    def request(self, operation: str, headers: Mapping[bytes, bytes]) -> TracedRequest | None:
        """Tell that a request has come; None where it is not sampled."""


Visible = Callable[[str, dict[str, Any], After], Awaitable[None]]

Headers = dict[bytes, bytes]
Scope = Mapping[str, Any]

_UNKNOWN_CAUSE = (
    "The request processing has failed because of an unknown error, exception or failure."
)
_JSON = b"application/json"
_AMZ_JSON = b"application/x-amz-json-"
_JSON_1_0 = _AMZ_JSON + b"1.0"
# How much of a refused body is read and dropped, so that the client, which reads an answer only
# after it has sent everything, gets one.
_DRAINED_BYTES = 64 * 1024 * 1024
_POSITION = POSITION_HEADER.encode()
_AFTER = AFTER_HEADER.encode()
_WAIT = WAIT_HEADER.encode()
_EXPOSED = b"x-amzn-RequestId,x-amzn-ErrorType,x-amzn-ErrorMessage,x-amz-crc32,Date," + _POSITION
# Browsers may keep a preflight's answer for two days, as DynamoDB tells them.
_PREFLIGHT_MAX_AGE_S = b"172800"

logger = logging.getLogger(__name__)
_telling = logger.isEnabledFor


@dataclass(frozen=True, slots=True)
class _Route:
    operation: str
    service: Service | None
    handler: Handler | None
    content_type: bytes = _JSON_1_0


# Where a target leads that no service has.
_NOWHERE = _Route("an unknown operation", None, None)


def create_app(
    handlers: Mapping[str, Handler],
    pages: Mapping[str, Page] | None = None,
    *,
    posts: Mapping[str, Post] | None = None,
    streams: Mapping[str, StreamPage] | None = None,
    services: Sequence[Service] | None = None,
    limits: GatewayLimits | None = None,
    meter: Meter | None = None,
    visible: Visible | None = None,
    sampler: Sampler | None = None,
) -> "Gateway":
    """Return the endpoint's ASGI application.

    Args:
        handlers: the operations that are served, by name, for example "PutItem". A handler gets
            the body, already checked against the operation's shape, and returns the answer's
            JSON, as bytes or as what orjson dumps; it raises ApiError for an error answer.
        pages: what `GET` answers, by path, for example "/_streamtable/node". A page gets the
            query's parameters and returns what orjson dumps, or a `Content`.
        posts: what `POST` answers, by path. It gets the body, a JSON object, and returns what
            orjson dumps; it raises ApiError for an error answer, as a page does.
        streams: what `GET` answers in chunks, by path. Called with the query's parameters, it
            gives an iterator of the body's chunks: lines of JSON. The iterator is asked for the
            next one when the client has room for it, and is closed at the end, when the client
            goes and when the server stops. What it raises before its first chunk is the answer;
            later, the answer is cut off, so that the client sees that it is not whole.
        services: DynamoDB and DynamoDB Streams if not given.
        limits: the defaults of `GatewayLimits` if not given.
        meter: told of each operation that is answered.
        visible: called with the operation, the body and the positions before an operation whose
            request names positions in the log that it is to show; returns when it will. It raises
            ApiError for an error answer. Without it no positions are waited for.
        sampler: says which requests are traced; without it none is.

    Raises:
        ValueError: a handler has the name of no operation of the services.
    """
    return Gateway(
        handlers,
        {} if pages is None else pages,
        dynamodb_services() if services is None else services,
        GatewayLimits() if limits is None else limits,
        posts={} if posts is None else posts,
        streams={} if streams is None else streams,
        meter=_count_nothing if meter is None else meter,
        visible=_wait_for_nothing if visible is None else visible,
        sampler=sampler,
    )


def _count_nothing(_operation: str, _status: int, _seconds: float) -> None:
    pass


async def _wait_for_nothing(_operation: str, _body: dict[str, Any], _after: After) -> None:
    pass


class Gateway:
    """The ASGI application; see `create_app`."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        pages: Mapping[str, Page],
        services: Sequence[Service],
        limits: GatewayLimits,
        *,
        posts: Mapping[str, Post],
        streams: Mapping[str, StreamPage],
        meter: Meter,
        visible: Visible,
        sampler: Sampler | None,
    ) -> None:
        known = frozenset[str]().union(*(service.operations for service in services))
        if not known.issuperset(handlers):
            raise ValueError(f"no service has the operations {sorted(set(handlers) - known)}")
        self._routes = {
            f"{service.target}.{operation}".encode(): _Route(
                operation, service, handlers.get(operation), service.content_type
            )
            for service in services
            for operation in service.operations
        }
        self._pages = dict(pages)
        self._posts = dict(posts)
        self._stream_pages = dict(streams)
        self._streams = Streams()
        self._limits = limits
        self._bodies = Bodies(limits)
        self._meter = meter
        self._visible = visible
        self._sampler = sampler
        self._failures = Failures()
        self._running = 0

    @property
    def running(self) -> int:
        """How many operations are being worked on."""
        return self._running

    def close_streams(self) -> None:
        """Cut the answers that are sent in chunks: the server stops."""
        self._streams.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        assert scope["type"] == "http"
        headers: Headers = dict(scope["headers"])
        request_id = new_request_id()
        if scope["method"] == "POST" and scope["path"] == "/":
            await self._answer_operation(scope, headers, request_id, receive, send)
        elif scope["method"] == "POST" and scope["path"] in self._posts:
            await self._answer_post(scope, headers, request_id, receive, send)
        elif scope["method"] == "POST" and b"x-amz-target" in headers:
            # An endpoint with a path of its own, as behind a proxy: the target says what is asked.
            await self._answer_operation(scope, headers, request_id, receive, send)
        elif await _drain(receive):
            if scope["method"] == "GET" and scope["path"] in self._stream_pages:
                await self._answer_stream(scope, headers, request_id, receive, send)
            else:
                await self._answer_other(scope, headers, request_id, send)

    async def _answer_operation(
        self, scope: Scope, headers: Headers, request_id: str, receive: Receive, send: Send
    ) -> None:
        started = time.perf_counter()
        status = 200
        held = 0
        arrived = False
        route = self._routes.get(headers.get(b"x-amz-target", b""), _NOWHERE)
        traced = None
        if self._sampler is not None:
            traced = self._sampler.request(route.operation, headers)
        # What was written is told even if the rest failed.
        written: dict[int, int] = {}
        try:
            self._bodies.check_length(headers.get(b"content-length"))
            message = await receive()
            if message["type"] != "http.request":
                return
            raw: bytes = message["body"]
            if message["more_body"]:
                whole = await self._bodies.receive(raw, receive)
                if whole is None:
                    return
                raw = whole
                held = len(raw)
            arrived = True
            trace = None if traced is None else traced.trace
            answer = await self._operate(route, scope, headers, request_id, raw, written, trace)
        except ApiError as error:
            status = error.status
            answer = error_body(error)
            if status >= InternalServerError.status:
                self._failures.tell(route.operation, request_id, error)
        except asyncio.CancelledError:
            # The server stops and has waited long enough. This is the request's outermost frame,
            # so nobody else waits for the cancellation; a write's outcome is unknown.
            logger.warning(
                "%s %s was cut off by a stop",
                route.operation,
                request_id,
                extra={"operation": route.operation, "request_id": request_id},
            )
            status = InternalServerError.status
            answer = error_body(InternalServerError(_UNKNOWN_CAUSE))
        except Exception:
            logger.exception(
                "%s %s failed",
                route.operation,
                request_id,
                extra={"operation": route.operation, "request_id": request_id},
            )
            status = InternalServerError.status
            answer = error_body(InternalServerError(_UNKNOWN_CAUSE))
        finally:
            self._bodies.release(held)
        took_s = time.perf_counter() - started
        self._meter("unknown" if route.service is None else route.operation, status, took_s)
        if traced is not None:
            traced.answered(request_id, status)
        if _telling(logging.DEBUG):
            _tell(route.operation, request_id, status, took_s)
        if arrived:
            await _send(
                send,
                headers,
                request_id,
                answer,
                status=status,
                content_type=route.content_type,
                written=written,
            )
        else:
            await _refuse(receive, send, request_id, answer, status)

    async def _operate(  # noqa: PLR0917 - on each request, so no object to hold them
        self,
        route: "_Route",
        scope: Scope,
        headers: Headers,
        request_id: str,
        raw: bytes,
        written: dict[int, int],
        trace: str | None,
    ) -> bytes:
        content_type = headers.get(b"content-type")
        if content_type != _JSON_1_0 and not _is_json(content_type):
            raise NoOperation
        encoding = headers.get(b"content-encoding")
        if encoding is not None:
            raw = unpack(raw, encoding, self._limits.body_bytes)
        # In DynamoDB's order: that it is JSON comes before what it is about and who asks.
        body = parse_object(raw)
        if route.service is None:
            raise UnknownOperation
        credential = read_credential(headers, scope["query_string"])
        if route.handler is None:
            raise UnknownOperation(
                f"{route.operation} is not served by this version of streamtable"
            )
        route.service.validate(route.operation, body)
        if self._running >= self._limits.requests:
            raise ServiceUnavailable("The server works on as many requests as it may")
        client = scope["client"]
        address = client[0] if client else ""
        context = RequestContext(request_id, credential.access_key_id, address, written, trace)
        after = headers.get(_AFTER)
        self._running += 1
        try:
            if after is not None:
                await self._visible(route.operation, body, _parse_after(after, headers))
            answer = route.handler(body, context)
            # A parsed body is large and spread over memory: freed at once it costs half.
            del body
            result = await answer
        finally:
            self._running -= 1
        return result if type(result) is bytes else orjson.dumps(result)

    async def _answer_other(
        self, scope: Scope, headers: Headers, request_id: str, send: Send
    ) -> None:
        """Everything but an operation: health, pages, preflights, and what does not exist."""
        method, path = scope["method"], scope["path"]
        if method == "OPTIONS" and b"origin" in headers:
            await _send(send, headers, request_id, b"", preflight=True)
            return
        if method in ("GET", "HEAD"):
            if path == "/":
                text = b"healthy: " + headers.get(b"host", b"") + b" "
                await _send(send, headers, request_id, text, content_type=b"text/plain")
                return
            page = self._pages.get(path)
            if page is not None:
                found = await self._page(page, scope["query_string"], path, request_id)
                await _send(
                    send,
                    headers,
                    request_id,
                    found.body,
                    status=found.status,
                    content_type=found.content_type,
                )
                return
        error = UnknownOperation(
            f"There is no {method} {path} here: AWS SDKs send POST to the path /"
        )
        await _send(send, headers, request_id, error_body(error), status=404)

    async def _page(self, page: Page, query: bytes, path: str, request_id: str) -> Content:
        try:
            found = await page(_parameters(query))
            return found if isinstance(found, Content) else Content(orjson.dumps(found), _JSON)
        except Exception as error:  # noqa: BLE001 - an answer in any case
            status, answer = _failure(error, f"GET {path}", request_id)
            return Content(answer, _JSON, status)

    async def _answer_post(
        self, scope: Scope, headers: Headers, request_id: str, receive: Receive, send: Send
    ) -> None:
        post = self._posts[scope["path"]]
        held, status = 0, 200
        arrived = False
        try:
            self._bodies.check_length(headers.get(b"content-length"))
            raw = await self._bodies.receive(b"", receive)
            if raw is None:
                return
            held = len(raw)
            arrived = True
            answer = orjson.dumps(await post(parse_object(raw)))
        except asyncio.CancelledError:
            # As for an operation: the server stops, the outcome is unknown.
            status = InternalServerError.status
            answer = error_body(InternalServerError(_UNKNOWN_CAUSE))
        except Exception as error:  # noqa: BLE001 - an answer in any case
            status, answer = _failure(error, f"POST {scope['path']}", request_id)
        finally:
            self._bodies.release(held)
        if arrived:
            await _send(send, headers, request_id, answer, status=status, content_type=_JSON)
        else:
            await _refuse(receive, send, request_id, answer, status)

    async def _answer_stream(
        self, scope: Scope, headers: Headers, request_id: str, receive: Receive, send: Send
    ) -> None:
        page = self._stream_pages[scope["path"]]
        answer_headers = [
            (b"content-type", b"application/x-ndjson"),
            (b"x-amzn-requestid", request_id.encode()),
        ]
        try:
            chunks = page(_parameters(scope["query_string"]))
            await self._streams.send(chunks, answer_headers, receive, send)
        except Exception as error:  # noqa: BLE001 - an answer in any case
            status, answer = _failure(error, f"GET {scope['path']}", request_id)
            await _send(send, headers, request_id, answer, status=status, content_type=_JSON)


def _is_json(content_type: bytes | None) -> bool:
    """Whether a body is of a type that AWS's JSON protocols have, with or without parameters."""
    kind = b"" if content_type is None else content_type.partition(b";")[0].strip().lower()
    return kind == _JSON or kind.startswith(_AMZ_JSON)


def _tell(operation: str, request_id: str, status: int, took_s: float) -> None:
    logger.debug(
        "%s %s answered %d in %.1f ms",
        operation,
        request_id,
        status,
        took_s * 1000,
        extra={
            "operation": operation,
            "request_id": request_id,
            "status": status,
            "took_ms": round(took_s * 1000, 3),
        },
    )


def _parse_after(after: bytes, headers: Headers) -> After:
    wait = headers.get(_WAIT)
    return parse_after(after.decode("latin-1"), None if wait is None else wait.decode("latin-1"))


def _parameters(query: bytes) -> dict[str, str]:
    return dict(parse_qsl(query.decode("latin-1")))


def _failure(error: Exception, what: str, request_id: str) -> tuple[int, bytes]:
    """Return status and body that tell a client what a page raised."""
    if isinstance(error, ApiError):
        return error.status, error_body(error)
    extra = {"operation": what, "request_id": request_id}
    if isinstance(error, LogUnavailable):
        logger.warning("%s %s failed: %s", what, request_id, error, extra=extra)
        return InternalServerError.status, error_body(InternalServerError(str(error)))
    logger.error("%s %s failed", what, request_id, exc_info=error, extra=extra)
    return InternalServerError.status, error_body(InternalServerError(_UNKNOWN_CAUSE))


async def _send(
    send: Send,
    headers: Headers,
    request_id: str,
    answer: bytes,
    *,
    status: int = 200,
    content_type: bytes = _JSON_1_0,
    preflight: bool = False,
    written: Mapping[int, int] | None = None,
) -> None:
    packed = wants_gzip(headers, answer)
    if packed:
        answer = await gzip_answer(answer)
    answer_headers = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(answer)),
        (b"x-amzn-requestid", request_id.encode()),
        # of the bytes as sent: what SDKs check before they unpack them
        (b"x-amz-crc32", b"%d" % crc32(answer)),
    ]
    if packed:
        answer_headers.append((b"content-encoding", b"gzip"))
    if written:
        answer_headers.append((_POSITION, format_positions(written).encode()))
    if b"origin" in headers:
        answer_headers.append((b"access-control-allow-origin", b"*"))
        answer_headers.append((b"access-control-expose-headers", _EXPOSED))
    if preflight:
        answer_headers += _preflight_headers(headers)
    await send({"type": "http.response.start", "status": status, "headers": answer_headers})
    await send({"type": "http.response.body", "body": answer})


def _preflight_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    """What a browser may send from any page: what it asked for, as DynamoDB answers."""
    return [
        (answered, headers[asked])
        for answered, asked in (
            (b"access-control-allow-methods", b"access-control-request-method"),
            (b"access-control-allow-headers", b"access-control-request-headers"),
        )
        if asked in headers
    ] + [(b"access-control-max-age", _PREFLIGHT_MAX_AGE_S)]


async def _refuse(
    receive: Receive, send: Send, request_id: str, answer: bytes, status: int
) -> None:
    """Answer before the body is through, drop what still comes, and close the connection."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", _JSON_1_0),
                (b"content-length", b"%d" % len(answer)),
                (b"x-amzn-requestid", request_id.encode()),
                (b"x-amz-crc32", b"%d" % crc32(answer)),
                (b"connection", b"close"),
            ],
        }
    )
    await send({"type": "http.response.body", "body": answer, "more_body": True})
    await _drain(receive, _DRAINED_BYTES)
    await send({"type": "http.response.body", "body": b""})


async def _drain(receive: Receive, most_bytes: float = float("inf")) -> bool:
    """Read a body and drop it. Whether the client is still there."""
    dropped = 0
    while dropped < most_bytes:
        message = await receive()
        if message["type"] != "http.request":
            return False
        if not message["more_body"]:
            break
        dropped += len(message["body"])
    return True
