"""Runs what an app declares against a node's change log."""

import asyncio
import logging
import os
import secrets
import socket
from typing import TYPE_CHECKING, Any, Final

from streamtable.control.state import TableStateStore
from streamtable.core.consumers import ConsumerDocument
from streamtable.core.errors import StreamtableError
from streamtable.streams.follower import Source
from streamtable.triggers.app import App
from streamtable.triggers.brokers import Brokers
from streamtable.triggers.endpoint import Endpoint, NodeDescription, NodeError, NodeUnavailable
from streamtable.triggers.kinds import Declaration, Tools, declarations
from streamtable.triggers.node_clock import NodeClock
from streamtable.triggers.patience import PatientCalls
from streamtable.triggers.reporting import Reporter
from streamtable.triggers.seats import Seat
from streamtable.triggers.timetable import Timetable
from streamtable.triggers.watch import NodeWatch

if TYPE_CHECKING:
    from streamtable.tracing import Traces

__all__ = ["RegistrationRefused", "Worker"]

logger = logging.getLogger(__name__)

_RETRY_S: Final = 1.0
_STOP_S: Final = 5.0
_REGISTER: Final = "/_streamtable/consumers/register"


class RegistrationRefused(StreamtableError):
    """The node does not take what the app declares; the text says why, and what to do."""


class Worker:
    """Follows the log for each trigger, view and search of an app, and calls its schedules.

    Each is a consumer group of its own: a slow one, or one that stopped, never holds up another.
    They wait while the node or its log is gone, and go on when it is back.

    Args:
        app: what is run.
        endpoint: the node.
        skip_lost: go on where the log has lost changes that a consumer has not seen.
        elasticsearch: the client for the app's searches; it stays the caller's to close.
        traces: makes spans of what follows from traced changes; it stays the caller's, too.
    """

    def __init__(
        self,
        app: App,
        endpoint: Endpoint,
        *,
        skip_lost: bool = False,
        elasticsearch: Any = None,
        traces: "Traces | None" = None,
    ) -> None:
        self.id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self._app = app
        self._endpoint = endpoint
        self._skip_lost = skip_lost
        self._elasticsearch = elasticsearch
        self._traces = traces
        self._watch = NodeWatch(endpoint)
        self._calls = PatientCalls(endpoint)
        self._state = TableStateStore(self._calls)
        self._clock = NodeClock()
        self._seats: list[Seat] = []
        self._brokers: dict[str, Brokers] = {}

    @property
    def stopped(self) -> dict[str, BaseException]:
        """The consumers that stopped for good by name, each with what stopped it."""
        return {seat.name: seat.stopped for seat in self._seats if seat.stopped is not None}

    async def run(self) -> None:
        """Run until every consumer has stopped for good, or until cancelled.

        When cancelled, it lets the functions that run finish and commits their positions.

        Raises:
            RegistrationRefused: running the app would skip changes, or repeat them, without
                anybody having said so; nothing was run.
        """
        watching = asyncio.create_task(self._watch.run())
        try:
            await self._watch.node()
            await self._register()
            await self._work()
        finally:
            watching.cancel()
            for brokers in self._brokers.values():
                await brokers.close()

    async def _work(self) -> None:
        reporter = Reporter(
            self._endpoint,
            worker_id=self.id,
            app=self._app.name,
            seats=self._seats,
            clock=self._clock,
        )
        reporting = asyncio.create_task(reporter.run())
        running = asyncio.create_task(self._run_all(reporter))
        try:
            await asyncio.wait({running, reporting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._calls.hurry(_STOP_S)
            running.cancel()
            await asyncio.wait({running})
            # Until here people see that it is still at work.
            reporting.cancel()
            await asyncio.wait({reporting})
            await reporter.leave()
        for task in (running, reporting):
            if not task.cancelled():
                task.result()

    async def _run_all(self, reporter: Reporter) -> None:
        async with asyncio.TaskGroup() as group:
            for seat in self._seats:
                group.create_task(seat.keep(), name=seat.name)
            if self._app.schedules:
                await reporter.reported.wait()
                timetable = Timetable(
                    self._app.name,
                    self._app.schedules.values(),
                    call=self._calls,
                    clock=self._clock,
                    worker_id=self.id,
                )
                group.create_task(timetable.run())

    async def _register(self) -> None:
        """Register every consumer; nothing is run unless all of them are taken."""
        declared = declarations(self._app)
        names = [each.name for each in declared]
        refused = []
        for each in declared:
            try:
                document = await self._register_one(each, names)
            except NodeError as error:
                refused.append(str(error))
                continue
            await self._announce(each)
            self._seats.append(Seat(each, document, self._tools, self._watch))
        if refused:
            raise RegistrationRefused("\n".join(refused))

    async def _register_one(self, declared: Declaration, names: list[str]) -> ConsumerDocument:
        body = {
            "kind": declared.kind,
            "app": self._app.name,
            "name": declared.name,
            "sources": declared.sources,
            "start": declared.start,
            "definition": declared.definition,
            "was": declared.was,
            "names": names,
        }
        while True:
            try:
                answer = await self._endpoint.post(_REGISTER, body)
            except NodeUnavailable as error:
                logger.debug("%s is not registered yet: %s", declared.name, error)
                await asyncio.sleep(_RETRY_S)
                continue
            for note in answer["notes"]:
                logger.info("%s", note)
            return ConsumerDocument(**answer["document"])

    async def _announce(self, declared: Declaration) -> None:
        tables = ", ".join(declared.sources)
        logger.info("%s follows the table %s", declared.name, tables)
        for table in declared.sources:
            try:
                found = await self._endpoint.has_table(table)
            except (NodeError, NodeUnavailable):
                continue
            if not found:
                logger.warning(
                    "there is no table %s yet: %s waits for it to be created", table, declared.name
                )

    async def _tools(self, node: NodeDescription) -> Tools:
        brokers = self._brokers.get(node.kafka)
        if brokers is None:
            brokers = self._brokers[node.kafka] = Brokers(node)
        await brokers.open()
        return Tools(
            app=self._app.name,
            worker_id=self.id,
            region=node.region,
            shards=node.shards,
            node=self._endpoint,
            source=Source(node.kafka, node.changelog, self._watch, node.layout),
            log=brokers.log,
            state=self._state,
            dead_letters=brokers.written,
            letters=brokers.read,
            now_ms=self._clock.now_ms,
            skip_lost=self._skip_lost,
            elasticsearch=self._elasticsearch,
            traces=self._traces,
        )
