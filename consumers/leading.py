"""Work that one node of a region does for all of them."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Generic, TypeVar

from streamtable.core.errors import StreamtableError

__all__ = ["Leading"]

logger = logging.getLogger(__name__)

_FIRST: Final = 0
_RETRY_S: Final = 0.5
_LONGEST_S: Final = 8.0

WorkT = TypeVar("WorkT")


class Leading(ABC, Generic[WorkT]):
    """Does what the catalog says is unfinished, on the node that owns the first shard.

    Each piece of work can be done twice: it is begun anew where a node stops in the middle, and
    for a moment two nodes may take themselves for the one.

    Args:
        leads: says whether this node owns a shard.
    """

    def __init__(self, leads: Callable[[int], bool]) -> None:
        self._leads = leads
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._attending: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Look after the work until `stop`."""
        self._wake.set()
        self._task = asyncio.create_task(self._run())

    def look(self, shard: int) -> None:
        """Look after it from now on, if that shard is the one whose owner does."""
        if shard == _FIRST:
            self._wake.set()

    async def stop(self) -> None:
        """Stop; what is not done is done after the next start."""
        tasks = [*self._attending.values()]
        if self._task is not None:
            tasks.append(self._task)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @abstractmethod
    def _unfinished(self) -> Mapping[str, WorkT]:
        """Return what is to be done, by names of its own."""

    @abstractmethod
    async def _finish(self, work: WorkT) -> None:
        """Do a piece of work; it is not among the unfinished any more then.

        Raises:
            StreamtableError: it is to be tried again.
        """

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self._leads(_FIRST):
                continue
            for name in self._unfinished():
                if name not in self._attending:
                    task = asyncio.create_task(self._attend(name))
                    self._attending[name] = task
                    task.add_done_callback(partial(self._attended, name))

    def _attended(self, name: str, _task: asyncio.Task[None]) -> None:
        del self._attending[name]
        self._wake.set()

    async def _attend(self, name: str) -> None:
        wait_s = _RETRY_S
        while self._leads(_FIRST):
            unfinished = self._unfinished()
            if name not in unfinished:
                return
            try:
                await self._finish(unfinished[name])
            except StreamtableError as error:
                logger.info("%s: %s; trying again", name, error)
            except Exception:
                logger.exception("%s is not finished, trying again", name)
            else:
                continue
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_S)
