import pytest

from streamtable.core.errors import ValidationError
from streamtable.core.expressions.key_condition import KeyRange
from streamtable.core.expressions.legacy import (
    compile_attribute_updates,
    compile_attributes_to_get,
    compile_conditions,
    compile_key_conditions,
    reject_mixed,
)
from streamtable.core.keys import KeyAttribute, KeySchema
from streamtable.core.values import Item

ITEM: Item = {
    "s": {"S": "hello"},
    "n": {"N": "10"},
    "ss": {"SS": ["a", "b"]},
    "l": {"L": [{"S": "a"}]},
    "a.b": {"S": "dotted"},
    "name": {"S": "reserved"},
}
COMPOSITE = KeySchema((KeyAttribute("pk", "S"),), (KeyAttribute("sk", "N"),))
INVALID = "One or more parameter values were invalid: "


def entry(operator, *values):
    return {"ComparisonOperator": operator, "AttributeValueList": list(values)}


def holds(parameter, given, operator=None):
    condition = compile_conditions(parameter, given, operator)
    assert condition is not None
    return condition.matches(ITEM)


def refused(call, *arguments):
    with pytest.raises(ValidationError) as caught:
        call(*arguments)
    return caught.value.message


S, N, HELLO = {"S": "a"}, {"N": "5"}, {"S": "hello"}


@pytest.mark.parametrize(
    ("name", "condition", "expected"),
    [
        ("s", entry("EQ", HELLO), True),
        ("s", entry("EQ", S), False),
        ("missing", entry("EQ", S), False),
        ("s", entry("NE", S), True),
        ("missing", entry("NE", S), True),
        ("ss", entry("EQ", {"SS": ["b", "a"]}), True),
        ("n", entry("GT", N), True),
        ("n", entry("GE", {"N": "10"}), True),
        ("n", entry("LT", N), False),
        ("n", entry("LE", N), False),
        ("s", entry("GT", N), False),
        ("n", entry("BETWEEN", N, {"N": "10"}), True),
        ("s", entry("IN", S, HELLO), True),
        ("s", entry("IN", S), False),
        ("s", entry("NOT_NULL"), True),
        ("s", entry("NULL"), False),
        ("missing", {"ComparisonOperator": "NULL"}, True),
        ("s", entry("CONTAINS", {"S": "ell"}), True),
        ("ss", entry("CONTAINS", S), True),
        ("l", entry("CONTAINS", S), True),
        ("l", entry("NOT_CONTAINS", S), False),
        ("s", entry("NOT_CONTAINS", {"S": "z"}), True),
        ("n", entry("NOT_CONTAINS", S), True),
        ("missing", entry("NOT_CONTAINS", S), False),
        ("s", entry("BEGINS_WITH", {"S": "he"}), True),
        ("a.b", entry("EQ", {"S": "dotted"}), True),
        ("name", entry("EQ", {"S": "reserved"}), True),
    ],
)
def test_operators(name, condition, expected):
    assert holds("ScanFilter", {name: condition}) is expected
    assert holds("Expected", {name: condition}) is expected


def test_conditional_operator():
    true, false = entry("NOT_NULL"), entry("NULL")
    given = {"s": true, "n": false}
    assert not holds("QueryFilter", given)
    assert not holds("QueryFilter", given, "AND")
    assert holds("QueryFilter", given, "OR")
    assert refused(compile_conditions, "QueryFilter", {"s": true}, "OR") == (
        "ConditionalOperator can only be used when Filter or Expected has two or more elements"
    )
    assert refused(compile_conditions, "QueryFilter", None, "OR") == (
        "ConditionalOperator cannot be used without Filter or Expected"
    )


def test_no_conditions():
    assert compile_conditions("Expected", None) is None
    assert compile_conditions("Expected", {}) is None


def test_a_filter_names_what_it_looks_at():
    condition = compile_conditions("QueryFilter", {"pk": entry("EQ", S)})
    assert condition is not None
    assert refused(condition.check_filter, ("pk",), "QueryFilter") == (
        "QueryFilter can only contain non-primary key attributes: Primary key attribute: pk"
    )


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (entry("EQ"), "Invalid number of argument(s) for the EQ ComparisonOperator"),
        (entry("LT", N, N), "Invalid number of argument(s) for the LT ComparisonOperator"),
        (entry("IN"), "Invalid number of argument(s) for the IN ComparisonOperator"),
        (entry("BETWEEN", N), "Invalid number of argument(s) for the BETWEEN ComparisonOperator"),
        (entry("NULL", N), "Invalid number of argument(s) for the NULL ComparisonOperator"),
        (
            entry("LE", {"L": []}),
            "ComparisonOperator LE is not valid for L AttributeValue type",
        ),
        (
            entry("IN", {"SS": ["a"]}),
            "ComparisonOperator IN is not valid for SS AttributeValue type",
        ),
        (
            entry("BEGINS_WITH", N),
            "ComparisonOperator BEGINS_WITH is not valid for N AttributeValue type",
        ),
        (
            entry("CONTAINS", {"SS": ["a"]}),
            "ComparisonOperator CONTAINS is not valid for SS AttributeValue type",
        ),
        (
            entry("IN", S, N),
            "AttributeValues inside AttributeValueList must be of same type",
        ),
    ],
)
def test_values_refused(condition, message):
    assert refused(compile_conditions, "ScanFilter", {"a": condition}) == INVALID + message


def test_bounds_in_the_wrong_order():
    condition = entry("BETWEEN", {"N": "10"}, {"N": "9"})
    assert refused(compile_conditions, "ScanFilter", {"a": condition}) == (
        "The BETWEEN condition was provided a range where the lower bound is greater than the "
        "upper bound"
    )


class TestExpected:
    @pytest.mark.parametrize(
        ("condition", "name", "expected"),
        [
            ({"Value": HELLO}, "s", True),
            ({"Value": HELLO, "Exists": True}, "s", True),
            ({"Value": S}, "s", False),
            ({"Exists": False}, "s", False),
            ({"Exists": False}, "missing", True),
            ({"ComparisonOperator": "GT", "Value": N}, "n", True),
        ],
    )
    def test_value_and_exists(self, condition, name, expected):
        assert holds("Expected", {name: condition}) is expected

    @pytest.mark.parametrize(
        ("condition", "message"),
        [
            ({}, "Value must be provided when Exists is null"),
            ({"Exists": True}, "Value must be provided when Exists is true"),
            ({"Exists": False, "Value": S}, "Value cannot be used when Exists is false"),
            (
                {"AttributeValueList": [S]},
                "AttributeValueList can only be used with a ComparisonOperator",
            ),
            (
                entry("EQ", S) | {"Value": S},
                "Value and AttributeValueList cannot be used together",
            ),
            (
                entry("EQ", S) | {"Exists": True},
                "Exists and ComparisonOperator cannot be used together",
            ),
            (
                {"ComparisonOperator": "EQ"},
                "Value or AttributeValueList must be used with ComparisonOperator: EQ",
            ),
        ],
    )
    def test_refused(self, condition, message):
        assert refused(compile_conditions, "Expected", {"a": condition}) == (
            f"{INVALID}{message} for Attribute: a"
        )


class TestKeyConditions:
    def test_compile(self):
        given = {"sk": entry("GT", N), "pk": entry("EQ", S)}
        assert compile_key_conditions(given, COMPOSITE) == KeyRange({"pk": S}, {}, ">", (N,))

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({}, "Conditions can be of length 1 or 2 only"),
            ({"pk": entry("LT", S)}, "Query key condition not supported"),
            (
                {"pk": entry("NE", S)},
                "Attempted conditional constraint is not an indexable operation",
            ),
            (
                {"pk": entry("EQ", N)},
                INVALID + "Condition parameter type does not match schema type",
            ),
            (
                {"pk": entry("EQ", S), "sk": entry("EQ", N), "x": entry("EQ", N)},
                "Conditions can be of length 1 or 2 only",
            ),
            (
                {"pk": entry("EQ", S), "sk": entry("BETWEEN", N)},
                INVALID + "Invalid number of argument(s) for the BETWEEN ComparisonOperator",
            ),
        ],
    )
    def test_refused(self, given, message):
        assert refused(compile_key_conditions, given, COMPOSITE) == message


class TestAttributeUpdates:
    @pytest.mark.parametrize(
        ("name", "action", "expected"),
        [
            ("s", {"Value": N}, N),
            ("s", {"Value": N, "Action": "PUT"}, N),
            ("s", {"Action": "DELETE"}, None),
            ("missing", {"Action": "DELETE"}, None),
            ("n", {"Value": N, "Action": "ADD"}, {"N": "15"}),
            ("missing", {"Value": N, "Action": "ADD"}, N),
            ("ss", {"Value": {"SS": ["b", "c"]}, "Action": "ADD"}, {"SS": ["a", "b", "c"]}),
            ("ss", {"Value": {"SS": ["b", "c"]}, "Action": "DELETE"}, {"SS": ["a"]}),
            ("l", {"Value": {"L": [S]}, "Action": "ADD"}, {"L": [S, S]}),
        ],
    )
    def test_actions(self, name, action, expected):
        assert compile_attribute_updates({name: action}).apply(ITEM).get(name) == expected

    @pytest.mark.parametrize(
        ("action", "message"),
        [
            ({}, "Only DELETE action is allowed when no attribute value is specified"),
            (
                {"Action": "ADD"},
                "Only DELETE action is allowed when no attribute value is specified",
            ),
            (
                {"Action": "ADD", "Value": S},
                "ADD action is not supported for the type S",
            ),
            (
                {"Action": "DELETE", "Value": S},
                "DELETE action with value is not supported for the type S",
            ),
        ],
    )
    def test_refused(self, action, message):
        assert refused(compile_attribute_updates, {"a": action}) == INVALID + message

    def test_a_type_that_does_not_match(self):
        update = compile_attribute_updates({"s": {"Action": "ADD", "Value": N}})
        assert refused(update.apply, ITEM) == "Type mismatch for attribute to update"

    def test_the_key(self):
        update = compile_attribute_updates({"pk": {"Value": S}})
        assert refused(update.check_keys, ("pk",)) == (
            f"{INVALID}Cannot update attribute pk. This attribute is part of the key"
        )


def test_attributes_to_get():
    assert compile_attributes_to_get(["a.b", "name"]).project(ITEM) == {
        "a.b": ITEM["a.b"],
        "name": ITEM["name"],
    }
    assert refused(compile_attributes_to_get, ["a", "b", "a"]) == (
        f"{INVALID}Duplicate value in attribute name: a"
    )


def test_legacy_parameters_and_expressions_do_not_mix():
    legacy = ("AttributeUpdates", "Expected")
    expressions = ("UpdateExpression", "ConditionExpression")
    reject_mixed({"Expected": {}}, legacy, expressions)
    reject_mixed({"ConditionExpression": "a = b"}, legacy, expressions)
    body = {"Expected": {}, "AttributeUpdates": {}, "ConditionExpression": "a = b"}
    assert refused(reject_mixed, body, legacy, expressions) == (
        "Can not use both expression and non-expression parameters in the same request: "
        "Non-expression parameters: {AttributeUpdates, Expected} "
        "Expression parameters: {ConditionExpression}"
    )
