"""Operations on one item, asked of a node that does not own its shard: the owner executes them."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import orjson
import pytest

from streamtable.core.context import RequestContext
from streamtable.core.errors import (
    ConditionalCheckFailed,
    InternalServerError,
    ResourceNotFound,
    ValidationError,
)
from streamtable.core.tables import Table
from streamtable.operations.items import item_handlers
from streamtable.operations.passing import passed_on, request_calls
from streamtable.operations.reads import read_handlers
from streamtable.streams.peers.client import PeerLost
from streamtable.streams.routes import RoutedShard
from streamtable.streams.shards import Shards
from tests.streams.nodes import Nodes, find, key_on
from tests.streams.shards import TABLE

MINE, THEIRS = key_on(0, 2), key_on(1, 2)


class Catalog:
    """The one table. Stands where `Catalog` stands."""

    def table(self, name: str) -> Table:
        return find(name)


class Asked:
    """Node a, which owns shard 0, as a client asks it; shard 1 is b's."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self.handlers: dict[str, Any] = {}
        catalog: Any = Catalog()
        for node in nodes.nodes.values():
            shards = Shards(partial(RoutedShard, routes=node.routes), 2)
            local = {**item_handlers(catalog, shards), **read_handlers(catalog, shards)}
            node.calls |= request_calls(local, catalog, shards)
            if node.address == "a":
                self.handlers = {**local, **passed_on(local, catalog, shards, node.routes)}

    async def __call__(self, operation: str, **body: Any) -> Any:
        self.context = RequestContext("request", "ada", "127.0.0.1")
        self.nodes.asked.clear()
        answer = await self.handlers[operation]({"TableName": TABLE.name, **body}, self.context)
        return orjson.loads(answer)

    @property
    def passed(self) -> list[str]:
        """What was asked of the other node."""
        return [method for _, method in self.nodes.asked]


@pytest.fixture
async def ask(tmp_path: Path) -> AsyncIterator[Asked]:
    nodes = Nodes(tmp_path, 2, "a", "b")
    await nodes.nodes["a"].take(0)
    await nodes.nodes["b"].take(1)
    yield Asked(nodes)
    await nodes.stop()


def key(name: str) -> dict[str, Any]:
    return {"id": {"S": name}}


async def test_what_is_here_is_done_here(ask: Asked) -> None:
    await ask("PutItem", Item=key(MINE))
    assert ask.passed == []
    assert await ask("GetItem", Key=key(MINE)) == {"Item": key(MINE)}
    assert ask.passed == []


async def test_each_operation_on_one_item_is_passed_on_whole(ask: Asked) -> None:
    item = {**key(THEIRS), "n": {"N": "1"}}
    assert await ask("PutItem", Item=item) == {}
    assert ask.passed == ["PutItem"]
    assert ask.context.written == {1: 1}
    assert await ask("GetItem", Key=key(THEIRS), ConsistentRead=True) == {"Item": item}
    assert ask.passed == ["get"]
    added = await ask(
        "UpdateItem",
        Key=key(THEIRS),
        UpdateExpression="ADD n :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
        ReturnValues="UPDATED_NEW",
    )
    assert added == {"Attributes": {"n": {"N": "2"}}}
    assert ask.passed == ["UpdateItem"]
    found = await ask(
        "Query",
        KeyConditionExpression="id = :id",
        ExpressionAttributeValues={":id": {"S": THEIRS}},
        ReturnConsumedCapacity="TOTAL",
    )
    assert found["Items"] == [{**item, "n": {"N": "2"}}]
    assert found["ConsumedCapacity"]["CapacityUnits"] == 0.5
    assert ask.passed == ["Query"]
    gone = await ask("DeleteItem", Key=key(THEIRS), ReturnValues="ALL_OLD")
    assert gone == {"Attributes": {**item, "n": {"N": "2"}}}
    assert ask.passed == ["DeleteItem"]
    assert await ask("GetItem", Key=key(THEIRS)) == {}


async def test_a_get_that_wants_more_than_the_item_is_passed_on_whole(ask: Asked) -> None:
    await ask("PutItem", Item={**key(THEIRS), "n": {"N": "1"}})
    projected = await ask("GetItem", Key=key(THEIRS), ProjectionExpression="n")
    assert projected == {"Item": {"n": {"N": "1"}}}
    assert ask.passed == ["GetItem"]
    counted = await ask("GetItem", Key=key(THEIRS), ReturnConsumedCapacity="TOTAL")
    assert counted["ConsumedCapacity"]["CapacityUnits"] == 0.5
    assert ask.passed == ["GetItem"]
    plain = await ask("GetItem", Key=key(THEIRS), ReturnConsumedCapacity="NONE")
    assert plain == {"Item": {**key(THEIRS), "n": {"N": "1"}}}
    assert ask.passed == ["get"]


async def test_the_owner_s_errors_are_the_client_s(ask: Asked) -> None:
    await ask("PutItem", Item=key(THEIRS))
    with pytest.raises(ConditionalCheckFailed) as caught:
        await ask(
            "PutItem",
            Item=key(THEIRS),
            ConditionExpression="attribute_not_exists(id)",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    assert caught.value.members == {"Item": key(THEIRS)}
    with pytest.raises(ValidationError, match="ReturnValues can only be"):
        await ask("PutItem", Item=key(THEIRS), ReturnValues="UPDATED_NEW")
    assert ask.passed == ["PutItem"]


@pytest.mark.parametrize(
    ("operation", "body", "error"),
    [
        ("PutItem", {"Item": {"n": {"N": "1"}}}, ValidationError),
        ("GetItem", {"Key": {"id": {"N": "1"}}}, ValidationError),
        ("GetItem", {"Key": key(THEIRS), "TableName": "nothing"}, ResourceNotFound),
        ("Query", {"KeyConditionExpression": "id = :id"}, ValidationError),
    ],
)
async def test_what_has_no_shard_is_refused_here(
    ask: Asked, operation: str, body: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await ask(operation, **body)
    assert ask.passed == []


async def test_a_write_that_may_be_done_is_not_done_again(ask: Asked) -> None:
    ask.nodes.lost["b"] = [PeerLost("gone", asked=True)]
    with pytest.raises(InternalServerError, match="not known"):
        await ask("PutItem", Item=key(THEIRS))
    assert ask.passed == ["PutItem"]
    ask.nodes.lost["b"] = [PeerLost("gone", asked=True), PeerLost("gone", asked=False)]
    assert await ask("GetItem", Key=key(THEIRS)) == {}
    assert ask.passed == ["get"] * 3


async def test_a_write_whose_commit_is_not_in_the_log_is_passed_on_again(ask: Asked) -> None:
    ask.nodes.logs[1].lose = 1
    assert await ask("PutItem", Item=key(THEIRS)) == {}
    assert ask.passed == ["PutItem"] * 2
    assert await ask("GetItem", Key=key(THEIRS)) == {"Item": key(THEIRS)}


async def test_a_write_that_changes_nothing_is_in_no_commit(ask: Asked) -> None:
    for _ in range(2):
        assert await ask("PutItem", Item=key(THEIRS)) == {}
    assert ask.context.written == {}


async def test_a_shard_that_came_meanwhile_is_served_here(ask: Asked) -> None:
    ask.nodes.lost["b"] = [PeerLost("gone", asked=False)] * 2
    call = ask.nodes.call

    async def take_then_call(*arguments: Any, **how: Any) -> Any:
        if 1 not in ask.nodes.nodes["a"].held:
            await ask.nodes.nodes["a"].take(1)
        return await call(*arguments, **how)

    ask.nodes.call = take_then_call  # type: ignore[method-assign]
    await ask("PutItem", Item=key(THEIRS))
    assert ask.passed == ["PutItem"]
    assert await ask("GetItem", Key=key(THEIRS)) == {"Item": key(THEIRS)}
    assert ask.passed == []


async def test_a_fresh_replica_answers_what_need_not_be_consistent(ask: Asked) -> None:
    await ask("PutItem", Item=key(THEIRS))
    replica = SimpleNamespace(get=lambda _row_key: None)
    ask.nodes.nodes["a"].routes.replica = lambda _number: replica  # type: ignore[assignment,return-value]
    assert await ask("GetItem", Key=key(THEIRS)) == {}
    assert ask.passed == []
    assert await ask("GetItem", Key=key(THEIRS), ConsistentRead=True) == {"Item": key(THEIRS)}
    assert ask.passed == ["get"]
    await ask("PutItem", Item=key(THEIRS))
    assert ask.passed == ["PutItem"]


@pytest.mark.parametrize(
    ("operation", "inside", "body"),
    [
        ("PutItem", "begin", {"Item": key(THEIRS)}),
        ("GetItem", "at_hand", {"Key": key(THEIRS), "ConsistentRead": True}),
        (
            "Query",
            "scan",
            {
                "KeyConditionExpression": "id = :id",
                "ExpressionAttributeValues": {":id": {"S": THEIRS}},
            },
        ),
    ],
)
async def test_what_nobody_foresaw_is_logged_by_the_owner_with_the_request_s_id(
    ask: Asked,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    operation: str,
    inside: str,
    body: dict[str, Any],
) -> None:
    broken = Mock(side_effect=RuntimeError("no such thing"))
    monkeypatch.setattr(ask.nodes.nodes["b"].held[1], inside, broken)
    with pytest.raises(InternalServerError, match="The node that has the shard failed"):
        await ask(operation, **body)
    [told] = [each for each in caplog.records if each.levelname == "ERROR"]
    assert told.getMessage() == f"{operation} request for another node failed"
    assert (vars(told)["request_id"], vars(told)["operation"]) == ("request", operation)
    assert told.exc_info is not None
    assert told.exc_info[1] is broken.side_effect
