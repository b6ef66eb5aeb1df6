"""Whether a request has the shape that its operation asks for.

    from streamtable.core import shapes

    shapes.validate("PutItem", body)   # raises SerializationError or ValidationError
    shapes.table_name(body["TableName"])

`OPERATIONS` and `STREAMS_OPERATIONS` are the operations of DynamoDB and of DynamoDB Streams.
"""

from typing import Any

from streamtable.core.shapes.checks import unknown_members, validate
from streamtable.core.shapes.model import operation_names
from streamtable.core.shapes.names import table_name

__all__ = ["OPERATIONS", "STREAMS_OPERATIONS", "table_name", "unknown_members", "validate"]

OPERATIONS: frozenset[str]
STREAMS_OPERATIONS: frozenset[str]


def __getattr__(name: str) -> Any:
    # The model takes some milliseconds to read, so it waits until somebody asks.
    if name == "OPERATIONS":
        return operation_names("dynamodb")
    if name == "STREAMS_OPERATIONS":
        return operation_names("dynamodbstreams")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
