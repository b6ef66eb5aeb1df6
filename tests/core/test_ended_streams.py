from streamtable.core.documents import KeyElement, StreamDocument, TableDocument
from streamtable.core.ended_streams import end_streams, is_readable

NOW = 1_700_000_000.0
DAY = 24 * 3600


def stream(enabled, disabled):
    return StreamDocument(
        label=str(enabled), view_type="KEYS_ONLY", enabled=enabled, disabled=disabled
    )


def table(*streams):
    return TableDocument(
        name="users",
        id="00000000-0000-0000-0000-000000000007",
        region="local",
        account="000000000000",
        created=0,
        attributes={"id": "S"},
        keys=(KeyElement(name="id", kind="HASH"),),
        streams=streams,
    )


def test_a_table_without_streams_leaves_nothing():
    assert end_streams(table(), NOW) is None
    assert end_streams(table(stream(1.0, NOW - DAY)), NOW) is None


def test_the_stream_that_is_on_ends_with_the_table():
    ended = end_streams(table(stream(1.0, NOW - DAY), stream(2.0, NOW - 5), stream(3.0, None)), NOW)
    assert ended is not None
    assert [(each.enabled, each.disabled) for each in ended.streams] == [(2.0, NOW - 5), (3.0, NOW)]


def test_they_are_readable_for_a_day():
    ended = end_streams(table(stream(3.0, None)), NOW)
    assert ended is not None
    assert is_readable(ended, NOW + DAY - 1)
    assert not is_readable(ended, NOW + DAY)
