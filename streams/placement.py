"""Which node has which shard: what the group said last."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress

__all__ = ["Placement"]


class Placement:
    """The owners of the shards, by the addresses under which nodes reach each other.

    It may be behind what is true by a moment: who asks a node that has lost the shard is told so,
    and waits for the next change.

    Args:
        own: this node's address.
    """

    def __init__(self, own: str) -> None:
        self.own = own
        self._owners: dict[int, str] = {}
        self._nodes: frozenset[str] = frozenset()
        self._changed = asyncio.Event()

    @property
    def owners(self) -> Mapping[int, str]:
        """The address of each shard's owner."""
        return self._owners

    @property
    def others(self) -> frozenset[str]:
        """The addresses of all other nodes."""
        return self._nodes - {self.own}

    def owner(self, shard: int) -> str | None:
        """The address of a shard's owner, None where none is known."""
        return self._owners.get(shard)

    def set(self, owners: Mapping[int, str], nodes: frozenset[str]) -> None:
        """Take over what the group says now."""
        self._owners = dict(owners)
        self._nodes = nodes
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self, deadline: float, at_most_s: float) -> None:
        """Wait for the next change.

        Args:
            deadline: for no longer than until then, on the monotonic clock.
            at_most_s: and for no longer than that.
        """
        wait_s = min(at_most_s, deadline - time.monotonic())
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, wait_s)):
                await self._changed.wait()
