"""What Elasticsearch refuses goes to the dead letters; what is redriven comes back from there."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol

from streamtable.consumers.dead_letters import (
    DeadLetter,
    DeadLetterReader,
    DeadLetterWriter,
    LetterGone,
)
from streamtable.consumers.search.bulk import Rejection
from streamtable.consumers.search.operations import Subject, subject_of
from streamtable.consumers.triggers.entries import PARKED
from streamtable.consumers.triggers.state import StateStore
from streamtable.consumers.views.nodes import Node, tells_of_no_table
from streamtable.core.consumers import ConsumerDocument
from streamtable.core.errors import StreamtableError
from streamtable.streams.log import LogUnavailable

__all__ = ["Letters", "Put", "SearchLetters"]

logger = logging.getLogger(__name__)

Put = Callable[[Subject, Callable[[], None]], Awaitable[None]]
"""Takes one version of an item, and what to call when it is handled."""

_RETRY_S: Final = 1.0


class Letters(Protocol):
    """The dead letters of a search index."""

    async def add(self, document: ConsumerDocument, subject: Subject, rejection: Rejection) -> None:
        """Put a version of an item among the dead letters; durable on return."""

    async def redrive(self, document: ConsumerDocument, shards: frozenset[int], put: Put) -> None:
        """Hand out again what was taken back from the dead letters."""

    async def close(self) -> None:
        """Let go of what is open."""


class SearchLetters:
    """The dead letters of a search index, in the region's topic.

    Args:
        state: has what was taken back.
        writer: appends to the topic.
        reader: reads it.
        node: knows the items as they are now.
    """

    def __init__(
        self, state: StateStore, writer: DeadLetterWriter, reader: DeadLetterReader, node: Node
    ) -> None:
        self._state = state
        self._writer = writer
        self._reader = reader
        self._node = node
        self._saving: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Let go of the brokers."""
        for task in self._saving:
            task.cancel()
        await self._reader.close()

    async def add(self, document: ConsumerDocument, subject: Subject, rejection: Rejection) -> None:
        """Put a version of an item among the dead letters; durable on return.

        Raises:
            LogUnavailable: the brokers do not answer; it may be there or not.
        """
        error = {
            "type": rejection.kind,
            "message": rejection.reason,
            "trace": rejection.trace,
        }
        letter = DeadLetter.rejected(document, subject.change(), subject.position, error)
        await self._writer.add(letter)

    async def redrive(self, document: ConsumerDocument, shards: frozenset[int], put: Put) -> None:
        """Hand out again what was taken back from the dead letters.

        An item that is not there any more is removed from the index instead: Elasticsearch may
        have forgotten by now that it was.
        """
        for shard in sorted(shards):
            owner = document.owner(shard)
            for name, value in (await self._persist(partial(self._state.load, owner))).items():
                if not name.startswith(PARKED) or not value["letter"]:
                    continue
                subject = await self._read(value["letter"])
                done = partial(self._settled, owner, name)
                if subject is None:
                    done()
                else:
                    await put(subject, done)

    async def _read(self, place: list[int]) -> Subject | None:
        partition, offset = place
        try:
            letter = await self._persist(partial(self._reader.read, partition, offset))
        except LetterGone as error:
            logger.warning("%s", error)
            return None
        change = letter.content()
        if change is None:
            return None
        subject = subject_of(change, letter.position)
        if subject.item is not None:
            ask: Mapping[str, Any] = {
                "TableName": change.table,
                "Key": change.keys,
                "ConsistentRead": True,
            }
            answer = await self._persist(partial(self._get, ask))
            if "Item" not in answer:
                subject = replace(subject, item=None)
        return subject

    async def _get(self, ask: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await self._node.call("GetItem", ask)
        except StreamtableError as error:
            if not tells_of_no_table(error):
                raise
            return {}

    def _settled(self, owner: str, name: str) -> None:
        """Forget what was taken back: it is in the index, or among the dead letters again."""
        forget = partial(self._state.save, owner, {name: None})
        task = asyncio.create_task(self._persist(forget))
        self._saving.add(task)
        task.add_done_callback(self._saving.discard)

    async def _persist(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        while True:
            try:
                return await ask()
            except (LogUnavailable, ConnectionError) as error:
                logger.info("the dead letters: %s", error)
                await asyncio.sleep(_RETRY_S)
