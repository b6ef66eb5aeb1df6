"""Runs one search index in a worker: follows the log, and builds the index where that is due.

Each worker follows the shards that the group gives it. The one that has shard 0 also looks after
the indexes in Elasticsearch: it makes the first one, and builds a new one when it is asked to, when
the table was made again, and when the log has lost changes that the index does not have. As long as
there is no index, changes wait in the log.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from elasticsearch import AsyncElasticsearch

from streamtable.consumers.search.builder import Builder
from streamtable.consumers.search.bulk import BulkLimits, BulkWriter, Operation, Rejection
from streamtable.consumers.search.client import CLIENT_ERRORS, error_text
from streamtable.consumers.search.indexes import Current, SearchIndexes
from streamtable.consumers.search.letters import Letters
from streamtable.consumers.search.present import PresentTable
from streamtable.consumers.search.sink import SearchSink
from streamtable.consumers.search.spec import SearchSpec
from streamtable.consumers.views.nodes import Node
from streamtable.core.consumers import ConsumerDocument
from streamtable.core.errors import StreamtableError
from streamtable.streams.follower import Follower, LostRecords, Source
from streamtable.streams.traces import Tracer

__all__ = ["REBUILD", "SearchRunner", "SearchTools"]

logger = logging.getLogger(__name__)

REBUILD: Final = "rebuild"
"""The kind of request that has the index built anew."""

_CHANGE: Final = "/_streamtable/consumers/change"
_LEADING_SHARD: Final = 0
_RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class SearchTools:
    """What a search index is run with.

    Attributes:
        client: Elasticsearch.
        node: gives the rows, and is told that a request is carried out.
        source: the log.
        region: the region's name.
        shards: how many shards it has.
        letters: takes what is refused, and gives back what is redriven.
        skip_lost: go on where the log has lost changes, without building the index anew.
        limits: how much is sent at a time.
        look_s: how often the indexes are looked after, where nothing is asked for.
        tracer: told of the commits that are traced.
    """

    client: AsyncElasticsearch
    node: Node
    source: Source
    region: str
    shards: int
    letters: Letters
    skip_lost: bool = False
    limits: BulkLimits | None = None
    look_s: float = 5.0
    tracer: Tracer | None = None


class SearchRunner:
    """One search index, in one worker.

    Args:
        spec: the search index.
        tools: what it is run with.
    """

    def __init__(self, spec: SearchSpec, tools: SearchTools) -> None:
        self._spec = spec
        self._tools = tools
        self._indexes = SearchIndexes(spec, tools.client)
        self._builder = Builder(
            spec,
            tools.client,
            self._indexes,
            node=tools.node,
            source=tools.source,
            shards=tools.shards,
            rejected=self._reject,
            limits=tools.limits,
        )
        self._table = PresentTable(tools.node, spec.table)
        self._document: ConsumerDocument | None = None
        self._changed = asyncio.Event()
        self._wake = asyncio.Event()
        self._writer: BulkWriter | None = None
        self._sink: SearchSink | None = None
        self._follower: Follower | None = None
        self._leading: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._finished: str | None = None
        self._skip_lost = tools.skip_lost
        self._retired = True
        self._error: str | None = None

    async def run(self, document: ConsumerDocument) -> None:
        """Run until cancelled; then finish what is in hand, and commit.

        Raises:
            LogUnavailable: the log does not answer.
        """
        self._document = document
        self._indexes.owners = frozenset(
            f"{document.app}/{name}" for name in (document.name, *document.formerly)
        )
        try:
            while True:
                self._changed.clear()
                try:
                    await self._follow(self._document)
                except LostRecords as error:
                    logger.warning("%s: %s. The index is built anew", self._spec.key, error)
                    await self._mark_stale()
                    self._skip_lost = True
        finally:
            self._lead(frozenset())
            tasks = [*self._background]
            for task in tasks:
                # A second time would cut off what it closes.
                if not task.cancelling():
                    task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            await self._tools.letters.close()

    def update(self, document: ConsumerDocument) -> None:
        """Take a newer registration."""
        before = self._document
        self._document = document
        if before is None:
            return
        if before.generation != document.generation:
            self._changed.set()
        elif before.redrives != document.redrives and self._sink is not None:
            self._begin(self._redrive(self._sink, self._sink.shards))
        if before.request != document.request:
            self._wake.set()

    def report(self) -> Mapping[str, Any]:
        """Return what the worker reports of it; see `triggers.kinds.Runner`."""
        document, writer = self._document, self._writer
        progress = self._builder.progress
        held = {} if writer is None else writer.held_by_shard()
        error = self._error or (None if writer is None else writer.error)
        state = "running" if error is None else "waiting"
        if progress is not None:
            state = "building"
        shards = () if self._sink is None else self._sink.shards
        positions = {} if self._follower is None else dict(self._follower.positions)
        return {
            "generation": 0 if document is None else document.generation,
            "next": positions,
            "shards": {
                shard: {"in_flight": held.get(shard, 0), "retrying": 0, "parked": 0}
                for shard in sorted(shards)
            },
            "state": state,
            "error": error,
            "progress": progress,
            "failing": [],
        }

    # Following

    async def _follow(self, document: ConsumerDocument) -> None:
        """Follow the log for one generation, until another one is in force."""
        writer = BulkWriter(self._tools.client, self._spec.index, self._reject, self._tools.limits)
        sink = SearchSink(self._spec, self._table, writer, self._on_assigned)
        follower = Follower(
            self._tools.source,
            document.group(self._tools.region),
            wants=sink.wants,
            sink=sink,
            start=document.start,
            skip_lost=self._skip_lost,
            tracer=self._tools.tracer,
        )
        self._writer, self._sink, self._follower = writer, sink, follower
        following = asyncio.create_task(follower.run())
        changed = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait({following, changed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
            following.cancel()
            # Its own error is told below; a cancellation of ours ends it in good order.
            await asyncio.wait({following})
        with suppress(asyncio.CancelledError):
            following.result()

    def _on_assigned(self, shards: frozenset[int]) -> None:
        self._lead(shards)
        if shards and self._sink is not None:
            self._begin(self._redrive(self._sink, shards))

    async def _redrive(self, sink: SearchSink, shards: frozenset[int]) -> None:
        """Send again what was taken back from the dead letters."""
        assert self._document is not None
        await self._tools.letters.redrive(self._document, shards, sink.put)

    async def _reject(self, operation: Operation, rejection: Rejection) -> None:
        assert self._document is not None
        logger.warning(
            "%s: the document of %s is refused: %s: %s",
            self._spec.key,
            operation.subject.keys,
            rejection.kind,
            rejection.reason,
        )
        await self._tools.letters.add(self._document, operation.subject, rejection)

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s: %r", self._spec.key, error, exc_info=error)

    # Looking after the indexes

    def _lead(self, shards: frozenset[int]) -> None:
        """Begin or end looking after the indexes, by the shards that are here."""
        leads = _LEADING_SHARD in shards
        if leads and self._leading is None:
            self._leading = asyncio.create_task(self._look_after())
            self._background.add(self._leading)
            self._leading.add_done_callback(self._ended)
        elif not leads and self._leading is not None:
            self._leading.cancel()
            self._leading = None

    async def _look_after(self) -> None:
        ready = False
        while True:
            try:
                if not ready:
                    await self._prepare()
                    ready = True
                await self._look()
            except (*CLIENT_ERRORS, StreamtableError) as error:
                text = error_text(error) if isinstance(error, CLIENT_ERRORS) else str(error)
                if text != self._error:
                    logger.warning("%s: %s", self._spec.key, text)
                self._error = text
                pause_s = min(_RETRY_S, self._tools.look_s)
            else:
                self._error = None
                pause_s = self._tools.look_s
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            self._wake.clear()

    async def _prepare(self) -> None:
        """Put the templates, and bring the index that is served up to the declaration."""
        await self._indexes.put_templates()
        current = await self._indexes.current()
        if current is None:
            return
        refusal = await self._indexes.extend_mapping(current)
        if refusal is not None:
            what = f"can't take the declared mapping ({refusal})"
        elif current.fingerprint != self._spec.fingerprint:
            what = "was built with other settings, or by other code"
        else:
            return
        logger.warning(
            "%s: the index %s %s. To have it all as declared: streamtable search rebuild %s",
            self._spec.key,
            current.name,
            what,
            self._spec.key,
        )

    async def _look(self) -> None:
        """Do what is to be done with the indexes now."""
        if self._retired:
            await self._indexes.drop_retired()
            self._retired = False
        current = await self._indexes.current()
        table_id = await self._table.id()
        request = self._request()
        if table_id is not None and _is_due(current, table_id, request):
            build = "" if request is None else str(request["id"])
            keep = request is not None and bool(request.get("keep"))
            await self._builder.build(build, keep=keep)
            self._retired = True
            current = await self._indexes.current()
        if current is None:
            return
        if current.tail is not None:
            await self._builder.complete_tail(current)
        if request is not None and current.build == request["id"]:
            await self._finish(str(request["id"]))

    def _request(self) -> Mapping[str, Any] | None:
        """Return what is asked for and not carried out yet."""
        request = None if self._document is None else self._document.request
        if request is None or request.get("kind") != REBUILD or request["id"] == self._finished:
            return None
        return request

    async def _finish(self, request_id: str) -> None:
        document = self._document
        assert document is not None
        await self._tools.node.post(
            _CHANGE,
            {
                "app": document.app,
                "name": document.name,
                "action": "begin",
                "generation": document.generation,
                "start": {str(shard): offset for shard, offset in document.start.items()},
                "request_id": request_id,
            },
        )
        self._finished = request_id

    async def _mark_stale(self) -> None:
        """Note that the index must be built anew, before the log's loss is passed over."""
        while True:
            try:
                current = await self._indexes.current()
                if current is not None:
                    await self._indexes.note(replace(current, stale=True))
            except CLIENT_ERRORS as error:
                self._error = error_text(error)
                await asyncio.sleep(_RETRY_S)
            else:
                return


def _is_due(current: Current | None, table_id: str, request: Mapping[str, Any] | None) -> bool:
    """Whether an index is to be built from the table's rows."""
    if current is None or current.stale or current.table_id != table_id:
        return True
    return request is not None and current.build != request["id"]
