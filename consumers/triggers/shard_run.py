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
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Final

from streamtable.consumers.triggers.clock import Timer
from streamtable.consumers.triggers.deliveries import (
    BatchItemFailed,
    Delivery,
    HandlerTimeout,
)
from streamtable.consumers.triggers.engine import Engine
from streamtable.consumers.triggers.entries import Entry, Ticket
from streamtable.consumers.triggers.holding import Holding
from streamtable.consumers.triggers.items import Item, Sleepers
from streamtable.consumers.triggers.parked_changes import ChangeGone
from streamtable.consumers.triggers.parking import Parking
from streamtable.consumers.triggers.state import SAVE_ITEMS
from streamtable.consumers.triggers.verdicts import Verdicts, delay_ms, is_overtaken
from streamtable.consumers.triggers.window_end import WindowEnd
from streamtable.consumers.triggers.windows import WINDOW, Windows
from streamtable.core.changes import Change
from streamtable.core.errors import StreamtableError
from streamtable.core.positions import Position

__all__ = ["ShardRun"]

logger = logging.getLogger(__name__)

_PARK_S: Final = 1.0  # A change whose next try is as far away does not wait in memory.
_RETRY_S: Final = 1.0
_BATCH_BYTES: Final = 6 * 1024 * 1024  # What a Lambda function can be called with.
_MEMORY_ENTRIES: Final = 1000
_MEMORY_BYTES: Final = 16 * 1024 * 1024
_DRAIN: Final = SAVE_ITEMS - 1  # With a window's state, what one save takes.
_BREATH: Final = 32
_ATTEMPTS_SHOWN: Final = 1000


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
        self._holding = Holding(number, engine)
        self._verdicts = Verdicts(options, engine.clock)
        self._wake = asyncio.Event()
        self._windows: Windows | None = None
        self._window_end: WindowEnd | None = None
        parallelism = options.parallelism
        if options.tumbling_window_s is not None:
            self._windows = Windows(number, max(1, int(options.tumbling_window_s * 1000)))
            self._window_end = WindowEnd(
                number, engine, self._windows, self._verdicts, self._wake.set
            )
            parallelism = 1
        self._parallelism = parallelism
        self._most_entries = max(_MEMORY_ENTRIES, 2 * options.batch_size * parallelism)
        self._ready: deque[Entry] = deque()
        self._released: list[Entry] = []
        self._items: dict[bytes, Item] = {}
        self._due: deque[Item] = deque()
        self._sleepers = Sleepers(engine.clock, self._awake)
        self._turn = False
        self._entries = 0
        self._bytes = 0
        self._in_flight = 0
        self._started = -1
        self._current: list[Entry] = []
        self._room = asyncio.Event()
        self._room.set()
        self._drained = asyncio.Event()
        self._drained.set()
        self._parking = Parking(
            number,
            engine,
            self._holding,
            self._items,
            let_go=self._let_go,
            conclude=self._conclude,
        )
        self._batch_timer: Timer | None = None
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
        rows = await self._holding.take()
        if self._windows is not None:
            self._windows.load(rows.get(WINDOW))
        self._take_over(rows)
        self._slots = [asyncio.create_task(self._slot()) for _ in range(self._parallelism)]
        for slot in self._slots:
            slot.add_done_callback(self._on_task_done)
        self._saver = asyncio.create_task(self._parking.keep())
        self._saver.add_done_callback(self._on_task_done)

    async def reload(self) -> None:
        """Take over what was added to the state store since it was loaded."""
        self._take_over(await self._holding.load())

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
            if self._parking.was_here(entry) or (windows is not None and windows.has(position)):
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
        ending = self._window_end is not None and self._window_end.due
        if not (self._entries or self._parking.parked or ending):
            self._drained.set()

    async def finish(self) -> None:
        """Have the calls that run end, and park what they leave behind.

        What was not called for yet is neither handled nor parked: it comes again from the log.
        """
        self._closing = self._holding.closing = True
        self._room.set()
        self._wake.set()
        self._parking.wake()
        ending = [*self._slots, *([] if self._saver is None else [self._saver])]
        await asyncio.gather(*ending, return_exceptions=True)
        while held := [each for each in self._held if not each.done()]:
            await asyncio.wait(held)
        await self._park_rest()
        self.abandon()

    def abandon(self) -> None:
        """Let go at once: nothing is saved or acknowledged any more."""
        self._closing = self._holding.closing = True
        for task in (*self._slots, self._saver):
            if task is not None:
                task.cancel()
        self._sleepers.close()
        if self._batch_timer is not None:
            self._batch_timer.cancel()
        if self._window_end is not None:
            self._window_end.cancel()
        self._room.set()

    def close_window(self, end_ms: int) -> None:
        """Have the open window end, if it is the one that ends then: nothing for it will come."""
        if self._window_end is not None and self.window_end_ms == end_ms:
            self._window_end.due = True
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
            "parked": len(self._parking.parked),
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
        ahead_ms = self._engine.ahead_ms()
        return {
            **self.counts(),
            "retrying": [_shown(entry, ahead_ms) for entry in islice(retrying, _ATTEMPTS_SHOWN)],
            "parked": [
                _shown(entry, ahead_ms)
                for entry in islice(self._parking.parked.values(), _ATTEMPTS_SHOWN)
            ],
        }

    # What is parked

    def _take_over(self, rows: Mapping[str, dict[str, Any]]) -> None:
        self._parking.take_over(rows)
        if self._parking.parked:
            self._drained.clear()

    def _forget_parked(self, entry: Entry) -> None:
        self._parking.forget(entry)
        self._look_drained()

    async def _park_rest(self) -> None:
        """Park what failed, what waits behind it, and what would come again after later ones."""
        self._merge_released()
        for entry in self._ready:
            if entry.position.offset <= self._started:
                self._item(entry.key).waiting.append(entry)
        self._ready.clear()
        await self._parking.finish()

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
            if self._wants_end():
                await self._end_window()
                continue
            found = self._next()
            if found is None:
                if self._wants_end():
                    continue
                self._wake.clear()
                await self._wake.wait()
                continue
            self._wake.set()  # Another slot may find something too.
            if isinstance(found, Item):
                await self._drain(found)
            else:
                await self._handle(found)
            since_breath += 1
            if since_breath == _BREATH:
                since_breath = 0
                await asyncio.sleep(0)

    def _next(self) -> "list[Entry] | Item | None":
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
                    self._parking.later(item)
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

    async def _drain(self, item: Item) -> None:
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
            self._parking.item_count -= 1
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

    def _item(self, key: bytes) -> Item:
        item = self._items.get(key)
        if item is None:
            item = self._items[key] = Item(key)
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
                next_ms = self._engine.clock.now_ms() + delay_ms(1, self._engine.jitter())
                for entry in entries:
                    entry.alone = True
                    entry.next_ms = next_ms
                    self._items[entry.key].returned.append(entry)
                await self._finish_with((), None, entries)
                return
        await self._settle(entries, dict.fromkeys(range(len(entries)), error), (), None)

    async def _leave_out_hopeless(self, entries: list[Entry]) -> list[Entry]:
        """Give up what is too old or lost; return the others."""
        hopeless = {
            index: why
            for index, entry in enumerate(entries)
            if (why := self._verdicts.before(entry)) is not None
        }
        if not hopeless:
            return entries
        gone = []
        for index, why in hopeless.items():
            gone.append(entries[index])
            await self._engine.give_up(entries[index], entries[index].change, "age", why)
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
        if self._windows is not None and is_overtaken(entries, failed, again):
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
            elif reason := self._verdicts.after(entry, error, jitter):
                await self._engine.give_up(entry, entry.change, reason, error)
                self.given_up += 1
                finished.append(entry)
            else:
                stuck.add(entry.key)
                returned.append(entry)
        for entry in returned:
            self._items[entry.key].returned.append(entry)
        await self._finish_with(finished, state, returned)

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
                rows[entry.id] = entry.row(self._engine.ahead_ms())
                entry.change = None
        if windows is not None and finished:
            if state is not None:
                windows.state = state
            gone = {entry.position for entry in finished}
            self._current = [each for each in self._current if each.position not in gone]
            pending = [each for each in self._pending() if each not in gone]
            rows[WINDOW] = windows.row(gone, pending)
        if rows:
            await self._holding.save(rows)
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

    def _conclude(self, item: Item) -> None:
        """Decide what an item does next that is in no call any more."""
        saved = [entry for entry in item.returned if entry.saved]
        if saved and not item.parked:
            self._parking.item_count += 1
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
                self._sleepers.add(item, 0)
            return
        wait_ms = head.next_ms - self._engine.clock.now_ms()
        item.wants_saving = False
        if wait_ms <= 0 and item.held is None:
            item.asleep = False
            if item.parked:
                self._due.append(item)
            else:
                del self._items[item.key]
                self._released += item.waiting
            self._wake.set()
            return
        if item.parked or wait_ms >= _PARK_S * 1000:
            self._parking.later(item)
        self._sleepers.add(item, wait_ms)

    def _awake(self, item: Item) -> None:
        if self._closing or not item.asleep:
            return
        if item.held is not None and not item.held.done():
            item.held.add_done_callback(lambda _: self._awake(item))
            return
        item.asleep = False
        self._conclude(item)

    # Windows

    def _wants_end(self) -> bool:
        if self._window_end is None:
            return False
        following = self._ready[0] if self._ready else None
        blocked = following is not None and following.key in self._items
        return self._window_end.is_wanted(following, blocked=blocked)

    async def _end_window(self) -> None:
        """Make a window's last call; where that is done, the next window may begin."""
        windows, end = self._windows, self._window_end
        assert windows is not None
        assert end is not None
        if await end.call():
            await self._holding.save({WINDOW: windows.row((), self._pending())})
            self._look_drained()


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
