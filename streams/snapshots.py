"""Items read as of one point in the order of all transactions: what TransactGetItems runs on."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from streamtable.core.errors import TransactionCanceled
from streamtable.core.images import Image
from streamtable.streams.layout import Layout
from streamtable.streams.owner import Moved
from streamtable.streams.participant import conflict
from streamtable.streams.peers.remote import RemoteShard
from streamtable.streams.routes import Routes
from streamtable.streams.shard import Look, Shard

__all__ = ["Read", "Snapshots"]

_LOOK_S: Final = 0.005
# A transaction that is under way ends in some milliseconds, unless a shard has trouble.
_HELD_S: Final = 0.2
# Nobody takes a shard over and writes to it in so short a time without its owner's knowing.
_AT_ONCE_S: Final = 1.0
_ATTEMPTS: Final = 3


class Read(NamedTuple):
    """One item to be read in a transaction."""

    hash: int
    row_key: bytes


class Snapshots:
    """Reads that see all of a transaction, or nothing of it.

    Args:
        layout: the region's shards.
        own: returns a shard of this node, None for one of another node.
        routes: find the shards' owners; None where this node owns all that are read.
    """

    def __init__(
        self, layout: Layout, own: Callable[[int], Shard | None], routes: Routes | None
    ) -> None:
        self._layout = layout
        self._own = own
        self._routes = routes

    async def read(self, reads: Sequence[Read]) -> list[Image | None]:
        """Read items as of one point in the order of all transactions.

        Raises:
            TransactionCanceled: a transaction that writes one of them is under way, and does not
                end in a moment.
            ServiceUnavailable: a shard does not serve.
        """
        numbers = {read.hash % self._layout.count for read in reads}
        own = {number: self._own(number) for number in numbers}
        here = {number: shard for number, shard in own.items() if shard is not None}
        if len(here) == len(own):
            try:
                return await self._read_here(reads, here)
            except Moved:
                if self._routes is None:
                    raise
        return await self._read_anywhere(reads)

    async def _read_here(
        self, reads: Sequence[Read], shards: Mapping[int, Shard]
    ) -> list[Image | None]:
        """Read items of this node's shards: no commit becomes visible while nothing is awaited."""
        found = [(shards[read.hash % self._layout.count], read.row_key) for read in reads]
        with suppress(TimeoutError):
            async with asyncio.timeout(_HELD_S):
                while holder := next((s for s, row in found if s.ledger.locks(row)), None):
                    await holder.ledger.released()
        await self._ready_at_once(shards.values())
        # From here on nothing is awaited.
        held = [shard.ledger.locks(row_key) for shard, row_key in found]
        if any(held):
            raise TransactionCanceled([conflict() if one else {"Code": "None"} for one in held])
        return [shard.get(row_key) for shard, row_key in found]

    @staticmethod
    async def _ready_at_once(shards: Collection[Shard]) -> None:
        """Return when shards are this node's, all of them at one time.

        Raises:
            Moved: one has gone while the others were asked, or may have.
            ServiceUnavailable: one does not serve.
        """
        for _ in range(_ATTEMPTS):
            asked = time.monotonic()
            for shard in shards:
                await shard.ready(consistent=True)
            for shard in shards:
                if not shard.owner.readable:
                    raise Moved(f"Shard {shard.number} is not served by this node any more.")
            if time.monotonic() - asked <= _AT_ONCE_S:
                return
        raise Moved("The shards do not answer at one time. Try again.")

    async def _read_anywhere(self, reads: Sequence[Read]) -> list[Image | None]:
        """Read items wherever they are: what two looks in a row agree on was so in between."""
        deadline = time.monotonic() + _HELD_S
        before: _Seen | None = None
        while True:
            seen = await self._look(reads)
            if not any(seen.locked):
                if before is not None and before.agrees(seen):
                    return seen.images
                before = seen
            else:
                before = None
            if time.monotonic() > deadline:
                held = seen.locked if any(seen.locked) else [True] * len(reads)
                raise TransactionCanceled([conflict() if one else {"Code": "None"} for one in held])
            if before is None:
                await asyncio.sleep(_LOOK_S)

    async def _look(self, reads: Sequence[Read]) -> "_Seen":
        assert self._routes is not None
        places: dict[int, list[int]] = {}
        for place, read in enumerate(reads):
            places.setdefault(read.hash % self._layout.count, []).append(place)
        looks = await asyncio.gather(
            *(
                self._routes.reach(
                    number, partial(_look, row_keys=[reads[place].row_key for place in theirs])
                )
                for number, theirs in places.items()
            )
        )
        seen = _Seen([False] * len(reads), [None] * len(reads), [("", 0)] * len(reads))
        for theirs, look in zip(places.values(), looks, strict=True):
            for place, locked, image in zip(theirs, look.locked, look.images, strict=True):
                seen.locked[place], seen.images[place] = locked, image
                seen.terms[place] = (look.epoch, look.removals)
        return seen


class _Seen(NamedTuple):
    """What one look at some items found, each in its place.

    Attributes:
        locked: whether a transaction holds it.
        images: its durable image.
        terms: the term of its shard, and how many rows had been removed in it.
    """

    locked: list[bool]
    images: list[Image | None]
    terms: list[tuple[str, int]]

    def agrees(self, later: "_Seen") -> bool:
        """Whether no item has changed between this look and a later one."""
        for place, before in enumerate(self.images):
            now = later.images[place]
            if before is None or now is None:
                # One that came and went in between has left a removal in its term.
                if before is not now or self.terms[place] != later.terms[place]:
                    return False
            elif (before.time, before.region) != (now.time, now.region):
                return False
        return True


async def _look(shard: Shard | RemoteShard, row_keys: Sequence[bytes]) -> Look:
    return await shard.look(row_keys)
