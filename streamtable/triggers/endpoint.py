"""A node's HTTP endpoint, asked for what a reader of the log needs to know."""

import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from streamtable.core.errors import StreamtableError
from streamtable.streams.topics import Topics

__all__ = ["Endpoint", "NodeDescription", "NodeUnavailable"]

_TIMEOUT_S: Final = 5.0


class NodeUnavailable(StreamtableError, ConnectionError):
    """No node answers at the endpoint."""


@dataclass(frozen=True, slots=True)
class NodeDescription:
    """What a node says about its region.

    Attributes:
        region: the region's name.
        kafka: its brokers, `host:port,...`.
        shards: number of shards of its change log.
    """

    region: str
    kafka: str
    shards: int

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
        """
        page = await self._page("node")
        try:
            return NodeDescription(str(page["region"]), str(page["kafka"]), int(page["shards"]))
        except (KeyError, TypeError, ValueError):
            raise NodeUnavailable(f"what answers at {self.url} is no streamtable node") from None

    async def epoch(self, shard: int, offset: int) -> tuple[str | None, int | None]:
        """Ask for the epoch in force just before an offset, and the offset of its barrier.

        Raises:
            NodeUnavailable: no node answers.
        """
        page = await self._page("epochs", shard=str(shard), offset=str(offset))
        return page["epoch"], page["barrier"]

    async def has_table(self, name: str, region: str) -> bool:
        """Ask whether there is a table of that name.

        Raises:
            NodeUnavailable: no node answers.
        """
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": "DynamoDB_20120810.DescribeTable",
        }
        request = AWSRequest("POST", f"{self.url}/", headers, json.dumps({"TableName": name}))
        SigV4Auth(Credentials("worker", "worker"), "dynamodb", region).add_auth(request)
        answer = await self._request("POST", "/", data=request.data, headers=dict(request.headers))
        return "ResourceNotFoundException" not in str(answer.get("__type", ""))

    async def _page(self, name: str, **query: str) -> dict[str, Any]:
        return await self._request("GET", f"/_streamtable/{name}", params=query)

    async def _request(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        try:
            async with self._session.request(method, self.url + path, **arguments) as answer:
                body = await answer.json(content_type=None)
        except aiohttp.ClientConnectorError as error:
            raise NodeUnavailable(f"no node answers at {self.url}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NodeUnavailable(f"no node answers at {self.url} ({error!r})") from error
        if not isinstance(body, dict):
            raise NodeUnavailable(f"what answers at {self.url} is no streamtable node")
        return body
