from uuid import UUID

import orjson
import pytest

from streamtable.core.changes import Change
from streamtable.core.images import Image
from streamtable.core.positions import Position
from streamtable.core.stream_records import kinesis_record, record_size, stream_record

KEYS = {"id": {"S": "a"}}
OLD = {"id": {"S": "a"}, "n": {"N": "1"}}
NEW = {"id": {"S": "a"}, "n": {"N": "20"}, "s": {"S": "xyz"}}
POSITION = Position(2, 7, 3)


def image(item, size):
    return None if item is None else Image(orjson.dumps(item), size, 1, "local")


def change(old=OLD, new=NEW, service=None):
    return Change(
        table="users",
        table_id="00000000-0000-0000-0000-000000000007",
        keys=KEYS,
        old=image(old, 6),
        new=image(new, 10),
        time=1_700_000_000_123 << 16,
        region="local",
        created_ms=1_700_000_000_999,
        request_id="R",
        principal="someone",
        service=service,
    )


def record(view_type, **parts):
    return orjson.loads(orjson.dumps(stream_record(change(**parts), POSITION, view_type)))


def test_a_record_is_dynamodbs():
    found = record("NEW_AND_OLD_IMAGES")
    assert len(found.pop("eventID")) == 32
    assert found == {
        "eventName": "MODIFY",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "local",
        "dynamodb": {
            "ApproximateCreationDateTime": 1_700_000_000,
            "Keys": KEYS,
            "NewImage": NEW,
            "OldImage": OLD,
            "SequenceNumber": "000000000000000700003",
            "SizeBytes": 3 + 6 + 10,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
    }


@pytest.mark.parametrize(
    ("view_type", "images", "size"),
    [
        ("KEYS_ONLY", {}, 3),
        ("NEW_IMAGE", {"NewImage": NEW}, 13),
        ("OLD_IMAGE", {"OldImage": OLD}, 9),
        ("NEW_AND_OLD_IMAGES", {"NewImage": NEW, "OldImage": OLD}, 19),
    ],
)
def test_a_view_shows_its_images_and_counts_them(view_type, images, size):
    stream = record(view_type)["dynamodb"]
    assert {name: stream[name] for name in ("NewImage", "OldImage") if name in stream} == images
    assert stream["SizeBytes"] == size == record_size(change(), view_type)


@pytest.mark.parametrize("view_type", ["NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES"])
def test_an_image_that_is_not_there_is_not_shown(view_type):
    inserted = record(view_type, old=None)
    assert inserted["eventName"] == "INSERT"
    assert "OldImage" not in inserted["dynamodb"]
    removed = record(view_type, new=None)
    assert removed["eventName"] == "REMOVE"
    assert "NewImage" not in removed["dynamodb"]


def test_an_expired_item_is_removed_by_the_service():
    found = record("KEYS_ONLY", new=None, service="dynamodb.amazonaws.com")
    assert found["userIdentity"] == {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}
    assert "userIdentity" not in record("KEYS_ONLY", new=None)


def test_the_event_id_is_the_positions_and_always_the_same():
    first = stream_record(change(), POSITION, "KEYS_ONLY")["eventID"]
    assert stream_record(change(), POSITION, "NEW_IMAGE")["eventID"] == first
    other = {
        stream_record(change(), Position(shard, offset, index), "KEYS_ONLY")["eventID"]
        for shard in range(2, 4)
        for offset in range(7, 9)
        for index in range(3, 5)
    }
    assert len(other) == 8
    assert first in other


def kinesis(precision="MILLISECOND", **parts):
    return orjson.loads(orjson.dumps(kinesis_record(change(**parts), POSITION, precision)))


def test_a_record_on_kinesis_is_dynamodbs():
    found = kinesis()
    assert UUID(found.pop("eventID")).hex == record("KEYS_ONLY")["eventID"]
    assert found == {
        "awsRegion": "local",
        "eventName": "MODIFY",
        "userIdentity": None,
        "recordFormat": "application/json",
        "tableName": "users",
        "dynamodb": {
            "ApproximateCreationDateTime": 1_700_000_000_999,
            "ApproximateCreationDateTimePrecision": "MILLISECOND",
            "Keys": KEYS,
            "NewImage": NEW,
            "OldImage": OLD,
            "SizeBytes": 3 + 6 + 10,
        },
        "eventSource": "aws:dynamodb",
    }


def test_a_record_on_kinesis_in_microseconds_of_an_item_that_expired():
    found = kinesis("MICROSECOND", new=None, service="dynamodb.amazonaws.com")
    assert found["eventName"] == "REMOVE"
    assert found["userIdentity"] == {
        "principalId": "dynamodb.amazonaws.com",
        "type": "Service",
    }
    assert found["dynamodb"]["ApproximateCreationDateTime"] == 1_700_000_000_999_000
    assert "NewImage" not in found["dynamodb"]
