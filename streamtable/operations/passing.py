"""Operations on one item or one partition, passed on whole to the node that owns its shard.

The node that was asked only finds the shard; the owner plans and executes, and its answer goes out
as it comes. What can't be found quickly, or needs more than one shard, is asked for part by part.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from streamtable.core.context import Handler, RequestContext
from streamtable.core.errors import ApiError
from streamtable.core.operations.get import plan_get
from streamtable.core.operations.query import plan_query
from streamtable.core.tables import Table
from streamtable.operations.items import answer_get, answer_plainly, is_plain
from streamtable.operations.lookup import item_lookup
from streamtable.operations.reads import answer_query
from streamtable.streams.catalog import Catalog
from streamtable.streams.peers.calls import ShardCall
from streamtable.streams.peers.frames import Packed
from streamtable.streams.peers.messages import context_from_json, context_to_json
from streamtable.streams.routes import Routes
from streamtable.streams.shard import Shard
from streamtable.streams.shards import Shards

__all__ = ["passed_on", "request_calls"]

# What a GetItem that asks for nothing but the item is passed on as: the row's key says it all.
_PLAIN: Final = "get"
_PASSED_ON: Final = ("GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query")

_Find: TypeAlias = Callable[[dict[str, Any]], int]
"""Returns the partition hash of a request's item; raises ApiError or KeyError where it has none."""

_Send: TypeAlias = Callable[[int, str, Any], Awaitable[Packed]]


def request_calls(handlers: Mapping[str, Handler]) -> dict[str, ShardCall]:
    """Return what other nodes can ask of a shard: to execute an operation on an item that it has.

    Args:
        handlers: the operations' executors, which pass nothing on.
    """
    return {
        **{operation: _request_call(handlers[operation]) for operation in _PASSED_ON},
        _PLAIN: _get_plainly,
    }


def _get_plainly(shard: Shard, arguments: Any) -> Awaitable[Packed]:
    row_key, consistent = arguments
    near = shard.at_hand(consistent=consistent)
    if near is None:
        return _read_plainly(shard, row_key, consistent=consistent)
    return Packed(None, answer_plainly(near.get(bytes.fromhex(row_key))))


async def _read_plainly(shard: Shard, row_key: str, *, consistent: bool) -> Packed:
    image = await shard.read(bytes.fromhex(row_key), consistent=consistent)
    return Packed(None, answer_plainly(image))


def _request_call(handle: Handler) -> ShardCall:
    # Planned at once, as where a client asks; the body is let go of while a write waits.
    def execute(_shard: Shard, arguments: Any) -> Awaitable[Packed]:
        body, found = arguments
        context = context_from_json(found)
        return _packed(handle(body, context), context)

    return execute


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

    def elsewhere(number: int, body: dict[str, Any]) -> bool:
        """Whether another node is to be asked."""
        return routes.own(number) is None and (
            body.get("ConsistentRead", False) or routes.replica(number) is None
        )

    async def send(
        ask: _Send, number: int, operation: str, body: dict[str, Any], context: RequestContext
    ) -> bytes:
        written, answer = await ask(number, operation, [body, context_to_json(context)])
        context.written.update(written)
        return answer

    async def content(asked: Awaitable[Packed]) -> bytes:
        return (await asked).content

    def keyed(operation: str, ask: _Send, hash_of: _Find) -> Handler:
        handle = handlers[operation]

        def execute(body: dict[str, Any], context: RequestContext) -> Awaitable[Any]:
            try:
                number = hash_of(body) % shards.count
            except (ApiError, KeyError):
                return handle(body, context)
            if not elsewhere(number, body):
                return handle(body, context)
            return send(ask, number, operation, body, context)

        return execute

    def get(body: dict[str, Any], context: RequestContext) -> Awaitable[bytes]:
        planned = plan_get(body, find)
        number = planned[1] % shards.count
        if not elsewhere(number, body):
            return answer_get(planned, body, shards)
        if is_plain(planned, body):
            asked = [planned[2].hex(), body.get("ConsistentRead", False)]
            return content(routes.ask(number, _PLAIN, asked))
        return send(routes.ask, number, "GetItem", body, context)

    async def query(body: dict[str, Any], context: RequestContext) -> bytes:
        planned = plan_query(body, find)
        number = planned[1] % shards.count
        if elsewhere(number, body):
            return await send(routes.ask, number, "Query", body, context)
        return await answer_query(planned, shards)

    def by_key(body: dict[str, Any]) -> int:
        return find(body["TableName"]).locate_key(body["Key"])[1]

    def by_item(body: dict[str, Any]) -> int:
        table: Table = find(body["TableName"])
        item = body["Item"]
        return table.locate_key({name: item[name] for name in table.key_names})[1]

    return {
        "GetItem": get,
        "PutItem": keyed("PutItem", routes.change, by_item),
        "UpdateItem": keyed("UpdateItem", routes.change, by_key),
        "DeleteItem": keyed("DeleteItem", routes.change, by_key),
        "Query": query,
    }
