"""What Elasticsearch refuses goes to the dead letters; what is redriven comes from there."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from streamtable.consumers.search.bulk import Rejection
from streamtable.consumers.search.operations import Subject
from streamtable.core.consumers import ConsumerDocument

__all__ = ["Letters", "Put"]

Put = Callable[[Subject, Callable[[], None]], Awaitable[None]]
"""Takes one version of an item, and what to call when it is handled."""


class Letters(Protocol):
    """The dead letters of a search index."""

    async def add(self, document: ConsumerDocument, subject: Subject, rejection: Rejection) -> None:
        """Put a version of an item among the dead letters; durable on return."""

    async def redrive(self, document: ConsumerDocument, shards: frozenset[int], put: Put) -> None:
        """Hand out again what was taken back from the dead letters."""
