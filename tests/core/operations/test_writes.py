import pytest

from streamtable.core.documents import TableDocument
from streamtable.core.errors import ConditionalCheckFailed, ResourceNotFound, ValidationError
from streamtable.core.images import Image
from streamtable.core.operations.delete import plan_delete
from streamtable.core.operations.put import plan_put
from streamtable.core.operations.update import plan_update
from streamtable.core.operations.write_answers import answer_write
from streamtable.core.tables import Table
from streamtable.core.values import dump_item, item_size

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
KEY = {"id": {"S": "a"}}


def find(name: str) -> Table:
    if name != "users":
        raise ResourceNotFound("Requested resource not found")
    return TABLE


def image(item):
    return Image(dump_item(item), item_size(item), 1, "local")


class TestPut:
    def test_the_item_takes_the_place_of_any_other(self):
        item = {**KEY, "n": {"N": "1"}}
        write = plan_put({"TableName": "users", "Item": item}, find)
        assert write.key == KEY
        assert not write.needs_old
        assert write.evaluate(None) == (dump_item(item), item_size(item))
        assert write.evaluate({**KEY, "n": {"N": "2"}}) == (dump_item(item), item_size(item))

    def test_a_condition_is_evaluated_each_time(self):
        body = {
            "TableName": "users",
            "Item": KEY,
            "ConditionExpression": "attribute_not_exists(id)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        write = plan_put(body, find)
        assert write.needs_old
        for _ in range(2):
            assert write.evaluate(None) == (dump_item(KEY), 3)
            with pytest.raises(ConditionalCheckFailed) as caught:
                write.evaluate(KEY)
            assert caught.value.members == {"Item": KEY}

    def test_the_rows_of_a_key_are_the_same_whatever_the_write(self):
        put = plan_put({"TableName": "users", "Item": {**KEY, "n": {"N": "1"}}}, find)
        delete = plan_delete({"TableName": "users", "Key": KEY}, find)
        assert (put.hash, put.row_key) == (delete.hash, delete.row_key)

    def test_a_key_of_an_index_of_another_type(self):
        body = {"TableName": "users", "Item": {**KEY, "n": {"S": "x"}}}
        with pytest.raises(ValidationError, match="Type mismatch for Index Key n"):
            plan_put(body, find)


class TestUpdate:
    def plan(self, expression, **values):
        body = {"TableName": "users", "Key": KEY, "UpdateExpression": expression}
        if values:
            body["ExpressionAttributeValues"] = {f":{name}": v for name, v in values.items()}
        return plan_update(body, find)

    def test_it_is_pure(self):
        write = self.plan("ADD n :one", one={"N": "1"})
        old = {**KEY, "n": {"N": "1"}}
        for _ in range(2):
            new, size = write.evaluate(old)
            assert new == {**KEY, "n": {"N": "2"}}
            assert size == item_size(new)
            assert write.evaluate(None)[0] == {**KEY, "n": {"N": "1"}}
        assert old == {**KEY, "n": {"N": "1"}}

    def test_no_change_is_the_same_object(self):
        old = {**KEY, "n": {"N": "1"}}
        for expression, values in (
            ("SET n = :n", {"n": {"N": "1.0"}}),
            ("REMOVE nickname", {}),
            ("ADD n :n", {"n": {"N": "0"}}),
        ):
            assert self.plan(expression, **values).evaluate(old)[0] is old

    def test_removals_make_no_item(self):
        assert self.plan("REMOVE nickname").evaluate(None) == (None, 0)

    def test_a_key_of_an_index_of_another_type(self):
        write = self.plan("SET n = :n", n={"S": "x"})
        with pytest.raises(ValidationError, match="Type mismatch for Index Key n"):
            write.evaluate(KEY)

    def test_values_of_a_request_on_a_missing_table_come_first(self):
        with pytest.raises(ValidationError):
            plan_update({"TableName": "none", "Key": {"id": {"N": "x"}}}, find)
        with pytest.raises(ResourceNotFound):
            plan_update({"TableName": "none", "Key": {"id": {"N": "1"}}}, find)


class TestAnswers:
    def test_nothing_asked(self):
        write = plan_put({"TableName": "users", "Item": KEY}, find)
        assert answer_write(write, None, image(KEY)) == b"{}"

    def test_capacity_of_a_row_that_moves(self):
        body = {"TableName": "users", "Item": KEY, "ReturnConsumedCapacity": "INDEXES"}
        write = plan_put(body, find)
        old, new = {**KEY, "n": {"N": "1"}}, {**KEY, "n": {"N": "2"}}
        assert answer_write(write, image(old), image(new)) == (
            b'{"ConsumedCapacity":{"TableName":"users","CapacityUnits":3.0,'
            b'"Table":{"CapacityUnits":1.0},'
            b'"GlobalSecondaryIndexes":{"by_n":{"CapacityUnits":2.0}}}}'
        )

    def test_a_change_that_the_index_does_not_see_costs_it_nothing(self):
        body = {"TableName": "users", "Item": KEY, "ReturnConsumedCapacity": "TOTAL"}
        write = plan_put(body, find)
        old = {**KEY, "n": {"N": "1"}}
        new = {**old, "other": {"S": "x" * 1500}}
        assert answer_write(write, image(old), image(new)) == (
            b'{"ConsumedCapacity":{"TableName":"users","CapacityUnits":2.0}}'
        )
