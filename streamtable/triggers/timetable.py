"""Calls an app's schedules, each time once, whichever of its workers does."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from streamtable.control.state import CONDITION_FAILED, STATE_TABLE, Call, cancellation_codes
from streamtable.triggers.endpoint import NodeError
from streamtable.triggers.node_clock import NodeClock
from streamtable.triggers.schedules import Schedule

__all__ = ["Timetable"]

logger = logging.getLogger(__name__)

_LEASE_MS: Final = 10_000
_RENEW_S: Final = 3.0
# Free: nobody had this time yet, and nobody is still at an earlier one; or who had it has died.
# A time far ahead of now was claimed before the clock was set back.
_FREE: Final = (
    "attribute_not_exists(#slot) OR ((#slot < :slot OR #slot > :ahead) AND (#done = :true OR "
    "#lease < :now)) OR (#slot = :slot AND #done = :false AND #lease < :now)"
)
_MINE: Final = "#slot = :slot AND #holder = :holder"
_NAMES: Final = {f"#{name}": name for name in ("slot", "done", "lease", "holder")}


@dataclass(frozen=True, slots=True)
class _Claimed:
    """What is known of a time: by whom it is done, and how long that counts."""

    slot: int
    done: bool
    lease_ms: int


class Timetable:
    """Calls schedules at their times.

    The workers of an app settle who calls by a conditional update of an item for each schedule: who
    makes it has the time, and keeps it while the function runs. When a worker dies in a call,
    another one calls for the same time after ten seconds, or for the next time, if that has come.
    A schedule that had another name is claimed under both, so that a time for which it was called
    under the old one, maybe by a worker that knows no other, is not called for again.

    Args:
        app: the app's name.
        schedules: its schedules.
        call: carries out operations of DynamoDB.
        clock: the node's.
        worker_id: tells this worker from others.
    """

    def __init__(
        self,
        app: str,
        schedules: Iterable[Schedule],
        *,
        call: Call,
        clock: NodeClock,
        worker_id: str,
    ) -> None:
        self._app = app
        self._schedules = list(schedules)
        self._call = call
        self._clock = clock
        self._worker_id = worker_id

    async def run(self) -> None:
        """Call the schedules until cancelled; then let the functions that run finish."""
        async with asyncio.TaskGroup() as group:
            for schedule in self._schedules:
                group.create_task(self._keep(schedule), name=schedule.name)

    async def _keep(self, schedule: Schedule) -> None:
        every_ms = max(1, round(schedule.every_s * 1000))
        tried = self._clock.now_ms() // every_ms
        # Who died in the call for the time that is now is taken over from at once.
        found = await self._find(schedule)
        while True:
            now_ms = self._clock.now_ms()
            due_ms = (tried + 1) * every_ms
            if found is not None and not found.done:
                due_ms = min(due_ms, found.lease_ms + 1)
            if due_ms > now_ms:
                # Never longer than an interval: the clock may have been set back.
                await asyncio.sleep(min(due_ms - now_ms, every_ms) / 1000)
                if self._clock.now_ms() < due_ms - every_ms:
                    tried = self._clock.now_ms() // every_ms
                continue
            tried = now_ms // every_ms
            claimed = await self._claim(schedule, tried)
            if claimed:
                await self._run(schedule, tried, every_ms)
                found = None
            else:
                found = await self._find(schedule)

    async def _claim(self, schedule: Schedule, slot: int) -> bool:
        now_ms = self._clock.now_ms()
        values = {
            ":slot": {"N": str(slot)},
            ":ahead": {"N": str(slot + 1)},
            ":now": {"N": str(now_ms)},
            ":true": {"BOOL": True},
            ":false": {"BOOL": False},
            ":holder": {"S": self._worker_id},
            ":lease": {"N": str(now_ms + _LEASE_MS)},
        }
        update = "SET #slot = :slot, #holder = :holder, #lease = :lease, #done = :false"
        # Where an answer got lost, the repetition finds the time claimed: by this worker.
        condition = f"{_FREE} OR ({_MINE} AND #done = :false)"
        return await self._update(schedule, update, condition, values)

    async def _run(self, schedule: Schedule, slot: int, every_ms: int) -> None:
        due = datetime.fromtimestamp(slot * every_ms / 1000, UTC)
        calling = asyncio.create_task(_call(schedule, due), name=schedule.name)
        renewing = asyncio.create_task(self._renew(schedule, slot))
        try:
            await asyncio.wait({calling})
        finally:
            # A function that runs is never cut off.
            await asyncio.wait({calling})
            renewing.cancel()
            await asyncio.wait({renewing})
            await self._finish(schedule, slot)

    async def _renew(self, schedule: Schedule, slot: int) -> None:
        while True:
            await asyncio.sleep(_RENEW_S)
            values = {
                ":slot": {"N": str(slot)},
                ":holder": {"S": self._worker_id},
                ":lease": {"N": str(self._clock.now_ms() + _LEASE_MS)},
            }
            if not await self._update(schedule, "SET #lease = :lease", _MINE, values):
                logger.warning("another worker has taken over the schedule %s", schedule.name)
                return

    async def _finish(self, schedule: Schedule, slot: int) -> None:
        values = {
            ":slot": {"N": str(slot)},
            ":holder": {"S": self._worker_id},
            ":true": {"BOOL": True},
        }
        await self._update(schedule, "SET #done = :true", _MINE, values)

    async def _update(
        self, schedule: Schedule, update: str, condition: str, values: dict[str, Any]
    ) -> bool:
        """Update the schedule's items; say whether the condition held for each."""
        used = f"{update} {condition}"
        action = {
            "TableName": STATE_TABLE,
            "UpdateExpression": update,
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {
                name: full for name, full in _NAMES.items() if name in used
            },
            "ExpressionAttributeValues": values,
        }
        actions = [{"Update": {**action, "Key": key}} for key in self._keys(schedule)]
        try:
            await self._call("TransactWriteItems", {"TransactItems": actions})
        except NodeError as error:
            if CONDITION_FAILED not in cancellation_codes(error):
                raise
            return False
        return True

    async def _find(self, schedule: Schedule) -> _Claimed | None:
        found = [
            _Claimed(int(item["slot"]["N"]), item["done"]["BOOL"], int(item["lease"]["N"]))
            for key in self._keys(schedule)
            if (item := await self._item(key)) is not None
        ]
        return max(found, key=lambda claimed: claimed.slot, default=None)

    async def _item(self, key: dict[str, Any]) -> dict[str, Any] | None:
        body = {"TableName": STATE_TABLE, "Key": key, "ConsistentRead": True}
        return (await self._call("GetItem", body)).get("Item")

    def _keys(self, schedule: Schedule) -> list[dict[str, Any]]:
        names = [schedule.name] if schedule.was is None else [schedule.name, schedule.was]
        return [{"owner": {"S": f"schedule/{self._app}"}, "id": {"S": name}} for name in names]


async def _call(schedule: Schedule, due: datetime) -> None:
    """Call a schedule's function; what it raises is logged."""
    try:
        await schedule.call(due)
    # One that exits or cancels itself has failed too.
    except (Exception, SystemExit, asyncio.CancelledError):
        logger.exception("the schedule %s failed for %s", schedule.name, due.isoformat())
