import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtable.core import values
from streamtable.core.errors import SerializationError
from streamtable.core.wire import check_types, decode_binary

NO_MAP = (
    "Unrecognized collection type java.util.Map<java.lang.String, "
    "com.amazonaws.dynamodb.v20120810.AttributeValue>"
)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"S": 5}, "NUMBER_VALUE cannot be converted to String"),
        ({"S": 5.5}, "DECIMAL_VALUE cannot be converted to String"),
        ({"S": True}, "TRUE_VALUE cannot be converted to String"),
        ({"N": False}, "FALSE_VALUE cannot be converted to String"),
        ({"N": 5}, "NUMBER_VALUE cannot be converted to String"),
        ({"S": []}, "Unrecognized collection type class java.lang.String"),
        ({"S": {}}, "Start of structure or map found where not expected."),
        ({"BOOL": 1}, "NUMBER_VALUE cannot be converted to Boolean"),
        ({"BOOL": "true"}, "Unexpected token received from parser"),
        ({"NULL": "true"}, "Unexpected token received from parser"),
        ({"B": 5}, "only base-64-encoded strings are convertible to bytes"),
        ({"B": "a"}, "Base64 encoded length is expected a multiple of 4 bytes but found: 1"),
        ({"B": "YR=="}, "Invalid last non-pad Base64 character dectected"),
        ({"B": "Y$=="}, "Invalid last non-pad Base64 character dectected"),
        ({"B": "=YQ="}, "Invalid last non-pad Base64 character dectected"),
        ({"B": "YQ==YQ=="}, "Invalid last non-pad Base64 character dectected"),
        ({"B": "Ж==="}, "Invalid last non-pad Base64 character dectected"),
        ({"SS": "a"}, "Unexpected field type"),
        ({"SS": {}}, "Start of structure or map found where not expected."),
        ({"SS": [1]}, "NUMBER_VALUE cannot be converted to String"),
        ({"NS": ["1", 2]}, "NUMBER_VALUE cannot be converted to String"),
        ({"BS": ["YQ"]}, "Base64 encoded length is expected a multiple of 4 bytes but found: 2"),
        ({"L": {}}, "Start of structure or map found where not expected."),
        ({"L": "a"}, "Unexpected field type"),
        ({"L": ["a"]}, "Unexpected value type in payload"),
        ({"M": []}, NO_MAP),
        ({"M": "a"}, "Unexpected field type"),
        ("a", "Unexpected value type in payload"),
        (
            [],
            "Unrecognized collection type class com.amazonaws.dynamodb.v20120810.AttributeValue",
        ),
    ],
)
def test_wrong_json_types(raw, message):
    for parse in (values.parse_value, lambda raw: values.parse_item({"a": raw})):
        with pytest.raises(SerializationError) as refused:
            parse(raw)
        assert refused.value.message == message
    with pytest.raises(SerializationError) as refused:
        check_types({"a": {"M": {"b": {"L": [{"S": "fine"}, raw]}}}})
    assert refused.value.message == message


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"a": {"S": "x", "N": None, "unknown": 5}},
        {"a": None, "b": {"L": [None, {"SS": [None]}]}},
        {"a": {"N": "no number"}, "b": {"SS": []}, "c": {"NULL": False}},
        {"a": {"M": {"": {"B": "YQ==", "S": "x"}}}},
    ],
)
def test_values_that_are_refused_later(raw):
    check_types(raw)


def test_the_first_wrong_type_is_told():
    raw = {"a": {"L": [{"S": "x"}, {"M": {"c": {"S": True}}}, {"S": []}]}, "b": {"S": 5}}
    with pytest.raises(SerializationError, match="TRUE_VALUE cannot be converted to String"):
        check_types(raw)


@given(st.binary())
def test_binary_is_decoded(data):
    assert decode_binary(base64.b64encode(data).decode()) == data


@given(st.text("AQZaz09+/=", max_size=8))
def test_only_the_canonical_text_of_bytes_is_accepted(text):
    try:
        data = decode_binary(text)
    except SerializationError:
        return
    assert base64.b64encode(data).decode() == text
