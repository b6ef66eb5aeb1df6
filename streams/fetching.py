"""How aiokafka's consumers fetch, where it would end without a word.

Its own consumers can't be given another fetcher, so theirs is replaced.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import aiokafka.consumer.consumer
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher

__all__ = ["fetch_steadily"]


class _Fetcher(Fetcher):  # type: ignore[misc]  # aiokafka's classes have no types
    async def _proc_fetch_request(self, *arguments: Any) -> bool:
        try:
            return bool(await super()._proc_fetch_request(*arguments))
        except asyncio.CancelledError:
            # aiokafka sees to that while it waits for an answer, but not while it waits to ask
            # again. Whoever stops a consumer whose broker is away would take himself for cancelled.
            return False

    async def fetched_records(
        self, *arguments: Any, **named: Any
    ) -> Mapping[TopicPartition, Sequence[Any]]:
        fetching: asyncio.Task[None] = self._fetch_task
        if fetching.done() and not fetching.cancelled():
            # Nobody else looks at it, and waits for records that nobody fetches.
            fetching.result()
        found: Mapping[TopicPartition, Sequence[Any]]
        found = await super().fetched_records(*arguments, **named)
        return found


def fetch_steadily() -> None:
    """Have the consumers that aiokafka makes from now on fetch so."""
    aiokafka.consumer.consumer.Fetcher = _Fetcher
