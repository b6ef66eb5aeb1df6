"""Operations on one item or one partition, passed on whole to the node that owns its shard.

The node that was asked only finds the shard; the owner plans and executes, and its answer goes out
as it comes. What can't be found quickly, or needs more than one shard, is asked for part by part.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

from streamtable.core.context import Handler, RequestContext
from streamtable.core.errors import ApiError, StreamtableError
from streamtable.core.operations.get import plan_get
from streamtable.core.operations.query import plan_query
from streamtable.core.operations.write_answers import answer_write
from streamtable.core.operations.writes import Write
from streamtable.operations.items import (
    WRITE_PLANS,
    PlanWrite,
    answer_get,
    answer_plainly,
    carry_out,
    is_plain,
)
from streamtable.operations.lookup import item_lookup, write_lookup
from streamtable.operations.reads import answer_query
from streamtable.streams.catalog import Catalog
from streamtable.streams.commit import NotWritten
from streamtable.streams.owner import Moved
from streamtable.streams.peers.calls import ShardCall
from streamtable.streams.peers.failures import failed, of_request
from streamtable.streams.peers.frames import Packed
from streamtable.streams.peers.messages import context_from_json, context_to_json
from streamtable.streams.routes import Routes
from streamtable.streams.shard import Joined, Shard
from streamtable.streams.shards import Shards

__all__ = ["passed_on", "request_calls"]

# What a GetItem that asks for nothing but the item is passed on as: the row's key says it all.
_PLAIN: Final = "get"
_READS: Final = ("GetItem", "Query")

_Send: TypeAlias = Callable[[int, str, Any], Awaitable[Packed]]
_Execute: TypeAlias = Callable[[dict[str, Any], RequestContext], Awaitable[Packed]]


def request_calls(
    handlers: Mapping[str, Handler], catalog: Catalog, shards: Shards
) -> dict[str, ShardCall]:
    """Return what other nodes can ask of a shard: to execute an operation on an item that it has.

    Args:
        handlers: the operations' executors, which pass nothing on.
        catalog: the region's tables.
        shards: all shards.
    """
    find_written = write_lookup(catalog)
    loop = asyncio.get_running_loop()

    # Planned at once, as where a client asks; the body is let go of while a write waits.
    def reading(operation: str, handle: Handler) -> ShardCall:
        def execute(body: dict[str, Any], context: RequestContext) -> Awaitable[Packed]:
            return of_request(
                operation, context.request_id, _packed(handle(body, context), context)
            )

        return _named(operation, execute)

    def writing(operation: str, plan: PlanWrite) -> ShardCall:
        def execute(body: dict[str, Any], context: RequestContext) -> Awaitable[Packed]:
            write = plan(body, find_written)
            # By this node's catalog, in which the table may be another one than in the other's.
            shard = shards.of(write.hash)
            begun = None if write.collects else shard.begin(write, context)
            if begun is None:
                carried_out = _packed(carry_out(write, context, shards), context)
                return of_request(operation, context.request_id, carried_out)
            if begun.commit is None:
                return Packed([], answer_write(write, begun.old, begun.new))
            answer: asyncio.Future[Packed] = loop.create_future()
            begun.commit.when_settled(partial(_settle, answer, write, shard.number, begun))
            return answer

        return _named(operation, execute)

    return {
        **{operation: reading(operation, handlers[operation]) for operation in _READS},
        **{operation: writing(operation, plan) for operation, plan in WRITE_PLANS.items()},
        _PLAIN: _get_plainly,
    }


def _settle(
    answer: asyncio.Future[Packed],
    write: Write,
    number: int,
    begun: Joined,
    outcome: int | StreamtableError,
) -> None:
    """Answer a write when it is known what became of its commit: no task has to wait for that."""
    if answer.done():
        return
    if isinstance(outcome, int):
        content = answer_write(write, begun.old, begun.new)
        answer.set_result(Packed([(number, outcome)], content))
    elif isinstance(outcome, NotWritten):
        answer.set_exception(Moved(f"Shard {number} has not taken the write. Try again."))
    else:
        answer.set_exception(outcome)


def _named(operation: str, execute: _Execute) -> ShardCall:
    """Have what fails of an operation logged with the id of its request."""

    def call(_shard: Shard, arguments: Any) -> Awaitable[Packed]:
        body, found = arguments
        context = context_from_json(found)
        try:
            return execute(body, context)
        except ApiError:
            raise
        except Exception as error:
            raise failed(operation, context.request_id, error) from error

    return call


def _get_plainly(shard: Shard, arguments: Any) -> Awaitable[Packed]:
    row_key, consistent, request_id = arguments
    try:
        near = shard.at_hand(consistent=consistent)
        if near is not None:
            return Packed(None, answer_plainly(near.get(bytes.fromhex(row_key))))
    except ApiError:
        raise
    except Exception as error:
        raise failed("GetItem", request_id, error) from error
    reading = _read_plainly(shard, row_key, consistent=consistent)
    return of_request("GetItem", request_id, reading)


async def _read_plainly(shard: Shard, row_key: str, *, consistent: bool) -> Packed:
    image = await shard.read(bytes.fromhex(row_key), consistent=consistent)
    return Packed(None, answer_plainly(image))


async def _packed(begun: Awaitable[Any], context: RequestContext) -> Packed:
    answer = await begun
    assert isinstance(answer, bytes)
    return Packed(list(context.written.items()), answer)


def passed_on(
    handlers: Mapping[str, Handler], catalog: Catalog, shards: Shards, routes: Routes
) -> dict[str, Handler]:
    """Return executors that pass on what is for another node's shard.

    Args:
        handlers: the operations' executors, for what is this node's, and where there is doubt.
        catalog: the region's tables.
        shards: all shards.
        routes: the way to their owners.
    """
    find = item_lookup(catalog)

    async def send(
        ask: _Send, number: int, operation: str, body: dict[str, Any], context: RequestContext
    ) -> bytes:
        written, answer = await ask(number, operation, [body, context_to_json(context)])
        context.written.update(written)
        return answer

    async def content(asked: Awaitable[Packed]) -> bytes:
        return (await asked).content

    def writing(operation: str, keyed: str) -> Handler:
        handle = handlers[operation]

        def execute(body: dict[str, Any], context: RequestContext) -> Awaitable[Any]:
            try:
                number = find(body["TableName"]).hash_of(body[keyed]) % shards.count
            except (ApiError, KeyError):
                return handle(body, context)
            if routes.own(number) is not None:
                return handle(body, context)
            return send(routes.change, number, operation, body, context)

        return execute

    def get(body: dict[str, Any], context: RequestContext) -> Awaitable[bytes]:
        planned = plan_get(body, find)
        number = planned[1] % shards.count
        if not elsewhere(number, body):
            return answer_get(planned, body, shards)
        if is_plain(planned, body):
            consistent = body.get("ConsistentRead", False)
            asked = [planned[2].hex(), consistent, context.request_id]
            return content(routes.ask(number, _PLAIN, asked))
        return send(routes.ask, number, "GetItem", body, context)

    async def query(body: dict[str, Any], context: RequestContext) -> bytes:
        planned = plan_query(body, find)
        number = planned[1] % shards.count
        if elsewhere(number, body):
            return await send(routes.ask, number, "Query", body, context)
        return await answer_query(planned, shards)

    def elsewhere(number: int, body: dict[str, Any]) -> bool:
        """Whether another node is to be asked for a read."""
        return routes.own(number) is None and (
            body.get("ConsistentRead", False) or routes.replica(number) is None
        )

    return {
        "GetItem": get,
        "PutItem": writing("PutItem", "Item"),
        "UpdateItem": writing("UpdateItem", "Key"),
        "DeleteItem": writing("DeleteItem", "Key"),
        "Query": query,
    }
