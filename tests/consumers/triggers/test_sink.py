"""The runtime of triggers on a log, a state store and a clock of the test's own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streamtable.consumers.triggers.deliveries import (
    Answer,
    HandlerTimeout,
    Rejected,
)
from streamtable.consumers.triggers.entries import parked_id, redriven
from streamtable.consumers.triggers.state import HeldByAnother
from streamtable.core.changes import INSERT
from streamtable.core.positions import Position
from tests.consumers.triggers.fakes import START_MS, Runtime, label, quiet

OWNER = "trigger/shop/welcome/1/0"


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Runtime]:
    made = Runtime(**options)
    await made.start()
    yield made
    await made.stop()


def fail_on(*names: str, error: BaseException | None = None) -> Callable[[Any], None]:
    """Fail each call that has one of these changes."""

    def act(batch: Any) -> None:
        if any(label(delivery.change) in names for delivery in batch):
            raise error or ValueError("no")

    return act


def parked(runtime: Runtime) -> set[str]:
    return {id_ for id_ in runtime.state.ids() if id_.startswith("parked/")}


async def test_each_change_in_order_and_its_record_done() -> None:
    async with running() as made:
        await made.write("a1", "b1")
        await made.write("a2")
        assert made.function.calls == [["a1"], ["b1"], ["a2"]]
        assert made.frontier() == 2
        assert [each.position for each in made.function.deliveries] == [
            Position(0, 0, 0),
            Position(0, 0, 1),
            Position(0, 1, 0),
        ]
        assert made.sink.counts()[0] == {
            "in_flight": 0,
            "waiting": 0,
            "parked": 0,
            "handled": 3,
            "given_up": 0,
        }


async def test_what_is_filtered_out_costs_no_call_and_moves_the_frontier() -> None:
    class Only:
        def matches(self, change: Any) -> bool:
            return label(change) == "b1"

    async with running(where=Only(), events=frozenset({INSERT})) as made:
        await made.write("a1")
        await made.write("b1", "c1")
        assert made.function.calls == [["b1"]]
        assert made.frontier() == 2


async def test_a_filter_that_fails_lets_the_change_through() -> None:
    class Broken:
        def matches(self, change: Any) -> bool:
            raise TypeError("str < int")

    async with running(where=Broken()) as made:
        await made.write("a1")
        assert made.function.calls == [["a1"]]


async def test_a_failing_change_holds_up_its_item_only() -> None:
    async with running() as made:
        made.function.act = fail_on("a1")
        await made.write("a1")
        await made.write("b1")
        await made.write("a2")
        await made.write("b2")
        assert made.function.calls == [["a1"], ["b1"], ["b2"]]
        assert made.frontier() == 0
        assert made.done[0] == {1, 3}


async def test_it_is_tried_again_after_a_growing_time_and_the_item_goes_on() -> None:
    async with running() as made:
        made.function.act = fail_on("a1")
        await made.write("a1")
        await made.write("a2")
        tries = []
        for _ in range(2600):
            before = len(made.function.calls)
            await made.clock.advance(0.05)
            if len(made.function.calls) > before:
                tries.append((made.clock.ms - START_MS) / 1000)
        waits = [later - earlier for earlier, later in zip([0.0, *tries], tries, strict=False)]
        assert waits == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30], abs=0.06)
        assert made.function.deliveries[-1].attempts == 11
        made.function.act = lambda _: None
        await made.clock.advance(30)
        assert made.function.calls[-2:] == [["a1"], ["a2"]]
        assert not made.state.ids()


async def test_it_is_parked_once_the_next_try_is_a_second_away() -> None:
    async with running() as made:
        made.function.act = fail_on("a1")
        await made.write("a1")
        await made.write("a2")
        await made.clock.advance(1.3)
        assert parked(made) == set()
        await made.clock.advance(0.1)
        assert parked(made) == {parked_id(Position(0, 0, 0)), parked_id(Position(0, 1, 0))}
        assert made.frontier() == 2
        await made.write("a3")
        assert len(parked(made)) == 3
        assert made.frontier() == 3
        assert [call for call in made.function.calls if call != ["a1"]] == []
        (first, second, _) = made.sink.status()[0]["parked"]
        assert first["position"] == [0, 0, 0]
        assert first["keys"] == {"id": {"S": "a"}}
        assert first["attempts"] == 4
        assert first["next_at"] == made.clock.ms + 1600
        assert first["error"] == {"type": "ValueError", "message": "no"}
        assert (second["attempts"], second["error"]) == (0, None)


async def test_what_is_parked_survives_a_crash_in_its_order() -> None:
    made = Runtime()
    await made.start()
    made.function.act = fail_on("a1")
    await made.write("a1")
    await made.write("a2")
    await made.clock.advance(2)
    assert made.frontier() == 2
    await made.crash()
    made.function.act = lambda _: None
    made.function.calls.clear()
    await made.start()
    await made.write("a3")
    await made.write("b1")
    assert made.function.calls == [["b1"]]
    await made.clock.advance(2)
    assert made.function.calls == [["b1"], ["a1"], ["a2"], ["a3"]]
    assert made.function.deliveries[-3].attempts == 5
    assert not made.state.ids()
    await made.stop()


async def test_a_parked_change_that_the_log_brings_again_is_not_handled_twice() -> None:
    made = Runtime()
    await made.start()
    made.function.act = fail_on("a1")
    await made.write("a1")
    await made.clock.advance(2)
    assert parked(made)
    made.done[0].clear()  # As if the frontier had not been committed.
    await made.crash()
    made.function.calls.clear()
    await made.start()
    assert made.function.calls == []
    assert made.frontier() == 1
    await made.stop()


async def test_a_graceful_stop_parks_what_failed_and_leaves_nothing_to_come_twice() -> None:
    made = Runtime()
    await made.start()
    made.function.act = fail_on("a1")
    for name in ("a1", "b1", "a2", "b2"):
        await made.write(name)
    await made.stop()
    assert made.frontier() == 4
    assert len(parked(made)) == 2
    made.function.act = lambda _: None
    made.function.calls.clear()
    await made.start()
    await made.clock.advance(1)
    assert made.function.calls == [["a1"], ["a2"]]
    await made.stop()


async def test_a_graceful_stop_finishes_the_call_that_runs() -> None:
    made = Runtime()
    await made.start()
    go_on = asyncio.Event()
    made.function.act = lambda _: go_on.wait()
    await made.write("a1", "b1")
    stopping = asyncio.create_task(made.stop())
    await quiet()
    assert not stopping.done()
    go_on.set()
    await stopping
    # What was not begun belongs to a record that was: it is kept, so that the record is done.
    assert made.function.calls == [["a1"]]
    assert made.frontier() == 1
    assert parked(made) == {parked_id(Position(0, 0, 1))}


async def test_it_stops_where_the_state_store_is_down_and_loses_nothing() -> None:
    made = Runtime()
    await made.start()
    made.function.act = fail_on("a1")
    await made.write("a1")
    made.state.fails = lambda: "before"
    await made.stop()
    assert made.frontier() == 0
    assert not made.state.ids()


async def test_a_store_that_is_down_for_a_while_is_waited_for() -> None:
    async with running() as made:
        made.function.act = fail_on("a1")
        made.state.fails = lambda: "after"
        await made.write("a1")
        await made.clock.advance(1.45)
        assert made.frontier() == 0
        made.state.fails = lambda: None
        await made.clock.advance(1)
        assert made.frontier() == 1


@pytest.mark.parametrize("retries", [0, 2])
async def test_after_the_last_retry_it_is_a_dead_letter_and_the_item_goes_on(retries: int) -> None:
    async with running(retries=retries) as made:
        made.function.act = fail_on("a1")
        await made.write("a1")
        await made.write("a2")
        await made.clock.advance(5)
        assert made.function.calls == [["a1"]] * (retries + 1) + [["a2"]]
        (letter,) = made.letters.letters
        assert letter.id == "shop/welcome/0-0-0"
        assert (letter.reason, letter.attempts) == ("retries", retries + 1)
        assert letter.error["type"] == "ValueError"
        trace = letter.error["trace"].splitlines()
        assert trace[1].endswith("in __call__"), "the first frame is not the runtime's"
        assert any(line.endswith("in act") for line in trace)
        assert letter.keys == {"id": {"S": "a"}}
        assert (letter.first_failed_ms, letter.failed_ms) == (
            START_MS,
            START_MS + {0: 0, 2: 600}[retries],
        )
        read = await made.letters.read(0, 0)
        change = read.content()
        assert change is not None
        assert label(change) == "a1"
        assert made.frontier() == 2
        assert made.sink.counts()[0]["given_up"] == 1


async def test_a_parked_change_is_given_up_with_its_content_read_again() -> None:
    async with running(retries=5) as made:
        made.function.act = fail_on("a1")
        await made.write("a1")
        await made.clock.advance(60)
        (letter,) = made.letters.letters
        assert letter.attempts == 6
        change = (await made.letters.read(0, 0)).content()
        assert change is not None
        assert label(change) == "a1"
        assert not made.state.ids()


async def test_a_rejected_change_is_not_tried_again() -> None:
    async with running() as made:
        made.function.act = fail_on("a1", error=Rejected("never"))
        await made.write("a1")
        assert made.function.calls == [["a1"]]
        assert made.letters.letters[0].reason == "rejected"


async def test_what_is_dropped_leaves_no_letter() -> None:
    async with running(retries=0, on_failure="drop") as made:
        made.function.act = fail_on("a1")
        await made.write("a1")
        assert made.letters.letters == []
        assert made.frontier() == 1


async def test_a_function_gets_what_is_given_up_and_a_letter_where_it_fails_too() -> None:
    seen = []

    async def on_failure(delivery: Any, error: BaseException) -> None:
        seen.append((label(delivery.change), delivery.attempts, str(error)))
        if label(delivery.change) == "b1":
            raise RuntimeError

    async with running(retries=0, on_failure=on_failure) as made:
        made.function.act = fail_on("a1", "b1")
        await made.write("a1", "b1")
        assert seen == [("a1", 1, "no"), ("b1", 1, "no")]
        assert [letter.id for letter in made.letters.letters] == ["shop/welcome/0-0-1"]


async def test_too_old_is_not_tried_at_all() -> None:
    async with running(max_age_s=60) as made:
        await made.write("a1", at_ms=START_MS - 61_000)
        await made.write("b1", at_ms=START_MS - 59_000)
        assert made.function.calls == [["b1"]]
        (letter,) = made.letters.letters
        assert (letter.reason, letter.attempts) == ("age", 0)
        assert "61 s old" in letter.error["message"]


async def test_without_an_age_of_its_own_even_the_oldest_is_tried_once() -> None:
    async with running() as made:
        made.function.act = fail_on("a1")
        await made.write("a1", "b1", at_ms=START_MS - 24 * 3_600_000)
        assert made.function.calls == [["a1"], ["b1"]]
        assert [letter.reason for letter in made.letters.letters] == ["age"]


async def test_a_change_whose_next_try_comes_too_late_is_given_up_now() -> None:
    async with running(max_age_s=2) as made:
        made.function.act = fail_on("a1")
        await made.write("a1")
        await made.clock.advance(1.5)
        (letter,) = made.letters.letters
        assert (letter.reason, letter.attempts) == ("age", 4)
        assert letter.error["type"] == "ValueError"


async def test_a_worker_that_was_frozen_parks_nothing_of_what_another_one_took_over() -> None:
    frozen = Runtime()
    await frozen.start()
    frozen.function.act = fail_on("a1")
    await frozen.write("a1")
    await frozen._end_feeding()
    other = Runtime()
    other.state, other.log, other.letters = frozen.state, frozen.log, frozen.letters
    await other.start()
    assert other.function.calls == [["a1"]]
    await frozen.clock.advance(2)
    assert parked(other) == set()
    with pytest.raises(HeldByAnother):
        await frozen.sink.failed()
    await frozen.stop()
    assert parked(other) == set()
    await other.stop()


DAY_S = 24 * 3_600


@pytest.mark.parametrize("set_s", [DAY_S, -DAY_S, 0])
async def test_a_clock_that_is_set_makes_no_change_older_or_younger(set_s: int) -> None:
    async with running(max_age_s=10) as made:
        made.function.act = fail_on("a1", "b1", "c1")
        await made.write("a1")
        made.clock.set_s = set_s
        # The owner's clock goes on where it was, where the time is set back.
        await made.write("b1", at_ms=max(made.clock.wall_ms(), made.clock.ms))
        await made.clock.advance(3)
        await made.write("c1", at_ms=max(made.clock.wall_ms(), made.clock.ms))
        assert made.letters.letters == []
        await made.clock.advance(5)
        assert [letter.keys["id"]["S"] for letter in made.letters.letters] == ["a", "b"]
        await made.clock.advance(3)
        assert [letter.keys["id"]["S"] for letter in made.letters.letters] == ["a", "b", "c"]
        assert {letter.reason for letter in made.letters.letters} == {"age"}
        assert made.letters.letters[-1].failed_ms == START_MS + set_s * 1000 + 9_200


async def test_what_was_parked_by_a_clock_that_ran_ahead_is_tried_soon() -> None:
    async with running() as made:
        made.function.act = fail_on("a1")
        made.clock.set_s = DAY_S
        await made.write("a1")
        await made.clock.advance(2)
        (shown,) = made.sink.status()[0]["parked"]
        assert 0 < shown["next_at"] - made.clock.wall_ms() <= 1600
        await made.crash()
        made.clock.set_s = 0
        made.function.act = lambda _: None
        await made.start()
        await made.clock.advance(29)
        assert made.letters.letters == []
        calls = len(made.function.calls)
        await made.clock.advance(1.1)
        assert made.function.calls[calls:] == [["a1"]]


async def test_a_batch_has_what_there_is_up_to_its_size() -> None:
    async with running(batch_size=3) as made:
        await made.write("a1", "b1", "a2", "c1")
        assert made.function.calls == [["a1", "b1", "a2"], ["c1"]]


async def test_a_batch_waits_for_its_window() -> None:
    async with running(batch_size=3, batch_window_s=2) as made:
        await made.write("a1")
        await made.clock.advance(1.9)
        assert made.function.calls == []
        await made.write("b1")
        await made.clock.advance(0.1)
        assert made.function.calls == [["a1", "b1"]]
        await made.write("a1", "b1", "c1")
        assert made.function.calls[1:] == [["a1", "b1", "c1"]]


async def test_a_failing_batch_is_taken_apart() -> None:
    async with running(batch_size=8) as made:
        made.function.act = fail_on("d1")
        await made.write("a1", "b1", "c1", "d1", "e1", "d2", "f1")
        done = [call for call in made.function.calls if "d1" not in call]
        assert sorted(name for call in done for name in call) == ["a1", "b1", "c1", "e1", "f1"]
        assert made.function.deliveries[-1].attempts == 1
        made.function.act = lambda _: None
        await made.clock.advance(0.2)
        assert made.function.calls[-1] == ["d1", "d2"]
        assert made.frontier() == 1


async def test_without_bisecting_the_whole_batch_comes_again() -> None:
    async with running(batch_size=4, bisect=False) as made:
        made.function.act = fail_on("b1")
        await made.write("a1", "b1", "c1")
        await made.clock.advance(0.2)
        assert made.function.calls == [["a1", "b1", "c1"]] * 2
        assert {each.attempts for each in made.function.deliveries[3:]} == {2}


async def test_only_what_failed_of_a_batch_comes_again_with_what_follows_of_its_item() -> None:
    async with running(batch_size=4) as made:
        made.function.act = lambda _: Answer(failed={0: ValueError("first")})
        await made.write("a1", "b1", "a2", "c1")
        made.function.act = lambda _: None
        await made.clock.advance(0.2)
        assert made.function.calls == [["a1", "b1", "a2", "c1"], ["a1", "a2"]]
        assert [each.attempts for each in made.function.deliveries[4:]] == [2, 1]


async def test_a_checkpoint_brings_itself_and_all_after_it_again() -> None:
    async with running(batch_size=4) as made:
        made.function.act = lambda batch: Answer(checkpoint=1) if len(batch) == 4 else None
        await made.write("a1", "b1", "a2", "c1")
        assert made.function.calls == [["a1", "b1", "a2", "c1"], ["a2", "c1"]]
        await made.clock.advance(0.2)
        assert made.function.calls[2:] == [["b1"]]
        assert made.frontier() == 1


async def test_parallel_calls_never_have_the_same_item() -> None:
    gates: dict[str, asyncio.Event] = {}

    async def act(batch: Any) -> None:
        name = label(batch[0].change)
        gates[name] = asyncio.Event()
        await gates[name].wait()

    async with running(parallelism=2) as made:
        made.function.act = act
        await made.write("a1", "a2", "b1", "c1")
        assert made.function.calls == [["a1"], ["b1"]]
        gates["b1"].set()
        await quiet()
        assert made.function.calls == [["a1"], ["b1"], ["c1"]]
        gates["a1"].set()
        await quiet()
        assert made.function.calls[3:] == [["a2"]]
        gates["c1"].set()
        gates["a2"].set()
        await quiet()
        assert made.frontier() == 1


async def test_the_items_of_a_thread_that_can_not_be_stopped_wait_for_it() -> None:
    finished: list[asyncio.Future[None]] = []

    def act(batch: Any) -> None:
        if label(batch[0].change) == "a1" and not finished:
            finished.append(asyncio.get_running_loop().create_future())
            raise HandlerTimeout("too slow", finished[0])

    async with running() as made:
        made.function.act = act
        await made.write("a1", "b1", "a2")
        await made.clock.advance(10)
        assert made.function.calls == [["a1"], ["b1"]]
        finished[0].set_result(None)
        await quiet()
        assert made.function.calls == [["a1"], ["b1"], ["a1"], ["a2"]]


async def test_stopping_waits_for_a_thread_that_took_too_long() -> None:
    finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    made = Runtime()
    await made.start()
    made.function.act = fail_on("a1", error=HandlerTimeout("too slow", finished))
    await made.write("a1")
    stopping = asyncio.create_task(made.stop())
    await quiet()
    assert not stopping.done()
    finished.set_result(None)
    await stopping
    assert len(parked(made)) == 1


async def test_a_batch_that_takes_too_long_is_tried_one_by_one() -> None:
    def act(batch: Any) -> None:
        if len(batch) > 1:
            future = asyncio.get_running_loop().create_future()
            future.get_loop().call_soon(future.set_result, None)
            raise HandlerTimeout("too slow", future)

    async with running(batch_size=4, retries=0) as made:
        made.function.act = act
        await made.write("a1", "b1", "a2")
        await made.clock.advance(1)
        assert made.function.calls == [["a1", "b1", "a2"], ["a1"], ["b1"], ["a2"]]
        assert made.letters.letters == []


async def test_memory_is_bounded() -> None:
    async with running() as made:
        go_on = asyncio.Event()
        made.function.act = lambda _: go_on.wait()
        for number in range(1100):
            made.log.append(_commit(f"a{number}"))
        await quiet()
        await _until(lambda: made.fed[0] >= 1000)
        await quiet()
        assert made.fed[0] == 1000
        go_on.set()
        await _until(lambda: made.frontier() == 1100)


async def test_no_more_than_a_thousand_items_are_parked() -> None:
    async with running() as made:
        made.function.act = fail_on(*(f"{chr(200 + number)}1" for number in range(1010)))
        for number in range(1010):
            made.log.append(_commit(f"{chr(200 + number)}1"))
        for _ in range(40):
            await made.clock.advance(0.1)
        assert made.sink.counts()[0]["parked"] == 1000
        assert made.frontier() == 1000
        made.function.act = lambda _: None
        for _ in range(60):
            await made.clock.advance(1)
        assert made.frontier() == 1010
        assert not made.state.ids()


async def test_a_redriven_change_is_handled_before_later_ones_of_its_item() -> None:
    async with running(retries=0) as made:
        made.function.act = fail_on("a1")
        await made.write("a1")
        made.function.act = fail_on("a2", error=HandlerTimeout("slow"))
        row = redriven(Position(0, 0, 0), {"id": {"S": "a"}}, (0, 0), made.clock.ms)
        await made.state.save(OWNER, dict([row]))
        made.function.act = lambda _: None
        await made.sink.reload([0])
        await made.write("a2")
        assert made.function.calls == [["a1"], ["a1"], ["a2"]]
        assert not made.state.ids()


async def test_a_change_that_nobody_has_any_more_is_a_letter_without_it() -> None:
    made = Runtime()
    await made.start()
    made.function.act = fail_on("a1")
    await made.write("a1")
    await made.stop()
    made.log.first = 1
    await made.start()
    await made.clock.advance(1)
    (letter,) = made.letters.letters
    assert letter.change is None
    assert letter.error["message"] == "no"
    assert not made.state.ids()
    await made.stop()


def _commit(name: str) -> Any:
    from streamtable.streams import records
    from tests.streams.logs import put

    return records.commit("e", [put(name[0], name[1:], created_ms=START_MS)], [])


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await quiet()
