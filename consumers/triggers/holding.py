"""What one shard of a trigger keeps in the state store, for as long as this worker has it."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar
from uuid import uuid4

from streamtable.consumers.triggers.clock import pause
from streamtable.consumers.triggers.engine import Engine
from streamtable.consumers.triggers.state import HOLDER, HeldByAnother
from streamtable.core.errors import StreamtableError

__all__ = ["Holding"]

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

_RETRY_S: Final = 1.0


class Holding:
    """Reads and writes a shard's values, however long the store takes to answer.

    Args:
        number: the shard.
        engine: the trigger.

    Attributes:
        closing: the shard is being let go: what fails now is not tried again.
    """

    def __init__(self, number: int, engine: Engine) -> None:
        self.closing = False
        self._number = number
        self._engine = engine
        self._owner = f"{engine.owner}/{number}"
        self._holder = uuid4().hex

    async def take(self) -> dict[str, dict[str, Any]]:
        """Return the values; from now on nobody else can write them.

        Whoever had the shard before may only be frozen, and go on.

        Raises:
            StreamtableError: it failed, and the shard is being let go.
        """
        store = self._engine.store
        await self._insist(lambda: store.save(self._owner, {HOLDER: {"id": self._holder}}))
        return await self.load()

    async def load(self) -> dict[str, dict[str, Any]]:
        """Return the values; raises what `take` does."""
        return await self._insist(lambda: self._engine.store.load(self._owner))

    async def save(self, rows: Mapping[str, dict[str, Any] | None]) -> None:
        """Store values, None removes one.

        Raises:
            HeldByAnother: another worker has taken over the shard.
            StreamtableError: it failed, and the shard is being let go.
        """
        await self._insist(lambda: self._engine.store.save(self._owner, rows, self._holder))

    async def _insist(self, action: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Have the store do something; whether a failed attempt has done it is not known."""
        while True:
            try:
                return await action()
            except StreamtableError as error:
                if self.closing or isinstance(error, HeldByAnother):
                    raise
                logger.warning(
                    "%s: the state of shard %d can't be read or stored: %s",
                    self._engine.name,
                    self._number,
                    error,
                )
                await pause(self._engine.clock, _RETRY_S)
