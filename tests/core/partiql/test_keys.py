import pytest

from streamtable.core.errors import ValidationError
from streamtable.core.expressions.placeholders import NO_PLACEHOLDERS, Scope
from streamtable.core.keys import KeyAttribute, KeySchema
from streamtable.core.partiql.keys import check_key_paths, find_access, find_key
from streamtable.core.partiql.parser import parse_statement
from streamtable.core.partiql.statements import Select

KEYS = KeySchema((KeyAttribute("p", "S"),), (KeyAttribute("s", "N"),))
TWO = KeySchema(
    (KeyAttribute("p", "S"), KeyAttribute("q", "S")),
    (KeyAttribute("s", "N"), KeyAttribute("t", "N")),
)
SCOPE = Scope("FilterExpression", NO_PLACEHOLDERS)


def where(text):
    statement = parse_statement(f"SELECT * FROM music WHERE {text}").statement
    assert isinstance(statement, Select)
    assert statement.where is not None
    return statement.where


def access(text, keys=KEYS):
    """Return what is asked of the key, and what is left, both as text."""
    found = find_access(where(text), keys, SCOPE)
    if found is None:
        return None
    ranges = []
    for part in found.ranges:
        values = [value for key in (part.partition, part.sort) for value in key.values()]
        shown = " ".join(next(iter(value.values())) for value in values)
        if part.operator is not None:
            limits = " ".join(next(iter(value.values())) for value in part.operands)
            shown = f"{shown} {part.operator} {limits}"
        ranges.append(shown)
    return ranges, None if found.rest is None else str(found.rest)


@pytest.mark.parametrize(
    ("text", "ranges", "rest"),
    [
        ("p = 'a'", ["a"], None),
        ("'a' = p", ["a"], None),
        ("p = 'a' AND s = 1", ["a 1"], None),
        ("s > 1 AND p = 'a'", ["a > 1"], None),
        ("p = 'a' AND 1 > s", ["a < 1"], None),
        ("p = 'a' AND s BETWEEN 1 AND 2", ["a BETWEEN 1 2"], None),
        ("p IN ['a', 'b', 'a']", ["a", "b"], None),
        ("p = 'a' OR p = 'b'", ["a", "b"], "p = {S:a} OR p = {S:b}"),
        ("(p = 'a' OR p IN ['b']) AND s = 1", ["a 1", "b 1"], None),
        ("p IN ['a', 'b'] AND s IN [1, 2]", ["a 1", "a 2", "b 1", "b 2"], None),
    ],
)
def test_conditions_that_name_partitions(text, ranges, rest):
    found = access(text)
    assert found is not None
    assert found[0] == ranges
    assert (found[1] is None) is (rest is None)


def test_what_is_not_in_the_range_is_left():
    assert access("p = 'a' AND x.y IS MISSING") == (["a"], "attribute_not_exists(x.y)")
    found = access("p = 'a' AND s > 1 AND s < 5")
    assert found is not None
    assert found[0] == ["a > 1"]
    assert found[1] is not None
    assert found[1].startswith("s <")


def test_branches_have_ranges_of_their_own():
    found = access("p = 'a' AND s = 1 OR p = 'b' AND s > 2")
    assert found is not None
    assert found[0] == ["a 1", "b > 2"]
    assert " OR " in str(found[1])


@pytest.mark.parametrize(
    "text",
    [
        "s = 1",
        "p > 'a'",
        "p <> 'a'",
        "NOT p = 'a'",
        "p = 'a' OR x = 1",
        "p = x",
        "p IN ['a', x]",
        "p = 'a' OR s = 1",
        "begins_with(p, 'a')",
    ],
)
def test_conditions_that_need_a_scan(text):
    assert access(text) is None


def test_keys_of_several_attributes():
    assert access("p = 'a' AND q = 'b' AND s = 1 AND t > 2", TWO) == (["a b 1 > 2"], None)
    assert access("p = 'a' AND q IN ['b', 'c']", TWO) == (["a b", "a c"], None)
    assert access("p = 'a'", TWO) is None
    found = access("p = 'a' AND q = 'b' AND t = 1", TWO)
    assert found is not None
    assert found[0] == ["a b"]
    assert found[1] is not None


def test_a_value_of_another_type_than_the_key():
    with pytest.raises(ValidationError, match="Condition parameter type does not match schema"):
        access("p = 1")


def test_at_most_fifty_partitions():
    fifty = ", ".join(f"'{number}'" for number in range(50))
    assert access(f"p IN [{fifty}]") is not None
    with pytest.raises(ValidationError, match="too many operands; number of operands: 51"):
        access(f"p IN [{fifty}, 'x']")


def test_more_combinations_than_can_be_looked_up_are_filtered():
    fifty = ", ".join(f"'{number}'" for number in range(50))
    found = access(f"p IN [{fifty}] AND s IN [1, 2, 3]")
    assert found is not None
    assert len(found[0]) == 50
    assert found[1] is not None


def test_the_key_of_one_item():
    found = find_key(where("x = 1 AND s = 2 AND p = 'a'"), KEYS, SCOPE)
    assert found is not None
    key, rest = found
    assert key == {"p": {"S": "a"}, "s": {"N": "2"}}
    assert rest == where("x = 1")


@pytest.mark.parametrize("text", ["p = 'a'", "p = 'a' AND s > 1", "p = 'a' OR s = 1", "s = 1"])
def test_no_key_of_one_item(text):
    assert find_key(where(text), KEYS, SCOPE) is None


def test_key_attributes_have_no_inside():
    check_key_paths(where("p = 'a' AND x[1] = 1"), KEYS)
    for text in ("p.x = 1", "a = 1 OR NOT begins_with(p[0], 'x')", "size(p.x) > 1"):
        with pytest.raises(ValidationError) as caught:
            check_key_paths(where(text), KEYS)
        assert caught.value.message == (
            "Key attributes must be scalars; list random access '[]' and map lookup '.' are not "
            "allowed: IndexKey: p"
        )
