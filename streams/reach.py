"""Whether this node reaches the brokers that others reach.

A node that is cut off from one broker alone stays a member of its group, and those of its shards
that need the broker wait: the group hears the node, and can't be told that others should have them.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from streamtable.core.errors import StreamtableError
from streamtable.streams.background import Background
from streamtable.streams.unreachable import look_at_brokers

__all__ = ["CutOff", "Reach"]

logger = logging.getLogger(__name__)

REACHED: Final = "reached"
"""The call with which another node is asked for the numbers of the brokers that it reaches."""

_LOOK_S: Final = 1.0
# A shard that moves, or whose broker is lost, is served again sooner, most of the time.
_WAITED_S: Final = 5.0
# A broker that comes back is not reached by all in the same moment.
_SURE_S: Final = 3.0


class CutOff(StreamtableError, OSError):
    """This node does not reach a broker, and others do."""


class Reach(Background):
    """Ends this node where shards wait for a broker that other nodes reach.

    All of its shards go to others then. When it is started again it waits for the broker before it
    has any (`unreachable.check_brokers`).

    Args:
        address: the brokers, `host:port,...`.
        waiting: which shards this node has and does not serve.
        ask_others: calls all other nodes, and returns their answers, None for each that has none.
        fail: told of `CutOff`.
    """

    def __init__(
        self,
        *,
        address: str,
        waiting: Callable[[], Iterable[int]],
        ask_others: Callable[[str], Awaitable[list[Any]]],
        fail: Callable[[BaseException], None],
    ) -> None:
        self.calls = {REACHED: self._tell}
        self._address = address
        self._waiting = waiting
        self._ask_others = ask_others
        self._fail = fail
        self._since: dict[int, float] = {}

    async def _tell(self, _arguments: Any) -> list[int]:
        found = await look_at_brokers(self._address)
        return [number for number, why in found.items() if why is None]

    async def _run(self) -> None:
        cut_since: dict[int, float] = {}
        while True:
            await asyncio.sleep(_LOOK_S)
            found = await self._cut_off() if self._stuck(_LOOK_S) else {}
            now = time.monotonic()
            cut_since = {number: cut_since.get(number, now) for number in found}
            stuck = self._stuck(_WAITED_S)
            for number, since in cut_since.items():
                if stuck and now - since > _SURE_S:
                    self._fail(
                        CutOff(
                            f"{found[number]}. Other nodes reach it, and shards wait for it here: "
                            f"{', '.join(map(str, stuck))}. They are left to the other nodes"
                        )
                    )
                    return

    def _stuck(self, for_s: float) -> list[int]:
        """Return the shards that have waited for so long."""
        now = time.monotonic()
        self._since = {number: self._since.get(number, now) for number in self._waiting()}
        return sorted(number for number, at in self._since.items() if now - at > for_s)

    async def _cut_off(self) -> dict[int, str]:
        """Return why brokers are not reached, of those that others reach."""
        own = {n: why for n, why in (await look_at_brokers(self._address)).items() if why}
        if not own:
            return {}
        reached = {n for theirs in await self._ask_others(REACHED) for n in theirs or ()}
        return {n: why for n, why in own.items() if n in reached}
