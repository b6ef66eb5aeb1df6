"""Work that goes on beside everything else that a node does."""

import asyncio
from abc import ABC, abstractmethod

__all__ = ["Background"]


class Background(ABC):
    """Runs from `start` to `stop`, whatever the node does meanwhile."""

    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Run until `stop`."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop at once; what is left is done after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @abstractmethod
    async def _run(self) -> None:
        """Do the work; it is cancelled to be stopped."""
