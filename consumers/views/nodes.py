"""What feeding and building a view needs of a node."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, Protocol

from streamtable.core.errors import StreamtableError

__all__ = [
    "INGEST",
    "SNAPSHOT",
    "TOKENS",
    "Node",
    "Place",
    "error_code",
    "find_table",
    "tells_of_no_table",
]

Place = tuple[int, int]
"""A place in a source shard's log: an offset, and a number that grows within it."""

INGEST = "/_streamtable/views/ingest"
SNAPSHOT = "/_streamtable/snapshot"
TOKENS = "/_streamtable/views/tokens"

_MISSING_TABLE: Final = "ResourceNotFoundException"


class Node(Protocol):
    """A node's endpoint.

    Each call raises a ConnectionError where no node answers, or it can't do for now what it was
    asked to; of what was to be written the outcome is unknown then. Any other error is the node's
    answer: with a `code`, DynamoDB's name of the error.
    """

    async def call(self, operation: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one of DynamoDB's operations."""

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Ask for a page."""

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a JSON object to a page."""

    def stream(
        self, path: str, query: Mapping[str, str] | None = None
    ) -> AsyncGenerator[dict[str, Any]]:
        """Yield the JSON objects of a page that answers in lines."""


def error_code(error: BaseException) -> str:
    """Return what DynamoDB calls an error that a node answered with."""
    return str(getattr(error, "code", ""))


def tells_of_no_table(error: BaseException) -> bool:
    """Say whether a node answered that there is no such table."""
    return error_code(error) == _MISSING_TABLE


async def find_table(node: Node, name: str) -> dict[str, Any] | None:
    """Return a table's description, as DescribeTable has it; None if there is none.

    Raises:
        StreamtableError: the node does not answer, or refuses.
    """
    try:
        answer = await node.call("DescribeTable", {"TableName": name})
    except StreamtableError as error:
        if not tells_of_no_table(error):
            raise
        return None
    table: dict[str, Any] = answer["Table"]
    return table
