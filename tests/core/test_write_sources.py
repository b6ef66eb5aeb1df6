"""Each kind of write, planned once more on another node, does the same."""

import base64
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtable.core.documents import TableDocument
from streamtable.core.errors import ApiError, ResourceNotFound
from streamtable.core.operations.batch_write import plan_batch_write
from streamtable.core.operations.delete import plan_delete
from streamtable.core.operations.put import plan_put
from streamtable.core.operations.transact_write import plan_transact_write
from streamtable.core.operations.update import plan_update
from streamtable.core.operations.writes import Write
from streamtable.core.partiql.batches import plan_batch, plan_transaction
from streamtable.core.partiql.parameters import fill
from streamtable.core.partiql.writes import plan_write
from streamtable.core.tables import Table
from streamtable.core.write_sources import plan_again

TABLE = Table(
    TableDocument.model_validate(
        {
            "name": "users",
            "id": "00000000-0000-4000-8000-000000000001",
            "region": "local",
            "account": "000000000000",
            "created": 0,
            "attributes": {"id": "S", "at": "N", "n": "N"},
            "keys": [{"name": "id", "kind": "HASH"}, {"name": "at", "kind": "RANGE"}],
            "indexes": [
                {
                    "name": "by_n",
                    "id": "00000000-0000-4000-8000-000000000002",
                    "scope": "LOCAL",
                    "keys": [{"name": "id", "kind": "HASH"}, {"name": "n", "kind": "RANGE"}],
                    "projection": {"kind": "ALL"},
                }
            ],
        }
    )
)
KEY = {"id": {"S": "a"}, "at": {"N": "1"}}
OLD = [
    None,
    {**KEY, "n": {"N": "1"}},
    {**KEY, "n": {"N": "7"}, "tags": {"SS": ["x", "y"]}, "list": {"L": [{"S": "old"}]}},
]
NAMED: dict[str, Any] = {"TableName": "users", "ReturnConsumedCapacity": "INDEXES"}
IF_ONE: dict[str, Any] = {
    "ConditionExpression": "n = :one",
    "ExpressionAttributeValues": {":one": {"N": "1"}},
    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
}
BYTES = {"B": base64.b64encode(b"\x00\xff").decode()}


def find(name: str) -> Table:
    if name not in {"users", TABLE.arn}:
        raise ResourceNotFound("Requested resource not found")
    return TABLE


def result(write: Write, old: Any) -> Any:
    try:
        item, size = write.evaluate(old)
    except ApiError as error:
        return type(error), error.message, error.members
    # "The very object" means that nothing changes; another node has to say so too.
    return item is old, item, size


def check(write: Write, *more: Any) -> None:
    """Plan a write again from what another node would read, and compare what both do."""
    kind, request = orjson.loads(orjson.dumps(write.source))
    again = plan_again((kind, request), find)
    assert type(again) is type(write)
    for name in (
        "key", "hash", "row_key", "needs_old", "returns_failed", "return_values", "capacity",
        "named", "collects",
    ):  # fmt: skip
        assert getattr(again, name) == getattr(write, name), name
    for old in (*OLD, *more):
        assert result(again, old) == result(write, old)
    # As often as it moves.
    assert orjson.loads(orjson.dumps(again.source)) == [kind, request]


@pytest.mark.parametrize(
    ("plan", "body"),
    [
        (plan_put, {"Item": KEY}),
        (plan_put, {"Item": {**KEY, "b": BYTES, "bs": {"BS": [BYTES["B"]]}}, **IF_ONE}),
        (plan_put, {"Item": {**KEY, "n": {"N": "1.50e2"}}, "ReturnValues": "ALL_OLD"}),
        (
            plan_put,
            {"Item": KEY, "Expected": {"n": {"Value": {"N": "1"}}}},
        ),
        (plan_put, {"Item": KEY, "ReturnItemCollectionMetrics": "SIZE"}),
        (plan_put, {"Item": KEY, "TableName": TABLE.arn}),
        (plan_delete, {"Key": KEY}),
        (plan_delete, {"Key": KEY, **IF_ONE, "ReturnValues": "ALL_OLD"}),
        (plan_update, {"Key": KEY}),
        (
            plan_update,
            {
                "Key": KEY,
                "UpdateExpression": "SET #l = list_append(if_not_exists(#l, :none), :some) "
                "REMOVE gone ADD n :one DELETE tags :x",
                "ConditionExpression": "attribute_not_exists(n) OR n < :five",
                "ExpressionAttributeNames": {"#l": "list"},
                "ExpressionAttributeValues": {
                    ":none": {"L": []},
                    ":some": {"L": [{"S": "new"}, BYTES]},
                    ":one": {"N": "1"},
                    ":x": {"SS": ["x"]},
                    ":five": {"N": "5"},
                },
                "ReturnValues": "UPDATED_NEW",
            },
        ),
        (
            plan_update,
            {
                "Key": KEY,
                "AttributeUpdates": {"n": {"Action": "ADD", "Value": {"N": "3"}}},
                "Expected": {"n": {"ComparisonOperator": "NOT_NULL"}},
                "ReturnValues": "ALL_NEW",
            },
        ),
    ],
)
def test_single_writes(plan: Any, body: dict[str, Any]) -> None:
    check(plan({**NAMED, **body}, find))


def test_the_writes_of_a_batch() -> None:
    batched = plan_batch_write(
        {
            "RequestItems": {
                "users": [
                    {"PutRequest": {"Item": {**KEY, "b": BYTES}}},
                    {"DeleteRequest": {"Key": {**KEY, "at": {"N": "2"}}}},
                ]
            },
            "ReturnConsumedCapacity": "TOTAL",
        },
        find,
    )
    assert len(batched) == 2
    for _, write in batched:
        check(write)


def test_the_actions_of_a_transaction() -> None:
    named = {"TableName": "users"}
    keys = [{**KEY, "at": {"N": str(n)}} for n in range(4)]
    update = {"UpdateExpression": "SET n = n + :one"}
    writes = plan_transact_write(
        {
            "TransactItems": [
                {"Put": {**named, "Item": {**keys[0], "n": {"N": "5"}}, **IF_ONE}},
                {"Update": {**named, "Key": keys[1], **update, **IF_ONE}},
                {"Delete": {**named, "Key": keys[2]}},
                {"ConditionCheck": {**named, "Key": keys[3], **IF_ONE}},
            ]
        },
        find,
    )
    assert len(writes) == 4
    for write in writes:
        check(write)


STATEMENTS: list[tuple[str, list[Any]]] = [
    ("INSERT INTO users VALUE {'id': 'a', 'at': 1, 'b': ?}", [BYTES]),
    ("INSERT INTO users VALUE ?", [{"M": {**KEY, "n": {"N": "2"}}}]),
    ("UPDATE users SET n = n + ? WHERE id = ? AND at = 1", [{"N": "1"}, {"S": "a"}]),
    ("UPDATE users SET x = 'y' WHERE id = 'a' AND at = 1 AND n = 7 RETURNING ALL NEW *", []),
    ("UPDATE users REMOVE n WHERE id = 'a' AND at = 1 RETURNING MODIFIED OLD *", []),
    ("DELETE FROM users WHERE id = 'a' AND at = ? RETURNING ALL OLD *", [{"N": "1"}]),
    ("DELETE FROM users WHERE id = 'a' AND at = 1 AND n = ?", [{"N": "1"}]),
]


def statement(text: str, parameters: list[Any], **more: Any) -> dict[str, Any]:
    return {"Statement": text} | ({"Parameters": parameters} if parameters else {}) | more


@pytest.mark.parametrize(("text", "parameters"), STATEMENTS)
def test_statements(text: str, parameters: list[Any]) -> None:
    more = {"ReturnConsumedCapacity": "TOTAL", "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    request = statement(text, parameters, **more)
    check(plan_write(fill(request), request, find))


@pytest.mark.parametrize(("text", "parameters"), STATEMENTS)
def test_statements_of_batches_and_transactions(text: str, parameters: list[Any]) -> None:
    [entry] = plan_batch([statement(text, parameters)], find)
    assert isinstance(entry.plan, Write)
    check(entry.plan)
    if "RETURNING" not in text:
        [write] = plan_transaction([statement(text, parameters)], find)
        assert isinstance(write, Write)
        check(write)


def test_a_check_of_a_statement() -> None:
    text = "EXISTS(SELECT * FROM users WHERE id = 'a' AND at = 1 AND n = ?)"
    other = "DELETE FROM users WHERE id = 'b' AND at = 1"
    written, _ = plan_transaction([statement(text, [{"N": "1"}]), statement(other, [])], find)
    assert isinstance(written, Write)
    check(written)


NUMBERS = st.integers(-(10**15), 10**15).map(lambda n: {"N": str(n)})
TEXTS = st.text(max_size=10).map(lambda text: {"S": text})
BINARIES = st.binary(max_size=10).map(lambda data: {"B": base64.b64encode(data).decode()})
SETS = st.sets(st.text(min_size=1, max_size=4), min_size=1, max_size=3).map(
    lambda texts: {"SS": sorted(texts)}
)
VALUES = st.recursive(
    NUMBERS | TEXTS | BINARIES | SETS,
    lambda inner: (
        st.lists(inner, max_size=2).map(lambda each: {"L": each})
        | st.dictionaries(st.text(min_size=1, max_size=4), inner, max_size=2).map(
            lambda each: {"M": each}
        )
    ),
    max_leaves=4,
)
ITEMS = st.dictionaries(st.sampled_from(["a", "b", "c", "list"]), VALUES, max_size=3).map(
    lambda attributes: {**attributes, **KEY}
)


@given(ITEMS, ITEMS)
def test_any_item_put(item: Any, old: Any) -> None:
    check(plan_put({**NAMED, "Item": item}, find), old)
    parameters = [{"M": item}]
    request = statement("INSERT INTO users VALUE ?", parameters)
    check(plan_write(fill(request), request, find), old)


@given(
    st.sampled_from(["SET a = :v", "SET #b.c = :v", "ADD a :v", "DELETE b :v", "SET a = a + :v",
                     "SET b = list_append(:v, b)", "SET c = if_not_exists(b, :v) REMOVE a"]),
    VALUES,
    ITEMS,
    st.sampled_from([None, "a = :v", "attribute_exists(b)", "size(a) > :v", "contains(b, :v)"]),
)  # fmt: skip
def test_any_update(expression: str, value: Any, old: Any, condition: str | None) -> None:
    body: dict[str, Any] = {
        **NAMED,
        "Key": KEY,
        "UpdateExpression": expression,
        "ExpressionAttributeValues": {":v": value},
    }
    if "#b" in expression:
        body["ExpressionAttributeNames"] = {"#b": "b"}
    if condition is not None:
        body["ConditionExpression"] = condition
    try:
        write = plan_update(body, find)
    except ApiError:
        return
    check(write, old)
