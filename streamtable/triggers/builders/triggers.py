"""Runs triggers: a follower of the log that gives a trigger's changes to its function."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from streamtable.consumers.triggers.deliveries import Delivery
from streamtable.core.consumers import ConsumerDocument
from streamtable.core.positions import Position
from streamtable.streams.follower import Follower, Sequential
from streamtable.streams.records import LogRecord
from streamtable.triggers.app import App
from streamtable.triggers.kinds import Declaration, Tools
from streamtable.triggers.trigger import Trigger

__all__ = ["TriggerRunner", "build", "declarations"]


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
        self._outdated = asyncio.Event()
        self._invoke = trigger.invoke(self._describe)

    async def _describe(self, table: str) -> dict[str, Any]:
        answer = await self._tools.node.call("DescribeTable", {"TableName": table})
        found: dict[str, Any] = answer["Table"]
        return found

    async def run(self, document: ConsumerDocument) -> None:
        """Follow the log until cancelled, or until another generation is in force."""
        self._document = document
        tools = self._tools
        self._follower = Follower(
            tools.source,
            document.group(tools.region),
            wants=self._wants,
            sink=Sequential(self._deliver),
            start=document.start,
            skip_lost=tools.skip_lost,
        )
        following = asyncio.create_task(self._follower.run())
        outdated = asyncio.create_task(self._outdated.wait())
        try:
            await asyncio.wait({following, outdated}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            outdated.cancel()
            following.cancel()
            await asyncio.wait({following, outdated})
            if not following.cancelled():
                following.result()

    def _wants(self, tables: frozenset[str]) -> bool:
        return self._trigger.table in tables

    async def _deliver(self, record: LogRecord) -> None:
        for index, change in enumerate(record.changes()):
            if change.table == self._trigger.table and change.event_name in self._trigger.events:
                delivery = Delivery(change, Position(record.shard, record.offset, index))
                answer = await self._invoke([delivery], None)
                for error in answer.failed.values():
                    raise error

    def update(self, document: ConsumerDocument) -> None:
        """Take a newer registration."""
        before, self._document = self._document, document
        if before is not None and before.generation != document.generation:
            self._outdated.set()

    def report(self) -> Mapping[str, Any]:
        """Return where the trigger stands here."""
        positions = {} if self._follower is None else dict(self._follower.positions)
        return {"next": positions, "state": "running"}
