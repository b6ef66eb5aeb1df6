"""The codec, against kio's: every version of every message that the broker says it speaks."""

import contextlib
import io
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader, entity_writer

from streamtable.streams.broker.messages import MESSAGES
from streamtable.streams.broker.wire import Array, Field, Fixed, Malformed, Message, Text, Uuid
from tests.support.kafka_wire import plain

SPOKEN = [
    pytest.param(message, version, id=f"{message.name}-{version}")
    for message in MESSAGES.values()
    for version in range(message.first, message.last + 1)
]


def values(fields: Any, version: int) -> st.SearchStrategy[dict[str, Any]]:
    """Values for the fields of a message, as a handler would give them."""
    strategies = {
        field.name: value(field.type, version) for field in fields if field.in_version(version)
    }
    return st.fixed_dictionaries(strategies).map(
        lambda drawn: {key: drawn[key] for key in strategies}
    )


def value(kind: Any, version: int) -> st.SearchStrategy[Any]:
    if isinstance(kind, Fixed):
        if kind.default is False:
            return st.booleans()
        bits = kind.size * 8
        low = 0 if bits == 16 else -(2 ** (bits - 1))  # an error code is one that kio knows
        return st.integers(low, 100 if bits == 16 else 2 ** (bits - 1) - 1)
    if isinstance(kind, Text):
        return st.text(max_size=8)
    if isinstance(kind, Uuid):
        return st.uuids()
    if isinstance(kind, Array):
        item = values(kind.fields, version) if kind.item is None else value(kind.item, version)
        return st.lists(item, max_size=3)
    return st.binary(max_size=8)


@pytest.mark.parametrize(("message", "version"), SPOKEN)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_an_answer_is_read_by_another_codec(message: Message, version: int, data: st.DataObject):
    answer = data.draw(values(message.response, version))
    out = bytearray()
    message.encode(version, answer, out)
    schema: Any = load_response_schema(message.key, version)
    read, size = entity_reader(schema)(bytes(out), 0)
    assert size == len(out)
    assert _leaves(plain(read)) == _leaves(answer)


@pytest.mark.parametrize(("message", "version"), SPOKEN)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_request_of_another_codec_is_read(message: Message, version: int, data: st.DataObject):
    schema: Any = load_request_schema(message.key, version)
    request = data.draw(st.from_type(schema))
    out = io.BytesIO()
    entity_writer(schema)(out, request)
    read = message.decode(version, out.getvalue(), 0)
    assert _leaves(read) == _leaves(plain(request))


@given(st.binary(max_size=200), st.sampled_from(SPOKEN))
def test_any_bytes_are_read_or_refused(data: bytes, spoken: Any):
    message, version = spoken.values
    with contextlib.suppress(Malformed):
        message.decode(version, data, 0)


def _leaves(value: Any) -> list[Any]:
    """The values in order, without the names, which differ between the codecs."""
    if isinstance(value, dict):
        return [leaf for one in value.values() for leaf in _leaves(one)]
    if isinstance(value, list | tuple):
        return [len(value), *(leaf for one in value for leaf in _leaves(one))]
    if isinstance(value, uuid.UUID) and not value.int:
        return [None]
    return [value]


def test_a_length_that_passes_the_end_is_refused_before_anything_is_allocated():
    metadata = MESSAGES[3]
    with pytest.raises(Malformed):
        metadata.decode(5, (2**31 - 1).to_bytes(4, "big") + b"\x00", 0)


def test_a_field_that_an_answer_lacks_has_its_default():
    message = Message("Test", 0, (0, 0, 9), (), (Field("a", Text()), Field("b", Text(null=True))))
    out = bytearray()
    message.encode(0, {}, out)
    assert out == b"\x00\x00\xff\xff"
