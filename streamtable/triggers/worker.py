"""Runs the triggers of an app against a node's change log."""

import asyncio
import logging
import traceback
from typing import Final

from streamtable.core.errors import StreamtableError
from streamtable.streams.follower import Follower, Sequential, Source
from streamtable.streams.log import LogUnavailable
from streamtable.triggers.app import App, Trigger
from streamtable.triggers.delivery import ChangeFailed, Delivery
from streamtable.triggers.endpoint import Endpoint, NodeDescription, NodeUnavailable
from streamtable.triggers.watch import NodeWatch

__all__ = ["Worker"]

logger = logging.getLogger(__name__)

_RETRY_S: Final = 1.0
_OWN_FRAMES: Final = ("streamtable.", "asyncio", "concurrent.")


class Worker:
    """Follows the log for each trigger of an app, and calls it.

    Each trigger is a consumer group of its own, `{region}.trigger.{app}.{name}`: a slow one, or
    one that stopped, never holds up another. The triggers wait while the node or its log is
    gone, and go on when it is back.

    Args:
        app: the triggers.
        endpoint: the node.
        skip_lost: let triggers go on where the log has lost changes that they have not seen.
    """

    def __init__(self, app: App, endpoint: Endpoint, *, skip_lost: bool = False) -> None:
        self._app = app
        self._endpoint = endpoint
        self._skip_lost = skip_lost
        self._watch = NodeWatch(endpoint)
        self.stopped: dict[str, BaseException] = {}
        """The triggers that stopped by name, each with what stopped it."""

    async def run(self) -> None:
        """Run the triggers until each has stopped, or until cancelled.

        When cancelled, it lets the functions that run finish and commits their positions.
        """
        watching = asyncio.create_task(self._watch.run())
        try:
            await self._watch.node()
            await self._announce()
            async with asyncio.TaskGroup() as group:
                for trigger in self._app.triggers.values():
                    group.create_task(self._keep(trigger), name=trigger.name)
        finally:
            watching.cancel()

    async def _announce(self) -> None:
        for trigger in self._app.triggers.values():
            events = ", ".join(sorted(trigger.events))
            logger.info("%s follows %s of the table %s", trigger.name, events, trigger.table)
            try:
                found = await self._endpoint.has_table(trigger.table)
            except NodeUnavailable:
                continue
            if not found:
                logger.warning(
                    "there is no table %s yet: %s waits for it to be created",
                    trigger.table,
                    trigger.name,
                )

    async def _keep(self, trigger: Trigger) -> None:
        """Follow the log for one trigger until it stops."""
        delivery = Delivery(trigger)
        while True:
            node = await self._watch.node()
            try:
                await self._follow(trigger, delivery, node)
            except LogUnavailable as error:
                logger.warning("%s has lost the log, it tries again: %s", trigger.name, error)
                await asyncio.sleep(_RETRY_S)
            except Exception as error:  # noqa: BLE001 - the other triggers go on
                self.stopped[trigger.name] = error
                logger.error("%s", _report(trigger, error))  # noqa: TRY400 - the trace is in it
                return

    async def _follow(self, trigger: Trigger, delivery: Delivery, node: NodeDescription) -> None:
        """Follow the log that `node` names; returns when the node names another."""
        follower = Follower(
            Source(node.kafka, node.changelog, self._watch),
            f"{node.region}.trigger.{self._app.name}.{trigger.name}",
            wants=delivery.wants,
            sink=Sequential(delivery.deliver),
            skip_lost=self._skip_lost,
        )
        following = asyncio.create_task(follower.run())
        moved = asyncio.create_task(self._watch.moved(node))
        try:
            await asyncio.wait({following, moved}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            moved.cancel()
            following.cancel()
            await asyncio.wait({following})
            if not following.cancelled():
                following.result()


def _report(trigger: Trigger, error: Exception) -> str:
    """Say which trigger stopped, at what, and why."""
    again = "It was not skipped: the trigger gets it again at the next start of the worker."
    if isinstance(error, ChangeFailed):
        cause = error.__cause__
        assert cause is not None
        return f"{trigger.name} stopped at {error}\n{_trace(cause)}\n{again}"
    if isinstance(error, StreamtableError):
        return f"{trigger.name} stopped: {error}"
    return f"{trigger.name} stopped: {_trace(error)}"


def _trace(error: BaseException) -> str:
    """Return the traceback from the first frame on that is not streamtable's or asyncio's."""
    trace = error.__traceback__
    while trace and trace.tb_frame.f_globals.get("__name__", "").startswith(_OWN_FRAMES):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()
