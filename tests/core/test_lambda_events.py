"""Events have the exact shape of Lambda's integration with DynamoDB Streams."""

from typing import Any

from streamtable.core.lambda_events import EventSource, EventWindow, lambda_event
from streamtable.core.plain import wire_item
from streamtable.core.positions import Position
from tests.support.changelog import change

ARN = "arn:aws:dynamodb:local:000000000000:table/users/stream/2026-11-23T12:00:00.000"
SOURCE = EventSource(ARN, "NEW_AND_OLD_IMAGES", 1_700_000_000_000)


def test_a_record() -> None:
    made = change("u1", old=wire_item({"n": 1}), new=wire_item({"n": 2, "b": b"\x00\xff"}))
    (record,) = lambda_event(SOURCE, [(made, Position(3, 17, 2))])["Records"]
    event_id = record.pop("eventID")
    assert len(event_id) == 32
    assert record == {
        "eventName": "MODIFY",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "local",
        "dynamodb": {
            "ApproximateCreationDateTime": 1_700_000_000.0,
            "Keys": {"id": {"S": "u1"}},
            "NewImage": {"id": {"S": "u1"}, "n": {"N": "2"}, "b": {"B": "AP8="}},
            "OldImage": {"id": {"S": "u1"}, "n": {"N": "1"}},
            "SequenceNumber": "000000000000001700002",
            "SizeBytes": 4 + 10 + 7,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
        "eventSourceARN": ARN,
    }
    assert isinstance(record["dynamodb"]["ApproximateCreationDateTime"], float)


def test_the_view_type_says_which_images() -> None:
    made = change("u1", old={}, new={})
    shown = {}
    for view_type in ("KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES"):
        source = EventSource(ARN, view_type, 0)
        stream = lambda_event(source, [(made, Position(0, 1, 0))])["Records"][0]["dynamodb"]
        assert stream["StreamViewType"] == view_type
        shown[view_type] = {"NewImage", "OldImage"} & stream.keys()
    assert shown == {
        "KEYS_ONLY": set(),
        "NEW_IMAGE": {"NewImage"},
        "OLD_IMAGE": {"OldImage"},
        "NEW_AND_OLD_IMAGES": {"NewImage", "OldImage"},
    }


def test_what_time_to_live_removed() -> None:
    made = change("u1", old={})
    made.service = "dynamodb.amazonaws.com"
    (record,) = lambda_event(SOURCE, [(made, Position(0, 1, 0))])["Records"]
    assert record["userIdentity"] == {"type": "Service", "principalId": "dynamodb.amazonaws.com"}


def test_an_event_may_be_changed() -> None:
    made = change("u1", new={})
    state: dict[str, Any] = {"n": []}
    window = EventWindow(1, 0, 60_000, state, final=False)
    event = lambda_event(SOURCE, [(made, Position(0, 1, 0))], window)
    event["Records"][0]["dynamodb"]["NewImage"]["id"]["S"] = "other"
    event["Records"][0]["dynamodb"]["Keys"].clear()
    event["state"]["n"].append(1)
    assert made.new is not None
    assert made.new.item == {"id": {"S": "u1"}}
    assert made.keys == {"id": {"S": "u1"}}
    assert state == {"n": []}


def test_a_window() -> None:
    window = EventWindow(1, 1_700_000_040_000, 1_700_000_100_500, {"total": 5}, final=True)
    assert lambda_event(SOURCE, [], window) == {
        "Records": [],
        "window": {"start": "2023-11-14T22:14:00Z", "end": "2023-11-14T22:15:00.500Z"},
        "state": {"total": 5},
        "shardId": "shardId-00000001700000000000-00000001",
        "eventSourceARN": ARN,
        "isFinalInvokeForWindow": True,
        "isWindowTerminatedEarly": False,
    }
