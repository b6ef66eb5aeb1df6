"""Triggers in memory, for tests and replays: calls, retries and failures without waiting."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Final

import orjson

from streamtable.consumers.dead_letters import Reason
from streamtable.consumers.triggers.clock import Timer
from streamtable.consumers.triggers.deliveries import Answer, Delivery, Rejected, Window
from streamtable.consumers.triggers.engine import Engine
from streamtable.consumers.triggers.entries import Entry
from streamtable.consumers.triggers.giving_up import is_kept
from streamtable.consumers.triggers.options import MAX_AGE_S
from streamtable.consumers.triggers.shard_run import ShardRun
from streamtable.core.changes import Change as LogChange
from streamtable.core.positions import Position
from streamtable.triggers.change import Change
from streamtable.triggers.handlers import public_change
from streamtable.triggers.trigger import Trigger

__all__ = ["Call", "DeadLetter", "Failure", "MemoryTrigger"]

_REGION: Final = "local"
_ACCOUNT: Final = "000000000000"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a trigger's function.

    Attributes:
        trigger: the trigger's name.
        changes: what it was called with, as plain dicts.
        error: what it raised, None if it returned.
        is_final: it was the last call of a tumbling window.
    """

    trigger: str
    changes: tuple[Change[Any], ...]
    error: BaseException | None = None
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt at a change.

    Attributes:
        consumer: name of the trigger or view.
        change: the change, as plain dicts.
        error: why.
        attempts: which attempt it was, from 1.
    """

    consumer: str
    change: Change[Any]
    error: BaseException
    attempts: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A change that was given up.

    Attributes:
        consumer: name of the trigger or view.
        change: the change, as plain dicts.
        error: why the last attempt failed.
        attempts: how many there were.
    """

    consumer: str
    change: Change[Any]
    error: BaseException
    attempts: int


class MemoryTrigger:
    """Runs a trigger's changes through the runtime that a worker has, with a time of its own.

    What has failed is tried again without waiting, `retries` times; then it is given up. There is
    no age limit, and a batch is what there is.

    Args:
        trigger: the trigger.
        retries: how often a change is tried again, if the trigger does not say itself.
    """

    def __init__(self, trigger: Trigger, retries: int) -> None:
        self.trigger = trigger
        self.calls: list[Call] = []
        self.failures: list[Failure] = []
        self.dead_letters: list[DeadLetter] = []
        options = trigger.options()
        self._function = trigger.invoke(_describe)
        self._pending: dict[int, list[tuple[LogChange, Position]]] = {}
        self._changes: dict[Position, LogChange] = {}
        self._open: set[int] = set()
        self._clock = _Clock()
        self._engine = Engine(
            name=trigger.name,
            options=replace(
                options,
                retries=retries if options.retries is None else options.retries,
                batch_window_s=0.0,
                max_age_s=MAX_AGE_S,
            ),
            invoke=self._invoke,
            store=_State(),
            owner=trigger.name,
            changes=self,
            give_up=self._give_up,
            fail=_ignore,
            clock=self._clock,
            jitter=lambda: 0.0,
        )

    def offer(self, change: LogChange, position: Position) -> None:
        """Note a change, if the trigger wants it."""
        trigger = self.trigger
        if change.table != trigger.table or change.event_name not in trigger.events:
            return
        if trigger.where is None or trigger.where.matches(change):
            self._pending.setdefault(position.shard, []).append((change, position))

    async def run(self) -> None:
        """Have all noted changes handled, or given up."""
        pending, self._pending = self._pending, {}
        for shard, offered in pending.items():
            async with self._shard(shard) as run:
                for change, position in offered:
                    self._changes[position] = change
                    # No change is older than another one.
                    self._clock.wall = change.created_ms
                    run.add(0, [(position.index, change)], position.offset, _done)
                await run.drained()
        self._changes.clear()

    async def close_windows(self) -> None:
        """End the windows that are open, as their time would."""
        for shard in sorted(self._open):
            async with self._shard(shard) as run:
                assert run.window_end_ms is not None
                run.close_window(run.window_end_ms)
                await run.drained()

    async def read(self, entry: Entry) -> LogChange:
        """Return the change of one that was parked."""
        return self._changes[entry.position]

    @asynccontextmanager
    async def _shard(self, shard: int) -> AsyncIterator[ShardRun]:
        run = ShardRun(shard, self._engine)
        await run.start()
        try:
            yield run
        finally:
            (self._open.discard if run.window_end_ms is None else self._open.add)(shard)
            await run.finish()

    async def _invoke(self, batch: Sequence[Delivery], window: Window | None) -> Answer:
        """Call the function, and note what becomes of that."""
        shown = tuple(public_change(each) for each in batch)
        final = window is not None and window.final
        try:
            answer = await self._function(batch, window)
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            self.calls.append(Call(self.trigger.name, shown, error, is_final=final))
            # One that is taken apart is no attempt at its changes.
            if len(batch) == 1 or not self.trigger.bisect:
                for delivery in batch:
                    self._note_failure(delivery, error)
            raise
        for index, failure in answer.failed.items():
            self._note_failure(batch[index], failure)
        # A function is not called with what does not fit its model.
        called = tuple(
            each
            for index, each in enumerate(shown)
            if not isinstance(answer.failed.get(index), Rejected)
        )
        if called or final:
            self.calls.append(Call(self.trigger.name, called, is_final=final))
        return answer

    def _note_failure(self, delivery: Delivery, error: BaseException) -> None:
        shown = public_change(delivery)
        self.failures.append(Failure(self.trigger.name, shown, error, delivery.attempts))

    async def _give_up(
        self, entry: Entry, change: LogChange | None, reason: Reason, error: BaseException
    ) -> None:
        del reason  # what has failed says it
        assert change is not None
        delivery = Delivery(change, entry.position, entry.attempts)
        name = self.trigger.name
        if await is_kept(name, self._engine.options.on_failure, delivery, error):
            shown = public_change(delivery)
            self.dead_letters.append(DeadLetter(name, shown, error, entry.attempts))


class _Clock:
    """A clock that moves on as soon as somebody waits for it.

    Attributes:
        wall: the time of the changes.
    """

    def __init__(self) -> None:
        self.wall = 0
        self._now_ms = 0

    def now_ms(self) -> int:
        return self._now_ms

    def wall_ms(self) -> int:
        return self.wall

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        due_ms = self._now_ms + ceil(delay_s * 1000)

        def fire() -> None:
            self._now_ms = max(self._now_ms, due_ms)
            callback()

        return asyncio.get_running_loop().call_soon(fire)


class _State:
    """What a trigger keeps, for as long as the test runs."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, dict[str, Any]]] = {}

    async def load(self, owner: str) -> dict[str, dict[str, Any]]:
        return {**self._rows.get(owner, {})}

    async def save(
        self, owner: str, items: Mapping[str, dict[str, Any] | None], holder: str | None = None
    ) -> None:
        del holder  # there is no other worker
        rows = self._rows.setdefault(owner, {})
        for name, value in items.items():
            if value is None:
                rows.pop(name, None)
            else:
                # As it would come back: a window's state must be JSON.
                rows[name] = orjson.loads(orjson.dumps(value))


def _done() -> None:
    """Be told that a record is done; no position is kept."""


def _ignore(_error: BaseException) -> None:
    """Be told what a shard stands still for; `drained` raises it."""


async def _describe(table: str) -> Mapping[str, Any]:
    return {"TableArn": f"arn:aws:dynamodb:{_REGION}:{_ACCOUNT}:table/{table}"}
