"""Keeps an eye on the node while a worker runs."""

import asyncio
import logging
from typing import Final

from streamtable.triggers.endpoint import Endpoint, NodeDescription, NodeUnavailable

__all__ = ["NodeWatch"]

logger = logging.getLogger(__name__)

_INTERVAL_S: Final = 1.0


class NodeWatch:
    """Knows where the node's log is, and learns when that changes.

    Args:
        endpoint: the node.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._node: NodeDescription | None = None
        self._changed = asyncio.Event()
        self._answers = True

    async def run(self) -> None:
        """Ask the node every second; never ends. A node that goes or comes back is logged."""
        while True:
            await self._ask()
            await asyncio.sleep(_INTERVAL_S)

    async def node(self) -> NodeDescription:
        """Return what the node said last; wait for one that answers, if none has yet."""
        while self._node is None:
            await self._changed.wait()
        return self._node

    async def moved(self, before: NodeDescription) -> None:
        """Return when the node says something else than `before`."""
        while self._node == before:
            await self._changed.wait()

    async def epoch(self, shard: int, offset: int) -> tuple[str | None, int | None]:
        """Return epoch and barrier in force just before an offset; wait for a node to ask."""
        while True:
            try:
                return await self._endpoint.epoch(shard, offset)
            except NodeUnavailable:
                await asyncio.sleep(_INTERVAL_S)

    async def _ask(self) -> None:
        try:
            node = await self._endpoint.describe()
        except NodeUnavailable as error:
            if self._answers:
                logger.warning("%s: waiting for it", error)
            self._answers = False
            return
        if not self._answers:
            logger.info("the node at %s answers", self._endpoint.url)
        self._answers = True
        if node != self._node:
            self._node = node
            self._changed.set()
            self._changed = asyncio.Event()
