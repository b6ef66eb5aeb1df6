"""What the runtime of triggers stands on, in memory, with a clock that the test sets."""

import asyncio
import heapq
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import orjson

from streamtable.consumers.dead_letters import DeadLetter
from streamtable.consumers.triggers.deliveries import Answer, Delivery, Window
from streamtable.consumers.triggers.options import TriggerOptions
from streamtable.consumers.triggers.parked_changes import ParkedChanges
from streamtable.consumers.triggers.sink import TriggerName, TriggerSink
from streamtable.consumers.triggers.state import HOLDER, SAVE_ITEMS, HeldByAnother
from streamtable.core.changes import Change
from streamtable.core.errors import StreamtableError
from streamtable.streams import records
from streamtable.streams.records import LogRecord
from tests.streams.logs import MemoryFetches, put

START_MS = 1_700_000_000_000
_QUIET = 60


class FakeClock:
    """A clock that stands still until the test moves it; `set_s` is how far it was set ahead."""

    def __init__(self) -> None:
        self.ms = START_MS
        self.set_s = 0
        self._timers: list[tuple[int, int, Any]] = []
        self._numbers = count()

    def now_ms(self) -> int:
        return self.ms

    def wall_ms(self) -> int:
        return self.ms + self.set_s * 1000

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> "FakeTimer":
        timer = FakeTimer(callback)
        at = self.ms + round(delay_s * 1000)
        heapq.heappush(self._timers, (at, next(self._numbers), timer))
        return timer

    async def advance(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due then."""
        end = self.ms + round(seconds * 1000)
        await quiet()
        while self._timers and self._timers[0][0] <= end:
            at, _, timer = heapq.heappop(self._timers)
            self.ms = max(self.ms, at)
            if timer.callback is not None:
                timer.callback()
                await quiet()
        self.ms = end
        await quiet()


class FakeTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


async def quiet() -> None:
    """Let everything happen that can without time passing."""
    for _ in range(_QUIET):
        await asyncio.sleep(0)


class StoreDown(StreamtableError):
    """The state store does not answer."""


class MemoryState:
    """A state store; `fails` says of each save whether it fails, before or after it is done."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, bytes]] = {}
        self.fails: Callable[[], str | None] = lambda: None
        self.saves = 0

    async def load(self, owner: str) -> dict[str, dict[str, Any]]:
        await asyncio.sleep(0)
        rows = self.rows.get(owner, {})
        return {id_: orjson.loads(rows[id_]) for id_ in sorted(rows)}

    async def save(
        self,
        owner: str,
        items: Mapping[str, dict[str, Any] | None],
        holder: str | None = None,
    ) -> None:
        assert 0 < len(items) <= SAVE_ITEMS
        await asyncio.sleep(0)
        fails = self.fails()
        if fails == "before":
            raise StoreDown("before")
        rows = self.rows.setdefault(owner, {})
        if holder is not None and rows.get(HOLDER) != orjson.dumps({"id": holder}):
            raise HeldByAnother(owner)
        for id_, value in items.items():
            if value is None:
                rows.pop(id_, None)
            else:
                rows[id_] = orjson.dumps(value)
        self.saves += 1
        if fails == "after":
            raise StoreDown("after")

    def ids(self) -> set[str]:
        return {id_ for rows in self.rows.values() for id_ in rows} - {HOLDER}


class MemoryLetters:
    """Dead letters."""

    def __init__(self) -> None:
        self.letters: list[DeadLetter] = []

    async def add(self, letter: DeadLetter) -> None:
        await asyncio.sleep(0)
        self.letters.append(letter)

    async def read(self, partition: int, offset: int) -> DeadLetter:
        written = orjson.loads(orjson.dumps(self.letters[offset].to_json()))
        return DeadLetter.from_json(written, partition, offset)


Call = tuple[list[str], list[int]]


class Function:
    """A trigger's function; `act` decides about each call."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.deliveries: list[Delivery] = []
        self.windows: list[Window | None] = []
        self.act: Callable[[Sequence[Delivery]], Any] = lambda _: None

    async def __call__(self, batch: Sequence[Delivery], window: Window | None) -> Answer:
        self.calls.append([label(delivery.change) for delivery in batch])
        self.deliveries += batch
        self.windows.append(window)
        found = self.act(batch)
        if asyncio.iscoroutine(found):
            found = await found
        return found if isinstance(found, Answer) else Answer()


def label(change: Change) -> str:
    """The item's id and its value: `a1`, `a2`, ..."""
    assert change.new is not None
    return change.keys["id"]["S"] + change.new.item["v"]["S"]  # type: ignore[no-any-return]


class Runtime:
    """A sink, with a log beside it from which it is fed as a follower does it."""

    def __init__(self, shards: int = 1, **options: Any) -> None:
        self.clock = FakeClock()
        self.log = MemoryFetches(shards)
        self.state = MemoryState()
        self.letters = MemoryLetters()
        self.function = Function()
        self.options = TriggerOptions(table="users", **options)
        self.fed = [0] * shards
        self.done: list[set[int]] = [set() for _ in range(shards)]
        self.on_done: Callable[[int, int], None] = lambda _shard, _offset: None
        self._feeding: dict[int, asyncio.Task[None]] = {}
        self.sink = self._make()

    def _make(self) -> TriggerSink:
        reader: Any = self.letters
        return TriggerSink(
            TriggerName("shop", "welcome", 1),
            self.options,
            self.function,
            state=self.state,
            letters=self.letters,
            changes=ParkedChanges(self.log, reader),
            log=self.log,
            clock=self.clock,
            jitter=lambda: 1.0,
        )

    async def start(self) -> None:
        """Begin where the frontier is."""
        self.sink = self._make()
        self.fed = [self.frontier(shard) for shard in range(len(self.log.shards))]
        self.done = [set() for _ in self.log.shards]
        self.sink.watch(lambda: {shard: self.frontier(shard) for shard in range(len(self.fed))})
        self._base = list(self.fed)
        starting = asyncio.create_task(self.sink.assigned(frozenset(range(len(self.log.shards)))))
        await quiet()
        while not starting.done():
            await self.clock.advance(0.5)
        await starting
        self._feeding = {
            shard: asyncio.create_task(self._feed(shard)) for shard in range(len(self.log.shards))
        }
        await quiet()

    def frontier(self, shard: int = 0) -> int:
        """The first offset that is not done."""
        offset = getattr(self, "_base", [0] * len(self.log.shards))[shard]
        while offset in self.done[shard]:
            offset += 1
        return offset  # type: ignore[no-any-return]

    async def stop(self) -> None:
        await self._end_feeding()
        stopping = asyncio.create_task(self.sink.stop())
        await quiet()
        while not stopping.done():
            await self.clock.advance(0.5)

    async def crash(self) -> None:
        """End without a word, as kill -9 does."""
        await self._end_feeding()
        for run in self.sink._runs.values():
            run._closing = True
            run.abandon()
        for watching in self.sink._watches.values():
            watching.cancel()
        await quiet()

    async def _end_feeding(self) -> None:
        for task in self._feeding.values():
            task.cancel()
        await asyncio.gather(*self._feeding.values(), return_exceptions=True)
        self._feeding = {}

    async def write(self, *names: str, shard: int = 0, at_ms: int | None = None) -> int:
        """Append one commit with these changes, `a1`: item a, value 1."""
        at_ms = self.clock.wall_ms() if at_ms is None else at_ms
        changes = [put(name[0], name[1:], created_ms=at_ms) for name in names]
        offset = self.log.append(records.commit("e", changes, []), shard, at_ms)
        await quiet()
        return offset

    async def _feed(self, shard: int) -> None:
        sink = self.sink
        done = self.done[shard]
        while True:
            log = self.log.shards[shard]
            if self.fed[shard] == len(log):
                await asyncio.sleep(0)
                continue
            record: LogRecord = log[self.fed[shard]]
            self.fed[shard] += 1
            await sink.take(record, lambda offset=record.offset: self._on_done(shard, done, offset))  # type: ignore[misc]

    def _on_done(self, shard: int, done: set[int], offset: int) -> None:
        assert offset not in done, "done twice"
        done.add(offset)
        self.on_done(shard, offset)
