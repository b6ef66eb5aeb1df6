"""The control plane of consumers: what workers and people ask a node about them.

GET `/_streamtable/consumers` and `/_streamtable/lag` say where every consumer stands, or with
`?consumer=APP/NAME` one. A worker that is about to run a consumer posts to
`/_streamtable/consumers/register`, and while it runs, where its consumers stand to
`/_streamtable/workers/report`; the answer has what people want of them. That they tell with
`/_streamtable/consumers/change`. The changes that consumers gave up are told by GET
`/_streamtable/deadletters`, and sent back or dropped by POST.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from streamtable.control.bodies import Change, Registration, Report, parse_body
from streamtable.control.dead_letters import DeadLetters
from streamtable.control.frontiers import Frontiers
from streamtable.control.overview import Overview
from streamtable.control.registrations import Registrations
from streamtable.control.starts import Starts
from streamtable.control.state import TableStateStore, create_state_table
from streamtable.control.workers import Workers
from streamtable.core.consumers import ConsumerDocument
from streamtable.core.context import RequestContext
from streamtable.gateway import Handler, Page, Post
from streamtable.settings import NodeSettings
from streamtable.streams.catalog import Catalog
from streamtable.streams.fetcher import Fetches
from streamtable.streams.group_offsets import GroupOffsets
from streamtable.streams.layout import Layout
from streamtable.streams.topics import Topics

__all__ = ["Control"]

_CONTEXT: Final = RequestContext("", "streamtable", "")
_PARKED: Final = "parked/"
_LAG: Final = ("key", "kind", "state", "lag", "lag_s", "parked", "retrying", "shards")


class Control:
    """The pages, and what is behind them.

    Args:
        catalog: the region's tables and consumers.
        settings: the node's.
        log: the change log.
        layout: the region's shards.
        kafka: the brokers, `host:port,...`.
        changelog: the log's topic.
        handlers: the executors of DynamoDB's operations.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        settings: NodeSettings,
        log: Fetches,
        layout: Layout,
        kafka: str,
        changelog: str,
        handlers: Mapping[str, Handler],
        tell_others: Callable[[str, Any], None],
    ) -> None:
        self._catalog = catalog
        self._settings = settings
        self._layout = layout
        self._handlers = handlers
        self._tell_others = tell_others
        self._groups = GroupOffsets(kafka, changelog)
        self.workers = Workers()
        """Who reports to this node."""
        self.frontiers = Frontiers(self._committed_by_key)
        """How far consumers have got."""
        self.state = TableStateStore(self._call)
        """What consumers keep."""
        self.registrations = Registrations(
            catalog,
            Starts(log, layout),
            workers=self.workers.running,
            members=self._groups.members,
            region=settings.region,
        )
        """The consumers that there are."""
        self.overview = Overview(
            log,
            layout,
            workers=self.workers,
            committed=self._committed,
            parked=self._parked,
        )
        """Where they stand."""
        self.dead_letters = DeadLetters(
            kafka,
            Topics(settings.region).deadletters,
            catalog=catalog,
            registrations=self.registrations,
            state=self.state,
        )
        """What they gave up."""

    async def stop(self) -> None:
        """Close the connections."""
        await self.dead_letters.stop()
        await self._groups.stop()

    @property
    def pages(self) -> dict[str, Page]:
        """What GET answers, by path."""
        return {
            "/_streamtable/consumers": self._list,
            "/_streamtable/lag": self._lag,
            "/_streamtable/deadletters": self.dead_letters.show,
        }

    @property
    def posts(self) -> dict[str, Post]:
        """What POST answers, by path."""
        return {
            "/_streamtable/consumers/register": self._register,
            "/_streamtable/consumers/change": self._change,
            "/_streamtable/workers/report": self._report,
            "/_streamtable/deadletters": self.dead_letters.settle,
        }

    async def _list(self, query: Mapping[str, str]) -> dict[str, Any]:
        return {"consumers": await self.overview.describe(self._chosen(query))}

    async def _lag(self, query: Mapping[str, str]) -> dict[str, Any]:
        found = await self.overview.describe(self._chosen(query))
        return {"consumers": [{name: each[name] for name in _LAG} for each in found]}

    def _chosen(self, query: Mapping[str, str]) -> list[ConsumerDocument]:
        if "consumer" not in query:
            return list(self._catalog.consumers())
        app, _, name = query["consumer"].partition("/")
        return [self.registrations.find(app, name)]

    async def _register(self, body: dict[str, Any]) -> dict[str, Any]:
        asked = parse_body(Registration, body)
        await create_state_table(self._catalog, self._settings)
        document, notes = await self.registrations.register(asked)
        return {"document": document.model_dump(mode="json"), "notes": notes}

    async def _change(self, body: dict[str, Any]) -> dict[str, Any]:
        asked = parse_body(Change, body)
        before = self.registrations.find(asked.app, asked.name)
        changed = await self.registrations.change(asked)
        if changed.removed is not None:
            self.frontiers.forget(changed.key)
        answer = changed.model_dump(mode="json")
        if changed.removed is not None or asked.action == "reset":
            answer["dropped"] = await self._forget_state(before)
        return answer

    async def _report(self, body: dict[str, Any]) -> dict[str, Any]:
        report = parse_body(Report, body)
        await create_state_table(self._catalog, self._settings)
        await self.note_report(body)
        # Whoever asks another node where a consumer stands gets the same answer.
        self._tell_others("report", body)
        documents = {}
        for name in report.consumers:
            found = self._catalog.consumer(report.app, name)
            documents[name] = None if found is None else found.model_dump(mode="json")
        return {"consumers": documents, "now_ms": time.time_ns() // 1_000_000}

    async def note_report(self, body: dict[str, Any]) -> None:
        """Take over what a worker reports, to this node or to another one."""
        report = parse_body(Report, body)
        self.workers.note(report)
        for name, each in report.consumers.items():
            found = self._catalog.consumer(report.app, name)
            if found is not None and each.generation == found.generation:
                self.frontiers.note(found.key, each.generation, each.next)

    async def _committed(self, consumer: ConsumerDocument) -> Mapping[int, int]:
        return await self._groups.committed(consumer.group(self._settings.region))

    async def _committed_by_key(self, key: str, generation: int) -> Mapping[int, int]:
        app, _, name = key.partition("/")
        found = self._catalog.consumer(app, name)
        if found is None or found.generation != generation:
            return {}
        return await self._committed(found)

    async def _parked(self, consumer: ConsumerDocument) -> dict[int, int]:
        """Count what a consumer has parked, from what it keeps."""
        found = {}
        for shard in self._layout:
            kept = await self.state.load(consumer.owner(shard))
            found[shard] = sum(each.startswith(_PARKED) for each in kept)
        return found

    async def _forget_state(self, consumer: ConsumerDocument) -> int:
        """Remove what a generation that is over keeps; return how much of it was parked."""
        parked = 0
        for shard in self._layout:
            owner = consumer.owner(shard)
            kept = await self.state.load(owner)
            parked += sum(each.startswith(_PARKED) for each in kept)
            if kept:
                await self.state.save(owner, dict.fromkeys(kept))
        return parked

    async def _call(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self._handlers[operation](body, _CONTEXT)
        found: dict[str, Any] = orjson.loads(answer) if isinstance(answer, bytes) else answer
        return found
