"""The AWS services that the endpoint speaks for, told apart by `X-Amz-Target`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamtable.core import shapes

__all__ = ["Service", "dynamodb_services"]


@dataclass(frozen=True, slots=True)
class Service:
    """One AWS service with a JSON protocol.

    Attributes:
        target: what `X-Amz-Target` has before the dot and the operation's name.
        content_type: of its answers.
        operations: the names of all operations that the service has.
        validate: checks the shape of a request, given the operation's name and the body.
    """

    target: str
    content_type: bytes
    operations: frozenset[str]
    validate: Callable[[str, dict[str, Any]], None]


def dynamodb_services() -> tuple[Service, ...]:
    """Return DynamoDB and DynamoDB Streams."""
    json = b"application/x-amz-json-1.0"
    return (
        Service("DynamoDB_20120810", json, shapes.OPERATIONS, shapes.validate),
        Service("DynamoDBStreams_20120810", json, shapes.STREAMS_OPERATIONS, shapes.validate),
    )
