"""Names in DynamoDB Streams: ARNs of streams, ids of their shards.

A stream is one period in which a table's stream was on. Its shards are the parts of the change
log's shards between splits, see `core.layouts`. A shard's id has the time at which the stream was
switched on, in milliseconds, and the code of the part: how many splits came before, and the number
of the log's shard. So ids of two streams differ, and those of one stream sort parents before
children, and by number.
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


def shard_id(stream: StreamDocument, code: int) -> str:
    """Return the id of one shard of a stream."""
    return f"shardId-{int(stream.enabled * 1000):020d}-{code:08x}"


def parse_shard_id(text: str, stream: StreamDocument) -> int | None:
    """Return the code of a stream's shard, None if the id is of no shard of the stream.

    Args:
        text: a shard's id.
        stream: the stream.
    """
    found = _SHARD.fullmatch(text)
    if found is None:
        return None
    code = int(found[2], 16)
    return code if shard_id(stream, code) == text else None
