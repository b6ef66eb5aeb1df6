"""Where every consumer stands: its state, its position, how far it is behind."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from streamtable.control.bodies import ConsumerReport
from streamtable.control.workers import Workers
from streamtable.core.consumers import ConsumerDocument
from streamtable.streams.fetcher import Fetches, LogTrimmed
from streamtable.streams.layout import Layout

__all__ = ["Overview"]

Bounds: TypeAlias = Mapping[int, tuple[int, int]]
ByShard: TypeAlias = Callable[[ConsumerDocument], Awaitable[Mapping[int, int]]]

_PEEK_BYTES: Final = 1
_MOST_TIMES: Final = 10_000
_MOST_FAILING: Final = 100


class Overview:
    """Puts together what is known of consumers.

    The position of a consumer that runs is what its workers reported last, at most a second ago;
    of any other, what its group has committed. How far it is behind is counted in records of the
    log, whatever tables they touch: those that are not its own it passes over. In seconds it is
    the age of the oldest record that it has not passed.

    Args:
        log: the log.
        layout: the region's shards.
        workers: what workers report.
        committed: returns by shard what a consumer's group has committed.
        parked: returns by shard how many records a consumer has parked.
        now: the time, seconds since 1970.
    """

    def __init__(
        self,
        log: Fetches,
        layout: Layout,
        *,
        workers: Workers,
        committed: ByShard,
        parked: ByShard,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._layout = layout
        self._workers = workers
        self._committed = committed
        self._parked = parked
        self._now = now
        self._times: dict[tuple[int, int], int] = {}

    async def describe(self, consumers: Iterable[ConsumerDocument]) -> list[dict[str, Any]]:
        """Return for each consumer its registration, `state`, `workers` and `shards`.

        Raises:
            LogUnavailable: the brokers do not answer.
        """
        numbers = list(self._layout)
        found = await asyncio.gather(*(self._log.bounds(number) for number in numbers))
        bounds = dict(zip(numbers, found, strict=True))
        return [await self._describe(consumer, bounds) for consumer in consumers]

    async def _describe(self, consumer: ConsumerDocument, bounds: Bounds) -> dict[str, Any]:
        reports = {
            worker: report
            for worker, report in self._workers.reports(consumer.app, consumer.name).items()
            if report.generation == consumer.generation or report.state in {"paused", "stopped"}
        }
        running = self._workers.running(consumer.key)
        shards = await self._describe_shards(consumer, bounds, reports.values())
        failing = [each for report in reports.values() for each in report.failing]
        return {
            **consumer.model_dump(mode="json"),
            "key": consumer.key,
            "state": _state(consumer, reports),
            "error": next((error for each in reports.values() if (error := _error(each))), None),
            "workers": running,
            "lag": sum(each["lag"] for each in shards.values()),
            "lag_s": max((each["lag_s"] for each in shards.values()), default=0.0),
            "in_flight": sum(each["in_flight"] for each in shards.values()),
            "retrying": sum(each["retrying"] for each in shards.values()),
            "parked": sum(each["parked"] for each in shards.values()),
            "progress": next((each.progress for each in reports.values() if each.progress), None),
            "failing": failing[:_MOST_FAILING],
            "shards": {str(number): each for number, each in shards.items()},
        }

    async def _describe_shards(
        self, consumer: ConsumerDocument, bounds: Bounds, reports: Iterable[ConsumerReport]
    ) -> dict[int, dict[str, Any]]:
        if consumer.generation == 0:
            return {}  # it has not begun
        reported: dict[int, int] = {}
        hands = {}
        for report in reports:
            for shard, offset in report.next.items():
                reported[shard] = max(offset, reported.get(shard, 0))
            hands.update(report.shards)
        missing = [number for number in bounds if number not in reported]
        committed = await self._committed(consumer) if missing else {}
        parked = await self._parked(consumer) if missing else {}
        described = {}
        for number, (first, end) in bounds.items():
            following = reported.get(number, committed.get(number, consumer.start.get(number, 0)))
            hand = hands.get(number)
            described[number] = {
                "next": following,
                "end": end,
                "lag": max(0, end - max(following, first)),
                "lag_s": await self._age(number, max(following, first), end),
                "in_flight": 0 if hand is None else hand.in_flight,
                "retrying": 0 if hand is None else hand.retrying,
                "parked": parked.get(number, 0) if hand is None else hand.parked,
                # Changes that it has not seen are gone.
                "lost": max(0, first - following),
            }
        return described

    async def _age(self, shard: int, offset: int, end: int) -> float:
        """Return how old a record is, in seconds; 0 at the end of the log."""
        if offset >= end:
            return 0.0
        ms = self._times.get((shard, offset))
        if ms is None:
            try:
                fetched = await self._log.fetch(shard, offset, _PEEK_BYTES)
            except LogTrimmed:
                return 0.0
            if not fetched.records:
                return 0.0
            ms = fetched.records[0].timestamp_ms
            if len(self._times) >= _MOST_TIMES:
                self._times.clear()
            self._times[shard, offset] = ms
        return round(max(0.0, self._now() - ms / 1000), 3)


def _error(report: ConsumerReport) -> str | None:
    """Return what stopped a consumer, or keeps it from going on."""
    found = report.error or (report.progress or {}).get("error")
    return None if found is None else str(found)


def _state(consumer: ConsumerDocument, reports: Mapping[str, ConsumerReport]) -> str:
    states = {report.state for report in reports.values()}
    at_work = states - {"paused", "stopped"}
    if consumer.paused:
        return "pausing" if at_work else "paused"
    for state in ("building", "running"):
        if state in at_work:
            return state
    if at_work:
        return min(at_work)
    return "stopped" if "stopped" in states else "no worker"
