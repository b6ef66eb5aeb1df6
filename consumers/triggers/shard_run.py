"""One shard's changes on their way through a trigger.

What is ready is called for in the log's order, a few calls at a time. An item is in one call at a
time, so its changes keep their order. An item whose change fails waits; the changes behind it wait
with it, and those of other items go on:

    ready -> running -> done
               | failed, next try soon          -> blocked -> ready
               | failed, next try a second away -> parked (in the state store) -> due -> running
               | failed for good                -> dead letter
"""

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import Any, Final, Protocol, TypeVar
from uuid import uuid4

from streamtable.consumers.dead_letters import Reason, letter_error
from streamtable.consumers.triggers.clock import Clock, Timer, pause
from streamtable.consumers.triggers.deliveries import (
    BatchItemFailed,
    Delivery,
    HandlerTimeout,
    Invoke,
    Rejected,
)
from streamtable.consumers.triggers.entries import PARKED, Entry, Ticket
from streamtable.consumers.triggers.options import MAX_AGE_S, TriggerOptions
from streamtable.consumers.triggers.parked_changes import ChangeGone
from streamtable.consumers.triggers.state import (
    HOLDER,
    SAVE_ITEMS,
    HeldByAnother,
    StateStore,
)
from streamtable.consumers.triggers.windows import WINDOW, Windows
from streamtable.core.changes import Change
from streamtable.core.errors import StreamtableError
from streamtable.core.positions import Position

__all__ = ["Engine", "ShardRun"]

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

_BACKOFF_S: Final = 0.2
_MAX_BACKOFF_S: Final = 30.0
_PARK_S: Final = 1.0  # A change whose next try is as far away does not wait in memory.
_RETRY_S: Final = 1.0
_BATCH_BYTES: Final = 6 * 1024 * 1024  # What a Lambda function can be called with.
_MEMORY_ENTRIES: Final = 1000
_MEMORY_BYTES: Final = 16 * 1024 * 1024
_PARKED_ITEMS: Final = 1000
_PARKED_ENTRIES: Final = 10_000
_DRAIN: Final = SAVE_ITEMS - 1  # With a window's state, what one save takes.
_BREATH: Final = 32
_STOP_SAVING_S: Final = 5.0
_ATTEMPTS_SHOWN: Final = 1000


class Changes(Protocol):
    """Reads parked changes."""

    async def read(self, entry: Entry) -> Change:
        """Return an entry's change; raises `ChangeGone`, or `LogUnavailable`."""


class GiveUp(Protocol):
    """Does what is to be done with a change that is given up; returns when that is durable."""

    async def __call__(
        self, entry: Entry, change: Change | None, reason: Reason, error: BaseException
    ) -> None:
        """Give up."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What the shards of a trigger share.

    Attributes:
        name: the trigger's name, for the log.
        options: how it wants its changes.
        invoke: calls its function.
        store: keeps what is parked.
        owner: whose rows there, without the shard.
        changes: reads what is parked.
        give_up: takes what is given up.
        fail: told what a shard stands still for: a mistake of the runtime itself, or that another
            worker has taken the shard over.
        clock: tells the time.
        jitter: a random number from 0 to 1 each time.
    """

    name: str
    options: TriggerOptions
    invoke: Invoke
    store: StateStore
    owner: str
    changes: Changes
    give_up: GiveUp
    fail: Callable[[BaseException], None]
    clock: Clock
    jitter: Callable[[], float]


class _Item:
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


class ShardRun:
    """Handles one shard's changes while it is assigned to this worker.

    Args:
        number: the shard.
        engine: the trigger.
    """

    def __init__(self, number: int, engine: Engine) -> None:
        self.number = number
        self._engine = engine
        self._options = options = engine.options
        self._owner = f"{engine.owner}/{number}"
        self._holder = uuid4().hex
        self._max_age_ms = int(min(options.max_age_s, MAX_AGE_S) * 1000)
        self._tries_the_old = options.max_age_s >= MAX_AGE_S
        self._windows: Windows | None = None
        parallelism = options.parallelism
        if options.tumbling_window_s is not None:
            self._windows = Windows(number, max(1, int(options.tumbling_window_s * 1000)))
            parallelism = 1
        self._parallelism = parallelism
        self._most_entries = max(_MEMORY_ENTRIES, 2 * options.batch_size * parallelism)
        self._ready: deque[Entry] = deque()
        self._released: list[Entry] = []
        self._items: dict[bytes, _Item] = {}
        self._due: deque[_Item] = deque()
        self._sleepers: list[tuple[int, int, _Item]] = []
        self._sleeps = count()
        self._alarm: Timer | None = None
        self._alarm_ms = 0
        self._turn = False
        self._parked: dict[Position, Entry] = {}
        self._parked_items = 0
        self._entries = 0
        self._bytes = 0
        self._in_flight = 0
        self._started = -1
        self._current: list[Entry] = []
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._drained = asyncio.Event()
        self._drained.set()
        self._to_save: deque[_Item] = deque()
        self._to_save_more = asyncio.Event()
        self._batch_timer: Timer | None = None
        self._final_timer: Timer | None = None
        self._final_due = False
        self._final_failures = 0
        self._final_next_ms = 0
        self._held: set[asyncio.Future[Any]] = set()
        self._closing = False
        self._slots: list[asyncio.Task[None]] = []
        self._saver: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self.handled = 0
        """Changes handled so far."""
        self.given_up = 0
        """Changes given up so far."""

    # From outside

    async def start(self) -> None:
        """Load what is parked, which nobody else can write from now on, and begin."""
        await self._insist(self._hold)
        rows = await self._load()
        if self._windows is not None:
            self._windows.load(rows.get(WINDOW))
        self._take_over(rows)
        self._slots = [asyncio.create_task(self._slot()) for _ in range(self._parallelism)]
        for slot in self._slots:
            slot.add_done_callback(self._on_task_done)
        self._saver = asyncio.create_task(self._keep_saving())
        self._saver.add_done_callback(self._on_task_done)

    async def reload(self) -> None:
        """Take over what was added to the state store since it was loaded."""
        self._take_over(await self._load())

    def add(
        self, record_size: int, changes: Sequence[tuple[int, Change]], offset: int,
        done: Callable[[], None],
    ) -> None:  # fmt: skip
        """Take a record's changes; `done` is called when all of them are handled or parked."""
        windows = self._windows
        ticket = Ticket(len(changes) + 1, done)
        clock = self._engine.clock
        now_ms, wall_ms = clock.now_ms(), clock.wall_ms()
        for index, change in changes:
            position = Position(self.number, offset, index)
            entry = Entry(
                position,
                change.keys,
                change.created_ms,
                change=change,
                size=record_size // len(changes),
                ticket=ticket,
                arrived_ms=now_ms,
                born_ms=now_ms - max(0, wall_ms - change.created_ms),
            )
            if (self._parked and self._was_here(entry)) or (
                windows is not None and windows.has(position)
            ):
                ticket.punch()
                continue
            self._entries += 1
            self._bytes += entry.size
            self._ready.append(entry)
            self._drained.clear()
        ticket.punch()
        if self._entries >= self._most_entries or self._bytes >= _MEMORY_BYTES:
            self._room.clear()
        self._wake.set()

    async def room(self) -> None:
        """Return when there is room for another record.

        Raises:
            Exception: what the shard stands still for.
        """
        await self._room.wait()
        if self._failure is not None:
            raise self._failure

    async def drained(self) -> None:
        """Return when there is nothing to do: each change is handled or given up, none parked.

        Raises:
            Exception: what the shard stands still for.
        """
        await self._drained.wait()
        if self._failure is not None:
            raise self._failure

    def _look_drained(self) -> None:
        if not (self._entries or self._parked or self._final_due):
            self._drained.set()

    async def finish(self) -> None:
        """Have the calls that run end, and park what they leave behind.

        What was not called for yet is neither handled nor parked: it comes again from the log.
        """
        self._closing = True
        self._room.set()
        self._wake.set()
        self._to_save_more.set()
        ending = [*self._slots, *([] if self._saver is None else [self._saver])]
        await asyncio.gather(*ending, return_exceptions=True)
        while held := [each for each in self._held if not each.done()]:
            await asyncio.wait(held)
        await self._park_rest()
        self.abandon()

    def abandon(self) -> None:
        """Let go at once: nothing is saved or acknowledged any more."""
        self._closing = True
        for task in (*self._slots, self._saver):
            if task is not None:
                task.cancel()
        for timer in (self._alarm, self._batch_timer, self._final_timer):
            if timer is not None:
                timer.cancel()
        self._room.set()

    def close_window(self, end_ms: int) -> None:
        """Have the open window end, if it is the one that ends then: nothing for it will come."""
        if self._windows is not None and self._windows.end_ms == end_ms:
            self._final_due = True
            self._drained.clear()
            self._wake.set()

    @property
    def window_end_ms(self) -> int | None:
        """The end of the window that is open."""
        return None if self._windows is None else self._windows.end_ms

    def counts(self) -> dict[str, int]:
        """Return how many changes are where."""
        return {
            "in_flight": self._in_flight,
            "waiting": max(0, self._entries - self._in_flight),
            "parked": len(self._parked),
            "handled": self.handled,
            "given_up": self.given_up,
        }

    def status(self) -> dict[str, Any]:
        """Return what `counts` does, and the changes that failed or wait behind one."""
        retrying = [
            entry
            for item in self._items.values()
            for entry in item.waiting
            if entry.attempts and not entry.saved
        ]
        ahead_ms = self._ahead_ms()
        return {
            **self.counts(),
            "retrying": [_shown(entry, ahead_ms) for entry in islice(retrying, _ATTEMPTS_SHOWN)],
            "parked": [
                _shown(entry, ahead_ms) for entry in islice(self._parked.values(), _ATTEMPTS_SHOWN)
            ],
        }

    def _ahead_ms(self) -> int:
        """Return what the clock since 1970 shows more than the runtime's."""
        return self._engine.clock.wall_ms() - self._engine.clock.now_ms()

    # What is parked

    async def _hold(self) -> None:
        """Have the saves of whoever had the shard before be refused: it may only be frozen."""
        await self._engine.store.save(self._owner, {HOLDER: {"id": self._holder}})

    async def _load(self) -> dict[str, dict[str, Any]]:
        return await self._insist(lambda: self._engine.store.load(self._owner))

    async def _insist(self, action: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Have the state store do something, however long that takes.

        Whether a failed attempt has done it is not known.

        Raises:
            HeldByAnother: another worker has taken over the shard.
            StreamtableError: it failed, and the shard is being let go.
        """
        while True:
            try:
                return await action()
            except StreamtableError as error:
                if self._closing or isinstance(error, HeldByAnother):
                    raise
                logger.warning(
                    "%s: the state of shard %d can't be read or stored: %s",
                    self._engine.name,
                    self.number,
                    error,
                )
                await pause(self._engine.clock, _RETRY_S)

    def _take_over(self, rows: Mapping[str, dict[str, Any]]) -> None:
        touched: dict[bytes, _Item] = {}
        clock = self._engine.clock
        now_ms, wall_ms = clock.now_ms(), clock.wall_ms()
        ahead_ms = self._ahead_ms()
        for id_, row in rows.items():
            if not id_.startswith(PARKED):
                continue
            entry = Entry.of_row(row, ahead_ms)
            if entry.position in self._parked:
                continue
            entry.born_ms = now_ms - max(0, wall_ms - entry.created_ms)
            # Whoever noted it may have had a clock that is ahead of what is right now.
            entry.next_ms = min(entry.next_ms, now_ms + int(_MAX_BACKOFF_S * 1000))
            item = self._items.get(entry.key)
            if item is None:
                item = self._items[entry.key] = _Item(entry.key)
            if not item.parked:
                self._parked_items += 1
            item.parked.append(entry)
            item.reach(entry)
            self._parked[entry.position] = entry
            self._drained.clear()
            touched[entry.key] = item
        for item in touched.values():
            item.parked = deque(sorted(item.parked, key=lambda entry: entry.position))
            if not item.running and not item.saving:
                self._conclude(item)

    def _was_here(self, entry: Entry) -> bool:
        """Say whether the log brings again what is parked, or was handled before that.

        A change is parked only when all that came before it of its item is handled or parked.
        """
        item = self._items.get(entry.key)
        return item is not None and item.through is not None and entry.position <= item.through

    def _forget_parked(self, entry: Entry) -> None:
        self._parked.pop(entry.position, None)
        self._look_drained()
        self._to_save_more.set()

    def _save_later(self, item: _Item) -> None:
        item.wants_saving = True
        if not item.queued and item.waiting:
            item.queued = True
            self._to_save.append(item)
            self._to_save_more.set()

    async def _keep_saving(self) -> None:
        while not self._closing:
            self._to_save_more.clear()
            found = self._pick_to_save()
            if found:
                await self._park(found)
            else:
                await self._to_save_more.wait()

    def _pick_to_save(self) -> list[tuple[_Item, list[Entry]]]:
        """Choose what is parked next, as much as one save takes and the limits leave."""
        picked: list[tuple[_Item, list[Entry]]] = []
        left = SAVE_ITEMS
        if not self._closing:
            left = min(left, _PARKED_ENTRIES - len(self._parked))
        while self._to_save and left > 0:
            item = self._to_save[0]
            if not self._closing and not item.parked and self._parked_items >= _PARKED_ITEMS:
                break
            self._to_save.popleft()
            item.queued = False
            if not item.wants_saving or item.saving or not item.waiting:
                continue
            entries = list(islice(item.waiting, left))
            item.saving = len(entries)
            left -= len(entries)
            picked.append((item, entries))
        return picked

    async def _park(self, picked: Sequence[tuple[_Item, list[Entry]]]) -> None:
        ahead_ms = self._ahead_ms()
        await self._save(
            {entry.id: entry.row(ahead_ms) for _, entries in picked for entry in entries}
        )
        for item, entries in picked:
            if not item.parked:
                self._parked_items += 1
            item.saving = 0
            for entry in entries:
                assert item.waiting[0] is entry
                item.parked.append(item.waiting.popleft())
                item.reach(entry)
                entry.saved = True
                entry.change = None
                self._parked[entry.position] = entry
                self._let_go(entry)
            if item.waiting and item.wants_saving:
                self._save_later(item)
            if not item.running and not item.asleep:
                self._conclude(item)

    async def _save(self, rows: Mapping[str, dict[str, Any] | None]) -> None:
        """Store rows; raises what `_insist` does."""
        await self._insist(lambda: self._engine.store.save(self._owner, rows, self._holder))

    async def _park_rest(self) -> None:
        """Park what failed, what waits behind it, and what would come again after later ones."""
        self._merge_released()
        for entry in self._ready:
            if entry.position.offset <= self._started:
                self._item(entry.key).waiting.append(entry)
        self._ready.clear()
        for item in self._items.values():
            item.asleep = True
            self._save_later(item)
        try:
            async with asyncio.timeout(_STOP_SAVING_S):
                while found := self._pick_to_save():
                    await self._park(found)
        except (StreamtableError, TimeoutError) as error:
            logger.warning(
                "%s: what failed in shard %d can't be parked, it comes again from the log: %r",
                self._engine.name,
                self.number,
                error,
            )

    # Calls

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        logger.error("%s: shard %d: %r", self._engine.name, self.number, error)
        self._failure = error
        self._room.set()
        self._drained.set()
        self._engine.fail(error)

    async def _slot(self) -> None:
        since_breath = 0
        while not self._closing:
            if self._windows is not None and self._wants_final():
                await self._end_window()
                continue
            found = self._next()
            if found is None:
                if self._windows is not None and self._wants_final():
                    continue
                self._wake.clear()
                await self._wake.wait()
                continue
            self._wake.set()  # Another slot may find something too.
            if isinstance(found, _Item):
                await self._drain(found)
            else:
                await self._handle(found)
            since_breath += 1
            if since_breath == _BREATH:
                since_breath = 0
                await asyncio.sleep(0)

    def _next(self) -> "list[Entry] | _Item | None":
        """Return what is to be called for next: a batch of what is ready, or a parked item."""
        self._merge_released()
        self._turn = not self._turn
        if self._due and (self._turn or not self._ready):
            return self._due.popleft()
        batch = self._batch()
        if batch:
            return batch
        return self._due.popleft() if self._due else None

    def _merge_released(self) -> None:
        """Put what may be tried again before all that was not tried yet."""
        if self._released:
            self._released.sort(key=lambda entry: entry.position, reverse=True)
            self._ready.extendleft(self._released)
            self._released.clear()

    def _batch(self) -> list[Entry]:
        ready, options, windows = self._ready, self._options, self._windows
        batch: list[Entry] = []
        if options.batch_window_s and 0 < len(ready) < options.batch_size:
            full_ms = ready[0].arrived_ms + options.batch_window_s * 1000
            missing_ms = full_ms - self._engine.clock.now_ms()
            if missing_ms > 0 and sum(entry.size for entry in ready) < _BATCH_BYTES:
                self._wake_in(missing_ms / 1000)
                return batch
        size = 0
        while ready and len(batch) < options.batch_size:
            entry = ready[0]
            item = self._items.get(entry.key)
            if item is not None:
                ready.popleft()
                item.waiting.append(entry)
                if item.wants_saving:
                    self._save_later(item)
                continue
            size += entry.size
            if batch and (size > _BATCH_BYTES or entry.alone or batch[0].alone):
                break
            if windows is not None:
                start_ms = windows.start_of(entry.created_ms)
                if windows.start_ms is None:
                    windows.open(start_ms)
                elif start_ms != windows.start_ms:
                    break
            ready.popleft()
            batch.append(entry)
        return batch

    def _wake_in(self, delay_s: float) -> None:
        if self._batch_timer is not None:
            self._batch_timer.cancel()
        self._batch_timer = self._engine.clock.call_later(delay_s, self._wake.set)

    async def _handle(self, entries: list[Entry]) -> None:
        for entry in entries:
            self._item(entry.key).running += 1
            self._started = max(self._started, entry.position.offset)
        self._current = entries
        await self._call(entries)

    async def _drain(self, item: _Item) -> None:
        """Try the first of an item's parked changes, and those behind it."""
        if item.running or item.asleep or not item.parked:
            return  # It was due twice.
        count = min(self._options.batch_size, _DRAIN, len(item.parked))
        if item.parked[0].alone:
            count = 1
        entries = [item.parked.popleft() for _ in range(count)]
        item.running += count
        self._current = entries
        if not item.parked:
            self._parked_items -= 1
        try:
            await self._read(entries)
        except StreamtableError as error:
            logger.warning(
                "%s: parked changes of shard %d can't be read: %s",
                self._engine.name,
                self.number,
                error,
            )
            entries[0].next_ms = self._engine.clock.now_ms() + int(_RETRY_S * 1000)
            item.running -= count
            item.returned += entries
            self._conclude(item)
            return
        if self._windows is not None and self._windows.start_ms is None:
            self._windows.open(self._windows.start_of(self._engine.clock.wall_ms()))
        await self._call(entries)

    async def _read(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            try:
                entry.change = await self._engine.changes.read(entry)
            except ChangeGone as error:
                entry.change = None
                logger.error("%s: %s", self._engine.name, error)  # noqa: TRY400 - it says it all

    def _item(self, key: bytes) -> _Item:
        item = self._items.get(key)
        if item is None:
            item = self._items[key] = _Item(key)
        return item

    async def _call(self, entries: list[Entry]) -> None:
        """Call for a batch, and for its halves where it fails; each change is settled."""
        fit = await self._leave_out_hopeless(entries)
        if not fit:
            return
        deliveries = [
            Delivery(entry.change, entry.position, entry.attempts + 1)
            for entry in fit
            if entry.change is not None
        ]
        window = None if self._windows is None else self._windows.window()
        self._in_flight += len(fit)
        try:
            answer = await self._engine.invoke(deliveries, window)
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            self._in_flight -= len(fit)
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            await self._on_failed_call(fit, error)
            return
        self._in_flight -= len(fit)
        failed = {**answer.failed}
        again: Collection[int] = ()
        if answer.checkpoint is not None:
            failed.setdefault(
                answer.checkpoint, BatchItemFailed("the function named it as the first to fail")
            )
            again = range(answer.checkpoint + 1, len(fit))
        await self._settle(fit, failed, again, answer.state)

    async def _on_failed_call(self, entries: list[Entry], error: BaseException) -> None:
        held = error.finished if isinstance(error, HandlerTimeout) else None
        running = held is not None and not held.done()
        if len(entries) > 1 and self._options.bisect and not running:
            half = len(entries) // 2
            await self._call(entries[:half])
            rest = []
            for entry in entries[half:]:
                item = self._items[entry.key]
                if item.returned:
                    item.running -= 1
                    item.returned.append(entry)
                    if not item.running:
                        self._conclude(item)
                else:
                    rest.append(entry)
            if rest:
                await self._call(rest)
            return
        if held is not None and running:
            self._held.add(held)
            held.add_done_callback(self._held.discard)
            for entry in entries:
                self._items[entry.key].held = held
            if len(entries) > 1 and self._options.bisect:
                # The batch can't be taken apart now: each is tried alone when its time comes.
                next_ms = self._engine.clock.now_ms() + _delay_ms(1, self._engine.jitter())
                for entry in entries:
                    entry.alone = True
                    entry.next_ms = next_ms
                    self._items[entry.key].returned.append(entry)
                await self._finish_with((), None, entries)
                return
        await self._settle(entries, dict.fromkeys(range(len(entries)), error), (), None)

    async def _leave_out_hopeless(self, entries: list[Entry]) -> list[Entry]:
        """Give up what is too old or lost; return the others."""
        now_ms = self._engine.clock.now_ms()
        hopeless: dict[int, tuple[Reason, BaseException]] = {}
        for index, entry in enumerate(entries):
            if entry.change is None:
                hopeless[index] = ("age", ChangeGone("the change is gone from the log"))
            elif now_ms - entry.born_ms > self._max_age_ms and (
                entry.attempts or not self._tries_the_old
            ):
                hopeless[index] = ("age", TimeoutError(_too_old(entry, now_ms)))
        if not hopeless:
            return entries
        gone = []
        for index, (reason, error) in hopeless.items():
            gone.append(entries[index])
            await self._engine.give_up(entries[index], entries[index].change, reason, error)
            self.given_up += 1
        await self._finish_with(gone, None)
        return [entry for index, entry in enumerate(entries) if index not in hopeless]

    async def _settle(
        self,
        entries: Sequence[Entry],
        failed: Mapping[int, BaseException],
        again: Collection[int],
        state: dict[str, Any] | None,
    ) -> None:
        """Do with each change of a call what became of it."""
        if not failed and not again:
            self.handled += len(entries)
            await self._finish_with(entries, state)
            return
        if self._windows is not None and _overtaken(entries, failed, again):
            # The new state counts a change that comes again, behind the one that failed. So it
            # is not taken, and what it counts comes again on the state before.
            state, again = None, range(len(entries))
        finished: list[Entry] = []
        returned: list[Entry] = []
        stuck: set[bytes] = set()
        jitter = self._engine.jitter()
        for index, entry in enumerate(entries):
            error = failed.get(index)
            if entry.key in stuck or (error is None and index in again):
                returned.append(entry)
            elif error is None:
                self.handled += 1
                finished.append(entry)
            elif reason := self._hopeless(entry, error, jitter):
                await self._engine.give_up(entry, entry.change, reason, error)
                self.given_up += 1
                finished.append(entry)
            else:
                stuck.add(entry.key)
                returned.append(entry)
        for entry in returned:
            self._items[entry.key].returned.append(entry)
        await self._finish_with(finished, state, returned)

    def _hopeless(self, entry: Entry, error: BaseException, jitter: float) -> Reason | None:
        """Take note that a change has failed; say why it is given up, if it is."""
        now_ms = self._engine.clock.now_ms()
        entry.attempts += 1
        entry.first_failed_ms = entry.first_failed_ms or self._engine.clock.wall_ms()
        entry.error = letter_error(error)
        if isinstance(error, Rejected):
            return "rejected"
        if self._options.retries is not None and entry.attempts > self._options.retries:
            return "retries"
        entry.next_ms = now_ms + _delay_ms(entry.attempts, jitter)
        if entry.next_ms - entry.born_ms > self._max_age_ms:
            return "age"
        return None

    async def _finish_with(
        self,
        finished: Sequence[Entry],
        state: dict[str, Any] | None,
        returned: Sequence[Entry] = (),
    ) -> None:
        """Let go of handled changes, durably, and then of their items."""
        windows = self._windows
        rows: dict[str, dict[str, Any] | None] = {}
        for entry in finished:
            if entry.saved:
                rows[entry.id] = None
        for entry in returned:
            if entry.saved:
                rows[entry.id] = entry.row(self._ahead_ms())
                entry.change = None
        if windows is not None and finished:
            if state is not None:
                windows.state = state
            gone = {entry.position for entry in finished}
            self._current = [each for each in self._current if each.position not in gone]
            pending = [each for each in self._pending() if each not in gone]
            rows[WINDOW] = windows.row(gone, pending)
        if rows:
            await self._save(rows)
        items = self._items
        for entry in finished:
            if entry.saved:
                self._forget_parked(entry)
            else:
                self._let_go(entry)
        for entry in chain(finished, returned):
            item = items[entry.key]
            item.running -= 1
            if not item.running:
                if not (item.returned or item.waiting or item.parked or item.held):
                    del items[entry.key]
                else:
                    self._conclude(item)

    def _pending(self) -> Iterator[Position]:
        """Yield the positions of what is in memory and not parked."""
        waiting = chain.from_iterable(item.waiting for item in self._items.values())
        for entry in chain(self._ready, self._released, self._current, waiting):
            if not entry.saved:
                yield entry.position

    def _let_go(self, entry: Entry) -> None:
        """Forget a change that was in memory; its record may be done now."""
        self._entries -= 1
        self._bytes -= entry.size
        if entry.ticket is not None:
            entry.ticket.punch()
            entry.ticket = None
        self._look_drained()
        if self._entries < self._most_entries and self._bytes < _MEMORY_BYTES:
            self._room.set()

    def _conclude(self, item: _Item) -> None:
        """Decide what an item does next that is in no call any more."""
        saved = [entry for entry in item.returned if entry.saved]
        if saved and not item.parked:
            self._parked_items += 1
        item.parked.extendleft(reversed(saved))
        item.waiting.extendleft(entry for entry in reversed(item.returned) if not entry.saved)
        item.returned.clear()
        if item.saving:
            return  # It is looked at again when that is done.
        if item.held is not None and item.held.done():
            item.held = None
        head = item.parked[0] if item.parked else item.waiting[0] if item.waiting else None
        if head is None:
            if item.held is None:
                self._items.pop(item.key, None)
            else:
                self._sleep(item, 0)
            return
        delay_ms = head.next_ms - self._engine.clock.now_ms()
        item.wants_saving = False
        if delay_ms <= 0 and item.held is None:
            item.asleep = False
            if item.parked:
                self._due.append(item)
            else:
                del self._items[item.key]
                self._released += item.waiting
            self._wake.set()
            return
        if item.parked or delay_ms >= _PARK_S * 1000:
            self._save_later(item)
        self._sleep(item, delay_ms)

    def _sleep(self, item: _Item, delay_ms: int) -> None:
        """Have an item looked at again when its time comes."""
        item.asleep = True
        item.wake_ms = self._engine.clock.now_ms() + max(0, delay_ms)
        heapq.heappush(self._sleepers, (item.wake_ms, next(self._sleeps), item))
        self._set_alarm()

    def _set_alarm(self) -> None:
        while self._sleepers and not _sleeps_until(*self._sleepers[0]):
            heapq.heappop(self._sleepers)
        if not self._sleepers or self._closing:
            return
        wake_ms = self._sleepers[0][0]
        if self._alarm is not None:
            if self._alarm_ms <= wake_ms:
                return
            self._alarm.cancel()
        self._alarm_ms = wake_ms
        delay_s = max(0, wake_ms - self._engine.clock.now_ms()) / 1000
        self._alarm = self._engine.clock.call_later(delay_s, self._on_alarm)

    def _on_alarm(self) -> None:
        """Wake all whose time has come, together: what failed in one batch is one again."""
        self._alarm = None
        now_ms = max(self._engine.clock.now_ms(), self._alarm_ms)
        while self._sleepers and self._sleepers[0][0] <= now_ms:
            sleeper = heapq.heappop(self._sleepers)
            if _sleeps_until(*sleeper):
                self._awake(sleeper[2])
        self._set_alarm()

    def _awake(self, item: _Item) -> None:
        if self._closing or not item.asleep:
            return
        if item.held is not None and not item.held.done():
            item.held.add_done_callback(lambda _: self._awake(item))
            return
        item.asleep = False
        self._conclude(item)

    # Windows

    def _wants_final(self) -> bool:
        windows = self._windows
        assert windows is not None
        if windows.start_ms is None or self._engine.clock.now_ms() < self._final_next_ms:
            return False
        ready = self._ready
        if self._final_due:
            return not ready or windows.start_of(ready[0].created_ms) != windows.start_ms
        return (
            bool(ready)
            and ready[0].key not in self._items
            and windows.start_of(ready[0].created_ms) != windows.start_ms
        )

    async def _end_window(self) -> None:
        """Make a window's last call. One that fails is tried again; the shard waits for it."""
        windows = self._windows
        assert windows is not None
        window = windows.window(final=True)
        try:
            await self._engine.invoke([], window)
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            self._final_failures += 1
            now_ms = self._engine.clock.now_ms()
            retries = self._options.retries
            if (retries is None or self._final_failures <= retries) and (
                self._engine.clock.wall_ms() - window.end_ms <= self._max_age_ms
            ):
                delay_ms = _delay_ms(self._final_failures, self._engine.jitter())
                self._final_next_ms = now_ms + delay_ms
                logger.warning("%s: the last call of a window: %r", self._engine.name, error)
                self._final_timer = self._engine.clock.call_later(delay_ms / 1000, self._wake.set)
                return
            logger.error(  # noqa: TRY400 - it is the function's own
                "%s gave up the window of shard %d from %d to %d with the state %s: %r",
                self._engine.name,
                self.number,
                window.start_ms,
                window.end_ms,
                window.state,
                error,
            )
        windows.close()
        self._final_due = False
        self._final_failures = 0
        self._final_next_ms = 0
        await self._save({WINDOW: windows.row((), self._pending())})
        self._look_drained()


def _overtaken(
    entries: Sequence[Entry], failed: Mapping[int, BaseException], again: Collection[int]
) -> bool:
    """Say whether a change is handled that follows on one of its item that is not."""
    stuck: set[bytes] = set()
    for index, entry in enumerate(entries):
        if index in failed or index in again:
            stuck.add(entry.key)
        elif entry.key in stuck:
            return True
    return False


def _delay_ms(failures: int, jitter: float) -> int:
    """Return how long to wait after so many failures in a row."""
    delay_s = min(_MAX_BACKOFF_S, _BACKOFF_S * 2 ** min(failures - 1, 20))
    return int(delay_s * (0.5 + jitter / 2) * 1000)


def _sleeps_until(wake_ms: int, _number: int, item: _Item) -> bool:
    return item.asleep and item.wake_ms == wake_ms


def _too_old(entry: Entry, now_ms: int) -> str:
    age_s = (now_ms - entry.born_ms) / 1000
    last = "" if entry.error is None else f"; it failed with {entry.error['message']}"
    return f"the change is {age_s:.0f} s old{last}"


def _shown(entry: Entry, ahead_ms: int) -> dict[str, Any]:
    return {
        "position": entry.position.to_json(),
        "keys": entry.keys,
        "attempts": entry.attempts,
        "next_at": entry.next_ms + ahead_ms if entry.next_ms else 0,
        "error": None
        if entry.error is None
        else {name: entry.error[name] for name in ("type", "message")},
    }
