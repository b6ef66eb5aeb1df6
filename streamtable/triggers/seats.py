"""One consumer in a worker: run while it is wanted, stopped and begun again as it is told."""

import asyncio
import inspect
import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final

from streamtable.consumers.triggers.state import HeldByAnother
from streamtable.core.consumers import ConsumerDocument
from streamtable.core.errors import StreamtableError
from streamtable.streams.log import LogUnavailable
from streamtable.triggers.endpoint import NodeDescription, NodeUnavailable
from streamtable.triggers.kinds import Declaration, Runner, Tools, kind
from streamtable.triggers.watch import NodeWatch

__all__ = ["Removed", "Seat"]

logger = logging.getLogger(__name__)

_RETRY_S: Final = 1.0
_OWN_FRAMES: Final = ("streamtable.", "asyncio", "concurrent.")


class Removed(StreamtableError):
    """The consumer's registration was removed while a worker ran it."""


class Seat:
    """Runs a consumer until it stops on an error, is removed, or the worker ends.

    A consumer that is paused is stopped in good order, and run again when it is resumed. One
    whose log is away, or moves, is begun anew when it is back.

    Args:
        declaration: the consumer, as the app declares it.
        document: its registration.
        tools: makes what a runner may use, given the node as it describes itself.
        watch: knows the node.
    """

    def __init__(
        self,
        declaration: Declaration,
        document: ConsumerDocument,
        tools: Callable[[NodeDescription], Awaitable[Tools]],
        watch: NodeWatch,
    ) -> None:
        self.declaration = declaration
        self.stopped: BaseException | None = None
        """What stopped the consumer for good."""
        self._document: ConsumerDocument | None = document
        self._tools = tools
        self._watch = watch
        self._runner: Runner | None = None
        self._waits_for: str | None = None
        self._changed = asyncio.Event()

    @property
    def name(self) -> str:
        """The consumer's name."""
        return self.declaration.name

    def update(self, document: ConsumerDocument | None) -> None:
        """Take the newest registration; None where it was removed."""
        if document == self._document or self._document is None:
            return
        self._document = document
        if self._runner is not None and document is not None:
            self._runner.update(document)
        self._changed.set()

    def report(self) -> dict[str, Any]:
        """Return what the worker reports of it."""
        generation = 0 if self._document is None else self._document.generation
        if self.stopped is not None:
            error = _line(self.stopped)
            return {"generation": generation, "state": "stopped", "error": error}
        if self._runner is not None:
            return {"generation": generation, **self._runner.report()}
        if self._waits_for is not None:
            return {"generation": generation, "state": "waiting", "error": self._waits_for}
        return {"generation": generation, "state": "paused" if self._paused else "starting"}

    @property
    def _paused(self) -> bool:
        return self._document is None or self._document.paused

    async def keep(self) -> None:
        """Run the consumer; return when it has stopped for good, as `stopped` says."""
        try:
            while True:
                await self._until_wanted()
                try:
                    await self._run(await self._watch.node())
                except (HeldByAnother, LogUnavailable, NodeUnavailable) as error:
                    logger.warning("%s waits, and tries again: %s", self.name, error)
                    self._waits_for = str(error)
                    await asyncio.sleep(_RETRY_S)
        except Exception as error:  # noqa: BLE001 - the worker's other consumers go on
            self.stopped = error
            logger.error("%s", _describe(self.name, error))  # noqa: TRY400 - the trace is in it

    async def _until_wanted(self) -> None:
        while True:
            self._changed.clear()
            if self._document is None:
                raise Removed(
                    f"{self.name} was removed from the registrations; it begins anew at the next "
                    "start of the worker"
                )
            if not self._document.paused:
                return
            logger.info("%s is paused", self.name)
            await self._changed.wait()

    async def _run(self, node: NodeDescription) -> None:
        """Run it until it is not wanted, or the node says that the log is elsewhere."""
        tools = await self._tools(node)
        built = kind(self.declaration.kind).build(self.declaration, tools)
        runner: Runner = await built if inspect.isawaitable(built) else built
        document = self._document
        if document is None or document.paused:
            return
        self._waits_for = None
        self._runner = runner
        running = asyncio.create_task(runner.run(document), name=self.name)
        moved = asyncio.create_task(self._watch.moved(node))
        unwanted = asyncio.create_task(self._until_unwanted())
        try:
            await asyncio.wait({running, moved, unwanted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            moved.cancel()
            unwanted.cancel()
            running.cancel()
            await asyncio.wait({running, moved, unwanted})
            self._runner = None
            if not running.cancelled():
                running.result()

    async def _until_unwanted(self) -> None:
        while not self._paused:
            self._changed.clear()
            await self._changed.wait()


def _line(error: BaseException) -> str:
    """Return an error's text, in one line, with its type where it is not streamtable's."""
    text = " ".join(str(error).split())
    return text if isinstance(error, StreamtableError) else f"{type(error).__name__}: {text}"


def _describe(name: str, error: Exception) -> str:
    """Say what stopped a consumer; for what is not streamtable's, with the trace."""
    if isinstance(error, StreamtableError):
        return f"{name} stopped: {error}"
    trace = error.__traceback__
    while trace and trace.tb_frame.f_globals.get("__name__", "").startswith(_OWN_FRAMES):
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace)).rstrip()
    return f"{name} stopped: {text}"
