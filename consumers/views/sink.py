"""Follows the log for a view: changes become operations, and those are fed to its table."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final

import orjson

from streamtable.consumers.views.feed import Feed, place_of
from streamtable.consumers.views.mapping import Mapper, MappingFailed
from streamtable.consumers.views.operations import Operation
from streamtable.core.errors import StreamtableError
from streamtable.streams.records import LogRecord

__all__ = ["Reject", "SourceReplaced", "ViewSink", "ViewStopped"]

logger = logging.getLogger(__name__)

_STOP_S: Final = 10.0
_YIELD_CHANGES: Final = 500

Reject = Callable[[LogRecord, int, MappingFailed], Awaitable[None]]
"""Puts the change of this index among the dead letters; it is durable on return."""


class ViewStopped(StreamtableError):
    """A view can't go on after a change; `__cause__` says why, the text says where.

    Nothing of the change was skipped: it comes again when the view is run again.
    """


class SourceReplaced(StreamtableError):
    """A source of a view is another table than the view was built from: it must be built anew."""


class ViewSink:
    """A RecordSink that feeds a view or an aggregate.

    A record is done when everything that follows from it is durable in the view.

    Args:
        mapper: makes operations of changes.
        feed: takes them.
        sources: names of the tables that the view follows from, each with the id of the one that
            it was built from.
        reject: puts changes among the dead letters, for a view that goes on without them.
    """

    def __init__(
        self,
        mapper: Mapper,
        feed: Feed,
        sources: Mapping[str, str],
        reject: Reject | None = None,
    ) -> None:
        self._mapper = mapper
        self._feed = feed
        self._sources = dict(sources)
        self._names = frozenset(sources)
        self._reject = reject
        self.changes = 0
        """Changes of the sources that were taken."""

    def wants(self, tables: Collection[str]) -> bool:
        """Say whether a commit that touches these tables is of interest."""
        return not self._names.isdisjoint(tables)

    async def take(self, record: LogRecord, done: Callable[[], None]) -> None:
        """Take a valid commit, in its shard's order; return when there is room for the next.

        Raises:
            SourceReplaced: a source was deleted and made again.
            ViewStopped: the view's function failed.
            StreamtableError: feeding has failed.
        """
        await self._feed.room()
        steps: list[tuple[tuple[int, int], list[Operation]]] = []
        failures: list[tuple[int, MappingFailed]] = []
        for index, change in enumerate(orjson.loads(record.value)["changes"]):
            expected = self._sources.get(change["table"])
            if expected is None:
                continue
            if change["tableId"] != expected:
                raise SourceReplaced(f"the table {change['table']} was deleted and made again")
            images = change["dynamodb"]
            try:
                planned = self._mapper.plan(
                    change["table"], images.get("OldImage"), images.get("NewImage")
                )
            except MappingFailed as error:
                raise ViewStopped(_where(record, index, change, error)) from error.__cause__
            if planned.operations:
                steps.append((place_of(record.offset, index), planned.operations))
            if planned.failure is not None:
                failures.append((index, planned.failure))
            self.changes += 1
            if index % _YIELD_CHANGES == _YIELD_CHANGES - 1:
                await asyncio.sleep(0)
        for index, failure in failures:
            if self._reject is not None:
                await self._reject(record, index, failure)
        self._feed.push(record.shard, steps, done)

    async def assigned(self, shards: frozenset[int]) -> None:
        """Ask how far the view is fed from shards that are new here."""
        await asyncio.gather(*(self._feed.open(shard) for shard in shards))

    async def revoked(self, shards: frozenset[int]) -> None:
        """Leave shards: nothing of them runs when this returns."""
        await asyncio.gather(*(self._feed.close(shard) for shard in shards))

    async def stop(self) -> None:
        """Finish what is in hand, within a time limit; what is left comes again."""
        try:
            async with asyncio.timeout(_STOP_S):
                await self._feed.drained()
        except (TimeoutError, StreamtableError) as error:
            logger.debug("a view stops with rows in hand: %r", error)
        await self._feed.stop()


def _where(record: LogRecord, index: int, change: Mapping[str, Any], error: MappingFailed) -> str:
    keys = ", ".join(
        f"{name}={next(iter(value.values()))!r}"
        for name, value in change["dynamodb"]["Keys"].items()
    )
    return (
        f"{change['eventName']} in {change['table']}, {keys}, shard {record.shard}, offset "
        f"{record.offset}, index {index}: {error}"
    )
