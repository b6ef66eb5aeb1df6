"""What a view is run with, in a worker."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from streamtable.consumers.triggers.state import StateStore
from streamtable.consumers.views.feed import Feed
from streamtable.consumers.views.mapping import MappingFailed
from streamtable.consumers.views.nodes import Node
from streamtable.consumers.views.sink import Reject
from streamtable.core.consumers import ConsumerDocument
from streamtable.streams.follower import Source
from streamtable.streams.records import LogRecord
from streamtable.streams.traces import Tracer

__all__ = ["RejectLetter", "ViewTools"]

RejectLetter = Callable[[ConsumerDocument, LogRecord, int, MappingFailed], Awaitable[None]]
"""Puts the change of a record with this index among the dead letters; durable on return."""


@dataclass(frozen=True, slots=True)
class ViewTools:
    """What a view is run with.

    Attributes:
        node: the node.
        source: the log.
        region: the region's name.
        shards: how many shards it has.
        worker_id: tells this worker from others.
        state: keeps what is known of builds.
        reject_letter: puts changes among the dead letters.
        rate: the most rows a second that a build may put, None without such a limit.
        tracer: told of the commits that are traced.
    """

    node: Node
    source: Source
    region: str
    shards: int
    worker_id: str
    state: StateStore
    reject_letter: RejectLetter | None = None
    rate: float | None = None
    tracer: Tracer | None = None

    def feed(self, table_id: str, *, exclusive: bool = False) -> Feed:
        """Return what feeds a table."""
        return Feed(self.node, table_id, self.shards, exclusive=exclusive)

    def reject(self, document: ConsumerDocument) -> Reject | None:
        """Return what puts a registered view's changes among the dead letters."""
        reject = self.reject_letter
        if reject is None:
            return None

        async def put(record: LogRecord, index: int, failure: MappingFailed) -> None:
            await reject(document, record, index, failure)

        return put
