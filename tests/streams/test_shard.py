import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from streamtable.core.documents import IndexDocument, KeyElement, Projection
from streamtable.core.errors import (
    ConditionalCheckFailed,
    InternalServerError,
    ItemCollectionSizeLimitExceeded,
    ServiceUnavailable,
    StreamtableError,
    ValidationError,
)
from streamtable.core.images import Image
from streamtable.core.tables import Table
from streamtable.streams import owner, records
from streamtable.streams.clock import HybridClock
from streamtable.streams.epochs import BARRIER
from streamtable.streams.owner import LogGap, StateAheadOfLog
from streamtable.streams.records import LogRecord
from streamtable.streams.shard import Row, Shard
from tests.streams.logs import put
from tests.streams.shards import (
    CONTEXT,
    TABLE,
    DeleteWrite,
    MemoryLog,
    PutWrite,
    follow,
    make_shard,
    until,
)


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def shard(tmp_path: Path, log: MemoryLog) -> Shard:
    shard = make_shard(tmp_path, log)
    await shard.take_over()
    return shard


def number(shard: Shard, key: str) -> str | None:
    image = shard.get(PutWrite(key, 0).row_key)
    return None if image is None else image.item["n"]["N"]


def rows(shard: Shard) -> dict[str, str]:
    return {
        image.item["id"]["S"]: image.item["n"]["N"] for _, image in shard.scan(b"\x01", b"\x02")
    }


async def test_a_term_starts_with_a_barrier(shard: Shard, log: MemoryLog) -> None:
    assert [record.kind for record in log.records] == [BARRIER]
    assert log.records[0].epoch == shard.owner.epoch
    assert log.opened == 1


async def test_an_answered_write_is_in_the_log_and_is_read(shard: Shard, log: MemoryLog) -> None:
    outcome = await shard.write(PutWrite("a", 1), CONTEXT)
    assert (outcome.offset, outcome.place) == (1, 0)
    [change] = log.records[1].changes()
    assert change.event_name == "INSERT"
    assert change.request_id == "request-1"
    assert number(shard, "a") == "1"
    await follow(shard, log)
    assert number(shard, "a") == "1"
    assert log.records[1].tables == {"users"}


async def test_a_write_that_has_to_wait_for_nothing_joins_a_commit_at_once(
    shard: Shard, log: MemoryLog
) -> None:
    log.gate.clear()
    begun = shard.begin(PutWrite("a", 1), CONTEXT)
    assert begun is not None
    assert begun.commit is not None
    outcome = begun.commit.outcome()
    # What rests on an image in flight waits for that.
    assert shard.begin(PutWrite("a", 1), CONTEXT) is None
    assert shard.begin(PutWrite("a", 2, expect=3), CONTEXT) is None
    log.gate.set()
    assert await outcome == 1
    assert number(shard, "a") == "1"
    with pytest.raises(ConditionalCheckFailed):
        shard.begin(PutWrite("a", 2, expect=3), CONTEXT)
    unchanged = shard.begin(PutWrite("a", 1), CONTEXT)
    assert unchanged is not None
    assert unchanged.commit is None
    assert unchanged.new is unchanged.old
    shard.owner.step_down()
    assert shard.begin(PutWrite("a", 2), CONTEXT) is None


async def test_where_others_may_own_a_shard_an_answer_without_an_append_waits_for_proof(
    tmp_path: Path, log: MemoryLog
) -> None:
    shard = make_shard(tmp_path, log, exclusive=False)
    await shard.take_over()
    await shard.write(PutWrite("a", 1), CONTEXT)
    assert shard.begin(PutWrite("a", 1), CONTEXT) is None
    assert shard.begin(PutWrite("a", 2, expect=3), CONTEXT) is None
    assert shard.begin(PutWrite("a", 2), CONTEXT) is not None


async def test_a_read_never_sees_an_image_in_flight(shard: Shard, log: MemoryLog) -> None:
    await shard.write(PutWrite("a", 1), CONTEXT)
    log.gate.clear()
    write = asyncio.create_task(shard.write(PutWrite("a", 2), CONTEXT))
    await asyncio.sleep(0.01)
    assert number(shard, "a") == "1"
    assert rows(shard) == {"a": "1"}
    log.gate.set()
    await write
    assert number(shard, "a") == "2"


async def test_writes_that_arrive_during_an_append_form_the_next_commit(
    shard: Shard, log: MemoryLog
) -> None:
    log.gate.clear()
    first = asyncio.create_task(shard.write(PutWrite("a", 1), CONTEXT))
    await asyncio.sleep(0.01)
    others = [asyncio.create_task(shard.write(PutWrite(k, 1), CONTEXT)) for k in "bcd"]
    await asyncio.sleep(0.01)
    log.gate.set()
    assert (await first).offset == 1
    assert [(o.offset, o.place) for o in await asyncio.gather(*others)] == [(2, 0), (2, 1), (2, 2)]


async def test_what_follows_from_an_answer_joins_the_commit_that_waits(
    shard: Shard, log: MemoryLog
) -> None:
    async def one_after_the_other() -> None:
        await shard.write(PutWrite("a", 1), CONTEXT)
        await shard.write(PutWrite("b", 2), CONTEXT)

    log.gate.clear()
    first = asyncio.create_task(one_after_the_other())
    await until(lambda: shard.owner._pending is not None)
    waiting = asyncio.create_task(shard.write(PutWrite("c", 3), CONTEXT))
    await asyncio.sleep(0)
    log.gate.set()
    await asyncio.gather(first, waiting)
    written = [
        [change.keys["id"]["S"] for change in record.changes()] for record in log.records[1:]
    ]
    assert written == [["a"], ["c", "b"]]


async def test_a_write_is_evaluated_on_the_image_in_flight(shard: Shard, log: MemoryLog) -> None:
    log.gate.clear()
    first = asyncio.create_task(shard.write(PutWrite("a", 1), CONTEXT))
    await asyncio.sleep(0)
    second = asyncio.create_task(shard.write(PutWrite("a", 2, expect=1), CONTEXT))
    await asyncio.sleep(0.01)
    assert not second.done()
    log.gate.set()
    assert (await first).new is (await second).old
    assert number(shard, "a") == "2"


async def test_a_condition_that_failed_on_an_image_in_flight_waits_for_it(
    shard: Shard, log: MemoryLog
) -> None:
    log.gate.clear()
    first = asyncio.create_task(shard.write(PutWrite("a", 1), CONTEXT))
    await asyncio.sleep(0)
    refused = asyncio.create_task(shard.write(PutWrite("a", 2, expect=7), CONTEXT))
    await asyncio.sleep(0.01)
    assert not refused.done()
    log.gate.set()
    await first
    with pytest.raises(ConditionalCheckFailed):
        await refused


async def test_a_condition_is_evaluated_again_when_the_image_in_flight_was_lost(
    shard: Shard, log: MemoryLog
) -> None:
    await shard.write(PutWrite("a", 1), CONTEXT)
    log.gate.clear()
    log.lose = 1
    first = asyncio.create_task(shard.write(PutWrite("a", 5, expect=1), CONTEXT))
    await asyncio.sleep(0)
    second = asyncio.create_task(shard.write(PutWrite("a", 6, expect=1), CONTEXT))
    await asyncio.sleep(0.01)
    log.gate.set()
    outcomes = await asyncio.gather(first, second, return_exceptions=True)
    # Both start anew on 1; whoever comes first wins, and exactly one does.
    assert sorted(type(o).__name__ for o in outcomes) == ["ConditionalCheckFailed", "Outcome"]
    assert log.opened == 2


@pytest.mark.parametrize("landed", [True, False])
async def test_an_unknown_outcome_is_settled_by_the_log(
    shard: Shard, log: MemoryLog, *, landed: bool
) -> None:
    epoch = shard.owner.epoch
    if landed:
        log.hide = 1
    else:
        log.lose = 1
    outcome = await shard.write(PutWrite("a", 1), CONTEXT)
    commits = [record for record in log.records if record.kind != BARRIER]
    assert len(commits) == 1
    assert commits[0].offset == outcome.offset
    assert commits[0].epoch == (epoch if landed else shard.owner.epoch)
    assert shard.owner.epoch != epoch
    assert number(shard, "a") == "1"


async def test_an_unknown_outcome_that_the_agent_met_first_is_settled_too(
    shard: Shard, log: MemoryLog
) -> None:
    log.hide = 1
    write = asyncio.create_task(shard.write(PutWrite("a", 1), CONTEXT))
    await until(lambda: len(log.records) == 2)
    await follow(shard, log)
    outcome = await write
    assert outcome.offset == 1
    assert sum(record.kind != BARRIER for record in log.records) == 1


async def test_the_agent_may_meet_a_commit_before_its_answer(shard: Shard, log: MemoryLog) -> None:
    log.before.append(lambda: None)
    write = asyncio.create_task(shard.write(PutWrite("a", 1), CONTEXT))
    await until(lambda: len(log.records) == 2)
    shard.owner._apply(log.records[1:])
    await write
    assert number(shard, "a") == "1"
    assert len(shard.owner.overlay) == 0


async def test_a_void_record_in_a_gap_changes_nothing(shard: Shard, log: MemoryLog) -> None:
    log.before.append(log.foreign_commit)
    outcome = await shard.write(PutWrite("a", 1), CONTEXT)
    assert outcome.offset == 2
    assert log.opened == 1
    await follow(shard, log)
    assert rows(shard) == {"a": "1"}


async def test_a_barrier_in_a_gap_voids_the_commit_and_it_is_written_again(
    shard: Shard, log: MemoryLog
) -> None:
    log.before.append(log.foreign_barrier)
    outcome = await shard.write(PutWrite("a", 1), CONTEXT)
    valid = [r for r in log.records if r.kind != BARRIER and r.epoch == shard.owner.epoch]
    assert [record.offset for record in valid] == [outcome.offset]
    assert outcome.offset > 2
    assert rows(shard) == {"a": "1"}


async def test_void_commits_are_not_materialized(shard: Shard, log: MemoryLog) -> None:
    await shard.write(PutWrite("a", 1), CONTEXT)
    old = log.records[-1]
    log.foreign_barrier("newer")
    log.store(old.value, [("kind", b"commit"), ("epoch", old.epoch.encode()), ("tables", b"users")])
    log.store(
        old.value.replace(b'{"N":"1"}', b'{"N":"9"}'),
        [("kind", b"commit"), ("epoch", old.epoch.encode()), ("tables", b"users")],
    )
    await follow(shard, log)
    assert number(shard, "a") == "1"
    assert shard.state.applied == 4


async def test_a_write_that_changes_nothing_leaves_no_record(shard: Shard, log: MemoryLog) -> None:
    await shard.write(PutWrite("a", 1), CONTEXT)
    outcome = await shard.write(PutWrite("a", 1), CONTEXT)
    gone = await shard.write(DeleteWrite("b"), CONTEXT)
    assert outcome.old is outcome.new
    assert (outcome.offset, gone.offset) == (-1, -1)
    assert len(log.records) == 2


async def test_scan_lays_writes_in_the_log_over_the_rows(shard: Shard, log: MemoryLog) -> None:
    for index, key in enumerate("abcdef"):
        await shard.write(PutWrite(key, index), CONTEXT)
    await follow(shard, log)
    await shard.write(DeleteWrite("b"), CONTEXT)
    await shard.write(PutWrite("c", 30), CONTEXT)
    await shard.write(PutWrite("g", 60), CONTEXT)
    expected = {"a": "0", "c": "30", "d": "3", "e": "4", "f": "5", "g": "60"}
    assert rows(shard) == expected
    forward = [key for key, _ in shard.scan(b"\x01", b"\x02")]
    backward = [key for key, _ in shard.scan(b"\x01", b"\x02", reverse=True)]
    assert forward == sorted(forward)
    assert backward == forward[::-1]
    await follow(shard, log)
    assert rows(shard) == expected
    assert len(shard.owner.overlay) == 0


async def test_write_many_shares_commits(shard: Shard, log: MemoryLog) -> None:
    await shard.write(PutWrite("a", 1), CONTEXT)
    writes = [PutWrite("a", 1), PutWrite("b", 2), DeleteWrite("c"), PutWrite("d", 4)]
    outcomes = await shard.write_many(writes, CONTEXT)
    assert [outcome.offset for outcome in outcomes] == [-1, 2, -1, 2]
    assert rows(shard) == {"a": "1", "b": "2", "d": "4"}


async def test_write_many_survives_a_lost_append(shard: Shard, log: MemoryLog) -> None:
    log.lose = 1
    outcomes = await shard.write_many([PutWrite("a", 1), PutWrite("b", 2)], CONTEXT)
    assert all(outcome.offset > 0 for outcome in outcomes)
    assert rows(shard) == {"a": "1", "b": "2"}


async def test_a_restart_replays_what_the_store_lacks(tmp_path: Path, log: MemoryLog) -> None:
    first = make_shard(tmp_path / "1", log)
    await first.take_over()
    for index in range(10):
        await first.write(PutWrite(f"k{index}", index), CONTEXT)
    second = make_shard(tmp_path / "2", log)
    await second.take_over()
    assert rows(second) == {f"k{index}": str(index) for index in range(10)}
    assert second.state.applied == len(log.records) - 1


async def test_a_log_that_starts_too_late_is_refused(tmp_path: Path, log: MemoryLog) -> None:
    log.first = 5
    with pytest.raises(LogGap, match=r"offset 5.*need 0"):
        await make_shard(tmp_path, log).take_over()


async def test_a_log_that_ends_before_the_store_is_refused(shard: Shard, log: MemoryLog) -> None:
    await shard.write(PutWrite("a", 1), CONTEXT)
    await follow(shard, log)
    log.records.clear()
    with pytest.raises(StateAheadOfLog):
        await shard.take_over()


async def test_a_leader_that_lags_behind_for_a_moment_is_asked_again(
    shard: Shard, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shard.write(PutWrite("a", 1), CONTEXT)
    await follow(shard, log)
    bounds, late = log.bounds, [(0, 1)]

    async def lag() -> tuple[int, int]:
        return late.pop() if late else await bounds()

    monkeypatch.setattr(log, "bounds", lag)
    await shard.take_over()
    assert rows(shard) == {"a": "1"}
    assert not late


async def test_a_hole_in_what_is_followed_is_refused(shard: Shard, log: MemoryLog) -> None:
    await shard.write(PutWrite("a", 1), CONTEXT)
    await shard.write(PutWrite("b", 1), CONTEXT)
    with pytest.raises(StreamtableError, match="offset 2"):
        await shard.owner.follow(log.records[2:])


async def test_a_consistent_read_finds_out_that_the_shard_was_lost(
    tmp_path: Path, log: MemoryLog
) -> None:
    shard = make_shard(tmp_path, log, exclusive=False)
    await shard.take_over()
    await shard.write(PutWrite("a", 1), CONTEXT)
    other = make_shard(tmp_path / "other", log)
    await other.take_over()
    await other.write(PutWrite("a", 2), CONTEXT)
    image = await shard.read(PutWrite("a", 0).row_key, consistent=True)
    assert image is not None
    assert image.item["n"] == {"N": "2"}


async def test_a_consistent_read_does_not_go_by_a_term_that_began_before_it(
    tmp_path: Path, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "_YIELD_S", 0)
    shard = make_shard(tmp_path, log, exclusive=False)
    await shard.take_over()
    await shard.write(PutWrite("a", 1), CONTEXT)
    awake, read = asyncio.Event(), log.read

    async def read_when_awake(start: int) -> AsyncIterator[list[LogRecord]]:
        await awake.wait()
        async for batch in read(start):
            yield batch

    # Its next term has its barrier, and then this node stands still.
    monkeypatch.setattr(log, "read", read_when_awake)
    shard.owner._recover(lost=False)
    await until(lambda: len(log.records) == 3)
    log.foreign_barrier()
    log.store(*records.commit("other", [put("a", "of another")], []))
    reading = asyncio.create_task(shard.read(PutWrite("a", 0).row_key, consistent=True))
    for _ in range(5):
        await asyncio.sleep(0)
    awake.set()
    image = await reading
    assert image is not None
    assert image.item["v"] == {"S": "of another"}


async def test_consistent_reads_go_on_while_appends_are_in_flight(
    tmp_path: Path, log: MemoryLog
) -> None:
    shard = make_shard(tmp_path, log, exclusive=False)
    await shard.take_over()
    writes = [asyncio.create_task(shard.write(PutWrite("a", n), CONTEXT)) for n in range(50)]
    for _ in range(20):
        await shard.read(PutWrite("a", 0).row_key, consistent=True)
    await asyncio.gather(*writes)
    image = await shard.read(PutWrite("a", 0).row_key, consistent=True)
    assert image is not None
    assert image.item["n"] == {"N": "49"}


async def test_an_item_collection_has_a_limit(
    tmp_path: Path, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamtable.streams.shard.ITEM_COLLECTION_BYTES", 200)
    keys = (KeyElement(name="id", kind="HASH"), KeyElement(name="n", kind="RANGE"))
    index = IndexDocument(
        name="by-n",
        id="00000000-0000-0000-0000-000000000008",
        scope="LOCAL",
        keys=keys,
        projection=Projection(kind="ALL"),
    )
    changes = {"attributes": {"id": "S", "n": "N"}, "keys": keys, "indexes": (index,)}
    table = Table(TABLE.document.model_copy(update=changes))
    shard = make_shard(tmp_path, log, table=table)
    await shard.take_over()
    written = 0

    async def fill() -> None:
        nonlocal written
        while written < 100:
            await shard.write(PutWrite("a", written, table=table), CONTEXT)
            await follow(shard, log)
            written += 1

    with pytest.raises(ItemCollectionSizeLimitExceeded):
        await fill()
    size = shard.collection_bytes(PutWrite("a", 0, table=table))
    # Each item counts in the table and in its index: the scan sees both.
    assert size == sum(image.size_bytes for _, image in shard.scan(b"\x01", b"\x03"))
    assert size <= 200
    for number in range(written):
        await shard.write(DeleteWrite("a", number, table=table), CONTEXT)
    await follow(shard, log)
    assert shard.collection_bytes(PutWrite("a", 0, table=table)) == 0


async def test_versions_of_an_item_grow(shard: Shard) -> None:
    times = []
    for value in range(20):
        outcome = await shard.write(PutWrite("a", value), CONTEXT)
        assert outcome.new is not None
        times.append(outcome.new.time)
    assert times == sorted(set(times))


async def test_an_item_that_was_removed_comes_back_with_a_later_version(
    tmp_path: Path, shard: Shard, log: MemoryLog
) -> None:
    await shard.write(PutWrite("a", 1), CONTEXT)
    removed = await shard.write(DeleteWrite("a"), CONTEXT)
    [change] = log.records[removed.offset].changes()
    later = make_shard(tmp_path / "later", log)
    later.clock = HybridClock(lambda: 1)
    await later.take_over()
    back = await later.write(PutWrite("a", 2), CONTEXT)
    assert back.new is not None
    assert back.new.time > change.time


async def test_reads_go_on_while_an_outcome_is_unknown(shard: Shard, log: MemoryLog) -> None:
    await shard.write(PutWrite("a", 1), CONTEXT)
    log.lose = 1_000_000
    write = asyncio.create_task(shard.write(PutWrite("a", 2), CONTEXT))
    await until(lambda: not shard.owner.serving)
    image = await shard.read(PutWrite("a", 0).row_key, consistent=True)
    assert image is not None
    assert image.item["n"] == {"N": "1"}
    log.lose = 0
    await write
    assert number(shard, "a") == "2"


async def test_a_log_that_does_not_answer_lets_no_request_wait(
    shard: Shard, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamtable.streams.owner.WAIT_S", 0.0)
    monkeypatch.setattr("streamtable.streams.shard.WAIT_S", 0.0)
    log.gate.clear()
    log.lose = 1_000_000
    first = asyncio.create_task(shard.write(PutWrite("a", 1), CONTEXT))
    await until(lambda: not shard.owner._open and shard.owner._appending is not None)
    second = asyncio.create_task(shard.write(PutWrite("b", 1), CONTEXT))
    await until(lambda: len(shard.owner._open) == 1)
    log.gate.set()
    # The first may be in the log, the second can't be.
    with pytest.raises(InternalServerError):
        await first
    with pytest.raises(ServiceUnavailable):
        await second
    log.lose = 0
    await until(lambda: shard.owner.serving)
    monkeypatch.undo()
    await shard.write(PutWrite("b", 2), CONTEXT)
    assert rows(shard) == {"b": "2"}


async def test_a_log_that_takes_barriers_only_lets_no_request_wait(
    shard: Shard, log: MemoryLog
) -> None:
    log.full = True
    writes = [shard.write(PutWrite(key, 1), CONTEXT) for key in "abc"]
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ServiceUnavailable}
    log.full = False
    await shard.write(PutWrite("a", 2), CONTEXT)
    assert rows(shard) == {"a": "2"}


async def test_many_writes_wait_no_longer_than_one(
    shard: Shard, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is nearly full takes some: each would have been tried again for ten seconds."""
    tried = 0
    append = log.append

    async def count(*arguments: Any) -> int:
        nonlocal tried
        tried += 1
        return await append(*arguments)

    monkeypatch.setattr(log, "append", count)
    monkeypatch.setattr("streamtable.streams.shard.WAIT_S", 0.0)
    log.full = True
    with pytest.raises(ServiceUnavailable):
        await shard.write_many([PutWrite(key, 1) for key in "abc"], CONTEXT)
    # The commit of all three, and the barrier of the next term.
    assert tried == 2


async def test_an_error_in_the_state_while_a_term_starts_is_told(
    shard: Shard, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[BaseException] = []
    monkeypatch.setattr(shard.owner, "_fail", told.append)

    def broken(*_: object) -> None:
        msg = "the disk is gone"
        raise RuntimeError(msg)

    monkeypatch.setattr(shard.state, "apply", broken)
    log.lose = 1
    write = asyncio.create_task(shard.write(PutWrite("a", 1), CONTEXT))
    await until(lambda: told)
    assert "the disk is gone" in str(told[0])
    write.cancel()


class Refusal:
    """A check that refuses numbers below zero, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, str | None]] = []

    def __call__(self, row: Row, old: Image | None, new: Image | None) -> None:
        before, after = (None if one is None else one.item["n"]["N"] for one in (old, new))
        self.asked.append((before, after))
        if after is not None and after.startswith("-"):
            raise ValidationError(f"{row.key['id']['S']} is below zero")


class TestCheck:
    @pytest.fixture
    def check(self, shard: Shard) -> Refusal:
        check = shard.check = Refusal()
        return check

    async def test_it_sees_the_item_as_it_would_be(self, shard: Shard, check: Refusal) -> None:
        await shard.write(PutWrite("a", 1), CONTEXT)
        await shard.write(PutWrite("a", 2), CONTEXT)
        await shard.write(DeleteWrite("a"), CONTEXT)
        assert check.asked == [(None, "1"), ("1", "2"), ("2", None)]

    async def test_it_is_not_asked_about_what_changes_nothing(
        self, shard: Shard, check: Refusal
    ) -> None:
        await shard.write(PutWrite("a", 1), CONTEXT)
        await shard.write(PutWrite("a", 1), CONTEXT)
        await shard.write(DeleteWrite("b"), CONTEXT)
        assert check.asked == [(None, "1")]

    async def test_what_it_refuses_is_not_in_the_log(
        self, shard: Shard, log: MemoryLog, check: Refusal
    ) -> None:
        await shard.write(PutWrite("a", 1), CONTEXT)
        with pytest.raises(ValidationError, match="a is below zero"):
            await shard.write(PutWrite("a", -1), CONTEXT)
        assert number(shard, "a") == "1"
        assert len(log.records) == 2
        await shard.write(PutWrite("a", 2), CONTEXT)
        assert number(shard, "a") == "2"

    async def test_a_refusal_waits_until_what_it_rests_on_is_durable(
        self, shard: Shard, log: MemoryLog, check: Refusal
    ) -> None:
        log.gate.clear()
        first = asyncio.create_task(shard.write(PutWrite("a", 1), CONTEXT))
        await until(lambda: check.asked)
        second = asyncio.create_task(shard.write(PutWrite("a", -1), CONTEXT))
        await until(lambda: len(check.asked) == 2)
        assert check.asked[1] == ("1", "-1")
        await asyncio.sleep(0)
        assert not second.done()
        log.gate.set()
        await first
        with pytest.raises(ValidationError):
            await second

    async def test_of_many_the_others_are_written(
        self, shard: Shard, log: MemoryLog, check: Refusal
    ) -> None:
        writes = [PutWrite("a", 1), PutWrite("b", -1), PutWrite("c", 1)]
        with pytest.raises(ValidationError, match="b is below zero"):
            await shard.write_many(writes, CONTEXT)
        assert (number(shard, "a"), number(shard, "b"), number(shard, "c")) == ("1", None, "1")
        assert len(log.records) == 2


async def test_a_write_waits_on_where_others_were_first(shard: Shard) -> None:
    """The room that was waited for may be taken by the time that the one who waits goes on."""
    room = shard.owner._room
    room.clear()
    waiting = asyncio.create_task(shard.write(PutWrite("a", 1), CONTEXT))
    for _ in range(3):
        await asyncio.sleep(0)
    room.set()
    for _ in range(2):  # the waiter is told, and has not gone on
        await asyncio.sleep(0)
    room.clear()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    room.set()
    assert (await waiting).offset > 0
