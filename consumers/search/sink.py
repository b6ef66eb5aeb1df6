"""Follows the log for a search index: changes become operations on documents."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from streamtable.consumers.search.bulk import BulkWriter
from streamtable.consumers.search.operations import Subject, make_operation, subjects_of
from streamtable.consumers.search.present import PresentTable
from streamtable.consumers.search.spec import SearchSpec
from streamtable.streams.records import LogRecord

__all__ = ["SearchSink"]

logger = logging.getLogger(__name__)

_STOP_S: Final = 5.0
_REVOKE_S: Final = 5.0
_BREATH: Final = 250


class SearchSink:
    """A RecordSink that keeps an index as its table is.

    A record is done when Elasticsearch has taken, or refused for good, the documents of all its
    changes. Changes of one item are sent in the log's order, but may be on their way at the same
    time: their versions keep an older one from replacing a newer one.

    Args:
        spec: the search index.
        table: tells what is of a table that was deleted and made again: that is passed over.
        writer: takes the operations; it is started and closed by the sink.
        on_assigned: called with the shards whenever they change; none when it stops.
    """

    def __init__(
        self,
        spec: SearchSpec,
        table: PresentTable,
        writer: BulkWriter,
        on_assigned: Callable[[frozenset[int]], None],
    ) -> None:
        self._spec = spec
        self._table = table
        self._writer = writer
        self._on_assigned = on_assigned
        self._shards: frozenset[int] = frozenset()
        writer.start()

    @property
    def shards(self) -> frozenset[int]:
        """The shards that are here."""
        return self._shards

    def wants(self, tables: frozenset[str]) -> bool:
        """Say whether a commit that touches these tables is of interest."""
        return self._spec.table in tables

    async def take(self, record: LogRecord, done: Callable[[], None]) -> None:
        """Take a valid commit, in its shard's order; return when there is room for the next."""
        ticket = _Ticket(done)
        for index, subject in enumerate(subjects_of(record, self._spec.table), 1):
            if await self._table.has(subject.change()):
                await self.put(subject, ticket.begin())
            if index % _BREATH == 0:
                await asyncio.sleep(0)
        ticket.end()

    async def put(self, subject: Subject, done: Callable[[], None]) -> None:
        """Take one version of an item; `done` is called once, when it is handled."""
        operation, rejection = make_operation(self._spec, subject, done)
        if rejection is None:
            await self._writer.put(operation)
        else:
            await self._writer.reject(operation, rejection)

    async def assigned(self, shards: frozenset[int]) -> None:
        """Take note of the shards."""
        self._shards = shards
        self._on_assigned(shards)

    async def revoked(self, shards: frozenset[int]) -> None:
        """Forget what is in hand of shards that go; it comes again where they go to."""
        self._shards -= shards
        await self._writer.drop(shards, _REVOKE_S)

    async def stop(self) -> None:
        """Finish what is in hand, unless Elasticsearch does not take it; then it comes again."""
        self._on_assigned(frozenset())
        try:
            async with asyncio.timeout(0 if self._writer.error else _STOP_S):
                await self._writer.flush()
        except TimeoutError:
            logger.info(
                "%s: %d documents are left for the next start", self._spec.key, self._writer.held
            )
        await self._writer.close()


class _Ticket:
    """Calls back when everything that was begun is ended, and its maker has ended too."""

    __slots__ = ("_done", "_left")

    def __init__(self, done: Callable[[], None]) -> None:
        self._done = done
        self._left = 1

    def begin(self) -> Callable[[], None]:
        """Return what is to be called at the end of one thing."""
        self._left += 1
        return self.end

    def end(self) -> None:
        """End one thing."""
        self._left -= 1
        if self._left == 0:
            self._done()
