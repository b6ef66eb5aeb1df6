from typing import Any

import pytest

from streamtable.core.documents import TableDocument
from streamtable.core.errors import (
    ConditionalCheckFailed,
    ResourceNotFound,
    TransactionCanceled,
    ValidationError,
)
from streamtable.core.limits import TRANSACTION_BYTES
from streamtable.core.operations.check import Check
from streamtable.core.operations.delete import Delete
from streamtable.core.operations.put import ItemPut
from streamtable.core.operations.transact_get import plan_transact_get
from streamtable.core.operations.transact_write import plan_transact_write
from streamtable.core.operations.transactions import check_transaction_size
from streamtable.core.operations.update import UpdateItem
from streamtable.core.tables import Table

TABLE = Table(
    TableDocument.model_validate(
        {
            "name": "users",
            "id": "00000000-0000-4000-8000-000000000001",
            "region": "local",
            "account": "000000000000",
            "created": 0,
            "attributes": {"id": "S", "n": "N"},
            "keys": [{"name": "id", "kind": "HASH"}],
            "indexes": [
                {
                    "name": "by_n",
                    "id": "00000000-0000-4000-8000-000000000002",
                    "scope": "GLOBAL",
                    "keys": [{"name": "n", "kind": "HASH"}],
                    "projection": {"kind": "KEYS_ONLY"},
                }
            ],
        }
    )
)
MISMATCH = "The provided key element does not match the schema"
INVALID = "One or more parameter values were invalid: "
EMPTY = "One or more parameter values are not valid. "


def find(name: str) -> Table:
    if name != "users":
        raise ResourceNotFound("Requested resource not found")
    return TABLE


def key(text: str) -> dict[str, Any]:
    return {"id": {"S": text}}


def put(text: str, table: str = "users", condition: str | None = None, **attributes: Any):
    request: dict[str, Any] = {"TableName": table, "Item": {**key(text), **attributes}}
    if condition is not None:
        request["ConditionExpression"] = condition
    return {"Put": request}


def update(text: str, expression: str = "REMOVE x", **more: Any):
    return {
        "Update": {
            "TableName": "users",
            "Key": key(text),
            "UpdateExpression": expression,
            **more,
        }
    }


def delete(text: str, **more: Any):
    return {"Delete": {"TableName": "users", "Key": key(text), **more}}


def check(text: str, condition: str = "attribute_exists(id)", **more: Any):
    return {
        "ConditionCheck": {
            "TableName": "users",
            "Key": key(text),
            "ConditionExpression": condition,
            **more,
        }
    }


def plan(*actions: dict[str, Any]):
    return plan_transact_write({"TransactItems": list(actions)}, find)


def plan_gets(*requests: dict[str, Any]):
    return plan_transact_get({"TransactItems": [{"Get": get} for get in requests]}, find)


def refusal(*actions: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        plan(*actions)
    return caught.value.message


def reasons(*actions: dict[str, Any]) -> list[dict[str, Any]]:
    with pytest.raises(TransactionCanceled) as caught:
        plan(*actions)
    return caught.value.reasons


class TestActions:
    def test_each_becomes_the_write_of_its_kind(self):
        writes = plan(put("a"), update("b"), delete("c"), check("d"))
        assert [type(write) for write in writes] == [ItemPut, UpdateItem, Delete, Check]
        assert [write.key for write in writes] == [key(text) for text in "abcd"]

    def test_a_check_changes_nothing(self):
        (write,) = plan(check("a", "attribute_not_exists(x)"))
        assert write.needs_old
        assert write.evaluate(None) == (None, 0)
        old = key("a")
        found, size = write.evaluate(old)
        assert found is old
        assert size == 0
        with pytest.raises(ConditionalCheckFailed) as caught:
            write.evaluate({**old, "x": {"S": "y"}})
        assert caught.value.members == {}

    def test_a_failed_check_shows_the_item_where_asked(self):
        (write,) = plan(
            check("a", ReturnValuesOnConditionCheckFailure="ALL_OLD", condition="x = id")
        )
        with pytest.raises(ConditionalCheckFailed) as caught:
            write.evaluate(key("a"))
        assert caught.value.members == {"Item": key("a")}

    def test_an_update_with_its_condition(self):
        values = {":n": {"N": "1"}}
        (write,) = plan(
            update(
                "a",
                "SET n = :n",
                ConditionExpression="attribute_not_exists(n)",
                ExpressionAttributeValues=values,
            )
        )
        assert write.evaluate(None) == ({**key("a"), "n": {"N": "1"}}, 6)
        with pytest.raises(ConditionalCheckFailed):
            write.evaluate({**key("a"), "n": {"N": "2"}})

    def test_an_action_is_exactly_one(self):
        both = {**put("a"), **delete("b")}
        assert refusal(both) == "TransactItems can only contain one of Check, Put, Update or Delete"
        assert refusal(put("a"), {}) == (
            "Invalid Request: TransactWriteRequest should contain Delete or Put or Update request"
        )

    def test_legacy_parameters_are_not_known(self):
        expected = {"id": {"Exists": False}}
        (write,) = plan({"Put": {**put("a")["Put"], "Expected": expected}})
        assert write.condition is None

    def test_placeholders_without_an_expression_are_passed_over(self):
        names, values = {"#a": "b"}, {":a": {"S": "b"}}
        written = put("a")
        written["Put"]["ExpressionAttributeValues"] = values
        (_, gone) = plan(written, delete("b", ExpressionAttributeNames=names))
        assert gone.condition is None


class TestOrder:
    """What is wrong with any action by itself comes before what the tables say."""

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (
                put("b", condition="id ="),
                'Invalid ConditionExpression: Syntax error; token: "<EOF>", near: "="',
            ),
            (
                put("b", x={"N": "many"}),
                "The parameter cannot be converted to a numeric value: many",
            ),
            (put("b", x={"S": "x" * 409_600}), "Item size has exceeded the maximum allowed size"),
            (
                update("b", "SET x = :x"),
                (
                    "Invalid UpdateExpression: An expression attribute value used in expression is "
                    "not defined; attribute value: :x"
                ),
            ),
            (
                check("b", ExpressionAttributeValues={":x": {"S": ""}}),
                "Value provided in ExpressionAttributeValues unused in expressions: keys: {:x}",
            ),
        ],
    )
    def test_one_that_is_wrong_by_itself(self, wrong, message):
        assert refusal(put("a", "nobody"), wrong) == message
        assert refusal(delete("a", Key={"no": {"S": "a"}}), wrong) == message

    def test_values_of_keys_before_tables(self):
        wrong = delete("a", Key={"id": {"N": "many"}})
        message = "The parameter cannot be converted to a numeric value: many"
        assert refusal(put("a", "nobody"), wrong) == message
        assert refusal(delete("b", Key={"no": {"S": "a"}}), wrong) == message

    def test_tables_before_their_schemas(self):
        wrong = delete("b", Key={"no": {"S": "a"}})
        with pytest.raises(ResourceNotFound, match="Requested resource not found"):
            plan(wrong, put("a", "nobody"))

    def test_schemas_before_duplicates(self):
        found = reasons(put("a"), delete("a"), delete("a", Key={"no": {"S": "a"}}))
        assert [reason["Code"] for reason in found] == ["None", "None", "ValidationError"]


class TestSchemas:
    @pytest.mark.parametrize(
        ("action", "message"),
        [
            (delete("a", Key={"no": {"S": "a"}}), MISMATCH),
            (delete("a", Key={"id": {"N": "1"}}), MISMATCH),
            (check("a", Key={"id": {"M": {}}}), MISMATCH),
            (update("a", Key={**key("a"), "n": {"N": "1"}}), MISMATCH),
            (
                {"Put": {"TableName": "users", "Item": {"n": {"N": "1"}}}},
                f"{INVALID}Missing the key id in the item",
            ),
            (
                {"Put": {"TableName": "users", "Item": {"id": {"N": "1"}}}},
                f"{INVALID}Type mismatch for key id expected: S actual: N",
            ),
            (
                put("a", n={"S": "x"}),
                f"{INVALID}Type mismatch for Index Key n Expected: N Actual: S IndexName: by_n",
            ),
            (
                update("a", "REMOVE id"),
                f"{INVALID}Cannot update attribute id. This attribute is part of the key",
            ),
        ],
    )
    def test_what_does_not_fit_cancels_the_transaction(self, action, message):
        assert reasons(put("b"), action) == [
            {"Code": "None"},
            {"Code": "ValidationError", "Message": message},
        ]

    @pytest.mark.parametrize("action", [put(""), update(""), delete(""), check("")])
    def test_an_empty_key_refuses_the_request(self, action):
        assert refusal(delete("a", Key={"no": {"S": "a"}}), action) == (
            f"{EMPTY}The AttributeValue for a key attribute cannot contain an empty string value. "
            "Key: id"
        )


class TestTogether:
    def test_one_action_an_item(self):
        assert refusal(put("a"), check("b"), delete("a")) == (
            "Transaction request cannot include multiple operations on one item"
        )

    def test_no_more_than_4_mb(self):
        size = 400_000
        puts = [put(str(place), x={"S": "x" * (size - 5)}) for place in range(10)]
        rest = TRANSACTION_BYTES - 10 * (size - 1)
        exact = put("z", x={"S": "x" * (rest - 4)})
        assert len(plan(*puts, exact)) == 11
        assert refusal(*puts, exact, delete("y")) == (
            "Aggregate size of the items in the transaction cannot exceed 4 MB"
        )
        check_transaction_size(TRANSACTION_BYTES)


class TestGets:
    def test_what_is_read(self):
        (first, second) = plan_gets(
            {"TableName": "users", "Key": key("a")},
            {
                "TableName": "users",
                "Key": key("b"),
                "ProjectionExpression": "#n",
                "ExpressionAttributeNames": {"#n": "n"},
            },
        )
        (written,) = plan(put("a"))
        assert (first.hash, first.row_key) == (written.hash, written.row_key)
        assert first.projection is None
        assert second.projection is not None
        assert second.projection.project({**key("b"), "n": {"N": "1"}}) == {"n": {"N": "1"}}

    def test_attributes_to_get_is_not_known(self):
        (get,) = plan_gets({"TableName": "users", "Key": key("a"), "AttributesToGet": ["n"]})
        assert get.projection is None

    def test_what_is_refused(self):
        get = {"TableName": "users", "Key": key("a")}
        with pytest.raises(ValidationError, match="multiple operations on one item"):
            plan_gets(get, get)
        with pytest.raises(ResourceNotFound):
            plan_gets({"TableName": "users", "Key": {}}, {**get, "TableName": "nobody"})
        with pytest.raises(ValidationError, match="Invalid ProjectionExpression: Syntax error"):
            plan_gets({**get, "TableName": "nobody"}, {**get, "ProjectionExpression": "a,"})

    def test_names_without_an_expression_are_passed_over(self):
        names = {"#n": "n"}
        (get,) = plan_gets(
            {"TableName": "users", "Key": key("a"), "ExpressionAttributeNames": names}
        )
        assert get.projection is None

    def test_a_key_that_does_not_fit_cancels_the_transaction(self):
        with pytest.raises(TransactionCanceled) as caught:
            plan_gets(
                {"TableName": "users", "Key": key("a")},
                {"TableName": "users", "Key": {"no": {"S": "a"}}},
            )
        assert caught.value.reasons == [
            {"Code": "None"},
            {"Code": "ValidationError", "Message": MISMATCH},
        ]
