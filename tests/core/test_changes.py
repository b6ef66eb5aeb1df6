"""A commit's changes come back from its value as they were, also one by one."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from streamtable.core.changes import (
    INSERT,
    MODIFY,
    REMOVE,
    Change,
    change_to_json,
    decode_changes,
    decode_wanted,
    encode_changes,
)
from streamtable.core.images import Image

# What a commit's value has between its changes.
NASTY = ['{"table":"users","', '],"transactions":[', '"eventName":"REMOVE"', "table", "\\", '"']
texts = st.text(max_size=8) | st.sampled_from(NASTY)
names = st.sampled_from(["table", "transactions", "eventName", "changes", *NASTY]) | texts
values = st.recursive(
    st.builds(lambda text: {"S": text}, texts),
    lambda inner: (
        st.builds(lambda found: {"L": found}, st.lists(inner, max_size=3))
        | st.builds(lambda found: {"M": found}, st.dictionaries(names, inner, max_size=3))
    ),
    max_leaves=6,
)
items = st.dictionaries(names, values, max_size=4)


def image(item: dict[str, Any] | None) -> Image | None:
    return None if item is None else Image(orjson.dumps(item), 1, 7, "local", item)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    old, new = draw(
        st.tuples(items, items) | st.tuples(st.none(), items) | st.tuples(items, st.none())
    )
    return Change(
        table=draw(st.sampled_from(["users", "users2", "user", "orders"])),
        table_id="an id",
        keys={"id": draw(values)},
        old=image(old),
        new=image(new),
        time=7,
        region="local",
        created_ms=3,
        request_id=draw(texts),
        principal=draw(texts),
        service=draw(st.none() | st.just("dynamodb.amazonaws.com")),
    )


def plain(change: Change) -> Any:
    return orjson.loads(orjson.dumps(change_to_json(change)))


@given(
    st.lists(changes(), max_size=5),
    st.lists(changes(), max_size=2),
    st.sets(st.sampled_from([INSERT, MODIFY, REMOVE])),
)
def test_the_wanted_ones_are_those_that_reading_all_finds(made, prepared, events):
    entries = [{"kind": "prepared", "changes": [plain(change) for change in prepared]}] * 2
    value = encode_changes(b",".join(each.encode() for each in made), entries if prepared else [])
    decoded, found_entries = decode_changes(value)
    assert [plain(change) for change in decoded] == [plain(change) for change in made]
    assert found_entries == (entries if prepared else [])
    wanted = decode_wanted(value, "users", events)
    assert [(index, plain(change)) for index, change in wanted] == [
        (index, plain(change))
        for index, change in enumerate(made)
        if change.table == "users" and change.event_name in events
    ]


def test_a_change_is_written_as_any_reader_of_json_expects_it():
    before = Image(b'{"id":{"S":"a"}}', 3, 5, 'eu"1')
    after = Image(b'{"id":{"S":"a"},"n":{"N":"1"}}', 5, 7, 'eu"1')
    known: dict[str, Any] = {
        "table": "users",
        "table_id": "an id",
        "keys": {"id": {"S": "a"}},
        "time": 7,
        "region": 'eu"1',
        "created_ms": 3,
        "request_id": "r\\",
        "principal": 'p"',
    }
    first = {"table": "users", "tableId": "an id"}
    then = {"version": '7@eu"1', "requestId": "r\\", "principal": 'p"'}
    stream: dict[str, Any] = {"ApproximateCreationDateTime": 3, "Keys": {"id": {"S": "a"}}}
    new, old = {"NewImage": after.item}, {"OldImage": before.item}
    old_version = {"oldSize": 3, "oldVersion": '5@eu"1'}
    service = {"userIdentity": {"Type": "Service", "PrincipalId": "aws"}}

    made = Change(old=None, new=after, **known)
    expected = {**first, "eventName": "INSERT", **then, "dynamodb": {**stream, **new}, "newSize": 5}
    assert made.encode() == orjson.dumps(expected)
    made = Change(old=before, new=after, **known)
    images = {**stream, **new, **old}
    expected = {**first, "eventName": "MODIFY", **then, "dynamodb": images, "newSize": 5}
    assert made.encode() == orjson.dumps({**expected, **old_version})
    made = Change(old=before, new=None, service="aws", **known)
    expected = {**first, "eventName": "REMOVE", **then, "dynamodb": {**stream, **old}}
    assert made.encode() == orjson.dumps({**expected, **old_version, **service})


def test_an_image_of_a_parsed_item_has_its_json_when_asked():
    item = {"id": {"S": "ä"}}
    made = Image.of_item(item, 4, 7, "local")
    assert made.item is item
    assert made.json == '{"id":{"S":"ä"}}'.encode()
    assert Image.decode(made.encode()).item == item
    made.forget_item()
    assert made.item == item
    assert made.item is not item
