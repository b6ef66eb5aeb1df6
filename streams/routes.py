"""The way to each shard: to its owner, here or on another node, also while it moves."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from streamtable.core.context import RequestContext
from streamtable.core.errors import ApiError, ServiceUnavailable
from streamtable.core.images import Image
from streamtable.core.operations.writes import Write
from streamtable.core.tables import Table
from streamtable.streams.begun import Begun
from streamtable.streams.held import HeldShards
from streamtable.streams.owner import WAIT_S, Moved
from streamtable.streams.peers.calls import ShardCall
from streamtable.streams.peers.client import PeerClient, PeerLost
from streamtable.streams.peers.remote import (
    Range,
    RemoteShard,
    maybe_changed,
    nothing_changed,
)
from streamtable.streams.placement import Placement
from streamtable.streams.shard import Chunk, FetchedChunk, Joined, Look, Outcome, Shard

__all__ = ["AskShard", "RoutedShard", "Routes"]

_RETRY_S: Final = 0.05

ResultT = TypeVar("ResultT")

AskShard: TypeAlias = Callable[[int, str, Any], Awaitable[Any]]
"""Asks a shard's owner: its number, what is asked, and its arguments; see `Routes.ask`."""


class Routes:
    """Finds the owners of the shards, and asks them.

    Args:
        held: the shards that this node has.
        placement: says which node owns which shard.
        client: asks other nodes.
        calls: what can be asked of a shard, by name.
        catalog: how far this node has read the catalog; who is asked reads as far before.

    Attributes:
        replica: returns this node's replica of another node's shard, None where it has none that
            is fresh.
    """

    def __init__(
        self,
        held: HeldShards,
        placement: Placement,
        client: PeerClient,
        calls: Mapping[str, ShardCall],
        catalog: Callable[[], int],
    ) -> None:
        self._held = held
        self._placement = placement
        self._client = client
        self._calls = calls
        self._catalog = catalog
        self.replica: Callable[[int], Shard | None] = _no_replica
        self._remote: dict[int, RemoteShard] = {}

    def own(self, number: int) -> Shard | None:
        """The shard, if this node owns it; it may not serve yet."""
        shard = self._held.find(number)
        return shard if shard is not None and shard.owner.wanted else None

    async def reach(
        self, number: int, act: Callable[[Shard | RemoteShard], Awaitable[ResultT]]
    ) -> ResultT:
        """Act on a shard where its owner is; again where it has moved meanwhile.

        Args:
            number: the shard.
            act: raises Moved where nothing was done.

        Raises:
            ServiceUnavailable: nobody owned it within the time limit.
        """
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                return await act(self.own(number) or self._elsewhere(number))
            except Moved as error:
                await self._until_changed(number, deadline, error)

    def ask(self, number: int, method: str, arguments: Any) -> Coroutine[Any, Any, Any]:
        """Have a shard's owner carry out something that may be done twice; return its answer.

        Raises:
            ApiError: what it raised.
            ServiceUnavailable: nobody owned it within the time limit.
        """
        return self._call(number, method, arguments, nothing_changed)

    def change(self, number: int, method: str, arguments: Any) -> Coroutine[Any, Any, Any]:
        """As `ask`, for something that may not be done twice.

        Raises:
            InternalServerError: it may have been done.
        """
        return self._call(number, method, arguments, maybe_changed)

    async def _call(
        self,
        number: int,
        method: str,
        arguments: Any,
        lost: Callable[[int, PeerLost], ApiError],
    ) -> Any:
        # As `reach`, in one coroutine: half of all requests come this way where there are two
        # processes.
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                shard = self.own(number)
                if shard is not None:
                    return await self._calls[method](shard, arguments)
                return await self._ask_owner(number, method, arguments)
            except Moved as error:
                moved = error
            except PeerLost as error:
                told = lost(number, error)
                if not isinstance(told, Moved):
                    raise told from error
                moved = told
            await self._until_changed(number, deadline, moved)

    async def _until_changed(self, number: int, deadline: float, moved: Moved) -> None:
        """Wait until a shard may be found where it was not, or not as it was.

        Raises:
            ServiceUnavailable: the deadline (monotonic clock) has passed.
        """
        if time.monotonic() > deadline:
            raise ServiceUnavailable(
                f"Shard {number} is not served right now. Try again."
            ) from moved
        await self._placement.changed(deadline, _RETRY_S)

    def _elsewhere(self, number: int) -> RemoteShard:
        remote = self._remote.get(number)
        if remote is None:
            ask = partial(self._ask_owner, number)
            remote = self._remote[number] = RemoteShard(number, ask)
        return remote

    def _ask_owner(self, number: int, method: str, arguments: Any) -> Awaitable[Any]:
        address = self._placement.owner(number)
        if address is None or address == self._placement.own:
            raise Moved(f"Shard {number} is on its way to a node. Try again.")
        sent = [number, arguments]
        # Which item is whose hangs on it; nodes that do not know of it have a fixed number.
        if self._held.layout.generation:
            sent.append(self._held.layout.generation)
        return self._client.call(address, method, sent, catalog=self._catalog())


def _no_replica(_number: int) -> Shard | None:
    return None


class RoutedShard:
    """A shard in a region of several nodes. What is said of `Shard`'s methods holds for these.

    Args:
        number: the shard's number.
        routes: find its owner.
    """

    def __init__(self, number: int, routes: Routes) -> None:
        self.number = number
        self._routes = routes

    def at_hand(self, *, consistent: bool) -> Shard | None:
        """The shard or a replica of it, if images may be read there without waiting."""
        own = self._routes.own(self.number)
        if own is not None:
            return own.at_hand(consistent=consistent)
        return None if consistent else self._routes.replica(self.number)

    def begin(self, write: Write, context: RequestContext) -> Joined | None:
        """Have one write join a commit, if it can here and at once."""
        own = self._routes.own(self.number)
        return None if own is None else own.begin(write, context)

    def write(self, write: Write, context: RequestContext) -> Coroutine[Any, Any, Outcome]:
        """Carry out one write; when this returns it is durable."""
        return self._routes.reach(self.number, lambda shard: shard.write(write, context))

    def write_many(
        self, writes: Sequence[Write], context: RequestContext
    ) -> Awaitable[list[Outcome]]:
        """Carry out unconditional writes of different items, in as few commits as possible."""
        anywhere = partial(
            self._routes.reach, self.number, lambda shard: shard.write_many(writes, context)
        )
        own = self._routes.own(self.number)
        if own is None:
            return asyncio.ensure_future(anywhere())
        begun = own.write_many(writes, context)

        async def written() -> list[Outcome]:
            with suppress(Moved):
                return await begun
            return await anywhere()

        return Begun(written)

    async def read(self, row_key: bytes, *, consistent: bool) -> Image | None:
        """Return a row's durable image; without `consistent` a replica's, if one is here."""
        replica = None if consistent else self._routes.replica(self.number)
        if replica is not None:
            return replica.get(row_key)
        return await self._routes.reach(
            self.number, lambda shard: shard.read(row_key, consistent=consistent)
        )

    async def read_many(self, row_keys: Sequence[bytes], *, consistent: bool) -> list[Image | None]:
        """Return the durable images of rows; without `consistent` a replica's, if one is here."""
        replica = None if consistent else self._routes.replica(self.number)
        if replica is not None:
            return [replica.get(row_key) for row_key in row_keys]
        return await self._routes.reach(
            self.number, lambda shard: shard.read_many(row_keys, consistent=consistent)
        )

    async def look(self, row_keys: Sequence[bytes]) -> Look:
        """Look at rows of which a transaction wants to know whether they change meanwhile."""
        return await self._routes.reach(self.number, lambda shard: shard.look(row_keys))

    async def chunks(
        self,
        start: bytes,
        end: bytes,
        *,
        reverse: bool = False,
        consistent: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[Chunk]:
        """Yield durable rows in order, in parts; from another node a page at a time."""

        async def read(shard: Shard | RemoteShard) -> tuple[Chunk, Range | None]:
            if isinstance(shard, Shard):
                await shard.ready(consistent=consistent)
                scanned = shard.scan(wanted.start, wanted.end, reverse=reverse)
                return Chunk(scanned, more=False), None
            rows, more = await shard.rows(wanted, None)
            chunk = Chunk(iter([(key, image) for key, (image,) in rows]), more)
            return chunk, wanted.after(rows[-1][0], len(rows)) if more else None

        replica = None if consistent else self._routes.replica(self.number)
        if replica is not None:
            yield Chunk(replica.scan(start, end, reverse=reverse), more=False)
            return
        left: Range | None = Range(start, end, reverse, consistent, limit)
        while left is not None:
            wanted = left
            chunk, left = await self._routes.reach(self.number, read)
            yield chunk

    async def fetched_chunks(
        self,
        table: Table,
        start: bytes,
        end: bytes,
        *,
        reverse: bool = False,
        consistent: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[FetchedChunk]:
        """As `chunks`, for rows of a local index of a table, each with the item that it is of."""

        async def read(shard: Shard | RemoteShard) -> tuple[FetchedChunk, Range | None]:
            if isinstance(shard, Shard):
                await shard.ready(consistent=consistent)
                scanned = shard.scan(wanted.start, wanted.end, reverse=reverse)
                return FetchedChunk(shard.fetch(table, scanned), more=False), None
            rows, more = await shard.rows(wanted, table)
            chunk = FetchedChunk(iter([(key, image, whole) for key, (image, whole) in rows]), more)
            return chunk, wanted.after(rows[-1][0], len(rows)) if more else None

        left: Range | None = Range(start, end, reverse, consistent, limit)
        while left is not None:
            wanted = left
            chunk, left = await self._routes.reach(self.number, read)
            yield chunk

    async def measure_collection(self, write: Write) -> int:
        """Size of the item collection of a write's item, as far as it is materialized."""
        return await self._routes.reach(self.number, lambda shard: shard.measure_collection(write))
