"""Tumbling windows: what is counted in them, how they end, and that nothing counts twice."""

from typing import Any

import pytest

from streamtable.consumers.triggers.deliveries import Answer
from streamtable.consumers.triggers.state import HeldByAnother
from streamtable.consumers.triggers.windows import Windows
from streamtable.core.positions import Position
from tests.consumers.triggers.fakes import START_MS, Runtime, label, quiet

WINDOW_S = 10
BEGIN = START_MS - START_MS % (WINDOW_S * 1000)


class Counting(Runtime):
    """A trigger that counts names in its window's state, and notes what windows end with."""

    def __init__(self, **options: Any) -> None:
        super().__init__(tumbling_window_s=WINDOW_S, **options)
        self.ended: list[tuple[int, list[str]]] = []
        self.fails: set[str] = set()
        self.function.act = self._count
        self.clock.ms = BEGIN

    def _count(self, batch: Any) -> Answer:
        window = self.function.windows[-1]
        assert window is not None
        seen = window.state.get("seen", [])
        if window.final:
            if "final" in self.fails:
                raise ValueError("final")
            self.ended.append(((window.start_ms - BEGIN) // 1000, seen))
            return Answer()
        names = [label(delivery.change) for delivery in batch]
        failed = {index: ValueError(name) for index, name in enumerate(names) if name in self.fails}
        return Answer(
            failed=failed,
            state={"seen": [*seen, *(name for name in names if name not in self.fails)]},
        )


async def test_a_window_ends_when_a_change_of_the_next_comes() -> None:
    made = Counting(batch_size=10)
    await made.start()
    await made.write("a1", "b1", at_ms=BEGIN)
    await made.write("a2", at_ms=BEGIN + 9_999)
    await made.write("a3", at_ms=BEGIN + 10_000)
    assert made.ended == [(0, ["a1", "b1", "a2"])]
    assert made.function.windows[-1].start_ms == BEGIN + 10_000  # type: ignore[union-attr]
    assert made.function.windows[-1].end_ms == BEGIN + 20_000  # type: ignore[union-attr]
    await made.stop()


async def test_a_window_ends_when_its_time_has_passed_and_the_log_was_read() -> None:
    made = Counting()
    await made.start()
    await made.write("a1")
    await made.clock.advance(10.9)
    assert made.ended == []
    await made.clock.advance(2)
    assert made.ended == [(0, ["a1"])]
    await made.stop()


async def test_a_window_ends_by_the_clock_that_the_changes_are_made_by() -> None:
    made = Counting()
    await made.start()
    made.clock.set_s = 3_600
    await made.write("a1")
    await made.clock.advance(10.9)
    assert made.ended == []
    await made.clock.advance(2)
    assert made.ended == [(3_600, ["a1"])]
    await made.stop()


async def test_it_does_not_end_before_what_the_log_has_of_it_came() -> None:
    made = Counting()
    await made.start()
    await made.write("a1")
    held = made.frontier
    made.frontier = lambda shard=0: 0  # type: ignore[method-assign]
    await made.clock.advance(15)
    assert made.ended == []
    made.frontier = held  # type: ignore[method-assign]
    await made.clock.advance(2)
    assert made.ended == [(0, ["a1"])]
    await made.stop()


async def test_a_late_change_counts_in_the_window_that_is_open() -> None:
    made = Counting()
    await made.start()
    await made.write("a1", at_ms=BEGIN + 10_001)
    await made.write("a2", at_ms=BEGIN + 9_000)
    await made.write("a3", at_ms=BEGIN + 20_000)
    assert made.ended == [(10, ["a1", "a2"])]
    await made.stop()


async def test_state_goes_on_after_a_crash_and_nothing_counts_twice() -> None:
    made = Counting()
    await made.start()
    for name in ("a1", "b1", "a2"):
        await made.write(name)
    made.done[0] = {0}  # As if the later positions had not been committed.
    await made.crash()
    await made.start()
    await made.write("c1")
    await made.clock.advance(15)
    assert made.ended == [(0, ["a1", "b1", "a2", "c1"])]
    await made.stop()


async def test_what_failed_before_a_crash_comes_again_and_what_did_not_does_not() -> None:
    made = Counting(batch_size=4)
    await made.start()
    made.fails = {"a1"}
    await made.write("a1", "b1", "a2", "c1")
    await made.crash()
    made.fails = set()
    await made.start()
    assert made.frontier() == 1
    await made.clock.advance(15)
    assert made.ended == [(0, ["b1", "c1", "a1", "a2"])]
    await made.stop()


async def test_a_parked_change_counts_once() -> None:
    made = Counting(batch_size=4)
    await made.start()
    made.fails = {"a1"}
    await made.write("a1", "b1", "a2")
    await made.clock.advance(2)
    await made.crash()
    made.fails = set()
    await made.start()
    await made.clock.advance(5)
    await made.crash()
    await made.start()
    await made.clock.advance(15)
    assert made.ended == [(0, ["b1", "a1", "a2"])]
    assert made.state.ids() == {"window"}
    await made.stop()


async def test_a_worker_that_was_frozen_counts_nothing_in_what_another_one_took_over() -> None:
    frozen = Counting()
    await frozen.start()
    await frozen.write("a1")
    await frozen._end_feeding()
    other = Counting()
    other.state, other.log = frozen.state, frozen.log
    await other.start()
    await other.write("a2")
    done: list[int] = []
    await frozen.sink.take(frozen.log.shards[0][1], lambda: done.append(1))
    with pytest.raises(HeldByAnother, match="trigger/shop/welcome/1/0"):
        await frozen.sink.failed()
    assert done == []
    with pytest.raises(HeldByAnother):
        await frozen.sink.take(frozen.log.shards[0][1], lambda: done.append(1))
    await other.clock.advance(15)
    assert other.ended == [(0, ["a1", "a2"])]
    await frozen.stop()
    await other.stop()


async def test_a_last_call_that_fails_is_made_again_and_the_next_window_waits() -> None:
    made = Counting()
    await made.start()
    made.fails = {"final"}
    await made.write("a1")
    await made.write("a2", at_ms=BEGIN + 10_000)
    await made.clock.advance(3)
    assert made.ended == []
    assert made.frontier() == 1
    made.fails = set()
    await made.clock.advance(5)
    await quiet()
    assert made.ended == [(0, ["a1"])]
    assert made.frontier() == 2
    await made.stop()


async def test_a_last_call_is_given_up_like_a_change() -> None:
    made = Counting(retries=1)
    await made.start()
    made.fails = {"final"}
    await made.write("a1")
    await made.write("a2", at_ms=BEGIN + 10_000)
    await made.clock.advance(0.2)
    assert made.frontier() == 2
    assert made.ended == []
    await made.stop()


async def test_one_call_at_a_time_whatever_the_parallelism() -> None:
    made = Counting(parallelism=4)
    await made.start()
    await made.write("a1", "b1", "c1", "d1")
    await made.clock.advance(15)
    assert made.ended == [(0, ["a1", "b1", "c1", "d1"])]
    await made.stop()


def test_a_row_comes_back_as_it_was() -> None:
    made = Windows(3, 1000)
    made.open(5000)
    made.state = {"n": 1}
    row = made.row([Position(3, 7, 2)], [Position(3, 6, 0), Position(3, 8, 0)])
    again = Windows(3, 1000)
    again.load(row)
    assert (again.start_ms, again.state, again.end_ms) == (5000, {"n": 1}, 6000)
    assert again.has(Position(3, 7, 2))
    assert not again.has(Position(3, 6, 0))
    assert not again.has(Position(3, 7, 3))
