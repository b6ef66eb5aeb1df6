import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtable.core import keys, numbers, values
from streamtable.core.errors import SerializationError, ValidationError
from streamtable.core.keys import KeyAttribute, KeySchema

PREFIX = b"i" + bytes(range(16))
SIMPLE = KeySchema((KeyAttribute("pk", "S"),))
COMPOSITE = KeySchema((KeyAttribute("pk", "S"),), (KeyAttribute("sk", "N"),))
BINARY = KeySchema((KeyAttribute("pk", "B"),), (KeyAttribute("sk", "B"),))
WIDE = KeySchema(
    (KeyAttribute("a", "S"), KeyAttribute("b", "N")),
    (KeyAttribute("c", "B"), KeyAttribute("d", "S")),
)
WIDE_PARTITION = {"a": {"S": "a" * 512}, "b": {"N": "1"}}

# Bytes around the escape and the end are what an encoding can get wrong.
awkward_bytes = st.binary(max_size=6) | st.lists(st.sampled_from([0, 1, 254, 255]), max_size=6).map(
    bytes
)
awkward_text = st.text(max_size=6) | st.text("\x00\x01a\x7f\U0010ffff", max_size=6)


def binary(data):
    return {"B": base64.b64encode(data).decode()}


strings = awkward_text.map(lambda text: {"S": text})
binaries = awkward_bytes.map(binary)
number_values = st.decimals(-(10**9), 10**9, places=3).map(
    lambda number: {"N": numbers.from_decimal(number)}
)
wide_keys = st.fixed_dictionaries({"a": strings, "b": number_values, "c": binaries, "d": strings})


def sort_value(value):
    """What Python orders as DynamoDB orders the value."""
    if "S" in value:
        return value["S"].encode()
    return numbers.to_decimal(value["N"]) if "N" in value else base64.b64decode(value["B"])


@given(st.one_of(*(st.tuples(kind, kind) for kind in (strings, binaries, number_values))))
def test_components_are_ordered_as_their_values(pair):
    left, right = pair
    a, b = keys.encode_component(left), keys.encode_component(right)
    assert (a < b) == (sort_value(left) < sort_value(right))
    assert (a == b) == (left == right)
    assert left == right or not b.startswith(a)


@given(strings | binaries | number_values, st.binary(max_size=4), st.binary(max_size=4))
def test_components_are_decoded_where_they_end(value, before, after):
    encoded = keys.encode_component(value)
    decoded, end = keys.decode_component(
        values.type_of(value), before + encoded + after, len(before)
    )
    assert decoded == value
    assert end == len(before) + len(encoded)


@pytest.mark.parametrize("data", [b"", b"abc", b"abc\x00", b"abc\x00\xff", b"abc\x00\x01"])
def test_decoding_needs_the_end(data):
    with pytest.raises(ValueError, match="has no end"):
        keys.decode_component("S", data)


@given(wide_keys, wide_keys)
def test_keys_of_several_attributes_are_ordered_attribute_by_attribute(left, right):
    a, b = WIDE.encode_sort(left), WIDE.encode_sort(right)
    expected = [[sort_value(key[name]) for name in ("c", "d")] for key in (left, right)]
    assert (a < b) == (expected[0] < expected[1])
    assert (a == b) == (expected[0] == expected[1])
    a, b = WIDE.encode_partition(left), WIDE.encode_partition(right)
    expected = [[sort_value(key[name]) for name in ("a", "b")] for key in (left, right)]
    assert (a < b) == (expected[0] < expected[1])
    assert (a == b) == (expected[0] == expected[1])


@given(st.tuples(strings, strings) | st.tuples(binaries, binaries))
def test_prefix_bounds_hold_exactly_what_begins_with_the_prefix(pair):
    value, prefix = pair
    before = PREFIX + b"\xff"
    start, end = keys.prefix_bounds(before, prefix)
    inside = start <= before + keys.encode_component(value) < end
    assert inside == sort_value(value).startswith(sort_value(prefix))


@given(awkward_bytes, awkward_bytes)
def test_after_prefix_is_the_end_of_the_prefix(prefix, key):
    if not prefix.strip(b"\xff"):
        with pytest.raises(ValueError, match="no key is above"):
            keys.after_prefix(prefix)
        return
    assert (prefix <= key < keys.after_prefix(prefix)) == key.startswith(prefix)


def test_row_keys_have_prefix_hash_partition_and_sort_key():
    key = {"pk": {"S": "user"}, "sk": {"N": "7"}}
    partition, sort = COMPOSITE.encode_partition(key), COMPOSITE.encode_sort(key)
    row = keys.row_key(PREFIX, partition, sort)
    hashed = keys.partition_hash(partition)
    assert row == PREFIX + hashed.to_bytes(8, "big") + partition + sort
    assert COMPOSITE.locate(PREFIX, key) == (hashed, row)
    assert row.startswith(keys.row_key(PREFIX, partition))
    assert SIMPLE.encode_sort(key) == b""
    assert SIMPLE.locate(PREFIX, key) == (hashed, keys.row_key(PREFIX, partition))


def test_the_hash_is_stable():
    # Rows are found by it: another value would lose every stored item.
    assert keys.partition_hash(keys.encode_component({"S": "user"})) == 0xA45372F0B55DCE13
    assert keys.encode_component({"S": "a\x00b"}) == b"a\x00\xffb\x00\x00"
    assert keys.encode_component({"N": "-120.5"}).hex() == "017bdce9ff"
    assert keys.encode_component({"N": "0.07"}).hex() == "038080"
    assert keys.encode_component({"N": "0"}).hex() == "02"


def test_schemas_are_compared_by_their_attributes():
    assert KeySchema((KeyAttribute("pk", "S"),)) == SIMPLE
    assert hash(KeySchema((KeyAttribute("pk", "S"),))) == hash(SIMPLE)
    assert SIMPLE != COMPOSITE
    assert SIMPLE != "pk"
    assert WIDE.names == ("a", "b", "c", "d")
    assert "KeyAttribute(name='sk', type='N')" in repr(COMPOSITE)


def test_the_key_of_an_item():
    item = {"x": {"S": "other"}, "sk": {"N": "1"}, "pk": {"S": "a"}}
    key = COMPOSITE.key_of_item(item)
    assert key == COMPOSITE.extract(item) == {"pk": {"S": "a"}, "sk": {"N": "1"}}
    assert list(key) == ["pk", "sk"]


INVALID = "One or more parameter values were invalid: "
NOT_VALID = "One or more parameter values are not valid. "
HASH_TOO_LONG = f"{INVALID}Size of hashkey has exceeded the maximum size limit of2048 bytes"
EMPTY_KEY = f"{NOT_VALID}The AttributeValue for a key attribute cannot contain an empty"
EMPTY_INDEX_KEY = (
    f"{NOT_VALID}A value specified for a secondary index key is not supported. The "
    "AttributeValue for a key attribute cannot contain an empty string value. "
    "IndexName: by_pk, IndexKey: pk"
)
INDEX_HASH_TOO_LONG = (
    f"{INVALID}Size limit exceeded for Index Key pk Actual Size: 2049 bytes "
    "Max Size: 2048 bytes IndexName: by_pk"
)
INDEX_RANGE_TOO_LONG = (
    f"{INVALID}Size limit exceeded for Index Key sk Actual Size: 1025 bytes "
    "Max Size: 1024 bytes IndexName: by_pk"
)
RANGE_TOO_LONG = (
    f"{INVALID}Aggregated size of all range keys has exceeded the size limit of 1024 bytes"
)


@pytest.mark.parametrize(
    ("schema", "item", "message"),
    [
        (COMPOSITE, {"sk": {"N": "1"}}, f"{INVALID}Missing the key pk in the item"),
        (COMPOSITE, {"pk": {"S": "a"}}, f"{INVALID}Missing the key sk in the item"),
        (
            SIMPLE,
            {"pk": {"N": "1"}},
            f"{INVALID}Type mismatch for key pk expected: S actual: N",
        ),
        (
            SIMPLE,
            {"pk": {"S": ""}},
            f"{EMPTY_KEY} string value. Key: pk",
        ),
        (
            BINARY,
            {"pk": binary(b"a"), "sk": binary(b"")},
            f"{EMPTY_KEY} binary value. Key: sk",
        ),
        (SIMPLE, {"pk": {"S": "é" * 1024 + "a"}}, HASH_TOO_LONG),
        (BINARY, {"pk": binary(b"a"), "sk": binary(bytes(1025))}, RANGE_TOO_LONG),
    ],
)
def test_items_whose_key_is_refused(schema, item, message):
    with pytest.raises(ValidationError) as refused:
        schema.key_of_item(item)
    assert refused.value.message == message


def test_the_longest_keys():
    item = {"pk": binary(bytes(2048)), "sk": binary(bytes(1024))}
    assert BINARY.key_of_item(item) == item
    assert BINARY.parse_key(item) == item


def test_a_key_parameter_is_made_canonical_and_ordered():
    key = COMPOSITE.parse_key({"sk": {"N": "1.0"}, "pk": {"S": "a"}})
    assert list(key.items()) == [("pk", {"S": "a"}), ("sk", {"N": "1"})]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "The provided key element does not match the schema"),
        ({"pk": {"S": "a"}}, "The provided key element does not match the schema"),
        (
            {"pk": {"S": "a"}, "sk": {"S": "1"}},
            "The provided key element does not match the schema",
        ),
        (
            {"pk": {"S": "a"}, "x": {"N": "1"}},
            "The provided key element does not match the schema",
        ),
        (
            {"pk": {"S": "a"}, "sk": {"N": "1"}, "x": {"N": "1"}},
            "The provided key element does not match the schema",
        ),
        (
            {"pk": {"S": ""}, "sk": {"N": "1"}},
            f"{EMPTY_KEY} string value. Key: pk",
        ),
        ({"pk": {"S": "a" * 2049}, "sk": {"N": "1"}}, HASH_TOO_LONG),
        (
            {"pk": {"S": "a"}, "sk": {"N": "x"}},
            "The parameter cannot be converted to a numeric value: x",
        ),
        (
            {"pk": {}, "sk": {"N": "1"}},
            "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes",
        ),
    ],
)
def test_key_parameters_that_are_refused(raw, message):
    with pytest.raises(ValidationError) as refused:
        COMPOSITE.parse_key(raw)
    assert refused.value.message == message


def test_a_key_parameter_of_the_wrong_json_type():
    with pytest.raises(SerializationError):
        COMPOSITE.parse_key([])


def test_an_item_without_all_index_keys_is_not_refused():
    COMPOSITE.check_index_key({"pk": {"S": "a"}}, "by_pk")
    COMPOSITE.check_index_key({"pk": {"S": "a"}, "sk": {"N": "1"}, "x": {"S": "y"}}, "by_pk")


def test_what_an_item_had_before_an_update_is_not_refused():
    old = {"pk": {"N": "1"}, "x": {"S": "y"}}
    COMPOSITE.check_index_key({**old, "x": {"S": "z"}}, "by_pk", old)
    with pytest.raises(ValidationError, match="Type mismatch for Index Key pk"):
        COMPOSITE.check_index_key({**old, "pk": {"N": "2"}}, "by_pk", old)


@pytest.mark.parametrize(
    ("schema", "item", "fits"),
    [
        (COMPOSITE, {"pk": {"S": "a"}, "sk": {"N": "0"}, "x": {"S": "y"}}, True),
        (COMPOSITE, {"pk": {"S": "a"}}, False),
        (COMPOSITE, {"pk": {"S": "a"}, "sk": {"S": "0"}}, False),
        (COMPOSITE, {"pk": {"S": ""}, "sk": {"N": "0"}}, False),
        (SIMPLE, {"pk": {"NULL": True}}, False),
        (SIMPLE, {"pk": {"S": "é" * 1024}}, True),
        (SIMPLE, {"pk": {"S": "é" * 1025}}, False),
        (WIDE, {**WIDE_PARTITION, "c": binary(bytes(512)), "d": {"S": "a" * 512}}, True),
        (WIDE, {**WIDE_PARTITION, "c": binary(bytes(512)), "d": {"S": "a" * 513}}, False),
    ],
)
def test_which_items_are_in_an_index(schema, item, fits):
    assert schema.fits(item) is fits


@pytest.mark.parametrize(
    ("schema", "item", "message"),
    [
        (
            COMPOSITE,
            {"sk": {"S": "a"}},
            f"{INVALID}Type mismatch for Index Key sk Expected: N Actual: S IndexName: by_pk",
        ),
        (
            COMPOSITE,
            {"pk": {"S": ""}},
            EMPTY_INDEX_KEY,
        ),
        (SIMPLE, {"pk": {"S": "a" * 2049}}, INDEX_HASH_TOO_LONG),
        (BINARY, {"sk": binary(bytes(1025))}, INDEX_RANGE_TOO_LONG),
        (WIDE, {"c": binary(bytes(512)), "d": {"S": "a" * 513}}, RANGE_TOO_LONG),
    ],
)
def test_items_whose_index_key_is_refused(schema, item, message):
    with pytest.raises(ValidationError) as refused:
        schema.check_index_key(item, "by_pk")
    assert refused.value.message == message
