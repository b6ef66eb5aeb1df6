"""A node's HTTP endpoint, asked for what a reader of the log needs to know."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from io import BytesIO
from types import TracebackType
from typing import Any, Final, NoReturn, Self

import aiohttp
import orjson
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from streamtable.core.errors import StreamtableError
from streamtable.core.layouts import LayoutDocument
from streamtable.streams.security import known_address
from streamtable.streams.topics import Topics

__all__ = ["Endpoint", "NodeDescription", "NodeError", "NodeUnavailable"]

_TIMEOUT_S: Final = 5.0
_SILENCE_S: Final = 30.0
_OK: Final = 200
_FAILED: Final = 500
_PIECE_BYTES: Final = 64 * 1024


class NodeUnavailable(StreamtableError, ConnectionError):
    """No node answers at the endpoint, or it can't do what it was asked to for now."""


class NodeError(StreamtableError):
    """A node answers that what it was asked for can't be done; asking again won't help.

    Attributes:
        status: the HTTP status.
        code: what DynamoDB calls the error, for example `ResourceNotFoundException`.
        message: the text for a person.
        body: the whole answer.
    """

    def __init__(self, status: int, code: str, message: str, body: Mapping[str, Any]) -> None:
        super().__init__(message or code)
        self.status = status
        self.code = code
        self.message = message
        self.body = body

    @classmethod
    def read(cls, status: int, body: object) -> Self:
        """Return what an answer's body says."""
        fields = body if isinstance(body, dict) else {}
        code = str(fields.get("__type", "")).partition("#")[2]
        message = str(fields.get("message") or fields.get("Message") or "")
        return cls(status, code or f"HTTP {status}", message, fields)


@dataclass(frozen=True, slots=True)
class NodeDescription:
    """What a node says about its region.

    Attributes:
        region: the region's name.
        kafka: its brokers, `host:port,...`, with what STREAMTABLE_KAFKA_CONFIG says of them.
        layout: its shards.
    """

    region: str
    kafka: str
    layout: LayoutDocument

    @property
    def shards(self) -> int:
        """Number of shards of its change log."""
        return self.layout.count

    @property
    def changelog(self) -> str:
        """The topic of the change log."""
        return Topics(self.region).changelog


class Endpoint:
    """A client of one node. An async context manager.

    Args:
        url: for example `http://127.0.0.1:8000`.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def describe(self) -> NodeDescription:
        """Ask where the node's log is.

        Raises:
            NodeUnavailable: no node answers.
            WrongKafkaConfig: the file that STREAMTABLE_KAFKA_CONFIG names is not right.
        """
        try:
            page = await self._page("node")
            region, kafka = str(page["region"]), str(page["kafka"])
            layout = LayoutDocument(count=page["shards"], splits=page.get("splits", ()))
        except (NodeError, KeyError, TypeError, ValueError):
            raise NodeUnavailable(f"what answers at {self.url} is no streamtable node") from None
        return NodeDescription(region, known_address(kafka), layout)

    async def epoch(self, shard: int, offset: int) -> tuple[str | None, int | None]:
        """Ask for the epoch in force just before an offset, and the offset of its barrier.

        Raises:
            NodeUnavailable: no node answers.
        """
        page = await self._page("epochs", shard=str(shard), offset=str(offset))
        return page["epoch"], page["barrier"]

    async def has_table(self, name: str) -> bool:
        """Ask whether there is a table of that name.

        Raises:
            NodeUnavailable: no node answers.
        """
        try:
            await self.call("DescribeTable", {"TableName": name})
        except NodeError as error:
            if error.code != "ResourceNotFoundException":
                raise
            return False
        return True

    async def call(self, operation: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one of DynamoDB's operations.

        Args:
            operation: its name, for example `PutItem`.
            body: the request, in DynamoDB's JSON.

        Raises:
            NodeError: the node answers with an error.
            NodeUnavailable: no node answers; the outcome of a write is unknown.
        """
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"DynamoDB_20120810.{operation}",
        }
        request = AWSRequest("POST", f"{self.url}/", headers, orjson.dumps(body))
        # Nodes know no secrets yet: a name for the log, and any region.
        SigV4Auth(Credentials("worker", "worker"), "dynamodb", "local").add_auth(request)
        headers = dict(request.headers)
        return await self._request("POST", "/", data=_in_pieces(request.data), headers=headers)

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Ask for a page of the node, `/_streamtable/...`.

        Raises:
            NodeError: the node answers with an error.
            NodeUnavailable: no node answers.
        """
        return await self._request("GET", path, params=query)

    async def post(
        self, path: str, body: Mapping[str, Any], *, timeout_s: float = _TIMEOUT_S
    ) -> dict[str, Any]:
        """Send a JSON object to a page of the node.

        Raises:
            NodeError: the node answers with an error.
            NodeUnavailable: no node answers; whether it did what it was asked to is unknown.
        """
        headers = {"Content-Type": "application/json"}
        # Numbers of shards are keys.
        data = orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        return await self._request(
            "POST", path, data=_in_pieces(data), headers=headers, timeout=timeout
        )

    async def stream(
        self, path: str, query: Mapping[str, str] | None = None
    ) -> AsyncGenerator[dict[str, Any]]:
        """Yield the JSON objects of a page that answers in lines; close it if you stop early.

        Raises:
            NodeError: the node answers with an error.
            NodeUnavailable: no node answers, or the answer was cut off.
        """
        # As long as it goes on it may take its time.
        timeout = aiohttp.ClientTimeout(total=None, connect=_TIMEOUT_S, sock_read=_SILENCE_S)
        try:
            async with self._session.get(self.url + path, params=query, timeout=timeout) as answer:
                if answer.status != _OK:
                    self._refuse(answer.status, await answer.json(content_type=None))
                rest = b""
                async for piece in answer.content.iter_any():
                    *lines, rest = (rest + piece).split(b"\n")
                    for line in lines:
                        yield orjson.loads(line)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._unavailable(error) from error
        if rest:
            raise NodeUnavailable(f"what {self.url}{path} answers ends within a line")

    async def _page(self, name: str, **query: str) -> dict[str, Any]:
        return await self.get(f"/_streamtable/{name}", query)

    async def _request(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        try:
            async with self._session.request(method, self.url + path, **arguments) as answer:
                status = answer.status
                body = await answer.json(content_type=None, loads=orjson.loads)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._unavailable(error) from error
        if not isinstance(body, dict) or (status != _OK and "__type" not in body):
            raise NodeUnavailable(f"what answers at {self.url} is no streamtable node")
        if status != _OK:
            self._refuse(status, body)
        return body

    def _refuse(self, status: int, body: object) -> NoReturn:
        error = NodeError.read(status, body)
        if status >= _FAILED:
            raise NodeUnavailable(f"the node at {self.url} answers: {error}")
        raise error

    def _unavailable(self, error: Exception) -> NodeUnavailable:
        if isinstance(error, aiohttp.ClientConnectorError):
            return NodeUnavailable(f"no node answers at {self.url}")
        return NodeUnavailable(f"no node answers at {self.url} ({error!r})")


def _in_pieces(data: bytes) -> bytes | BytesIO:
    """Return what aiohttp sends; a long body in pieces, between which the loop goes on."""
    return data if len(data) <= _PIECE_BYTES else BytesIO(data)
