import base64
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtable.core import numbers, values
from streamtable.core.errors import SerializationError, ValidationError

EMPTY = "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"
SEVERAL = (
    "Supplied AttributeValue has more than one datatypes set, must contain exactly one of the "
    "supported datatypes"
)
INVALID = "One or more parameter values were invalid: "
TOO_DEEP = (
    "Nesting Levels have exceeded supported limits: Attributes in the item have nested levels "
    "beyond supported limit"
)

number_texts = st.decimals(-(10**20), 10**20, places=4).map(numbers.from_decimal)
base64_texts = st.binary(max_size=20).map(lambda data: base64.b64encode(data).decode())
scalars = st.one_of(
    st.builds(lambda text: {"S": text}, st.text()),
    st.builds(lambda text: {"N": text}, number_texts),
    st.builds(lambda text: {"B": text}, base64_texts),
    st.builds(lambda flag: {"BOOL": flag}, st.booleans()),
    st.just({"NULL": True}),
)
sets = st.one_of(
    st.builds(lambda m: {"SS": m}, st.lists(st.text(), min_size=1, unique=True)),
    st.builds(lambda m: {"NS": m}, st.lists(number_texts, min_size=1, unique=True)),
    st.builds(lambda m: {"BS": m}, st.lists(base64_texts, min_size=1, unique=True)),
)
names = st.text(min_size=1)
canonical_values = st.recursive(
    scalars | sets,
    lambda inner: st.one_of(
        st.builds(lambda m: {"L": m}, st.lists(inner, max_size=5)),
        st.builds(lambda m: {"M": m}, st.dictionaries(names, inner, max_size=5)),
    ),
    max_leaves=15,
)
items = st.dictionaries(names, canonical_values, max_size=6)


def nested(wraps, kind="M"):
    value: Any = {"S": "leaf"}
    for _ in range(wraps):
        value = {"M": {"a": value}} if kind == "M" else {"L": [value]}
    return value


@given(items)
def test_canonical_items_come_back_as_the_same_object(item):
    parsed, size = values.parse_item(item)
    assert parsed is item
    assert size == values.item_size(item)


@given(items)
def test_dumped_items_are_parsed_to_equal_items(item):
    parsed, _ = values.parse_item(orjson.loads(values.dump_item(item)))
    assert parsed == item
    assert values.equal({"M": parsed}, {"M": item})


@given(items)
def test_parsing_never_changes_what_it_is_given(item):
    raw = {**item, "odd": {"L": [{"N": "1.0"}, {"S": "kept", "N": None}]}}
    before = values.dump_item(raw)
    parsed, size = values.parse_item(raw)
    assert values.dump_item(raw) == before
    assert parsed["odd"] == {"L": [{"N": "1"}, {"S": "kept"}]}
    assert list(parsed) == list(raw)
    assert size == values.item_size(parsed)


@given(items)
def test_parsing_is_idempotent(item):
    parsed, size = values.parse_item(item)
    assert values.parse_item(parsed) == (parsed, size)


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ({"S": ""}, {"S": ""}),
        ({"B": ""}, {"B": ""}),
        ({"N": "1e3"}, {"N": "1000"}),
        ({"NS": ["1.0", "02"]}, {"NS": ["1", "2"]}),
        ({"SS": ["", "a"]}, {"SS": ["", "a"]}),
        ({"BS": ["", "YQ=="]}, {"BS": ["", "YQ=="]}),
        ({"S": "a", "N": None}, {"S": "a"}),
        ({"S": "a", "unknown": 5}, {"S": "a"}),
        ({"L": []}, {"L": []}),
        ({"M": {}}, {"M": {}}),
        ({"M": {"n": {"N": "+1"}, "s": {"S": "x"}}}, {"M": {"n": {"N": "1"}, "s": {"S": "x"}}}),
        ({"L": [{"S": "x"}, {"N": "-0"}]}, {"L": [{"S": "x"}, {"N": "0"}]}),
    ],
)
def test_what_is_accepted(raw, canonical):
    assert values.parse_value(raw) == canonical
    assert values.parse_item({"a": raw})[0] == {"a": canonical}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, EMPTY),
        (None, EMPTY),
        ({"X": "a"}, EMPTY),
        ({"S": None}, EMPTY),
        ({"S": "a", "N": "1"}, SEVERAL),
        (
            {"S": "a", "NULL": False},
            f"{INVALID}Null attribute value types must have the value of true",
        ),
        ({"NULL": False}, f"{INVALID}Null attribute value types must have the value of true"),
        ({"SS": []}, f"{INVALID}An string set  may not be empty"),
        ({"NS": []}, f"{INVALID}An number set  may not be empty"),
        ({"BS": []}, f"{INVALID}Binary sets should not be empty"),
        ({"SS": ["a", "b", "a"]}, f"{INVALID}Input collection [a, b, a] contains duplicates."),
        ({"NS": ["1", "1.0"]}, "Input collection contains duplicates"),
        (
            {"BS": ["YQ==", "YQ=="]},
            f"{INVALID}Input collection [YQ==, YQ==]of type BS contains duplicates.",
        ),
        ({"N": ""}, "The parameter cannot be converted to a numeric value"),
        ({"N": "abc"}, "The parameter cannot be converted to a numeric value: abc"),
        ({"NS": ["1", "abc"]}, "The parameter cannot be converted to a numeric value: abc"),
        ({"L": [None]}, EMPTY),
        ({"M": {"a": {}}}, EMPTY),
        ({"M": {"": {"S": "a"}}}, f"{INVALID}Attribute name must not be empty"),
        (nested(32), TOO_DEEP),
        (nested(32, "L"), TOO_DEEP),
        (nested(400), TOO_DEEP),
    ],
)
def test_what_is_refused(raw, message):
    with pytest.raises(ValidationError) as refused:
        values.parse_value(raw)
    assert refused.value.message == message
    with pytest.raises(ValidationError) as refused:
        values.parse_item({"a": {"S": "fine"}, "b": raw})
    assert refused.value.message == message


def test_a_wrong_json_type_comes_before_a_refused_value():
    with pytest.raises(SerializationError, match="NUMBER_VALUE cannot be converted to String"):
        values.parse_item({"a": {"SS": []}, "b": {"L": [{"S": 5}]}})
    with pytest.raises(SerializationError, match="NUMBER_VALUE cannot be converted to String"):
        values.parse_value({"L": [{"N": "x"}, {"S": 5}]})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from([*"SNBML", "SS", "NS", "BS", "BOOL", "NULL", "x", ""]), inner
            )
        ),
    )
)
def test_any_json_is_parsed_or_refused(raw):
    for parse in (values.parse_item, values.parse_value):
        with suppress(SerializationError, ValidationError):
            parse(raw)


def test_31_levels_above_a_scalar_are_accepted():
    values.parse_value(nested(31))
    values.parse_value(nested(31, "L"))


def test_attribute_names_end_at_65535_bytes():
    values.parse_item({"n" * 65535: {"S": ""}})
    message = (
        "1 validation error detected: Attribute name is too large, must be less than 65536 bytes"
    )
    for name in ("n" * 65536, "é" * 32768):
        for item in (
            {name: {"S": ""}},
            {"a": {"M": {name: {"S": ""}}}},
            {"a": {"L": [{"M": {name: {"S": ""}}}]}},
        ):
            with pytest.raises(ValidationError) as refused:
                values.parse_item(item)
            assert refused.value.message == message
        with pytest.raises(ValidationError) as refused:
            values.parse_value({"M": {name: {"S": ""}}})
        assert refused.value.message == message


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"S": "abc"}, 3),
        ({"S": "é€😀"}, 9),
        ({"N": "1234"}, 3),
        ({"N": "-1"}, 3),
        ({"B": ""}, 0),
        ({"B": "YQ=="}, 1),
        ({"B": "YWI="}, 2),
        ({"B": "YWJj"}, 3),
        ({"BOOL": False}, 1),
        ({"NULL": True}, 1),
        ({"SS": ["a", "é"]}, 3),
        ({"NS": ["1", "22"]}, 4),
        ({"BS": ["YQ==", "YWJj"]}, 4),
        ({"L": []}, 3),
        ({"L": [{"S": "ab"}, {"BOOL": True}]}, 8),
        ({"M": {}}, 3),
        ({"M": {"é": {"S": "ab"}, "n": {"L": []}}}, 13),
    ],
)
def test_size(value, size):
    assert values.value_size(value) == size
    assert values.item_size({"naïve": value}) == 6 + size
    assert values.parse_item({"naïve": value}) == ({"naïve": value}, 6 + size)


def test_items_end_at_400_kb():
    values.check_item_size(409_600)
    with pytest.raises(ValidationError) as refused:
        values.check_item_size(409_601)
    assert refused.value.message == "Item size has exceeded the maximum allowed size"
    with pytest.raises(ValidationError) as refused:
        values.check_item_size(409_601, updated=True)
    assert refused.value.message == "Item size to update has exceeded the maximum allowed size"


@pytest.mark.parametrize("kind", ["S", "N", "B", "SS", "NS", "BS", "M", "L", "BOOL", "NULL"])
def test_type_of(kind):
    assert values.type_of({kind: True}) == kind


@pytest.mark.parametrize(
    ("left", "right", "are_equal"),
    [
        ({"S": "1"}, {"N": "1"}, False),
        ({"S": "1"}, {"S": "2"}, False),
        ({"NS": ["1", "2"]}, {"NS": ["2", "1"]}, True),
        ({"NS": ["1", "2"]}, {"NS": ["1", "3"]}, False),
        ({"SS": ["a"]}, {"SS": ["a", "b"]}, False),
        ({"SS": ["1"]}, {"NS": ["1"]}, False),
        ({"L": [{"SS": ["a", "b"]}]}, {"L": [{"SS": ["b", "a"]}]}, True),
        ({"L": [{"S": "a"}, {"S": "b"}]}, {"L": [{"S": "b"}, {"S": "a"}]}, False),
        ({"L": [{"S": "a"}]}, {"L": [{"S": "a"}, {"S": "a"}]}, False),
        (
            {"M": {"a": {"S": "x"}, "b": {"BS": ["YQ==", "Yg=="]}}},
            {"M": {"b": {"BS": ["Yg==", "YQ=="]}, "a": {"S": "x"}}},
            True,
        ),
        ({"M": {"a": {"S": "x"}}}, {"M": {"b": {"S": "x"}}}, False),
        ({"BOOL": True}, {"BOOL": False}, False),
        ({"BOOL": True}, {"NULL": True}, False),
    ],
)
def test_equal(left, right, are_equal):
    assert values.equal(left, right) is are_equal
    assert values.equal(right, left) is are_equal


@given(st.text(), st.text())
def test_strings_are_ordered_by_their_utf8_bytes(left, right):
    a, b = left.encode(), right.encode()
    assert values.compare({"S": left}, {"S": right}) == (a > b) - (a < b)


@given(st.binary(), st.binary())
def test_binary_is_ordered_by_unsigned_bytes(left, right):
    a, b = ({"B": base64.b64encode(data).decode()} for data in (left, right))
    assert values.compare(a, b) == (left > right) - (left < right)


def test_numbers_are_ordered_by_their_value():
    assert values.compare({"N": "9"}, {"N": "10"}) == -1
    assert values.compare({"N": "-9"}, {"N": "-10"}) == 1
    assert values.compare({"N": "0.5"}, {"N": "0.5"}) == 0


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"S": "1"}, {"N": "1"}),
        ({"BOOL": True}, {"BOOL": True}),
        ({"L": []}, {"L": []}),
        ({"SS": ["a"]}, {"SS": ["a"]}),
    ],
)
def test_other_values_have_no_order(left, right):
    assert values.compare(left, right) is None
