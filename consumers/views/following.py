"""Follows the log for one build of a view: a join in two stages, everything else in one."""

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from streamtable.consumers.views.builds import Build
from streamtable.consumers.views.feed import Feed
from streamtable.consumers.views.joins import JoinSink, SidesMapper, SidesSink
from streamtable.consumers.views.mapping import mapper_of
from streamtable.consumers.views.sink import ViewSink
from streamtable.consumers.views.specs import ViewSpec
from streamtable.consumers.views.tables import SIDES, STATE, part_name
from streamtable.consumers.views.tools import ViewTools
from streamtable.core.consumers import ConsumerDocument
from streamtable.streams.follower import Follower
from streamtable.streams.group_offsets import GroupOffsets
from streamtable.streams.reader import LogReader

__all__ = ["Following", "end_tasks"]


class Following:
    """Follows the log for a build. An async context manager.

    Args:
        spec: the view.
        tools: what it is run with.
        document: its registration.
        build: the build.

    Attributes:
        followers: the stages; the first one's positions are those of the view in its sources' log.
        feeds: what the stages feed.
    """

    def __init__(
        self, spec: ViewSpec, tools: ViewTools, document: ConsumerDocument, build: Build
    ) -> None:
        self.followers: list[Follower] = []
        self.feeds: list[Feed] = []
        self._spec = spec
        self._tools = tools
        self._document = document
        self._build = build
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        if self._spec.kind == "join":
            await self._open_join()
        else:
            self._open_view()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def run(self) -> None:
        """Follow until a stage, or a feed, fails; the others finish what they have.

        Raises:
            LostRecords: the log was cut before the view got there.
            Exception: what the follower of a stage, or its feed, has failed with.
        """
        tasks = [asyncio.create_task(follower.run()) for follower in self.followers]
        failing = [feed.failed for feed in self.feeds]
        waited: set[asyncio.Future[Any]] = {*tasks, *failing}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(tasks)
        for future in (*failing, *tasks):
            if future.done() and not future.cancelled():
                future.result()

    def _open_view(self) -> None:
        document, build, tools = self._document, self._build, self._tools
        feed = tools.feed(build.table_id)
        sink = ViewSink(mapper_of(self._spec), feed, build.source_ids, tools.reject(document))
        follower = Follower(
            tools.source,
            document.group(tools.region),
            wants=sink.wants,
            sink=sink,
            start=build.start,
            tracer=tools.tracer,
        )
        self.feeds, self.followers = [feed], [follower]

    async def _open_join(self) -> None:
        """Make the two stages, the first one feeding what the second one follows."""
        document, build, tools, stack = self._document, self._build, self._tools, self._stack
        source = tools.source
        group = document.group(tools.region)
        rows_group = f"{group}.rows"
        reader = await stack.enter_async_context(
            LogReader(source.address, source.topic, tools.shards)
        )
        offsets = GroupOffsets(source.address, source.topic)
        stack.push_async_callback(offsets.stop)
        sides, rows = tools.feed(build.parts[SIDES]), tools.feed(build.table_id)
        state = tools.feed(build.parts[STATE], exclusive=True)
        asking = asyncio.Lock()

        async def log_ends() -> dict[int, int]:
            async with asking:
                return {shard: span.end for shard, span in (await reader.spans()).items()}

        async def passed() -> dict[int, int]:
            known = dict(second.positions)
            if len(known) < tools.shards:
                known = {**await offsets.committed(rows_group), **known}
            return known

        first_sink = SidesSink(
            ViewSink(SidesMapper(self._spec, build.sources), sides, build.source_ids),
            sides,
            passed=passed,
            log_ends=log_ends,
        )
        sides_name = part_name(self._spec.name, build.generation, SIDES)
        second_sink = JoinSink(
            self._spec,
            rows=rows,
            state=state,
            node=tools.node,
            state_name=part_name(self._spec.name, build.generation, STATE),
            sides=(sides_name, build.parts[SIDES]),
            shards=tools.shards,
            reject=tools.reject(document),
        )
        first = Follower(
            source,
            group,
            wants=first_sink.wants,
            sink=first_sink,
            start=build.start,
            tracer=tools.tracer,
        )
        second = Follower(
            source,
            rows_group,
            wants=second_sink.wants,
            sink=second_sink,
            start=build.rows_start,
            tracer=tools.tracer,
        )
        self.feeds, self.followers = [sides, rows, state], [first, second]


async def end_tasks(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks, once, and wait until they have ended, also when this is cancelled meanwhile.

    A follower that is cut off while it leaves its group would keep its shards for a while.
    """
    pending = set(tasks)
    for task in pending:
        task.cancel()
    cancelled = False
    while pending:
        try:
            _, pending = await asyncio.wait(pending)
        except asyncio.CancelledError:
            cancelled = True
            pending = {task for task in pending if not task.done()}
    if cancelled:
        raise asyncio.CancelledError
