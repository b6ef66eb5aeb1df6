"""Stream records: how DynamoDB Streams shows a change.

Source: API_streams_Record, API_streams_StreamRecord, API_streams_Identity.
"""

from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

import orjson

from streamtable.core.changes import Change
from streamtable.core.positions import Position, sequence_number
from streamtable.core.values import item_size

__all__ = ["kinesis_record", "record_size", "stream_record"]

_EVENT_VERSION: Final = "1.1"
_EVENT_ID_BYTES: Final = 16
_MS: Final = "MILLISECOND"
_NEW: Final = frozenset({"NEW_IMAGE", "NEW_AND_OLD_IMAGES"})
_OLD: Final = frozenset({"OLD_IMAGE", "NEW_AND_OLD_IMAGES"})


def record_size(change: Change, view_type: str) -> int:
    """Return the SizeBytes of a change's record: its key and the images that the view shows."""
    size = item_size(change.keys)
    if change.new is not None and view_type in _NEW:
        size += change.new.size_bytes
    if change.old is not None and view_type in _OLD:
        size += change.old.size_bytes
    return size


def stream_record(
    change: Change, position: Position, view_type: str, numbered_from: int = 0
) -> dict[str, Any]:
    """Return the record of a change, ready for orjson.

    The same change always has the same eventID, whoever reads it and however often.

    Args:
        change: the change.
        position: where it is in the log.
        view_type: the stream's StreamViewType.
        numbered_from: what is added to the offset in the sequence number.
    """
    stream: dict[str, Any] = {
        "ApproximateCreationDateTime": change.created_ms // 1000,
        "Keys": change.keys,
    }
    if change.new is not None and view_type in _NEW:
        stream["NewImage"] = orjson.Fragment(change.new.json)
    if change.old is not None and view_type in _OLD:
        stream["OldImage"] = orjson.Fragment(change.old.json)
    stream["SequenceNumber"] = sequence_number(position.offset + numbered_from, position.index)
    stream["SizeBytes"] = record_size(change, view_type)
    stream["StreamViewType"] = view_type
    record: dict[str, Any] = {
        "eventID": _event_id(change, position),
        "eventName": change.event_name,
        "eventVersion": _EVENT_VERSION,
        "eventSource": "aws:dynamodb",
        "awsRegion": change.region,
        "dynamodb": stream,
    }
    if change.service is not None:
        record["userIdentity"] = {"PrincipalId": change.service, "Type": "Service"}
    return record


def kinesis_record(change: Change, position: Position, precision: str) -> dict[str, Any]:
    """Return a change as DynamoDB puts it on a Kinesis data stream, ready for orjson.

    Its eventID is that of the change's stream record, written as a UUID: whoever gets the record
    twice can tell. Source: the developer guide, "Change data capture with Kinesis".

    Args:
        change: the change.
        position: where it is in the log.
        precision: MILLISECOND or MICROSECOND, the unit of ApproximateCreationDateTime. The clock
            is one of milliseconds, so the other unit is a multiple of 1000.
    """
    stream: dict[str, Any] = {
        "ApproximateCreationDateTime": change.created_ms * (1 if precision == _MS else 1000),
        "ApproximateCreationDateTimePrecision": precision,
        "Keys": change.keys,
    }
    if change.new is not None:
        stream["NewImage"] = orjson.Fragment(change.new.json)
    if change.old is not None:
        stream["OldImage"] = orjson.Fragment(change.old.json)
    stream["SizeBytes"] = record_size(change, "NEW_AND_OLD_IMAGES")
    identity = None
    if change.service is not None:
        identity = {"principalId": change.service, "type": "Service"}
    return {
        "awsRegion": change.region,
        "eventID": str(UUID(_event_id(change, position))),
        "eventName": change.event_name,
        "userIdentity": identity,
        "recordFormat": "application/json",
        "tableName": change.table,
        "dynamodb": stream,
        "eventSource": "aws:dynamodb",
    }


def _event_id(change: Change, position: Position) -> str:
    identity = f"{change.table_id}/{position.shard}/{position.sequence_number}".encode()
    return blake2b(identity, digest_size=_EVENT_ID_BYTES).hexdigest()
