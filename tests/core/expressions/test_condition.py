import pytest

from streamtable.core.errors import ValidationError
from streamtable.core.expressions.condition import bind_condition
from streamtable.core.expressions.placeholders import Placeholders
from streamtable.core.values import Item

ITEM: Item = {
    "s": {"S": "hello"},
    "n": {"N": "10"},
    "b": {"B": "aGVsbG8="},
    "t": {"BOOL": True},
    "z": {"NULL": True},
    "ss": {"SS": ["a", "b"]},
    "ns": {"NS": ["1", "2"]},
    "bs": {"BS": ["aGVsbG8="]},
    "l": {"L": [{"N": "1"}, {"SS": ["x", "y"]}, {"M": {"k": {"S": "v"}}}]},
    "m": {"M": {"k": {"S": "v"}, "n": {"N": "10"}}},
    "u": {"S": "n\U0001f600"},
}
VALUES = {
    ":hello": {"S": "hello"},
    ":he": {"S": "he"},
    ":ell": {"S": "ell"},
    ":a": {"S": "a"},
    ":z": {"S": "z"},
    ":n1": {"N": "1.0"},
    ":n2": {"N": "2"},
    ":n3": {"N": "3"},
    ":n5": {"N": "5"},
    ":n9": {"N": "9"},
    ":n10": {"N": "1e1"},
    ":b": {"B": "aGVsbG8="},
    ":bhe": {"B": "aGU="},
    ":true": {"BOOL": True},
    ":null": {"NULL": True},
    ":ss": {"SS": ["b", "a"]},
    ":xy": {"SS": ["y", "x"]},
    ":l": {"L": [{"N": "1"}]},
    ":m": {"M": {"n": {"N": "10"}, "k": {"S": "v"}}},
    ":S": {"S": "S"},
    ":NULL": {"S": "NULL"},
    ":L": {"S": "L"},
    ":bad": {"S": "STRING"},
    ":empty": {"S": ""},
}


def bound(text, parameter="ConditionExpression"):
    names = {"#s": "s"} if "#s" in text else None
    return bind_condition(text, parameter, Placeholders(names, VALUES))


@pytest.mark.parametrize(
    "text",
    [
        "s = :hello",
        "#s = :hello",
        ":hello = s",
        "n = :n10",
        "b = :b",
        "t = :true",
        "z = :null",
        "ss = :ss",
        "l[1] = :xy",
        "m = :m",
        "m.n = n",
        "m.k = l[2].k",
        "s <> :he",
        "s <> n",
        "absent <> :he",
        "absent <> gone",
        "NOT absent = gone",
        "n > :n9",
        ":n9 < n",
        "n >= :n10 AND n <= :n10",
        "s < :z AND s > :he",
        "b > :bhe",
        "m.n >= n",
        "n BETWEEN :n9 AND :n10",
        "n BETWEEN :n9 AND m.n",
        ":n9 BETWEEN :n5 AND n",
        "s BETWEEN :a AND :z",
        "s IN (:he, :hello)",
        "ss IN (:ss)",
        "n IN (m.n)",
        "attribute_exists(s)",
        "attribute_exists(l[2].k)",
        "attribute_exists(z)",
        "attribute_not_exists(absent)",
        "attribute_not_exists(l[3])",
        "attribute_not_exists(s.k)",
        "attribute_type(s, :S)",
        "attribute_type(z, :NULL)",
        "begins_with(s, :he)",
        "begins_with(s, :empty)",
        "begins_with(b, :bhe)",
        "contains(s, :ell)",
        "contains(b, :bhe)",
        "contains(ss, :a)",
        "contains(ns, :n1)",
        "contains(bs, :b)",
        "contains(l, :n1)",
        "contains(l, :xy)",
        "size(s) = :n5",
        "size(b) = :n5",
        "size(u) = :n3",
        "size(ss) = :n2",
        "size(ns) = :n2",
        "size(bs) = :n1",
        "size(l) = :n3",
        "size(m) = :n2",
        "size(:hello) = size(s)",
        "size(absent) <> :n1",
        "s = :he OR n = :n10",
        "s = :he OR n = :n9 OR t = :true",
        "s = :hello AND n = :n10 AND t = :true",
        "NOT NOT s = :hello",
        "NOT (s = :he AND n = :n10)",
    ],
)
def test_true(text):
    assert bound(text).matches(ITEM) is True


@pytest.mark.parametrize(
    "text",
    [
        "s = :he",
        "s = n",
        "absent = :he",
        "absent = gone",
        "n = :a",
        "s <> :hello",
        "ss <> :ss",
        "s < :n10",
        "n < :a",
        "absent < :n1",
        "absent > :n1",
        "absent < gone",
        "ss < n",
        "m.n < s",
        "n > :n10",
        "n BETWEEN :n1 AND :n9",
        "s BETWEEN :n1 AND :n9",
        "absent BETWEEN :n1 AND :n9",
        "n BETWEEN :n1 AND absent",
        "s IN (:he, n)",
        "absent IN (:he, gone)",
        "attribute_exists(absent)",
        "attribute_exists(m[0])",
        "attribute_not_exists(s)",
        "attribute_not_exists(m.k)",
        "attribute_type(s, :L)",
        "attribute_type(absent, :S)",
        "begins_with(s, :ell)",
        "begins_with(n, :he)",
        "begins_with(absent, :he)",
        "begins_with(s, :bhe)",
        "begins_with(s, absent)",
        "contains(s, :z)",
        "contains(s, :n1)",
        "contains(ss, :z)",
        "contains(ss, :n1)",
        "contains(l, :n5)",
        "contains(n, :n10)",
        "contains(m, :a)",
        "contains(absent, :a)",
        "contains(s, absent)",
        "size(n) = :n2",
        "size(t) = :n1",
        "size(absent) = :n1",
        "size(absent) < :n1",
        "NOT s = :hello",
        "NOT NOT NOT s = :hello",
        "s = :hello AND n = :n9",
        "s = :he OR n = :n9 OR n = :n5",
    ],
)
def test_false(text):
    assert bound(text).matches(ITEM) is False


def test_no_item_is_an_empty_one():
    assert bound("attribute_not_exists(s)").matches({})
    assert not bound("attribute_exists(s)").matches({})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "#undefined = :he",
            (
                "An expression attribute name used in the document path is not defined; "
                "attribute name: #undefined"
            ),
        ),
        (
            "s = :undefined",
            (
                "An expression attribute value used in expression is not defined; "
                "attribute value: :undefined"
            ),
        ),
        (
            "s = :he OR t = :undefined",
            (
                "An expression attribute value used in expression is not defined; "
                "attribute value: :undefined"
            ),
        ),
        (
            "s < :true",
            (
                "Incorrect operand type for operator or function; "
                "operator or function: <, operand type: BOOL"
            ),
        ),
        (
            "s BETWEEN :ss AND :he",
            (
                "Incorrect operand type for operator or function; "
                "operator or function: BETWEEN, operand type: SS"
            ),
        ),
        (
            "begins_with(s, :n1)",
            (
                "Incorrect operand type for operator or function; "
                "operator or function: begins_with, operand type: N"
            ),
        ),
        (
            "begins_with(s, size(n))",
            (
                "Incorrect operand type for operator or function; "
                "operator or function: begins_with, operand type: N"
            ),
        ),
        (
            "contains(:n1, s)",
            (
                "Incorrect operand type for operator or function; "
                "operator or function: contains, operand type: N"
            ),
        ),
        (
            "size(:n1) = n",
            (
                "Incorrect operand type for operator or function; "
                "operator or function: size, operand type: N"
            ),
        ),
        (
            "size(size(s)) = n",
            (
                "Incorrect operand type for operator or function; "
                "operator or function: size, operand type: N"
            ),
        ),
        (
            "attribute_type(s, :n1)",
            (
                "Incorrect operand type for operator or function; "
                "operator or function: attribute_type, operand type: N"
            ),
        ),
        (
            "attribute_type(s, n)",
            (
                "Incorrect operand type for operator or function; "
                "operator or function: attribute_type, operand type: {NS,SS,L,BS,N,M,B,S,NULL,BOOL}"
            ),
        ),
        (
            "attribute_type(s, :bad)",
            (
                "Invalid attribute type name found; type: STRING, "
                "valid types: {B,NULL,SS,BOOL,L,BS,N,NS,S,M}"
            ),
        ),
        (
            "attribute_exists(:he)",
            "Operator or function requires a document path; operator or function: attribute_exists",
        ),
        (
            "attribute_not_exists(size(s))",
            (
                "Operator or function requires a document path; "
                "operator or function: attribute_not_exists"
            ),
        ),
        (
            "s = #s",
            (
                "The first operand must be distinct from the remaining operands for "
                "this operator or "
                "function; operator: =, first operand: [s]"
            ),
        ),
        (
            "m.k[0] IN (:he, m.k[0])",
            (
                "The first operand must be distinct from the remaining operands for "
                "this operator or "
                "function; operator: IN, first operand: [m, k, [0]]"
            ),
        ),
        (
            "contains(s, s)",
            (
                "The first operand must be distinct from the remaining operands for "
                "this operator or "
                "function; operator: contains, first operand: [s]"
            ),
        ),
        (
            "s BETWEEN :z AND :a",
            (
                "The BETWEEN operator requires upper bound to be greater than or equal "
                "to lower bound; "
                "lower bound operand: AttributeValue: {S:z}, "
                "upper bound operand: AttributeValue: {S:a}"
            ),
        ),
        (
            "s BETWEEN :a AND :n1",
            (
                "The BETWEEN operator requires same data type for lower and upper bounds; "
                "lower bound operand: AttributeValue: {S:a}, "
                "upper bound operand: AttributeValue: {N:1}"
            ),
        ),
    ],
)
def test_refused_whatever_the_item(text, message):
    with pytest.raises(ValidationError) as caught:
        bound(text, "FilterExpression")
    assert caught.value.message == f"Invalid FilterExpression: {message}"


def test_paths_are_the_attributes():
    assert set(bound("m.k = :he OR attribute_exists(#s) AND size(l) > n").paths) == {
        "m",
        "s",
        "l",
        "n",
    }


def test_a_filter_can_not_look_at_the_key():
    condition = bound("m.k = :he AND #s = :he")
    condition.check_filter(("n", "t"))
    with pytest.raises(ValidationError) as caught:
        condition.check_filter(("n", "s"))
    assert caught.value.message == (
        "Filter Expression can only contain non-primary key attributes: Primary key attribute: s"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NOT " * 299 + "s = :hello", False),
        ("NOT(" * 299 + "s = :hello" + ")" * 299, False),
        ("s=:he OR(" * 149 + "s=:hello" + ")" * 149, True),
        ("s=:hello AND(NOT(" * 98 + "s=:hello" + "))" * 98, True),
    ],
)
def test_the_deepest_conditions_need_few_frames(text, expected):
    def below(frames):
        return below(frames - 1) if frames else bound(text).matches(ITEM)

    assert below(350) is expected
