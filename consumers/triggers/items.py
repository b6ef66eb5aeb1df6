"""Items that have changes on their way and are not simply ready, and how they wait."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

from streamtable.consumers.triggers.clock import Clock, Timer
from streamtable.consumers.triggers.entries import Entry
from streamtable.core.positions import Position

__all__ = ["Item", "Sleepers"]


class Item:
    """An item that has changes on their way and is not simply ready.

    Attributes:
        running: how many of its changes are in a call, or in its other half that comes yet.
        parked: changes in the state store, in order; all before those that wait.
        through: the last position that was ever parked.
        waiting: changes in memory, in order.
        returned: changes that came back from the call that runs, in order.
        saving: how many of those that wait are being saved.
        asleep: whether it waits for its time.
        wake_ms: its time.
        wants_saving: whether what waits is to be parked.
        queued: whether it is among those that are to be parked next.
        held: done when a function that took too long does not run any more.
    """

    __slots__ = (
        "asleep",
        "held",
        "key",
        "parked",
        "queued",
        "returned",
        "running",
        "saving",
        "through",
        "waiting",
        "wake_ms",
        "wants_saving",
    )

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.running = 0
        self.parked: deque[Entry] = deque()
        self.through: Position | None = None
        self.waiting: deque[Entry] = deque()
        self.returned: list[Entry] = []
        self.saving = 0
        self.asleep = False
        self.wake_ms = 0
        self.wants_saving = False
        self.queued = False
        self.held: asyncio.Future[Any] | None = None

    def reach(self, entry: Entry) -> None:
        """Take note that a change is parked."""
        if self.through is None or entry.position > self.through:
            self.through = entry.position


class Sleepers:
    """Items that wait for their time; those whose time has come are woken together.

    What failed in one batch is one again.

    Args:
        clock: tells the time.
        awake: called with each item whose time has come.
    """

    def __init__(self, clock: Clock, awake: Callable[[Item], None]) -> None:
        self._clock = clock
        self._awake = awake
        self._sleepers: list[tuple[int, int, Item]] = []
        self._sleeps = count()
        self._alarm: Timer | None = None
        self._alarm_ms = 0
        self._closed = False

    def add(self, item: Item, delay_ms: int) -> None:
        """Have an item looked at again when its time comes."""
        item.asleep = True
        item.wake_ms = self._clock.now_ms() + max(0, delay_ms)
        heapq.heappush(self._sleepers, (item.wake_ms, next(self._sleeps), item))
        self._set_alarm()

    def close(self) -> None:
        """Wake nobody any more."""
        self._closed = True
        if self._alarm is not None:
            self._alarm.cancel()

    def _set_alarm(self) -> None:
        while self._sleepers and not _sleeps_until(*self._sleepers[0]):
            heapq.heappop(self._sleepers)
        if not self._sleepers or self._closed:
            return
        wake_ms = self._sleepers[0][0]
        if self._alarm is not None:
            if self._alarm_ms <= wake_ms:
                return
            self._alarm.cancel()
        self._alarm_ms = wake_ms
        delay_s = max(0, wake_ms - self._clock.now_ms()) / 1000
        self._alarm = self._clock.call_later(delay_s, self._on_alarm)

    def _on_alarm(self) -> None:
        self._alarm = None
        now_ms = max(self._clock.now_ms(), self._alarm_ms)
        while self._sleepers and self._sleepers[0][0] <= now_ms:
            sleeper = heapq.heappop(self._sleepers)
            if _sleeps_until(*sleeper):
                self._awake(sleeper[2])
        self._set_alarm()


def _sleeps_until(wake_ms: int, _number: int, item: Item) -> bool:
    return item.asleep and item.wake_ms == wake_ms
