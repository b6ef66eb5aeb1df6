"""A shard of another node, asked over the network."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from streamtable.core.context import RequestContext
from streamtable.core.errors import ApiError, InternalServerError
from streamtable.core.images import Image
from streamtable.core.item_collections import collection_key
from streamtable.core.operations.writes import Write
from streamtable.core.tables import Table
from streamtable.streams.owner import Moved
from streamtable.streams.peers.client import PeerLost
from streamtable.streams.peers.messages import (
    context_to_json,
    image_from_json,
    outcome_from_json,
)
from streamtable.streams.shard import Look, Outcome

__all__ = ["Ask", "Range", "RemoteShard", "maybe_changed", "nothing_changed", "write_to_json"]

logger = logging.getLogger(__name__)

Ask: TypeAlias = Callable[[str, Any], Awaitable[Any]]
"""Asks the shard's node: the name of a call, and its arguments. Raises PeerLost and ApiError."""

_UNKNOWN: Final = "The outcome of the write is not known. Read the item, try again."


def write_to_json(write: Write) -> Any:
    """Return a write as `replan` reads it."""
    return [write.table.id, *write.source]


def nothing_changed(_number: int, error: PeerLost) -> ApiError:
    """What a lost answer means for something that changes nothing: ask again, Moved says."""
    return Moved(str(error))


def maybe_changed(number: int, error: PeerLost) -> ApiError:
    """What a lost answer means for something that may not be done twice.

    Args:
        number: the shard's number.
        error: what came in place of the answer.

    Returns:
        Moved where it was not done, InternalServerError where it may have been.
    """
    if not error.asked:
        return Moved(str(error))
    logger.warning("shard %d: a write has no answer: %s", number, error)
    return InternalServerError(_UNKNOWN)


class Range(NamedTuple):
    """Rows that are wanted: `start <= key < end`; see `Shard.chunks`."""

    start: bytes
    end: bytes
    reverse: bool
    consistent: bool
    limit: int | None

    def after(self, last: bytes, count: int) -> "Range":
        """What is left of it when `count` rows were read, `last` as the last one."""
        limit = None if self.limit is None else max(1, self.limit - count)
        if self.reverse:
            return self._replace(end=last, limit=limit)
        # No row key begins with another one, so this is the smallest key after it.
        return self._replace(start=last + b"\x00", limit=limit)


class RemoteShard:
    """Asks the node that owns a shard. What is said of `Shard`'s methods holds for these.

    They raise Moved where that node does not own it (any more), or does not answer and has done
    nothing: ask again, maybe another node.

    Args:
        number: the shard's number.
        ask: asks its node.
    """

    def __init__(self, number: int, ask: Ask) -> None:
        self.number = number
        self._ask = ask

    async def write(self, write: Write, context: RequestContext) -> Outcome:
        """Carry out one write; when this returns it is durable."""
        arguments = [write_to_json(write), context_to_json(context)]
        return outcome_from_json(await self.change("write", arguments))

    async def write_many(self, writes: Sequence[Write], context: RequestContext) -> list[Outcome]:
        """Carry out unconditional writes of different items, in as few commits as possible."""
        arguments = [[write_to_json(write) for write in writes], context_to_json(context)]
        return [outcome_from_json(each) for each in await self.change("write_many", arguments)]

    async def read(self, row_key: bytes, *, consistent: bool) -> Image | None:
        """Return a row's durable image."""
        return (await self.read_many([row_key], consistent=consistent))[0]

    async def read_many(self, row_keys: Sequence[bytes], *, consistent: bool) -> list[Image | None]:
        """Return the durable images of rows."""
        found = await self.query("read", [[row_key.hex() for row_key in row_keys], consistent])
        return [image_from_json(each) for each in found]

    async def look(self, row_keys: Sequence[bytes]) -> Look:
        """Look at rows of which a transaction wants to know whether they change meanwhile."""
        epoch, removals, locked, images = await self.query(
            "look", [row_key.hex() for row_key in row_keys]
        )
        return Look(epoch, removals, locked, [image_from_json(each) for each in images])

    async def rows(
        self, wanted: Range, fetched: Table | None
    ) -> tuple[list[tuple[bytes, list[Image]]], bool]:
        """Return the first rows of a range, up to a page, and whether more of it follow.

        Args:
            wanted: the range.
            fetched: the table whose items are wanted beside the rows of a local index; or None.
        """
        found, more = await self.query(
            "rows",
            [
                wanted.start.hex(),
                wanted.end.hex(),
                wanted.reverse,
                wanted.consistent,
                wanted.limit,
                None if fetched is None else fetched.id,
            ],
        )
        return [
            (bytes.fromhex(key), [_image(each) for each in images]) for key, *images in found
        ], more

    async def measure_collection(self, write: Write) -> int:
        """Size of the item collection of a write's item, as far as it is materialized."""
        size_bytes: int = await self.query("measure", collection_key(write.table, write.key).hex())
        return size_bytes

    async def query(self, method: str, arguments: Any) -> Any:
        """Ask for something that changes nothing.

        Raises:
            ApiError: what the other node raised.
            Moved: ask again.
        """
        try:
            return await self._ask(method, arguments)
        except PeerLost as error:
            raise nothing_changed(self.number, error) from error

    async def change(self, method: str, arguments: Any) -> Any:
        """Ask for something that may not be done twice.

        Raises:
            ApiError: what the other node raised.
            InternalServerError: it may have been done.
            Moved: it was not done: ask again.
        """
        try:
            return await self._ask(method, arguments)
        except PeerLost as error:
            raise maybe_changed(self.number, error) from error


def _image(found: Any) -> Image:
    image = image_from_json(found)
    assert image is not None
    return image
