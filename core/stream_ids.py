"""Names in DynamoDB Streams: ARNs of streams, ids of their shards.

A stream is one period in which a table's stream was on. It has as many shards as the change log,
and each stays one shard for as long as the stream is there. A shard's id has the time at which
the stream was switched on, in milliseconds, and the number of the log's shard; so ids of two
streams differ, and those of one stream sort by number.
"""

import re
from dataclasses import dataclass
from typing import Final

from streamtable.core.documents import StreamDocument
from streamtable.core.errors import ValidationError

__all__ = ["StreamName", "parse_shard_id", "parse_stream_arn", "shard_id"]

_ARN: Final = re.compile(
    r"arn:aws[a-z-]*:dynamodb:[^:/]*:[^:/]*:table/([a-zA-Z0-9_.-]{3,255})/stream/([^/]+)"
)
_SHARD: Final = re.compile(r"shardId-(\d{20})-([0-9a-f]{8})")


@dataclass(frozen=True, slots=True)
class StreamName:
    """What a stream's ARN says.

    Attributes:
        table: the table's name.
        label: the stream's label.
    """

    table: str
    label: str


def parse_stream_arn(arn: str) -> StreamName:
    """Read the ARN of a stream; its region and account are not looked at.

    Raises:
        ValidationError: it is not the ARN of a stream.
    """
    found = _ARN.fullmatch(arn)
    if found is None:
        raise ValidationError("Invalid StreamArn")
    return StreamName(found[1], found[2])


def shard_id(stream: StreamDocument, number: int) -> str:
    """Return the id of one shard of a stream."""
    return f"shardId-{int(stream.enabled * 1000):020d}-{number:08x}"


def parse_shard_id(text: str, stream: StreamDocument, count: int) -> int | None:
    """Return the number of a stream's shard, None if the stream has no such shard.

    Args:
        text: a shard's id.
        stream: the stream.
        count: how many shards it has.
    """
    found = _SHARD.fullmatch(text)
    if found is None:
        return None
    number = int(found[2], 16)
    return number if number < count and shard_id(stream, number) == text else None
