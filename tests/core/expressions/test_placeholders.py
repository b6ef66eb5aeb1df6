import pytest

from streamtable.core.errors import SerializationError, ValidationError
from streamtable.core.expressions.condition import bind_condition
from streamtable.core.expressions.placeholders import Placeholders
from streamtable.core.expressions.projection import bind_projection

NAME_TOO_LONG = (
    "1 validation error detected: Attribute name is too large, must be less than 65536 bytes"
)


def refused(call, *arguments, **keywords):
    with pytest.raises(ValidationError) as caught:
        call(*arguments, **keywords)
    return caught.value.message


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({}, "ExpressionAttributeNames must not be empty"),
        ({"x": "a"}, 'ExpressionAttributeNames contains invalid key: Syntax error; key: "x"'),
        ({"#": "a"}, 'ExpressionAttributeNames contains invalid key: Syntax error; key: "#"'),
        (
            {"#a[1]": "a"},
            'ExpressionAttributeNames contains invalid key: Syntax error; key: "#a[1]"',
        ),
        (
            {"#a": ""},
            (
                "ExpressionAttributeNames contains invalid value: Attribute name must not be empty "
                "for key #a"
            ),
        ),
        (
            {"#" + "a" * 255: "a"},
            (
                "ExpressionAttributeNames contains invalid key: The key is longer than 255 bytes; "
                f'key: "#{"a" * 255}"'
            ),
        ),
        ({"#a": "é" * 32768}, NAME_TOO_LONG),
    ],
)
def test_names_refused(names, message):
    assert refused(Placeholders, names, None) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "ExpressionAttributeValues must not be empty"),
        (
            {"pid": {"S": "x"}},
            'ExpressionAttributeValues contains invalid key: Syntax error; key: "pid"',
        ),
        (
            {":v\n": {"S": "x"}},
            'ExpressionAttributeValues contains invalid key: Syntax error; key: ":v\n"',
        ),
        (
            {":value": {"SS": []}},
            (
                "ExpressionAttributeValues contains invalid value: One or more "
                "parameter values were "
                "invalid: An string set  may not be empty for key :value"
            ),
        ),
        ({":value": {"M": {"n" * 65536: {"S": ""}}}}, NAME_TOO_LONG),
    ],
)
def test_values_refused(values, message):
    assert refused(Placeholders, None, values) == message


def test_a_wrong_json_type_is_no_validation_error():
    with pytest.raises(SerializationError):
        Placeholders(None, {":v": {"N": 1}})


def test_the_longest_placeholder():
    name, value = "#" + "a" * 254, ":" + "a" * 254
    placeholders = Placeholders({name: "a" * 65535}, {value: {"S": ""}})
    bind_condition(f"{name} = {value}", "FilterExpression", placeholders)
    placeholders.check_unused()


def test_values_are_canonical():
    assert Placeholders(None, {":v": {"N": "1.50"}}).values == {":v": {"N": "1.5"}}


def test_what_no_expression_uses_is_refused():
    placeholders = Placeholders({"#a": "a", "#b": "b"}, {":v": {"S": ""}, ":w": {"S": ""}})
    assert refused(placeholders.check_unused) == (
        "Value provided in ExpressionAttributeNames unused in expressions: keys: {#a, #b}"
    )
    bind_projection("#a, #b", placeholders)
    assert refused(placeholders.check_unused) == (
        "Value provided in ExpressionAttributeValues unused in expressions: keys: {:v, :w}"
    )
    bind_condition("#a = :v", "FilterExpression", placeholders)
    assert refused(placeholders.check_unused) == (
        "Value provided in ExpressionAttributeValues unused in expressions: keys: {:w}"
    )
    bind_condition("#b = :w", "ConditionExpression", placeholders)
    placeholders.check_unused()


class TestOfRequest:
    def test_without_any(self):
        placeholders = Placeholders.of_request({"TableName": "t"}, "ConditionExpression")
        placeholders.check_unused()

    def test_names_without_expression(self):
        body = {"ExpressionAttributeNames": {"#a": "a"}}
        assert refused(
            Placeholders.of_request, body, "FilterExpression", projection="ProjectionExpression"
        ) == ("ExpressionAttributeNames can only be specified when using expressions")

    def test_names_with_a_projection(self):
        body = {"ExpressionAttributeNames": {"#a": "a"}, "ProjectionExpression": "#a"}
        placeholders = Placeholders.of_request(
            body, "FilterExpression", projection="ProjectionExpression"
        )
        assert placeholders.names == {"#a": "a"}

    def test_values_without_expression(self):
        body = {"ExpressionAttributeValues": {":v": {"S": "x"}}, "ProjectionExpression": "a"}
        assert refused(
            Placeholders.of_request,
            body,
            "FilterExpression",
            "KeyConditionExpression",
            projection="ProjectionExpression",
        ) == (
            "ExpressionAttributeValues can only be specified when using expressions: "
            "FilterExpression and KeyConditionExpression are null"
        )
        assert refused(Placeholders.of_request, body, "ConditionExpression") == (
            "ExpressionAttributeValues can only be specified when using expressions: "
            "ConditionExpression is null"
        )

    def test_values_with_one_of_the_expressions(self):
        body = {"ExpressionAttributeValues": {":v": {"S": "x"}}, "ConditionExpression": "a = :v"}
        placeholders = Placeholders.of_request(body, "UpdateExpression", "ConditionExpression")
        assert placeholders.values == {":v": {"S": "x"}}
