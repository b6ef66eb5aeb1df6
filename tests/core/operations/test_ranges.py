from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtable.core.documents import TableDocument
from streamtable.core.errors import ValidationError
from streamtable.core.operations.pages import Page
from streamtable.core.operations.ranges import Reading, ScanRange
from streamtable.core.tables import Table

TABLE = Table(
    TableDocument.model_validate(
        {
            "name": "users",
            "id": "00000000-0000-4000-8000-000000000001",
            "region": "local",
            "account": "000000000000",
            "created": 0,
            "attributes": {"id": "S"},
            "keys": [{"name": "id", "kind": "HASH"}],
        }
    )
)
KEYS = st.text(min_size=1, max_size=20).map(lambda text: {"id": {"S": text}})


def reading() -> Reading:
    page = Page(limit=None, condition=None, projection=None, counting=False)
    return Reading(TABLE, None, page, {}, fetches=False)


def parts(shards: int, segment: int = 0, segments: int = 1, start: Any = None):
    return ScanRange(reading(), shards, segment, segments, start).parts()


def holds(found, shard: int, row: bytes) -> bool:
    return any(number == shard and low <= row < high for number, low, high in found)


@given(st.integers(1, 20), st.integers(1, 50), st.lists(KEYS, max_size=20))
def test_each_row_is_in_exactly_one_segment(shards, segments, keys):
    found = [parts(shards, segment, segments) for segment in range(segments)]
    for key in keys:
        number, row = reading().locate(key)
        assert sum(holds(segment, number % shards, row) for segment in found) == 1


@given(st.integers(1, 20), KEYS, st.lists(KEYS, max_size=20))
def test_a_scan_goes_on_after_its_key(shards, start, keys):
    rest = parts(shards, start=start)
    number, after = reading().locate(start)
    for key in keys:
        other, row = reading().locate(key)
        expected = (other % shards, row) > (number % shards, after)
        assert holds(rest, other % shards, row) is expected


def test_every_shard_has_a_part():
    assert [shard for shard, _, _ in parts(3)] == [0, 1, 2]
    assert all(low == TABLE.prefix + bytes(8) for _, low, _ in parts(3))
    assert all(high == TABLE.end for _, _, high in parts(3))


def test_a_key_of_another_segment():
    key = {"id": {"S": "a"}}
    found = []
    for segment in range(4):
        try:
            parts(2, segment, 4, key)
        except ValidationError:
            continue
        found.append(segment)
    assert len(found) == 1
    with pytest.raises(ValidationError, match="TotalSegments: 4 Segment: "):
        parts(2, (found[0] + 1) % 4, 4, key)
