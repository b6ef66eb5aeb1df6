import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtable.core.errors import ValidationError
from streamtable.core.expressions.key_condition import KeyRange, bind_key_condition
from streamtable.core.expressions.placeholders import Placeholders
from streamtable.core.keys import KeyAttribute, KeySchema, row_key

SIMPLE = KeySchema((KeyAttribute("pk", "S"),))
COMPOSITE = KeySchema((KeyAttribute("pk", "S"),), (KeyAttribute("sk", "N"),))
TEXT = KeySchema((KeyAttribute("pk", "S"),), (KeyAttribute("sk", "S"),))
WIDE = KeySchema(
    (KeyAttribute("p1", "S"), KeyAttribute("p2", "S")),
    (KeyAttribute("s1", "S"), KeyAttribute("s2", "N"), KeyAttribute("s3", "S")),
)
VALUES = {
    ":p": {"S": "a"},
    ":q": {"S": "b"},
    ":n": {"N": "1"},
    ":m": {"N": "2"},
    ":e": {"S": ""},
    ":b": {"B": ""},
    ":long": {"S": "a" * 2049},
    ":half": {"S": "a" * 513},
}
P, Q, N, M = ({"S": "a"}, {"S": "b"}, {"N": "1"}, {"N": "2"})


def bound(text, schema, names=None):
    return bind_key_condition(text, Placeholders(names, VALUES), schema)


@pytest.mark.parametrize(
    ("text", "operator", "operands"),
    [
        ("pk = :p", None, ()),
        (":p = pk", None, ()),
        ("(pk = :p)", None, ()),
        ("pk = :p AND sk < :n", "<", (N,)),
        ("sk <= :n AND pk = :p", "<=", (N,)),
        ("(pk = :p) AND (sk > :n)", ">", (N,)),
        ("pk = :p AND :n <= sk", ">=", (N,)),
        ("pk = :p AND :n > sk", "<", (N,)),
        ("sk BETWEEN :n AND :m AND pk = :p", "BETWEEN", (N, M)),
    ],
)
def test_ranges(text, operator, operands):
    assert bound(text, COMPOSITE) == KeyRange({"pk": P}, {}, operator, operands)


def test_equality_and_begins_with():
    assert bound("pk = :p AND sk = :n", COMPOSITE) == KeyRange({"pk": P}, {"sk": N})
    assert bound("pk = :p AND begins_with(sk, :q)", TEXT) == KeyRange(
        {"pk": P}, {}, "begins_with", (Q,)
    )


def test_placeholders():
    assert bound("#k = :p", SIMPLE, {"#k": "pk"}) == KeyRange({"pk": P}, {})


def test_several_attributes():
    assert bound("p2 = :q AND p1 = :p", WIDE) == KeyRange({"p1": P, "p2": Q}, {})
    assert bound("p1 = :p AND p2 = :q AND s1 = :p AND s2 > :n", WIDE) == KeyRange(
        {"p1": P, "p2": Q}, {"s1": P}, ">", (N,)
    )


MISSED = "Query condition missed key schema element: "
UNSUPPORTED = "Query key condition not supported"
PARTITION_TOO_LONG = (
    "One or more parameter values were invalid: Size of hashkey has exceeded the maximum size "
    "limit of2048 bytes"
)
SORT_TOO_LONG = (
    "One or more parameter values were invalid: Aggregated size of all range keys has exceeded "
    "the size limit of 1024 bytes"
)
OPERATOR = "Invalid operator used in KeyConditionExpression: "
CONDITION = "Invalid condition in KeyConditionExpression: "


@pytest.mark.parametrize(
    ("text", "schema", "message"),
    [
        ("sk = :n", COMPOSITE, MISSED + "pk"),
        ("pk = :p AND x = :n", COMPOSITE, MISSED + "sk"),
        ("pk = :p AND x = :n", SIMPLE, UNSUPPORTED),
        ("pk > :p", SIMPLE, UNSUPPORTED),
        ("begins_with(pk, :p)", SIMPLE, UNSUPPORTED),
        ("pk = :p OR sk = :n", COMPOSITE, OPERATOR + "OR"),
        ("pk = :p AND NOT sk = :n", COMPOSITE, OPERATOR + "NOT"),
        ("pk = :p AND sk <> :n", COMPOSITE, OPERATOR + "<>"),
        ("pk = :p AND sk IN (:n)", COMPOSITE, OPERATOR + "IN"),
        ("pk = :p AND contains(sk, :n)", COMPOSITE, OPERATOR + "contains"),
        ("pk = :p AND attribute_exists(sk)", COMPOSITE, OPERATOR + "attribute_exists"),
        ("pk = :p AND size(sk) = :n", COMPOSITE, OPERATOR + "size"),
        ("pk = sk", COMPOSITE, CONDITION + "Multiple attribute names used in one condition"),
        ("pk = :p AND :n = :m", COMPOSITE, CONDITION + "No key attribute specified"),
        (
            "pk = :p AND begins_with(:q, sk)",
            TEXT,
            CONDITION + "begins_with operator must have the key attribute as its first operand",
        ),
        (
            "pk = :p AND :n BETWEEN sk AND :m",
            COMPOSITE,
            CONDITION + "BETWEEN operator must have the key attribute as its first operand",
        ),
        (
            "pk = :p AND sk.a = :n",
            COMPOSITE,
            "KeyConditionExpressions cannot have conditions on nested attributes",
        ),
        (
            "pk = :p AND pk = :q",
            COMPOSITE,
            "KeyConditionExpressions must only contain one condition per key",
        ),
        (
            "pk = :p AND sk > :n AND sk < :m",
            COMPOSITE,
            "KeyConditionExpressions must only contain one condition per key",
        ),
        (
            "pk = :p AND sk = :n AND x = :n",
            COMPOSITE,
            "Conditions can be of length 1 or 2 only",
        ),
        (
            "pk = :n",
            SIMPLE,
            (
                "One or more parameter values were invalid: Condition parameter type "
                "does not match "
                "schema type"
            ),
        ),
        (
            "pk = :e",
            SIMPLE,
            (
                "One or more parameter values are not valid. The AttributeValue for a "
                "key attribute "
                "cannot contain an empty string value. Key: pk"
            ),
        ),
        (
            "pk = :p AND begins_with(sk, :e)",
            TEXT,
            (
                "One or more parameter values are not valid. The AttributeValue for a "
                "key attribute "
                "cannot contain an empty string value. Key: sk"
            ),
        ),
        (
            "pk = :p AND begins_with(sk, :n)",
            TEXT,
            (
                "Invalid KeyConditionExpression: Incorrect operand type for operator or function; "
                "operator or function: begins_with, operand type: N"
            ),
        ),
        (
            "pk = :p AND sk BETWEEN :m AND :n",
            COMPOSITE,
            (
                "Invalid KeyConditionExpression: The BETWEEN operator requires upper bound to be "
                "greater than or equal to lower bound; lower bound operand: AttributeValue: {N:2}, "
                "upper bound operand: AttributeValue: {N:1}"
            ),
        ),
        (
            "pk = :undefined",
            SIMPLE,
            (
                "Invalid KeyConditionExpression: An expression attribute value used in "
                "expression is "
                "not defined; attribute value: :undefined"
            ),
        ),
        ("pk = :long", SIMPLE, PARTITION_TOO_LONG),
        ("pk = :p AND sk = :long", TEXT, SORT_TOO_LONG),
        ("pk = :p AND sk > :long", TEXT, SORT_TOO_LONG),
        ("pk = :p AND sk BETWEEN :p AND :long", TEXT, SORT_TOO_LONG),
        ("p1 = :p AND p2 = :q AND s1 = :half AND s2 = :n AND s3 > :half", WIDE, SORT_TOO_LONG),
        ("p1 = :p", WIDE, MISSED + "p2"),
        ("p1 = :p AND p2 > :q", WIDE, UNSUPPORTED),
        ("p1 = :p AND p2 = :q AND s2 = :n", WIDE, MISSED + "s1"),
        ("p1 = :p AND p2 = :q AND s1 > :p AND s2 = :n", WIDE, UNSUPPORTED),
    ],
)
def test_refused(text, schema, message):
    with pytest.raises(ValidationError) as caught:
        bound(text, schema)
    assert caught.value.message == message


numbers = st.integers(-20, 20)
texts = st.text("ab\x00\uffff", max_size=3)


def rows(keys, kind):
    """Return the sort keys and their row keys in the store, with a neighbour on each side."""
    prefix = b"i" + bytes(16)
    schema = TEXT if kind == "S" else COMPOSITE
    item = {"pk": P}
    return {
        key: row_key(
            prefix,
            schema.encode_partition(item),
            schema.encode_sort({"sk": {kind: str(key)}}),
        )
        for key in keys
    }, row_key(prefix, schema.encode_partition(item))


COMPARISONS = {
    "<": lambda key, low, _: key < low,
    "<=": lambda key, low, _: key <= low,
    ">": lambda key, low, _: key > low,
    ">=": lambda key, low, _: key >= low,
    "BETWEEN": lambda key, low, high: low <= key <= high,
    "begins_with": lambda key, low, _: str(key).startswith(low),
    "=": lambda key, low, _: key == low,
    None: lambda _key, _low, _high: True,
}


def check(kind, keys, operator, low, high):
    encoded, before = rows(keys, kind)
    sort = {"sk": {kind: str(low)}} if operator == "=" else {}
    operands = () if operator in ("=", None) else ({kind: str(low)}, {kind: str(high)})
    count = 2 if operator == "BETWEEN" else 1
    tested = None if operator == "=" else operator
    start, end = KeyRange({"pk": P}, sort, tested, operands[:count]).encoded_bounds(before)
    found = {key for key, row in encoded.items() if start <= row < end}
    assert found == {key for key in keys if COMPARISONS[operator](key, low, high)}


@given(
    st.sets(numbers),
    st.sampled_from([o for o in COMPARISONS if o != "begins_with"]),
    numbers,
    numbers,
)
def test_bounds_on_numbers(keys, operator, low, high):
    check("N", keys, operator, min(low, high), max(low, high))


@given(st.sets(texts), st.sampled_from(list(COMPARISONS)), texts, texts)
def test_bounds_on_text(keys, operator, low, high):
    check("S", keys, operator, min(low, high), max(low, high))


def test_bounds_of_several_sort_attributes():
    key_range = bound("p1 = :p AND p2 = :q AND s1 = :p AND s2 > :n", WIDE)
    before = b"partition"
    start, end = key_range.encoded_bounds(before)

    def row(s1, s2, s3):
        return before + WIDE.encode_sort({"s1": {"S": s1}, "s2": {"N": s2}, "s3": {"S": s3}})

    assert start <= row("a", "2", "") < end
    assert not start <= row("a", "1", "z") < end
    assert not start <= row("b", "2", "") < end
