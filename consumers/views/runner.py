"""Runs one view in a worker: builds it where it has to be, and follows the log for it.

A view's table is made by a build, see `filler`, and from there on it is fed by all workers of the
app, which share the shards. A build is a new generation, with tables of its own; the one before
goes on until the new one takes its place.

1. The first worker that gets the lease builds. It notes the generation before anything of it is
   there, so that no other build has its number.
2. When the new table is whole, that is noted with the offsets up to which it is.
3. The tables are swapped: clients read the new one.
4. The registration says that this generation is the one to follow, from these offsets.

A worker that dies before 2 leaves tables that the next build removes. One that dies later leaves
the rest to whoever sees it first: what clients read says which generation it is.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from streamtable.consumers.views.builds import Build, Builds, SourceTable
from streamtable.consumers.views.feed import Fenced, ShardsChanged, ViewGone
from streamtable.consumers.views.filler import Filler
from streamtable.consumers.views.following import Following, end_tasks
from streamtable.consumers.views.joins import SidesMapper
from streamtable.consumers.views.lease import Lease, LeaseLost
from streamtable.consumers.views.mapping import mapper_of
from streamtable.consumers.views.progress import Progress, Throttle
from streamtable.consumers.views.sink import SourceReplaced
from streamtable.consumers.views.specs import ViewSpec
from streamtable.consumers.views.tables import SIDES, STATE, ViewTables
from streamtable.consumers.views.tools import ViewTools
from streamtable.core.consumers import ConsumerDocument
from streamtable.core.errors import StreamtableError
from streamtable.streams.follower import Follower, LostRecords
from streamtable.streams.log import LogUnavailable
from streamtable.streams.reader import LogReader

__all__ = ["ViewRunner"]

logger = logging.getLogger(__name__)

_CHANGE: Final = "/_streamtable/consumers/change"
_LOOK_S: Final = 3.0
_RETRY_S: Final = 0.5
_LEASE_S: Final = 1.0
_AGED_ROWS: Final = "rows of items that do not change stay as the code before made them"
_AGED_GROUPS: Final = (
    "what items contributed by the code before is taken back as the code now has it, so groups of "
    "items for which that differs are wrong until it is rebuilt"
)
_CLOSE_RECORDS: Final = 200
_BUILD_IN_FLIGHT: Final = 3


class _Again(Exception):
    """What a view is fed from, or into, has changed: what there is is looked at anew."""


_PASSING: Final = (_Again, ViewGone, SourceReplaced, Fenced, LeaseLost, ShardsChanged)


class ViewRunner:
    """Runs one view in this worker. Other workers run it too: one builds, all follow.

    Args:
        spec: the view.
        tools: what it is run with.
    """

    def __init__(self, spec: ViewSpec, tools: ViewTools) -> None:
        self._spec = spec
        self._tools = tools
        self._tables = ViewTables(tools.node, spec)
        self._lease = Lease(tools.node, spec.key, tools.worker_id)
        self._document: ConsumerDocument | None = None
        self._changed = asyncio.Event()
        self._build: Build | None = None
        self._progress: Progress | None = None
        self._following: Following | None = None
        self._state: Literal["running", "building", "waiting"] = "waiting"
        self._error: str | None = None
        self._warned = False
        # The last generation for which the log has lost changes, and which.
        self._lost: tuple[int, str] | None = None

    # What the worker sees

    def update(self, document: ConsumerDocument) -> None:
        """Take a newer registration."""
        before = self._document
        if before is None or document.generation >= before.generation:
            self._document = document
        if before is None or (before.generation, before.request) != (
            document.generation,
            document.request,
        ):
            self._changed.set()

    def report(self) -> dict[str, Any]:
        """Return where the view stands in this worker."""
        document, following = self._document, self._following
        return {
            "generation": document.generation if document is not None else 0,
            "next": {} if following is None else dict(following.followers[0].positions),
            "in_flight": 0 if following is None else sum(each.pending for each in following.feeds),
            "parked": 0,
            "state": self._state,
            "error": self._error,
            "progress": None if self._progress is None else self._progress.report(),
        }

    async def run(self, document: ConsumerDocument) -> None:
        """Run the view until cancelled; then finish what is in hand.

        Raises:
            ConnectionError: the node is away.
            LogUnavailable: the log is away.
            StreamtableError: what stopped the view.
        """
        self.update(document)
        try:
            while True:
                self._changed.clear()
                await self._run_once()
        finally:
            await self._lease.release()

    async def _run_once(self) -> None:
        """Follow and build as things are; return when they are not so any more."""
        document = self._now()
        try:
            build, why = await self._look(document)
            await self._run_tasks(document, build, why)
        except _PASSING as error:
            logger.info("%s: %s", self._spec.key, str(error) or "something has changed")
            await asyncio.sleep(_RETRY_S)

    async def _run_tasks(
        self, document: ConsumerDocument, build: Build | None, why: str | None
    ) -> None:
        watching = asyncio.create_task(self._until_changed(document, build))
        following = None if build is None else asyncio.create_task(self._follow(build))
        building = None if why is None else asyncio.create_task(self._rebuild(why))
        tasks = {task for task in (watching, following, building) if task is not None}
        pending = set(tasks)
        try:
            while True:
                finished, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                if building in finished:
                    assert building is not None
                    error = building.exception()
                    if error is None or following not in pending or not _is_final(error):
                        return building.result()
                    # What there is goes on.
                    self._error, self._state = str(error), "running"
                if following in finished:
                    assert following is not None
                    if building not in pending:
                        return following.result()
                    logger.info("%s: %s", self._spec.key, following.exception())
                # What has changed while this worker builds is seen to after that.
                if watching.done() and not (building in pending and self._lease.held):
                    return watching.result()
        finally:
            await end_tasks(tasks)

    # What there is

    async def _look(self, document: ConsumerDocument) -> tuple[Build | None, str | None]:
        """Return the build to follow, if there is one, and why a new one is wanted, if it is."""
        builds = Builds(self._tools.state, self._spec, document)
        known = await builds.all()
        serving = await self._tables.describe(self._spec.name)
        build = known.get(document.generation)
        if build is None or build.state != "built":
            build = None
        if serving is not None and (build is None or build.table_id != serving.source.id):
            build = await self._adopt(known, serving.source.id)
        request = document.request or {}
        wanted = request.get("kind") == "rebuild"
        if wanted and build is not None and build.request_id == request.get("id"):
            await self._begin(build)  # it was cut off before that
            raise _Again
        if build is None:
            return None, "it is not built yet" if not known else "its table is gone"
        if serving is None:
            return None, "its table was deleted"
        for name, source in build.sources.items():
            found = await self._tables.describe(name)
            if found is not None and found.source.id != source.id:
                return None, f"{name} was deleted and made again"
        if self._lost is not None and self._lost[0] == build.generation:
            return None, self._lost[1]
        if build.fingerprint != self._spec.fingerprint:
            if wanted:
                return None, "it was asked for"
            self._error = (
                f"{self._spec.key} is declared otherwise than when it was built (its key, its "
                "sources or its measures), so its rows can't be gone on with. Rebuild it: "
                f"streamtable views rebuild {self._spec.name}"
            )
            logger.error("%s", self._error)
            self._state = "waiting"
            await self._changed.wait()
            self._error = None
            raise _Again
        if build.code != self._spec.code and not self._warned:
            self._warned = True
            logger.warning(
                "the code of %s has changed: %s. For rows by the new code: "
                "streamtable views rebuild %s",
                self._spec.key,
                _AGED_GROUPS if self._spec.kind == "aggregate" else _AGED_ROWS,
                self._spec.name,
            )
        return build, "it was asked for" if wanted else None

    async def _adopt(self, known: Mapping[int, Build], table_id: str) -> Build | None:
        """Find the build whose table clients read, and see that the registration names it."""
        for build in known.values():
            if build.table_id == table_id and build.state == "built":
                if build.generation > self._now().generation:
                    await self._begin(build)
                return build if build.generation == self._now().generation else None
        return None

    def _now(self) -> ConsumerDocument:
        assert self._document is not None
        return self._document

    async def _until_changed(self, document: ConsumerDocument, build: Build | None) -> None:
        """Return when the registration has changed, or what the view is made of."""
        while True:
            now = self._now()
            asked = now.request is not None and now.request != document.request
            if asked or now.generation != document.generation:
                return
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._changed.wait()
            except TimeoutError:
                if build is not None and not await self._is_there(build):
                    return
                continue
            self._changed.clear()

    async def _is_there(self, build: Build) -> bool:
        """Say whether a build's table and those that it follows from are there as they were."""
        try:
            serving = await self._tables.describe(self._spec.name)
            found = {name: await self._tables.describe(name) for name in build.sources}
        except ConnectionError:
            return True
        replaced = any(
            described is not None and described.source.id != build.sources[name].id
            for name, described in found.items()
        )
        return serving is not None and serving.source.id == build.table_id and not replaced

    async def _follow(self, build: Build) -> None:
        """Follow the log for a build; ends only by raising."""
        if self._progress is None:
            self._state = "running"
        async with Following(self._spec, self._tools, self._now(), build) as following:
            self._following = following
            try:
                await following.run()
            except LostRecords as error:
                # What it is made of is still there, so nothing is lost but time.
                self._lost = (build.generation, str(error))
                raise _Again(str(error)) from error
            finally:
                if self._following is following:
                    self._following = None

    # Building

    async def _rebuild(self, why: str) -> None:
        """Build the view anew, when this worker may; return when that is done, by whomever."""
        self._state = "building"
        self._progress = Progress()
        try:
            while not await self._lease.acquire():  # noqa: ASYNC110 - the other worker tells nobody
                await asyncio.sleep(_LEASE_S)
            # Another worker may have been faster.
            builds = Builds(self._tools.state, self._spec, self._now())
            serving = await self._tables.describe(self._spec.name)
            known = await builds.all()
            if serving is not None:
                for build in known.values():
                    newer = build.generation > self._now().generation
                    if newer and build.state == "built" and build.table_id == serving.source.id:
                        await self._begin(build)
                        return
            logger.info("%s is being built: %s", self._spec.key, why)
            await self._build_generation(builds, known)
        finally:
            self._progress = None
            self._state = "running"
            await self._lease.release()

    async def _build_generation(self, builds: Builds, known: Mapping[int, Build]) -> None:
        document = self._now()
        request = document.request or {}
        if request.get("kind") != "rebuild":
            request = {}
        sources, items = await self._find_sources()
        generation = max([document.generation, *known]) + 1
        build = Build(
            generation,
            sources=sources,
            fingerprint=self._spec.fingerprint,
            code=self._spec.code,
            request_id=request.get("id"),
        )
        await builds.save(build)
        for old in known.values():
            if old.state == "building":
                await self._tables.drop(old.generation)
                await builds.forget(old.generation)
        try:
            build = await self._fill(build, items, request.get("as_of_ms"), builds)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            logger.warning("%s could not be built: %s", self._spec.key, error)
            await self._lease.confirm()
            if _is_final(error):
                # It stays noted: its number, and so its consumer groups, are not used again.
                await self._tables.drop(generation)
                await self._take_back(request)
            raise
        await self._begin(build)
        await self._clear_away(document, builds, known)
        logger.info("%s is built: generation %d", self._spec.key, generation)

    async def _clear_away(
        self, document: ConsumerDocument, builds: Builds, known: Mapping[int, Build]
    ) -> None:
        """Remove what is left of earlier generations, and of a view that was renamed."""
        for old in known.values():
            if old.state == "built":
                await self._tables.drop(old.generation)
                await builds.forget(old.generation)
        for name in document.formerly:
            left = await self._tables.describe(name)
            if left is not None and left.source.id in {old.table_id for old in known.values()}:
                await self._tables.delete(name)

    async def _find_sources(self) -> tuple[dict[str, SourceTable], int]:
        """Return the sources, and how many items they have; wait until they are there."""
        told = False
        while True:
            found = {name: await self._tables.describe(name) for name in self._spec.sources}
            missing = [
                name
                for name, described in found.items()
                if described is None or not described.serving
            ]
            if not missing:
                tables = {name: each for name, each in found.items() if each is not None}
                items = sum(each.items for each in tables.values())
                return {name: each.source for name, each in tables.items()}, items
            self._state = "waiting"
            self._error = f"there is no table {', '.join(missing)} yet"
            if not told:
                logger.warning("%s waits: %s", self._spec.key, self._error)
                told = True
            await asyncio.sleep(_RETRY_S)

    async def _fill(self, build: Build, items: int, as_of_ms: int | None, builds: Builds) -> Build:
        """Fill the tables of a generation and have clients read them."""
        self._state, self._error = "building", None
        generation = build.generation
        build = replace(build, table_id=await self._tables.create(generation))
        if self._spec.kind == "join":
            return await self._fill_join(build, items, as_of_ms, builds)
        start = await self._fill_table(build, build.table_id, items, as_of_ms)
        build = replace(build, state="built", start=start)
        await self._swap(build, builds)
        return build

    async def _fill_join(
        self, build: Build, items: int, as_of_ms: int | None, builds: Builds
    ) -> Build:
        """Fill `sides` as any view; then let the second stage follow it from its beginning."""
        rows_start = await self._log_ends()
        parts = {part: await self._tables.create(build.generation, part) for part in (SIDES, STATE)}
        build = replace(build, parts=parts, rows_start=rows_start)
        start = await self._fill_table(build, parts[SIDES], items, as_of_ms)
        build = replace(build, state="built", start=start)
        document = self._now().model_copy(update={"generation": build.generation})
        async with Following(self._spec, self._tools, document, build) as second:
            following = asyncio.create_task(second.run())
            closing = asyncio.create_task(self._until_close(second.followers[1], rows_start))
            both: set[asyncio.Task[None]] = {following, closing}
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    following.result()
                await self._swap(build, builds)
            finally:
                await end_tasks(both)
        return build

    async def _until_close(self, follower: Follower, start: Mapping[int, int]) -> None:
        """Return when the second stage of a join is close to the log's end."""
        assert self._progress is not None
        self._progress.begin("pairs")
        while True:
            ends = await self._log_ends()
            positions = follower.positions
            behind = sum(end - positions.get(shard, start[shard]) for shard, end in ends.items())
            done = sum(positions.get(shard, at) - at for shard, at in start.items())
            self._progress.done, self._progress.total = done, done + behind
            if len(positions) == len(ends) and behind <= _CLOSE_RECORDS:
                return
            await asyncio.sleep(_RETRY_S)

    async def _log_ends(self) -> dict[int, int]:
        source = self._tools.source
        async with LogReader(source.address, source.topic, self._tools.shards) as reader:
            return {shard: span.end for shard, span in (await reader.spans()).items()}

    async def _fill_table(
        self, build: Build, table_id: str, items: int, as_of_ms: int | None
    ) -> dict[int, int]:
        assert self._progress is not None
        is_join = self._spec.kind == "join"
        feed = self._tools.feed(table_id)
        feed.limit_in_flight(_BUILD_IN_FLIGHT)
        filler = Filler(
            mapper=SidesMapper(self._spec, build.sources) if is_join else mapper_of(self._spec),
            feed=feed,
            sources=build.sources,
            node=self._tools.node,
            log=self._tools.source,
            progress=self._progress,
            throttle=Throttle((self._now().request or {}).get("rate") or self._tools.rate),
            reject=self._tools.reject(self._now()),
            as_of_ms=as_of_ms,
        )
        try:
            return await filler.fill(items)
        finally:
            await feed.stop()

    async def _swap(self, build: Build, builds: Builds) -> None:
        """Note that a build is whole, and have clients read it."""
        assert self._progress is not None
        self._progress.begin("swap")
        await self._lease.confirm()
        await self._patiently(lambda: self._check_sources(build))
        await builds.save(build)
        await self._patiently(lambda: self._tables.swap(build.generation))

    async def _patiently(self, ask: Callable[[], Awaitable[None]]) -> None:
        """Ask the node for something, again while it is away."""
        while True:
            try:
                return await ask()
            except ConnectionError as error:
                logger.debug("%s can't be swapped, trying again: %s", self._spec.key, error)
                await asyncio.sleep(_RETRY_S)
                await self._lease.confirm()

    async def _check_sources(self, build: Build) -> None:
        """Check that what a build has read are still the sources, so that it has read all of them.

        Raises:
            SourceReplaced: one was deleted and made again; of a view, it was built anew.
        """
        for name, source in build.sources.items():
            found = await self._tables.describe(name)
            if found is not None and found.source.id != source.id:
                raise SourceReplaced(f"{name} was deleted and made again")

    async def _begin(self, build: Build) -> None:
        """Have the registration say that this generation is the one to follow."""
        body = {
            "app": self._spec.app,
            "name": self._spec.name,
            "action": "begin",
            "generation": build.generation,
            "start": {str(shard): offset for shard, offset in build.start.items()},
            "request_id": build.request_id,
        }
        answer = await self._tools.node.post(_CHANGE, body)
        known = ConsumerDocument.model_fields
        self.update(
            ConsumerDocument.model_validate(
                {name: value for name, value in answer.items() if name in known}
            )
        )

    async def _take_back(self, request: Mapping[str, Any]) -> None:
        """Take a request off that can't be carried out, so that it is not tried for ever."""
        document = self._now()
        if request and document.generation:
            start = document.start
            await self._begin(Build(document.generation, start=start, request_id=request.get("id")))


def _is_final(error: BaseException) -> bool:
    """Say whether trying again would end in the same way."""
    again = (*_PASSING, ConnectionError, LogUnavailable)
    return isinstance(error, StreamtableError) and not isinstance(error, again)
