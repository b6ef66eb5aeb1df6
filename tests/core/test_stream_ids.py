import pytest

from streamtable.core.documents import StreamDocument
from streamtable.core.errors import ValidationError
from streamtable.core.stream_ids import StreamName, parse_shard_id, parse_stream_arn, shard_id

STREAM = StreamDocument(label="2023-11-14T22:13:20.000", view_type="KEYS_ONLY", enabled=1.7e9)


def test_a_shard_id_has_the_streams_time_and_the_shards_number():
    assert shard_id(STREAM, 0) == "shardId-00000001700000000000-00000000"
    assert shard_id(STREAM, 10) == "shardId-00000001700000000000-0000000a"


@pytest.mark.parametrize("number", [0, 3])
def test_a_shard_id_is_read_back(number):
    assert parse_shard_id(shard_id(STREAM, number), STREAM) == number


@pytest.mark.parametrize(
    "text",
    [
        "shardId-00000001700000000000-4",
        "shardId-00000001700000000001-00000000",
        "shardId-1700000000000-0",
        "nonsense",
    ],
)
def test_shards_that_the_stream_does_not_have(text):
    assert parse_shard_id(text, STREAM) is None


def test_an_arn_is_read():
    arn = "arn:aws:dynamodb:local:000000000000:table/a.b-C_1/stream/2023-11-14T22:13:20.000"
    assert parse_stream_arn(arn) == StreamName("a.b-C_1", "2023-11-14T22:13:20.000")


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:dynamodb:local:000000000000:table/users",
        "arn:aws:kinesis:local:000000000000:table/users/stream/x",
        "arn:aws:dynamodb:local:000000000000:table/users/stream/a/b",
        "x" * 40,
    ],
)
def test_other_texts_are_no_stream(arn):
    with pytest.raises(ValidationError, match="Invalid StreamArn"):
        parse_stream_arn(arn)
