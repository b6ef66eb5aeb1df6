"""The shards of a region as one node knows them now: how many, and whether that is changing."""

import asyncio
from collections.abc import Callable, Iterator

from streamtable.core.errors import ServiceUnavailable
from streamtable.core.layouts import LayoutDocument

__all__ = ["Layout"]


class Layout:
    """What the catalog says about the region's shards.

    Args:
        count: how many there are where the catalog says nothing yet: the change log's partitions.

    Attributes:
        document: what the catalog has.
        count: how many shards there are.
    """

    def __init__(self, count: int) -> None:
        self.document = LayoutDocument(count=count)
        self.count = count
        self._watchers: list[Callable[[LayoutDocument], None]] = []
        self._changed = asyncio.Event()

    @property
    def generation(self) -> int:
        """How often their number has changed."""
        return len(self.document.splits)

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.count))

    def watch(self, watcher: Callable[[LayoutDocument], None]) -> None:
        """Have `watcher(before)` called after each change, with what was in force before."""
        self._watchers.append(watcher)

    def take(self, document: LayoutDocument) -> None:
        """Take over what the catalog says now."""
        before, self.document, self.count = self.document, document, document.count
        for watcher in self._watchers:
            watcher(before)
        self._changed.set()
        self._changed = asyncio.Event()

    def require(self, count: int) -> None:
        """Check that there are as many shards as something was made for.

        Raises:
            ServiceUnavailable: there are not: it is to be made anew.
        """
        if self.count != count:
            raise ServiceUnavailable(f"The region has {self.count} shards now. Begin again.")

    def swapping(self, attempt: str) -> bool:
        """Whether an attempt to change the number is at the point where all wait for it."""
        reshard = self.document.reshard
        return reshard is not None and reshard.phase == "swapping" and reshard.id == attempt

    async def grown(self, count: int) -> None:
        """Return when there are more shards than so many."""
        while self.count <= count:
            await self._changed.wait()
