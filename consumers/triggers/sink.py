"""Where the changes of a table become calls of a trigger's function."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn, Protocol

from streamtable.consumers.dead_letters import DeadLetter, Reason
from streamtable.consumers.triggers.clock import Clock, SystemClock, pause
from streamtable.consumers.triggers.deliveries import Delivery, Invoke
from streamtable.consumers.triggers.engine import Changes, Engine
from streamtable.consumers.triggers.entries import PARKED, Entry
from streamtable.consumers.triggers.giving_up import is_kept
from streamtable.consumers.triggers.options import TriggerOptions
from streamtable.consumers.triggers.parked_changes import ChangeGone
from streamtable.consumers.triggers.shard_run import ShardRun
from streamtable.consumers.triggers.state import StateStore
from streamtable.core.changes import Change
from streamtable.core.errors import StreamtableError
from streamtable.streams.records import LogRecord

__all__ = ["Bounds", "Letters", "TriggerName", "TriggerSink"]

logger = logging.getLogger(__name__)

_RETRY_S: Final = 1.0
_GRACE_MS: Final = 1000
_WATCH_S: Final = 1.0


class Letters(Protocol):
    """Keeps dead letters; `DeadLetterWriter`, or what stands for it in a test."""

    async def add(self, letter: DeadLetter) -> None:
        """Keep a letter; it is durable on return."""


class Bounds(Protocol):
    """Knows where a shard's log starts and ends."""

    async def bounds(self, shard: int) -> tuple[int, int]:
        """Return the offsets of the first record kept, and of the next one to come."""


@dataclass(frozen=True, slots=True)
class TriggerName:
    """Which trigger it is.

    Attributes:
        app: its app.
        name: its name there.
        generation: its generation.
        kind: its kind of consumer.
        origin: the name that it had first, under which its state stays; None for the same name.
    """

    app: str
    name: str
    generation: int
    kind: str = "trigger"
    origin: str | None = None

    @property
    def owner(self) -> str:
        """Whose rows its shards have in the state store, without the shard."""
        return f"{self.kind}/{self.app}/{self.origin or self.name}/{self.generation}"


class TriggerSink:
    """Calls a trigger's function for the changes that a follower gives it.

    - The changes of an item are called for in their order, each until it is handled or given up.
      One that fails holds up its item, nothing else.
    - A record is done when each of its changes is handled, given up (durably), or parked: noted
      in the state store, to be tried again from there, by whoever has the shard then.
    - What is filtered out is done at once.
    - Memory is bounded: 1,000 changes or 16 MB a shard, 1,000 items or 10,000 changes parked;
      then the shard waits.

    Args:
        name: the trigger.
        options: how it wants its changes.
        invoke: calls its function.
        state: keeps what is parked.
        letters: keeps dead letters.
        changes: reads what is parked; `ParkedChanges`.
        log: says where the log ends, for windows; without it a window ends by the clock alone.
        clock: tells the time.
        jitter: a random number from 0 to 1 each time.
    """

    def __init__(
        self,
        name: TriggerName,
        options: TriggerOptions,
        invoke: Invoke,
        *,
        state: StateStore,
        letters: Letters,
        changes: Changes,
        log: Bounds | None = None,
        clock: Clock | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._name = name
        self._options = options
        self._letters = letters
        self._log = log
        self._clock = SystemClock() if clock is None else clock
        self._engine = Engine(
            name=name.name,
            options=options,
            invoke=invoke,
            store=state,
            owner=name.owner,
            changes=changes,
            give_up=self._give_up,
            fail=self._fail,
            clock=self._clock,
            jitter=jitter,
        )
        self._runs: dict[int, ShardRun] = {}
        self._watches: dict[int, asyncio.Task[None]] = {}
        self._positions: Callable[[], Mapping[int, int]] = dict
        self._filter_failed = False
        self._failed: asyncio.Future[NoReturn] = asyncio.get_running_loop().create_future()
        self._stopping = False

    def wants(self, tables: frozenset[str]) -> bool:
        """Say whether a commit that touches these tables may have a change for the trigger."""
        return self._options.table in tables

    def watch(self, positions: Callable[[], Mapping[int, int]]) -> None:
        """Tell where the follower stands, so that a window is not ended before its changes came.

        Args:
            positions: gives `Follower.positions`.
        """
        self._positions = positions

    # For the follower

    async def take(self, record: LogRecord, done: Callable[[], None]) -> None:
        """Take a record; returns when there is room for the shard's next one."""
        options = self._options
        changes = record.wanted(options.table, options.events)
        if options.where is not None:
            changes = [found for found in changes if self._matches(found[1])]
        if not changes:
            done()
            return
        run = self._runs[record.shard]
        run.add(len(record.value), changes, record.offset, done)
        await run.room()

    async def assigned(self, shards: frozenset[int]) -> None:
        """Load what is parked of shards that are new here, and go on with it."""
        runs = [ShardRun(shard, self._engine) for shard in sorted(shards)]
        try:
            await asyncio.gather(*(run.start() for run in runs))
        except BaseException:
            for run in runs:
                run.abandon()
            raise
        for run in runs:
            self._runs[run.number] = run
            if self._options.tumbling_window_s is not None:
                watching = asyncio.create_task(self._watch_window(run))
                self._watches[run.number] = watching

    async def revoked(self, shards: frozenset[int]) -> None:
        """Have what runs for these shards end, and park what it leaves behind.

        Where this is cancelled, async functions are cancelled too; threads are left alone.
        """
        runs = [run for shard in shards if (run := self._runs.pop(shard, None)) is not None]
        for shard in shards:
            watching = self._watches.pop(shard, None)
            if watching is not None:
                watching.cancel()
        try:
            await asyncio.gather(*(run.finish() for run in runs))
        finally:
            for run in runs:
                run.abandon()

    async def stop(self) -> None:
        """Have what runs end, and park what it leaves behind."""
        self._stopping = True
        await self.revoked(frozenset(self._runs))

    async def is_settled(self, shard: int, end: int) -> bool:
        """Say whether nothing of a shard up to an offset is parked, by whomever."""
        kept = await self._engine.store.load(f"{self._name.owner}/{shard}")
        positions = [row["position"] for id_, row in kept.items() if id_.startswith(PARKED)]
        return not any(at[0] == shard and at[1] <= end for at in positions)

    # For the worker

    async def failed(self) -> NoReturn:
        """Raise what a shard stands still for, when one does.

        Raises:
            HeldByAnother: another worker has taken over a shard that this one still has.
            Exception: a mistake of the runtime itself.
        """
        await asyncio.shield(self._failed)

    async def reload(self, shards: Iterable[int]) -> None:
        """Go on with what was added to the state store, as a redrive does."""
        runs = [self._runs[shard] for shard in shards if shard in self._runs]
        await asyncio.gather(*(run.reload() for run in runs))

    def counts(self) -> dict[int, dict[str, int]]:
        """Return by shard how many changes are where.

        That is `in_flight`, `waiting` (in memory), `parked`, and since the start of the shard
        here `handled` and `given_up`.
        """
        return {number: run.counts() for number, run in self._runs.items()}

    def status(self) -> dict[int, dict[str, Any]]:
        """Return what `counts` does, with `retrying` and `parked` as lists of changes.

        Each has `position`, `keys`, `attempts`, `next_at` (milliseconds since 1970; 0 for one
        that waits behind another) and `error` (type and message, or None): at most 1,000.
        """
        return {number: run.status() for number, run in self._runs.items()}

    # Inside

    def _fail(self, error: BaseException) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)
            self._failed.exception()  # It is looked at now, also where nobody waits for it.

    def _matches(self, change: Change) -> bool:
        assert self._options.where is not None
        try:
            return self._options.where.matches(change)
        except Exception:
            # It is delivered rather than lost: the function sees what the filter could not.
            if not self._filter_failed:
                logger.exception("%s: its filter fails, what it fails on passes", self._name.name)
            self._filter_failed = True
            return True

    async def _give_up(
        self, entry: Entry, change: Change | None, reason: Reason, error: BaseException
    ) -> None:
        position = entry.position
        logger.warning(
            "%s gives up shard %d, offset %d, index %d after %d attempts (%s): %r",
            self._name.name,
            position.shard,
            position.offset,
            position.index,
            entry.attempts,
            reason,
            error,
        )
        delivery = None if change is None else Delivery(change, position, entry.attempts)
        if await is_kept(self._name.name, self._options.on_failure, delivery, error):
            await self._keep(self._letter(entry, change, reason, error))

    def _letter(
        self, entry: Entry, change: Change | None, reason: Reason, error: BaseException
    ) -> DeadLetter:
        now_ms = self._clock.wall_ms()
        letter = DeadLetter.make(
            change,
            entry.position,
            kind=self._name.kind,
            app=self._name.app,
            consumer=self._name.name,
            generation=self._name.generation,
            table=self._options.table,
            keys=entry.keys,
            reason=reason,
            attempts=entry.attempts,
            first_failed_ms=entry.first_failed_ms or now_ms,
            failed_ms=now_ms,
            error=error,
        )
        if entry.error is not None and isinstance(error, TimeoutError | ChangeGone):
            # What it failed with says more than that its time is over.
            return replace(letter, error=entry.error)
        return letter

    async def _keep(self, letter: DeadLetter) -> None:
        while True:
            try:
                await self._letters.add(letter)
            except StreamtableError as error:
                if self._stopping:
                    raise
                logger.warning("%s: a dead letter can't be written: %s", letter.id, error)
                await pause(self._clock, _RETRY_S)
            else:
                return

    async def _watch_window(self, run: ShardRun) -> None:
        """End the shard's windows when their time has passed and all of it was looked at."""
        while True:
            await pause(self._clock, _WATCH_S)
            end_ms = run.window_end_ms
            if end_ms is None or self._clock.wall_ms() < end_ms + _GRACE_MS:
                continue
            if self._log is not None:
                try:
                    _, end = await self._log.bounds(run.number)
                except StreamtableError as error:
                    logger.debug("%s: the log's end is not known: %r", self._name.name, error)
                    continue
                while self._positions().get(run.number, end) < end:
                    await pause(self._clock, _WATCH_S / 4)
            run.close_window(end_ms)
