"""Tells the node where a worker's consumers stand, and learns what people want of them."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from streamtable.core.consumers import ConsumerDocument
from streamtable.triggers.endpoint import Endpoint, NodeError, NodeUnavailable
from streamtable.triggers.node_clock import NodeClock
from streamtable.triggers.seats import Seat

__all__ = ["Reporter"]

logger = logging.getLogger(__name__)

_PATH: Final = "/_streamtable/workers/report"
_LOOK_S: Final = 0.05
_QUIET_S: Final = 1.0


class Reporter:
    """Reports whenever something has moved, twenty times a second at most; else every second.

    Args:
        endpoint: the node.
        worker_id: tells this worker from others.
        app: the app's name.
        seats: the consumers.
        clock: is told the node's time.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        worker_id: str,
        app: str,
        seats: Sequence[Seat],
        clock: NodeClock,
    ) -> None:
        self._endpoint = endpoint
        self._worker_id = worker_id
        self._app = app
        self._seats = {seat.name: seat for seat in seats}
        self._clock = clock
        self.reported = asyncio.Event()
        """Set when the node has answered a first report: it is ready for this worker."""

    async def run(self) -> None:
        """Report until cancelled. While the node is away, it tries every second."""
        before: Mapping[str, Any] | None = None
        at = 0.0
        while True:
            found = {name: seat.report() for name, seat in self._seats.items()}
            if found != before or time.monotonic() - at >= _QUIET_S:
                at = time.monotonic()
                if await self._report(found):
                    before = found
                else:
                    await asyncio.sleep(_QUIET_S)
            await asyncio.sleep(_LOOK_S)

    async def leave(self) -> None:
        """Say that this worker runs nothing any more."""
        await self._report({})

    async def _report(self, found: Mapping[str, Any]) -> bool:
        body = {"worker": self._worker_id, "app": self._app, "consumers": found}
        try:
            answer = await self._endpoint.post(_PATH, body)
        except NodeUnavailable as error:
            logger.debug("no report: %s", error)
            return False
        except NodeError as error:
            logger.warning("the node does not take this worker's report: %s", error)
            return False
        self._clock.note(answer["now_ms"])
        for name, document in answer["consumers"].items():
            seat = self._seats.get(name)
            if seat is not None:
                seat.update(None if document is None else ConsumerDocument(**document))
        self.reported.set()
        return True
