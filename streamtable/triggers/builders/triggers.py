"""Runs triggers: a follower of the log that gives a trigger's changes to its function."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from streamtable.consumers.triggers.clock import SystemClock
from streamtable.consumers.triggers.deliveries import Invoke
from streamtable.consumers.triggers.parked_changes import ParkedChanges
from streamtable.consumers.triggers.sink import TriggerName, TriggerSink
from streamtable.core.consumers import ConsumerDocument
from streamtable.streams.follower import Follower
from streamtable.triggers.app import App
from streamtable.triggers.endpoint import NodeError
from streamtable.triggers.kinds import Declaration, Tools
from streamtable.triggers.traced import traced
from streamtable.triggers.trigger import Trigger

__all__ = ["TriggerRunner", "build", "declarations"]

_LOOK_S: Final = 1.0
_SHOWN: Final = 20


def declarations(app: App) -> Iterable[Declaration]:
    """Return the app's triggers."""
    return [
        Declaration(
            kind="trigger",
            name=trigger.name,
            sources=trigger.sources,
            start=trigger.start,
            was=trigger.was,
            definition=trigger.definition(),
            declared=trigger,
        )
        for trigger in app.triggers.values()
    ]


def build(declaration: Declaration, tools: Tools) -> "TriggerRunner":
    """Return what runs a trigger."""
    return TriggerRunner(declaration.declared, tools)


class TriggerRunner:
    """Runs one trigger.

    Args:
        trigger: as it is declared.
        tools: what it may use.
    """

    def __init__(self, trigger: Trigger, tools: Tools) -> None:
        self._trigger = trigger
        self._tools = tools
        self._document: ConsumerDocument | None = None
        self._follower: Follower | None = None
        self._sink: TriggerSink | None = None
        self._newer = asyncio.Event()
        self._failing = _Failing()

    async def run(self, document: ConsumerDocument) -> None:
        """Follow the log until cancelled, or until another generation is in force."""
        tools = self._tools
        self._document = document
        self._sink = sink = TriggerSink(
            TriggerName(
                app=document.app,
                name=document.name,
                generation=document.generation,
                origin=document.origin,
            ),
            self._trigger.options(),
            self._invoke(document),
            state=tools.state,
            letters=tools.dead_letters,
            changes=ParkedChanges(tools.log, tools.letters),
            log=tools.log,
            clock=SystemClock(tools.now_ms),
        )
        self._follower = follower = Follower(
            tools.source,
            document.group(tools.region),
            wants=sink.wants,
            sink=sink,
            start=document.start,
            skip_lost=tools.skip_lost,
            is_settled=sink.is_settled,
        )
        sink.watch(lambda: follower.positions)
        following = asyncio.create_task(follower.run())
        others = {
            asyncio.create_task(self._heed(document, sink)),
            asyncio.create_task(sink.failed()),
        }
        try:
            await asyncio.wait({following, *others}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (following, *others):
                task.cancel()
            await asyncio.wait({following, *others})
            ended = [task for task in (following, *others) if not task.cancelled()]
            errors = [error for task in ended if (error := task.exception()) is not None]
            if errors:
                raise errors[0]

    def _invoke(self, document: ConsumerDocument) -> Invoke:
        invoke = self._trigger.invoke(self._describe)
        traces = self._tools.traces
        name = f"trigger {document.app}/{document.name}"
        return invoke if traces is None else traced(invoke, traces, name)

    async def _heed(self, seen: ConsumerDocument, sink: TriggerSink) -> None:
        """Do what newer registrations ask for; returns when another generation is in force."""
        while True:
            await self._newer.wait()
            self._newer.clear()
            document = self._document
            assert document is not None
            if document.generation != seen.generation:
                return
            if document.redrives != seen.redrives:
                await sink.reload(range(self._tools.shards))
            seen = document

    def update(self, document: ConsumerDocument) -> None:
        """Take a newer registration."""
        self._document = document
        self._newer.set()

    def report(self) -> Mapping[str, Any]:
        """Return where the trigger stands here."""
        if self._sink is None or self._follower is None:
            return {"state": "running"}
        counts = self._sink.counts()
        failing = self._failing.of(self._sink, counts)
        return {
            "next": dict(self._follower.positions),
            "shards": {
                number: {
                    "in_flight": each["in_flight"],
                    "retrying": failing.retrying.get(number, 0),
                    "parked": each["parked"],
                }
                for number, each in counts.items()
            },
            "state": "running",
            "failing": failing.shown,
        }

    async def _describe(self, table: str) -> dict[str, Any]:
        try:
            answer = await self._tools.node.call("DescribeTable", {"TableName": table})
        except NodeError as error:
            if error.code == "ResourceNotFoundException":
                return {}  # its last changes come all the same
            raise
        found: dict[str, Any] = answer["Table"]
        return found


class _Failing:
    """What failed and is tried again, looked at once a second at most.

    Attributes:
        retrying: by shard how many changes of those in memory failed.
        shown: some of them, and of those that are parked.
    """

    def __init__(self) -> None:
        self.retrying: dict[int, int] = {}
        self.shown: list[dict[str, Any]] = []
        self._at = float("-inf")

    def of(self, sink: TriggerSink, counts: Mapping[int, Mapping[str, int]]) -> "_Failing":
        """Bring it up to date with a sink, whose counts are these."""
        if not any(each["waiting"] or each["parked"] for each in counts.values()):
            self.retrying, self.shown = {}, []
            self._at = float("-inf")
        elif time.monotonic() - self._at >= _LOOK_S:
            status = sink.status()
            self._at = time.monotonic()
            self.retrying = {number: len(each["retrying"]) for number, each in status.items()}
            self.shown = [
                {
                    "position": change["position"],
                    "keys": change["keys"],
                    "attempts": change["attempts"],
                    "next_ms": change["next_at"],
                    "error": change["error"],
                    "parked": parked,
                }
                for each in status.values()
                for parked in (False, True)
                for change in islice(each["parked" if parked else "retrying"], _SHOWN)
            ]
        return self
