"""Who builds a view: one worker at a time, until it says so no more."""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from streamtable.consumers.views.nodes import Node, error_code
from streamtable.core.errors import StreamtableError

__all__ = ["BEAT_S", "GONE_S", "Lease", "LeaseLost"]

logger = logging.getLogger(__name__)

BEAT_S: Final = 2.0
"""How often its holder says that it is there."""

GONE_S: Final = 10.0
"""A holder that has not said so for that long is taken to be dead."""

_TABLE: Final = "streamtable.state"
_FAILED: Final = "ConditionalCheckFailedException"


class LeaseLost(StreamtableError):
    """Another worker holds the lease: this one was silent for too long."""


class Lease:
    """A right that one worker has at a time: an item in the state's table.

    No clocks are compared. The holder counts up a number in the item; who wants the lease watches
    it, and takes it when the number has stood still for `GONE_S`.

    Args:
        node: has the table.
        name: of what it is about.
        holder: the worker's id.
    """

    def __init__(self, node: Node, name: str, holder: str) -> None:
        self._node = node
        self._key = {"owner": {"S": f"lease/{name}"}, "id": {"S": "lease"}}
        self._holder = holder
        self._seen: tuple[str, int] | None = None
        self._since = 0.0
        self._beat = 0
        self._beating: asyncio.Task[None] | None = None
        self.held = False
        """It is this worker's, as far as is known."""

    async def acquire(self) -> bool:
        """Try to get it; say whether it is this worker's now. To be called again until it is.

        Raises:
            ConnectionError: no node answers.
        """
        if self.held:
            return True
        answer = await self._node.call(
            "GetItem", {"TableName": _TABLE, "Key": self._key, "ConsistentRead": True}
        )
        found = answer.get("Item")
        if found is None:
            return await self._take(1, "attribute_not_exists(#holder)", {})
        holder, beat = found["holder"]["S"], int(found["beat"]["N"])
        if self._seen != (holder, beat):
            self._seen, self._since = (holder, beat), time.monotonic()
        if holder != self._holder and time.monotonic() - self._since < GONE_S:
            return False
        if holder != self._holder:
            logger.warning("%s is silent, its build is begun anew here", holder)
        return await self._take(
            beat + 1,
            "#holder = :before and #beat = :seen",
            {":before": {"S": holder}, ":seen": {"N": str(beat)}},
        )

    async def _take(self, beat: int, condition: str, values: Mapping[str, Any]) -> bool:
        if not await self._put(beat, condition, values):
            return False
        self.held = True
        self._beating = asyncio.create_task(self._keep())
        return True

    async def confirm(self) -> None:
        """Make sure that it is still this worker's.

        Raises:
            ConnectionError: no node answers.
            LeaseLost: it is not.
        """
        mine = await self._put(
            self._beat + 1, "#holder = :before", {":before": {"S": self._holder}}
        )
        if not mine:
            self.held = False
        if not self.held:
            raise LeaseLost("another worker builds this view now")

    async def release(self) -> None:
        """Give it up, if it is held; a node that does not answer is let be."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        if not self.held:
            return
        self.held = False
        try:
            await self._node.call(
                "DeleteItem",
                {
                    "TableName": _TABLE,
                    "Key": self._key,
                    "ConditionExpression": "#holder = :before",
                    "ExpressionAttributeNames": {"#holder": "holder"},
                    "ExpressionAttributeValues": {":before": {"S": self._holder}},
                },
            )
        except StreamtableError as error:
            logger.debug("a lease was not given up: %s", error)

    async def _keep(self) -> None:
        while self.held:
            await asyncio.sleep(BEAT_S)
            try:
                await self.confirm()
            except ConnectionError as error:
                logger.debug("a lease can't be kept: %s", error)
            except LeaseLost:
                return

    async def _put(self, beat: int, condition: str, values: Mapping[str, Any]) -> bool:
        body: dict[str, Any] = {
            "TableName": _TABLE,
            "Item": {**self._key, "holder": {"S": self._holder}, "beat": {"N": str(beat)}},
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {
                name: name[1:] for name in ("#holder", "#beat") if name in condition
            },
        }
        if values:
            body["ExpressionAttributeValues"] = values
        try:
            await self._node.call("PutItem", body)
        except ConnectionError:
            raise
        except StreamtableError as error:
            if error_code(error) != _FAILED:
                raise
            return False
        self._beat = beat
        return True
