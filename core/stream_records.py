"""Stream records: how DynamoDB Streams shows a change.

Source: API_streams_Record, API_streams_StreamRecord, API_streams_Identity.
"""

from hashlib import blake2b
from typing import Any, Final

import orjson

from streamtable.core.changes import Change
from streamtable.core.positions import Position
from streamtable.core.values import item_size

__all__ = ["record_size", "stream_record"]

_EVENT_VERSION: Final = "1.1"
_EVENT_ID_BYTES: Final = 16
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


def stream_record(change: Change, position: Position, view_type: str) -> dict[str, Any]:
    """Return the record of a change, ready for orjson.

    The same change always has the same eventID, whoever reads it and however often.

    Args:
        change: the change.
        position: where it is in the log.
        view_type: the stream's StreamViewType.
    """
    stream: dict[str, Any] = {
        "ApproximateCreationDateTime": change.created_ms // 1000,
        "Keys": change.keys,
    }
    if change.new is not None and view_type in _NEW:
        stream["NewImage"] = orjson.Fragment(change.new.json)
    if change.old is not None and view_type in _OLD:
        stream["OldImage"] = orjson.Fragment(change.old.json)
    sequence_number = position.sequence_number
    stream["SequenceNumber"] = sequence_number
    stream["SizeBytes"] = record_size(change, view_type)
    stream["StreamViewType"] = view_type
    identity = f"{change.table_id}/{position.shard}/{sequence_number}".encode()
    record: dict[str, Any] = {
        "eventID": blake2b(identity, digest_size=_EVENT_ID_BYTES).hexdigest(),
        "eventName": change.event_name,
        "eventVersion": _EVENT_VERSION,
        "eventSource": "aws:dynamodb",
        "awsRegion": change.region,
        "dynamodb": stream,
    }
    if change.service is not None:
        record["userIdentity"] = {"PrincipalId": change.service, "Type": "Service"}
    return record
