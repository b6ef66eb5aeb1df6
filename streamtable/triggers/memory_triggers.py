"""Triggers in memory, for tests and replays: calls, retries and failures without waiting."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from streamtable.consumers.triggers.deliveries import Answer, Delivery, Rejected, Window
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


@dataclass(slots=True)
class _Windowing:
    """The tumbling window of a shard that is open."""

    start_ms: int
    state: dict[str, Any] = field(default_factory=dict)


class MemoryTrigger:
    """Calls a trigger's function as the runtime does, but at once.

    What has failed is tried again without a pause, `retries` times; then it is given up. Time
    has no part in it: there is no age limit, and a batch is what there is.

    Args:
        trigger: the trigger.
        retries: how often a change is tried again, if the trigger does not say itself.
    """

    def __init__(self, trigger: Trigger, retries: int) -> None:
        self.trigger = trigger
        self.calls: list[Call] = []
        self.failures: list[Failure] = []
        self.dead_letters: list[DeadLetter] = []
        self._options = trigger.options()
        self._invoke = trigger.invoke(_describe)
        self._retries = retries if trigger.retries is None else trigger.retries
        self._pending: list[Delivery] = []
        self._windows: dict[int, _Windowing] = {}

    def offer(self, change: LogChange, position: Position) -> None:
        """Note a change, if the trigger wants it."""
        trigger = self.trigger
        if change.table != trigger.table or change.event_name not in trigger.events:
            return
        if trigger.where is None or trigger.where.matches(change):
            self._pending.append(Delivery(change, position))

    async def run(self) -> None:
        """Have all noted changes handled, or given up."""
        by_shard: dict[int, list[Delivery]] = {}
        for delivery in self._pending:
            by_shard.setdefault(delivery.position.shard, []).append(delivery)
        self._pending = []
        for shard, deliveries in by_shard.items():
            for group in self._by_window(deliveries):
                await self._open_window(shard, group[0])
                size = self.trigger.batch_size
                for at in range(0, len(group), size):
                    await self._handle(group[at : at + size])

    async def close_windows(self) -> None:
        """End the windows that are open, as their time would."""
        for shard in list(self._windows):
            await self._close_window(shard)

    def _by_window(self, deliveries: Sequence[Delivery]) -> Iterable[list[Delivery]]:
        groups: dict[int, list[Delivery]] = {}
        for delivery in deliveries:
            groups.setdefault(self._window_start(delivery), []).append(delivery)
        return groups.values()

    def _window_start(self, delivery: Delivery) -> int:
        if self.trigger.tumbling_window_s is None:
            return 0
        length_ms = round(self.trigger.tumbling_window_s * 1000)
        return delivery.change.created_ms // length_ms * length_ms

    async def _open_window(self, shard: int, first: Delivery) -> None:
        if self.trigger.tumbling_window_s is None:
            return
        start_ms = self._window_start(first)
        known = self._windows.get(shard)
        if known is not None and known.start_ms != start_ms:
            await self._close_window(shard)
        self._windows.setdefault(shard, _Windowing(start_ms))

    async def _close_window(self, shard: int) -> None:
        window = self._window(shard, final=True)
        del self._windows[shard]
        try:
            await self._invoke([], window)
        except Exception as error:  # noqa: BLE001 - it is told in the call
            self.calls.append(Call(self.trigger.name, (), error, is_final=True))
        else:
            self.calls.append(Call(self.trigger.name, (), is_final=True))

    def _window(self, shard: int, *, final: bool = False) -> Window | None:
        found = self._windows.get(shard)
        if found is None:
            return None
        assert self.trigger.tumbling_window_s is not None
        end_ms = found.start_ms + round(self.trigger.tumbling_window_s * 1000)
        return Window(shard, found.start_ms, end_ms, found.state, final)

    async def _handle(self, batch: list[Delivery]) -> None:
        """Call the function until each change of a batch is done or given up."""
        while batch:
            answer = await self._call(batch)
            if answer is None:
                middle = len(batch) // 2
                await self._handle(batch[:middle])
                await self._handle(batch[middle:])
                return
            given_up = await self._note(batch, answer.failed)
            batch = [
                Delivery(each.change, each.position, each.attempts + (index in answer.failed))
                for index, each in enumerate(batch)
                if index not in given_up and _comes_again(batch, index, answer)
            ]

    async def _call(self, batch: Sequence[Delivery]) -> Answer | None:
        """Call the function; None if the batch is to be taken apart."""
        shown = tuple(public_change(each) for each in batch)
        shard = batch[0].position.shard
        try:
            answer = await self._invoke(batch, self._window(shard))
        except Exception as error:  # noqa: BLE001 - it is what the test looks at
            self.calls.append(Call(self.trigger.name, shown, error))
            if self.trigger.bisect and len(batch) > 1:
                return None
            return Answer(dict.fromkeys(range(len(batch)), error))
        # A function is not called with what does not fit its model.
        fits = [not isinstance(answer.failed.get(index), Rejected) for index in range(len(batch))]
        if any(fits):
            called = tuple(each for each, fit in zip(shown, fits, strict=True) if fit)
            self.calls.append(Call(self.trigger.name, called))
        if answer.state is not None and shard in self._windows:
            self._windows[shard].state = answer.state
        return answer

    async def _note(
        self, batch: Sequence[Delivery], failed: Mapping[int, BaseException]
    ) -> set[int]:
        """Note what has failed; return what is given up."""
        given_up = set()
        for index, error in failed.items():
            delivery = batch[index]
            shown = public_change(delivery)
            attempts = delivery.attempts
            self.failures.append(Failure(self.trigger.name, shown, error, attempts))
            if attempts <= self._retries and not isinstance(error, Rejected):
                continue
            given_up.add(index)
            on_failure = self._options.on_failure
            if not isinstance(on_failure, str):
                await on_failure(delivery, error)
            elif on_failure == "deadletter":
                self.dead_letters.append(DeadLetter(self.trigger.name, shown, error, attempts))
        return given_up


def _comes_again(batch: Sequence[Delivery], index: int, answer: Answer) -> bool:
    """Say whether a change of a batch comes again: it failed, or waits for one that did."""
    if answer.checkpoint is not None:
        return index >= answer.checkpoint
    item = orjson.dumps(batch[index].change.keys)
    return index in answer.failed or any(
        failed < index and orjson.dumps(batch[failed].change.keys) == item
        for failed in answer.failed
    )


async def _describe(table: str) -> Mapping[str, Any]:
    return {"TableArn": f"arn:aws:dynamodb:{_REGION}:{_ACCOUNT}:table/{table}"}
