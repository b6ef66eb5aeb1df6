"""Events as Lambda's integration with DynamoDB Streams gives them to a function.

Sources: "Using AWS Lambda with Amazon DynamoDB" (the example event; time windows), Lambda
developer guide. Unlike the Streams API's record, an event's record names the stream, and who
removed an expired item in lower case; its time is a float.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from streamtable.core.changes import Change
from streamtable.core.positions import Position
from streamtable.core.stream_records import stream_record

__all__ = ["EventSource", "EventWindow", "lambda_event"]


@dataclass(frozen=True, slots=True)
class EventSource:
    """The stream that events come from.

    Attributes:
        arn: the stream's ARN.
        view_type: the stream's StreamViewType.
        enabled_ms: when the stream was switched on, milliseconds since 1970.
    """

    arn: str
    view_type: str
    enabled_ms: int

    def shard_id(self, number: int) -> str:
        """Return the id of one of the stream's shards."""
        return f"shardId-{self.enabled_ms:020d}-{number:08x}"


@dataclass(frozen=True, slots=True)
class EventWindow:
    """The tumbling window that an event belongs to.

    Attributes:
        shard: number of the shard.
        start_ms: its begin, milliseconds since 1970.
        end_ms: its end.
        state: what the function has returned last in this window.
        final: this is its last call.
    """

    shard: int
    start_ms: int
    end_ms: int
    state: dict[str, Any]
    final: bool


def lambda_event(
    source: EventSource,
    changes: Sequence[tuple[Change, Position]],
    window: EventWindow | None = None,
) -> dict[str, Any]:
    """Return the event for a batch: plain JSON values, which the function may change.

    Args:
        source: the table's stream.
        changes: the batch, in order.
        window: the tumbling window, None without windows.
    """
    event: dict[str, Any] = {
        "Records": [_record(source, change, position) for change, position in changes]
    }
    if window is not None:
        event["window"] = {"start": _time(window.start_ms), "end": _time(window.end_ms)}
        event["state"] = window.state
        event["shardId"] = source.shard_id(window.shard)
        event["eventSourceARN"] = source.arn
        event["isFinalInvokeForWindow"] = window.final
        event["isWindowTerminatedEarly"] = False
    # Images are texts so far, and parts are shared with the runtime.
    made: dict[str, Any] = orjson.loads(orjson.dumps(event))
    return made


def _record(source: EventSource, change: Change, position: Position) -> dict[str, Any]:
    record = stream_record(change, position, source.view_type)
    stream = record["dynamodb"]
    stream["ApproximateCreationDateTime"] = float(stream["ApproximateCreationDateTime"])
    record["eventSourceARN"] = source.arn
    identity = record.pop("userIdentity", None)
    if identity is not None:
        record["userIdentity"] = {
            "type": identity["Type"],
            "principalId": identity["PrincipalId"],
        }
    return record


def _time(milliseconds: int) -> str:
    time = datetime.fromtimestamp(milliseconds / 1000, UTC)
    text = time.isoformat(timespec="milliseconds" if milliseconds % 1000 else "seconds")
    return text.replace("+00:00", "Z")
