"""Lambda's filter patterns, by the rules of its developer guide."""

from typing import Any

import orjson
import pytest

from streamtable.core.change_filters.parsing import filter_from_json, parse_filter
from streamtable.core.change_filters.patterns import LambdaFilter
from streamtable.core.changes import Change
from streamtable.core.errors import ValidationError
from streamtable.core.plain import wire_item
from tests.support.changelog import change


def insert(**item: Any) -> Change:
    return change("u1", new=wire_item(item))


def matches(pattern: dict[str, Any], made: Change) -> bool:
    found = parse_filter({"Filters": [{"Pattern": orjson.dumps(pattern).decode()}]})
    again = filter_from_json(orjson.loads(orjson.dumps(found.to_json())))
    assert again == found
    assert again.matches(made) is found.matches(made)
    return found.matches(made)


def new(**rules: Any) -> dict[str, Any]:
    return {"dynamodb": {"NewImage": rules}}


@pytest.mark.parametrize(
    ("rules", "item", "expected"),
    [
        # Equals: any of the list, character by character.
        ({"name": {"S": ["Ada", "Bob"]}}, {"name": "Bob"}, True),
        ({"name": {"S": ["Ada"]}}, {"name": "ada"}, False),
        ({"name": {"S": ["Ada"]}}, {}, False),
        ({"name": {"S": ["1"]}}, {"name": 1}, False),
        # Numbers are strings in DynamoDB's JSON.
        ({"n": {"N": ["5"]}}, {"n": 5}, True),
        ({"n": {"N": [5]}}, {"n": 5}, False),
        ({"n": {"N": [{"numeric": [">", 1]}]}}, {"n": 5}, False),
        ({"ok": {"BOOL": [True]}}, {"ok": True}, True),
        ({"ok": {"BOOL": [True]}}, {"ok": False}, False),
        ({"nothing": {"NULL": [True]}}, {"nothing": None}, True),
        # And: every member.
        ({"a": {"S": ["x"]}, "b": {"S": ["y"]}}, {"a": "x", "b": "y"}, True),
        ({"a": {"S": ["x"]}, "b": {"S": ["y"]}}, {"a": "x", "b": "z"}, False),
        # Empty and null.
        ({"a": {"S": [""]}}, {"a": ""}, True),
        ({"a": {"S": [""]}}, {"a": "x"}, False),
        ({"a": {"S": [None]}}, {"a": "x"}, False),
        ({"a": {"S": [None]}}, {}, False),
        # Prefix and suffix.
        ({"a": {"S": [{"prefix": "us-"}]}}, {"a": "us-east"}, True),
        ({"a": {"S": [{"prefix": "us-"}]}}, {"a": "eu-us-"}, False),
        ({"a": {"S": [{"suffix": ".png"}]}}, {"a": "x.png"}, True),
        ({"a": {"S": [{"suffix": ".png"}]}}, {"a": "x.PNG"}, False),
        ({"a": {"S": [{"suffix": {"equals-ignore-case": ".png"}}]}}, {"a": "x.PNG"}, True),
        ({"a": {"S": [{"prefix": {"equals-ignore-case": "US"}}]}}, {"a": "us-1"}, True),
        ({"a": {"S": [{"equals-ignore-case": "John"}]}}, {"a": "JOHN"}, True),
        ({"a": {"S": [{"equals-ignore-case": "John"}]}}, {"a": "JOHNNY"}, False),
        # Not: the value must be there.
        ({"a": {"S": [{"anything-but": ["x", "y"]}]}}, {"a": "z"}, True),
        ({"a": {"S": [{"anything-but": ["x", "y"]}]}}, {"a": "y"}, False),
        ({"a": {"S": [{"anything-but": "x"}]}}, {"a": "y"}, True),
        ({"a": {"S": [{"anything-but": "x"}]}}, {}, False),
        ({"a": {"S": [{"anything-but": {"prefix": "x"}}]}}, {"a": "yx"}, True),
        ({"a": {"S": [{"anything-but": {"prefix": ["x", "y"]}}]}}, {"a": "yx"}, False),
        # Exists, on leaves only.
        ({"a": {"S": [{"exists": True}]}}, {"a": "x"}, True),
        ({"a": {"S": [{"exists": True}]}}, {"a": 5}, False),
        ({"a": {"S": [{"exists": False}]}}, {}, True),
        ({"a": {"S": [{"exists": False}]}}, {"a": "x"}, False),
        ({"a": [{"exists": True}]}, {"a": "x"}, False),
        # One of several rules.
        ({"a": {"S": [{"prefix": "x"}, {"suffix": "y"}, "z"]}}, {"a": "ay"}, True),
        ({"a": {"S": [{"prefix": "x"}, {"suffix": "y"}, "z"]}}, {"a": "zz"}, False),
        # Lists: one of their members.
        ({"a": {"SS": ["x"]}}, {"a": {"x", "y"}}, True),
        ({"a": {"SS": ["z"]}}, {"a": {"x", "y"}}, False),
        ({"a": {"NS": ["2"]}}, {"a": {1, 2}}, True),
        ({"a": {"L": {"S": ["x"]}}}, {"a": [1, "x"]}, True),
        ({"a": {"L": {"S": ["z"]}}}, {"a": [1, "x"]}, False),
        # Maps.
        ({"a": {"M": {"b": {"S": ["x"]}}}}, {"a": {"b": "x"}}, True),
        ({"a": {"M": {"b": {"S": ["x"]}}}}, {"a": "x"}, False),
        # Or of several fields.
        ({"$or": [{"a": {"S": ["x"]}}, {"b": {"S": ["y"]}}]}, {"b": "y"}, True),
        ({"$or": [{"a": {"S": ["x"]}}, {"b": {"S": ["y"]}}]}, {"a": "y"}, False),
        ({"c": {"S": ["1"]}, "$or": [{"a": {"S": ["x"]}}, {"b": {"S": ["y"]}}]}, {"b": "y"}, False),
    ],
)
def test_rules(rules: dict[str, Any], item: dict[str, Any], expected: bool) -> None:
    assert matches(new(**rules), insert(**item)) is expected


def test_numeric_on_what_is_a_number() -> None:
    made = insert(a="x")  # id, u1, a, x: 6 bytes with the keys' 4: 10
    stream = {"SizeBytes": [{"numeric": [">", 5, "<=", 10]}]}
    assert matches({"dynamodb": stream}, made)
    assert not matches({"dynamodb": {"SizeBytes": [{"numeric": ["<", 10]}]}}, made)
    assert matches({"dynamodb": {"SizeBytes": [{"numeric": ["=", 10]}]}}, made)
    assert matches({"dynamodb": {"SizeBytes": [10]}}, made)
    assert not matches({"dynamodb": {"SizeBytes": [10.0]}}, made)


def test_the_other_members_of_a_record() -> None:
    made = change("u1", old={"a": {"S": "x"}}, new={"a": {"S": "y"}})
    assert matches({"eventName": ["MODIFY"]}, made)
    assert not matches({"eventName": ["INSERT", "REMOVE"]}, made)
    assert matches({"dynamodb": {"Keys": {"id": {"S": ["u1"]}}}}, made)
    assert matches({"dynamodb": {"OldImage": {"a": {"S": ["x"]}}}}, made)
    assert matches({"eventSource": ["aws:dynamodb"], "awsRegion": ["local"]}, made)
    assert not matches({"userIdentity": {"type": ["Service"]}}, made)


def test_what_time_to_live_removed() -> None:
    made = change("u1", old={})
    made.service = "dynamodb.amazonaws.com"
    pattern = {
        "eventName": ["REMOVE"],
        "userIdentity": {"type": ["Service"], "principalId": ["dynamodb.amazonaws.com"]},
    }
    assert matches(pattern, made)


def test_one_of_several_patterns() -> None:
    found = parse_filter([{"eventName": ["INSERT"]}, new(a={"S": ["x"]})])
    assert found.matches(insert(a="y"))
    assert found.matches(change("u1", old={}, new={"a": {"S": "x"}}))
    assert not found.matches(change("u1", old={}, new={"a": {"S": "y"}}))


@pytest.mark.parametrize(
    "written",
    [
        {"Filters": [{"Pattern": '{"eventName":["INSERT"]}'}]},
        '{"Filters": [{"Pattern": "{\\"eventName\\":[\\"INSERT\\"]}"}]}',
        {"Filters": [{"Pattern": {"eventName": ["INSERT"]}}]},
        [{"Pattern": '{"eventName":["INSERT"]}'}],
        {"eventName": ["INSERT"]},
        '{"eventName": ["INSERT"]}',
        ['{"eventName": ["INSERT"]}'],
    ],
)
def test_ways_to_write_them(written: Any) -> None:
    assert parse_filter(written) == LambdaFilter([{"eventName": ["INSERT"]}])


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("{", "is no JSON"),
        ({"Filters": []}, "1 to 10 filters"),
        ({"Filters": 5}, "neither FilterCriteria nor a list"),
        ({}, "the pattern is empty"),
        ([[]], "is no JSON object"),
        ({"eventName": "INSERT"}, "must be an object or a list of rules"),
        ({"eventName": []}, "must be an object or a list of rules"),
        ({"eventName": [{"regex": "x"}]}, "is no rule: a value, or one of prefix, suffix"),
        ({"eventName": [{"prefix": 5}]}, "is no rule"),
        ({"eventName": [{"prefix": "a", "suffix": "b"}]}, "is no rule"),
        ({"eventName": [{"numeric": [">"]}]}, "is no rule"),
        ({"eventName": [{"numeric": ["!", 5]}]}, "is no rule"),
        ({"eventName": [{"exists": "yes"}]}, "is no rule"),
        ({"eventName": [{"anything-but": []}]}, "is no rule"),
        ({"$or": [{"eventName": ["INSERT"]}]}, "two patterns or more"),
        ({"dynamodb": {"SequenceNumber": ["1"]}}, "dynamodb.SequenceNumber can't be filtered by"),
        (5, "neither a predicate"),
    ],
)
def test_what_is_no_pattern_is_refused(written: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        parse_filter(written)
