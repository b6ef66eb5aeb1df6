import copy
import functools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtable.core import shapes
from streamtable.core.errors import SerializationError, ValidationError
from streamtable.core.shapes import checks, faults, model

PUT = {"TableName": "users", "Item": {"id": {"S": "a"}}}


def message_of(operation, body):
    with pytest.raises(ValidationError) as caught:
        shapes.validate(operation, body)
    return caught.value.message


def serialization_message_of(operation, body):
    with pytest.raises(SerializationError) as caught:
        shapes.validate(operation, body)
    return caught.value.message


def fault(value, path, rule):
    return f"Value {value} at '{path}' failed to satisfy constraint: {rule}"


def test_a_right_request_passes_unchanged():
    body = copy.deepcopy(PUT)
    shapes.validate("PutItem", body)
    assert body == PUT


def test_every_operation_of_both_services_is_known():
    assert {"PutItem", "TransactWriteItems", "DescribeEndpoints"} <= shapes.OPERATIONS
    assert {
        "DescribeStream",
        "GetRecords",
        "GetShardIterator",
        "ListStreams",
    } == shapes.STREAMS_OPERATIONS
    for operation in shapes.OPERATIONS | shapes.STREAMS_OPERATIONS:
        checks._check(operation)


def test_an_unknown_operation_is_a_key_error():
    with pytest.raises(KeyError):
        shapes.validate("MakeCoffee", {})


def test_missing_members_are_null():
    null = "Member must not be null"
    assert message_of("PutItem", {}) == (
        f"2 validation errors detected: {fault('null', 'tableName', null)}; "
        f"{fault('null', 'item', null)}"
    )


def test_a_null_member_is_a_missing_one():
    body = PUT | {"ReturnValues": None}
    shapes.validate("PutItem", body)
    assert "ReturnValues" not in body
    assert "Value null at 'item'" in message_of("PutItem", PUT | {"Item": None})


def test_a_name_for_a_new_table_is_checked_against_the_rules_for_names():
    body = {
        "TableName": "a!",
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    }
    pattern = "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"
    length = "Member must have length greater than or equal to 3"
    assert message_of("CreateTable", body) == (
        f"2 validation errors detected: {fault(chr(39) + 'a!' + chr(39), 'tableName', pattern)}; "
        f"{fault(chr(39) + 'a!' + chr(39), 'tableName', length)}"
    )
    body["TableName"] = "a" * 256
    assert message_of("CreateTable", body).endswith("length less than or equal to 255")


def test_elsewhere_a_table_may_be_given_as_an_arn():
    arn = "arn:aws:dynamodb:us-east-1:123456789012:table/users"
    shapes.validate("PutItem", PUT | {"TableName": arn})
    assert message_of("PutItem", PUT | {"TableName": ""}) == (
        "1 validation error detected: "
        + fault("''", "tableName", "Member must have length greater than or equal to 1")
    )


def test_enums_are_printed_in_the_service_s_order():
    values = {
        "ReturnConsumedCapacity": "[INDEXES, TOTAL, NONE]",
        "ReturnValues": "[ALL_NEW, UPDATED_OLD, ALL_OLD, NONE, UPDATED_NEW]",
        "ReturnItemCollectionMetrics": "[SIZE, NONE]",
        "ConditionalOperator": "[OR, AND]",
    }
    for name, printed in values.items():
        path = name[0].lower() + name[1:]
        rule = f"Member must satisfy enum value set: {printed}"
        assert message_of("PutItem", PUT | {name: "x"}) == (
            f"1 validation error detected: {fault(chr(39) + 'x' + chr(39), path, rule)}"
        )
    assert message_of("Query", {"TableName": "users", "Select": "x"}).endswith(
        "[SPECIFIC_ATTRIBUTES, COUNT, ALL_ATTRIBUTES, ALL_PROJECTED_ATTRIBUTES]"
    )


def test_numbers_have_bounds():
    body = {"TableName": "users", "Limit": 0, "Segment": -1, "TotalSegments": 1_000_001}
    assert message_of("Scan", body) == "3 validation errors detected: " + "; ".join(
        [
            fault("'0'", "limit", "Member must have value greater than or equal to 1"),
            fault(
                "'1000001'", "totalSegments", "Member must have value less than or equal to 1000000"
            ),
            fault("'-1'", "segment", "Member must have value greater than or equal to 0"),
        ]
    )


def test_fractions_are_cut_off_where_an_integer_is_meant():
    body = {"TableName": "users", "Limit": 7.9}
    shapes.validate("Scan", body)
    assert body["Limit"] == 7
    assert "Value '0' at 'limit'" in message_of("Scan", {"TableName": "users", "Limit": 0.9})


def test_a_long_list_is_cut_inside():
    get = {"Get": {"TableName": "users", "Key": {"id": {"S": "a"}}}}
    message = message_of("TransactGetItems", {"TransactItems": [get] * 101})
    assert message.startswith("1 validation error detected: Value '[TransactGetItem(get=Get(key={")
    assert message.endswith(
        "]' at 'transactItems' failed to satisfy constraint: Member must have length less than or "
        "equal to 100"
    )
    assert len(message) < 17_000


def test_members_of_elements_are_numbered_from_one():
    body = {
        "TableName": "users",
        "AttributeDefinitions": [],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}, {"KeyType": "Sort"}],
    }
    assert message_of("CreateTable", body) == "2 validation errors detected: " + "; ".join(
        [
            fault("null", "keySchema.2.member.attributeName", "Member must not be null"),
            fault(
                "'Sort'",
                "keySchema.2.member.keyType",
                "Member must satisfy enum value set: [HASH, RANGE]",
            ),
        ]
    )


def test_members_of_map_values_are_named_by_their_keys():
    assert message_of("BatchGetItem", {"RequestItems": {"users": {}}}) == (
        "1 validation error detected: "
        + fault("null", "requestItems.users.member.keys", "Member must not be null")
    )
    body = {"RequestItems": {"users": [{"PutRequest": {"Item": {}}}, {"DeleteRequest": {}}]}}
    assert message_of("BatchWriteItem", body) == (
        "1 validation error detected: "
        + fault(
            "null",
            "requestItems.users.member.2.member.deleteRequest.key",
            "Member must not be null",
        )
    )


def test_what_an_element_breaks_is_told_of_its_collection():
    assert message_of("BatchWriteItem", {"RequestItems": {"users": []}}) == (
        "1 validation error detected: "
        + fault(
            "'{users=[]}'",
            "requestItems",
            "Map value must satisfy constraint: [Member must have length less than or equal to "
            "25, Member must have length greater than or equal to 1]",
        )
    )
    body = {
        "ResourceArn": "arn:aws:dynamodb:us-east-1:123456789012:table/users",
        "TagKeys": ["ok", ""],
    }
    assert message_of("UntagResource", body) == (
        "1 validation error detected: "
        + fault(
            "'[ok, ]'",
            "tagKeys",
            "Member must satisfy constraint: [Member must have length less than or equal to 128, "
            "Member must have length greater than or equal to 1]",
        )
    )


@pytest.mark.parametrize("name", ["", "a", "a b c"])
def test_keys_of_a_map_are_told_of_the_map(name):
    message = message_of("BatchGetItem", {"RequestItems": {name: {"Keys": [{}]}}})
    assert message.startswith(f"1 validation error detected: Value '{{{name}=KeysAndAttributes(")
    assert message.endswith(
        "' at 'requestItems' failed to satisfy constraint: Map keys must satisfy constraint: "
        "[Member must have length less than or equal to 255, Member must have length greater than "
        "or equal to 3, Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+]"
    )


def test_structures_are_printed_as_java_does():
    element = {"AttributeName": "a", "KeyType": "HASH"}
    body = {"TableName": "users", "AttributeDefinitions": [], "KeySchema": [element] * 3}
    printed = ", ".join(["KeySchemaElement(attributeName=a, keyType=HASH)"] * 3)
    assert message_of("CreateTable", body) == (
        "1 validation error detected: "
        + fault(f"'[{printed}]'", "keySchema", "Member must have length less than or equal to 2")
    )


def test_a_null_element_is_told_at_its_place():
    body: dict[str, Any] = {
        "TableName": "users",
        "AttributeDefinitions": [None],
        "KeySchema": [{}],
    }
    assert fault("null", "attributeDefinitions.1.member", "Member must not be null") in message_of(
        "CreateTable", body
    )
    names = {"TableName": "users", "ExpressionAttributeNames": {"#a": None}}
    assert "'expressionAttributeNames.#a.member'" in message_of("Scan", names)


def test_no_more_than_ten_are_reported():
    body = {"TableName": "users", "AttributeDefinitions": [{}] * 30, "KeySchema": [{}]}
    message = message_of("CreateTable", body)
    assert message.startswith("10 validation errors detected: ")
    assert message.count("failed to satisfy") == 10


def test_a_huge_value_is_not_sent_back_whole():
    message = message_of("CreateTable", {"TableName": "!" * 1_000_000})
    assert len(message) < 100_000


@pytest.mark.parametrize(
    ("operation", "member", "value", "message"),
    [
        ("PutItem", "TableName", 5, "NUMBER_VALUE cannot be converted to String"),
        ("PutItem", "TableName", True, "TRUE_VALUE cannot be converted to String"),
        ("PutItem", "TableName", False, "FALSE_VALUE cannot be converted to String"),
        ("PutItem", "TableName", [], "Unrecognized collection type class java.lang.String"),
        (
            "PutItem",
            "TableName",
            {},
            "Start of structure or map found where not expected.",
        ),
        ("PutItem", "Item", "x", "Unexpected field type"),
        (
            "PutItem",
            "Item",
            [],
            (
                "Unrecognized collection type java.util.Map<java.lang.String, "
                "com.amazonaws.dynamodb.v20120810.AttributeValue>"
            ),
        ),
        ("Scan", "Limit", "5", "STRING_VALUE cannot be converted to Integer"),
        ("Scan", "Limit", True, "TRUE_VALUE cannot be converted to Integer"),
        ("Scan", "ConsistentRead", "true", "Unexpected token received from parser"),
        ("Scan", "ConsistentRead", 1, "NUMBER_VALUE cannot be converted to Boolean"),
        ("Scan", "AttributesToGet", "x", "Unexpected field type"),
        (
            "Scan",
            "AttributesToGet",
            {},
            "Start of structure or map found where not expected.",
        ),
        ("Scan", "AttributesToGet", [1], "NUMBER_VALUE cannot be converted to String"),
        (
            "UpdateTable",
            "ProvisionedThroughput",
            [],
            (
                "Unrecognized collection type class "
                "com.amazonaws.dynamodb.v20120810.ProvisionedThroughput"
            ),
        ),
        (
            "UpdateTable",
            "ProvisionedThroughput",
            {"ReadCapacityUnits": "1"},
            "STRING_VALUE cannot be converted to Long",
        ),
    ],
)
def test_wrong_types_are_told_before_constraints(operation, member, value, message):
    assert serialization_message_of(operation, {"IndexName": "", member: value}) == message


def test_attribute_values_are_not_looked_into():
    shapes.validate("PutItem", PUT | {"Item": {"id": 5, "n": [{"S": None}], "": None}})


def test_unknown_members_are_ignored_and_can_be_listed():
    body = {
        "TableName": "users",
        "Colour": "red",
        "KeySchema": [{"AttributeName": "id", "Type": "HASH"}],
        "AttributeDefinitions": [],
    }
    assert shapes.unknown_members("CreateTable", body) == ["Colour", "KeySchema.1.Type"]
    assert shapes.unknown_members("PutItem", PUT) == []
    shapes.validate("PutItem", PUT | {"Colour": "red"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**40) | st.floats(0, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@functools.cache
def bodies_of(shape):
    """Bodies that are mostly right, so that both sides of each check are reached."""
    right: st.SearchStrategy[Any]
    if shape.kind == "structure":
        right = st.fixed_dictionaries(
            {name: bodies_of(shape.members[name]) for name in shape.required},
            optional={
                name: bodies_of(member)
                for name, member in shape.members.items()
                if name not in shape.required
            },
        )
    elif shape.kind == "list":
        right = st.lists(bodies_of(shape.member), min_size=shape.least or 0, max_size=3)
    elif shape.kind == "map":
        right = st.dictionaries(st.sampled_from(["abc", "#n"]), bodies_of(shape.member), max_size=2)
    elif shape.kind == "string":
        right = st.sampled_from(shape.enum or ["abc", "a" * 40])
    elif shape.kind in ("integer", "long"):
        right = st.integers(0, 3)
    elif shape.kind == "opaque":
        right = st.just({"S": "x"})
    else:
        right = st.one_of(st.booleans(), st.floats(0, 9))
    return st.integers(0, 19).flatmap(lambda dice: json_values if dice == 0 else right)


@pytest.mark.parametrize("operation", ["PutItem", "Query", "BatchWriteItem", "CreateTable"])
@given(data=st.data())
def test_the_quick_check_and_the_words_agree(operation, data):
    shape = model.operations("dynamodb")[operation]
    body = data.draw(bodies_of(shape).filter(lambda drawn: type(drawn) is dict))
    quick = checks._check(operation)(body)
    try:
        normalized = copy.deepcopy(body)
        faults.normalize_types(shape, normalized)
        found = faults.find_faults(shape, normalized)
    except SerializationError as error:
        found = [error.message]
    if quick:
        assert found == []
        assert normalized == body
    elif not found:
        # Only what the words mended may be told apart; mended, the quick check agrees.
        assert normalized != body
        assert checks._check(operation)(normalized)


def test_a_table_is_named_or_given_by_its_arn():
    arn = "arn:aws:dynamodb:local:000000000000:table/users"
    shapes.validate("GetItem", {"TableName": arn, "Key": {}})
    at_least = "Member must have length greater than or equal to"
    refused = {
        "": fault("''", "tableName", f"{at_least} 1"),
        "ab": fault("'ab'", "tableName", f"{at_least} 3"),
        "a" * 256: fault(
            f"'{'a' * 256}'", "tableName", "Member must have length less than or equal to 255"
        ),
        "my table": fault(
            "'my table'",
            "tableName",
            "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+",
        ),
    }
    for name, expected in refused.items():
        message = message_of("GetItem", {"TableName": name, "Key": {}})
        assert message == f"1 validation error detected: {expected}"


def test_what_is_told_without_its_value():
    nothing = {"TableName": "users", "Limit": 0}
    assert message_of("Query", nothing) == (
        "1 validation error detected: Value at 'Limit' failed to satisfy constraint: "
        "Member must have value greater than or equal to 1"
    )
    keys: dict[str, Any] = {"RequestItems": {"users": {"Keys": [{}] * 101}}}
    assert message_of("BatchGetItem", keys) == (
        "1 validation error detected: Value at 'RequestItems.users.member.Keys' failed to satisfy "
        "constraint: Member must have length less than or equal to 100"
    )
