import asyncio
import contextlib
import zlib
from dataclasses import dataclass

import orjson
import pytest
import uvloop

from streamtable.gateway import GatewayLimits, HttpServer, create_app

AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/us-east-1/dynamodb/aws4_request, "
    "SignedHeaders=host;x-amz-date, Signature=abc"
)


def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    raw: bytes
    closed: bool

    @property
    def json(self):
        return orjson.loads(self.raw)

    @property
    def code(self):
        return self.json["__type"].partition("#")[2]


class Wire:
    """One connection, on which a test says exactly what is sent."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def read(self):
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 20)
        status, *lines = head.decode().split("\r\n")[:-2]
        headers = dict(line.split(": ", 1) for line in lines)
        raw = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(status.split()[1]), headers, raw, headers.get("connection") == "close")

    async def at_end(self):
        """Whether the server closes the connection without another word."""
        try:
            return await asyncio.wait_for(self.reader.read(1), 20) == b""
        except ConnectionResetError:
            return True


class Endpoint:
    """A running server, and requests to it."""

    def __init__(self, server):
        self.server = server

    @contextlib.asynccontextmanager
    async def wire(self):
        reader, writer = await asyncio.open_connection(self.server.host, self.server.port)
        try:
            yield Wire(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    @property
    def connections(self):
        return self.server._server.server_state.connections

    async def is_left(self):
        """Wait until the server holds no connection any more."""
        async with asyncio.timeout(20):
            while self.connections:  # noqa: ASYNC110, the server tells nobody when one is closed
                await asyncio.sleep(0.01)

    def request(self, method="POST", path="/", body=b"", **headers):
        """The bytes of a request; headers as keywords with underscores, None leaves one out."""
        given = {"host": f"{self.server.host}:{self.server.port}", "content-length": len(body)}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{name}: {value}" for name, value in given.items() if value is not None]
        return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + body

    def operation(self, name, body=b"{}", **headers):
        """The bytes of an operation's request, signed unless told otherwise."""
        if not isinstance(body, bytes):
            body = orjson.dumps(body)
        given = {
            "x_amz_target": f"DynamoDB_20120810.{name}",
            "x_amz_date": "20260101T000000Z",
            "authorization": AUTHORIZATION,
            "content_type": "application/x-amz-json-1.0",
        }
        return self.request(body=body, **(given | headers))

    async def ask(self, data):
        async with self.wire() as wire:
            await wire.send(data)
            answer = await wire.read()
        crc = answer.headers.get("x-amz-crc32")
        assert crc is None or int(crc) == zlib.crc32(answer.raw)
        return answer


@pytest.fixture
async def serve():
    """A function that starts an endpoint with the handlers, pages and limits given."""
    running = []

    async def start(
        handlers=None,
        pages=None,
        *,
        posts=None,
        streams=None,
        meter=None,
        visible=None,
        **limits,
    ):
        bounds = GatewayLimits(**limits)
        app = create_app(
            handlers or {},
            pages,
            posts=posts,
            streams=streams,
            limits=bounds,
            meter=meter,
            visible=visible,
        )
        server = HttpServer(app, port=0, limits=bounds)
        await server.start()
        running.append(server)
        return Endpoint(server)

    yield start
    for server in running:
        await server.stop()
