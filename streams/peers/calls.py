"""What a node does on its shards when another node asks, and how the other one asks."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeAlias

from streamtable.core.errors import ValidationError
from streamtable.core.images import Image
from streamtable.core.limits import PAGE_BYTES
from streamtable.core.operations.writes import Write
from streamtable.core.tables import Table
from streamtable.core.write_sources import plan_again
from streamtable.streams.peers.failures import of_request
from streamtable.streams.peers.messages import (
    context_from_json,
    image_to_json,
    outcome_to_json,
)
from streamtable.streams.shard import Shard

__all__ = ["ShardCall", "replan", "shard_calls"]

ShardCall: TypeAlias = Callable[[Shard, Any], Awaitable[Any]]
"""Carries a call out on a shard that this node owns: from its arguments to its answer, as `Call`.

Raises ApiError; Moved where the shard goes meanwhile.
"""

_CHUNK_BYTES: Final = PAGE_BYTES


def replan(found: Any, find: Callable[[str], Table]) -> Write:
    """Plan a write of another node.

    Args:
        found: id of its table, its kind, and its request, as `RemoteShard` sends them.
        find: returns the table of a name, or raises ResourceNotFound.

    Raises:
        ValidationError: the table is another one now, or has changed so that it does not fit.
    """
    table_id, kind, request = found
    write = plan_again((kind, request), find)
    if write.table.id != table_id:
        raise ValidationError(f"The table {write.table.name} was made anew. Try again.")
    return write


def shard_calls(
    find: Callable[[str], Table], by_id: Callable[[str], Table | None]
) -> dict[str, ShardCall]:
    """Return what can be asked of a shard, by name: writes of items, and reads.

    Args:
        find: returns the table of a name for a write, or raises ResourceNotFound.
        by_id: returns the table of an id, None if there is none.
    """

    async def write(shard: Shard, arguments: Any) -> Any:
        source, found = arguments
        context = context_from_json(found)
        writing = shard.write(replan(source, find), context)
        return outcome_to_json(await of_request("write", context.request_id, writing))

    async def write_many(shard: Shard, arguments: Any) -> Any:
        sources, found = arguments
        context = context_from_json(found)
        writing = shard.write_many([replan(source, find) for source in sources], context)
        outcomes = await of_request("write_many", context.request_id, writing)
        return [outcome_to_json(outcome) for outcome in outcomes]

    async def read(shard: Shard, arguments: Any) -> Any:
        row_keys, consistent = arguments
        images = await shard.read_many(
            [bytes.fromhex(row_key) for row_key in row_keys], consistent=consistent
        )
        return [image_to_json(image) for image in images]

    async def look(shard: Shard, arguments: Any) -> Any:
        found = await shard.look([bytes.fromhex(row_key) for row_key in arguments])
        images = [image_to_json(image) for image in found.images]
        return [found.epoch, found.removals, found.locked, images]

    async def rows(shard: Shard, arguments: Any) -> Any:
        start, end, reverse, consistent, limit, fetched = arguments
        await shard.ready(consistent=consistent)
        scanned = shard.scan(bytes.fromhex(start), bytes.fromhex(end), reverse=reverse)
        if fetched is None:
            return _chunk(((key, [image]) for key, image in scanned), limit)
        table = by_id(fetched)
        if table is None:
            return _chunk((), limit)
        items = shard.fetch(table, scanned)
        return _chunk(((key, [image, whole]) for key, image, whole in items), limit)

    async def end(shard: Shard, _arguments: Any) -> int:
        await shard.ready(consistent=False)
        return shard.owner.last

    async def measure(shard: Shard, arguments: Any) -> int:
        return shard.state.collection_bytes(bytes.fromhex(arguments))

    return {
        "write": write,
        "write_many": write_many,
        "read": read,
        "look": look,
        "rows": rows,
        "measure": measure,
        "end": end,
    }


def _chunk(rows: Iterable[tuple[bytes, list[Image]]], limit: int | None) -> Any:
    """Return rows as JSON, as many as go into a page, and whether more follow."""
    chunk: list[Any] = []
    size_bytes = 0
    for key, images in rows:
        if size_bytes >= _CHUNK_BYTES or (limit is not None and len(chunk) >= limit):
            return [chunk, True]
        chunk.append([key.hex(), *map(image_to_json, images)])
        size_bytes += sum(image.size_bytes for image in images)
    return [chunk, False]
