"""Feeding a view: each batch exactly once, whatever becomes of the log's answers."""

import asyncio
from pathlib import Path

import pytest

from streamtable.core.errors import InternalServerError, ValidationError
from streamtable.core.values import Item, item_size
from streamtable.streams.feed import Batch, LatestRows, NotNext, fed_through, feed
from streamtable.streams.ledger import Place
from streamtable.streams.shard import Shard
from tests.streams.shards import (
    CONTEXT,
    TABLE,
    MemoryLog,
    PutWrite,
    follow,
    make_shard,
    until,
)

VIEW = TABLE.id


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def shard(tmp_path: Path, log: MemoryLog) -> Shard:
    shard = make_shard(tmp_path, log)
    await shard.take_over()
    return shard


def write_row(rows: LatestRows, item: Item) -> None:
    key = TABLE.keys.extract(item)
    _, row_key = TABLE.keys.locate(TABLE.prefix, key)
    rows.put(TABLE, key, row_key, item, item_size(item))


def adding(number: int, after: Place | None, through: Place, *, source: int = 3) -> Batch:
    """A batch that adds a number to the row `total`."""

    def write(rows: LatestRows) -> None:
        item = {"id": {"S": "total"}}
        _, row_key = TABLE.keys.locate(TABLE.prefix, item)
        old = rows.get(row_key)
        total = number + (0 if old is None else int(old["n"]["N"]))
        write_row(rows, {**item, "n": {"N": str(total)}})

    return Batch(VIEW, source, after, through, write)


def total(shard: Shard) -> str | None:
    image = shard.get(PutWrite("total", 0).row_key)
    return None if image is None else image.item["n"]["N"]


async def test_batches_follow_on_each_other(shard: Shard, log: MemoryLog) -> None:
    assert await fed_through(shard, VIEW, 3) is None
    assert await feed(shard, adding(1, None, (5, 0)), CONTEXT) == 1
    assert await feed(shard, adding(2, (5, 0), (5, 1)), CONTEXT) == 2
    assert total(shard) == "3"
    assert await fed_through(shard, VIEW, 3) == (5, 1)
    assert await fed_through(shard, VIEW, 2) is None


async def test_a_batch_that_does_not_follow_does_nothing(shard: Shard, log: MemoryLog) -> None:
    await feed(shard, adding(1, None, (5, 0)), CONTEXT)
    for after in (None, (4, 0), (6, 0)):
        with pytest.raises(NotNext) as refused:
            await feed(shard, adding(1, after, (7, 0)), CONTEXT)
        assert refused.value.through == (5, 0)
    assert total(shard) == "1"
    assert len(log.records) == 2


async def test_sources_are_apart(shard: Shard) -> None:
    await feed(shard, adding(1, None, (5, 0), source=1), CONTEXT)
    await feed(shard, adding(1, None, (2, 0), source=2), CONTEXT)
    assert total(shard) == "2"
    assert await fed_through(shard, VIEW, 2) == (2, 0)


@pytest.mark.parametrize("materialized", [False, True])
async def test_a_new_term_knows_how_far_a_view_is_fed(
    shard: Shard, log: MemoryLog, tmp_path: Path, materialized: bool
) -> None:
    await feed(shard, adding(1, None, (5, 0)), CONTEXT)
    if materialized:
        await follow(shard, log)
    shard.state.close()  # type: ignore[attr-defined]
    again = make_shard(tmp_path, log)
    await again.take_over()
    assert await fed_through(again, VIEW, 3) == (5, 0)
    with pytest.raises(NotNext):
        await feed(again, adding(1, None, (5, 0)), CONTEXT)
    await feed(again, adding(1, (5, 0), (6, 0)), CONTEXT)
    assert total(again) == "2"


async def test_a_batch_whose_append_was_lost_is_written_again(shard: Shard, log: MemoryLog) -> None:
    log.lose = 1
    await feed(shard, adding(1, None, (5, 0)), CONTEXT)
    assert total(shard) == "1"
    assert await fed_through(shard, VIEW, 3) == (5, 0)


async def test_a_batch_whose_answer_was_lost_is_there_once(shard: Shard, log: MemoryLog) -> None:
    log.hide = 1
    await feed(shard, adding(1, None, (5, 0)), CONTEXT)
    await feed(shard, adding(1, (5, 0), (6, 0)), CONTEXT)
    assert total(shard) == "2"


async def test_rivals_with_the_same_batch_write_it_once(shard: Shard, log: MemoryLog) -> None:
    log.gate.clear()
    rivals = [
        asyncio.create_task(feed(shard, adding(1, None, (5, number)), CONTEXT))
        for number in range(3)
    ]
    await asyncio.sleep(0)
    log.gate.set()
    done = await asyncio.gather(*rivals, return_exceptions=True)
    assert sum(isinstance(each, int) for each in done) == 1
    assert all(isinstance(each, int | NotNext) for each in done)
    assert total(shard) == "1"


async def test_how_far_is_told_only_when_it_is_durable(shard: Shard, log: MemoryLog) -> None:
    log.gate.clear()
    feeding = asyncio.create_task(feed(shard, adding(1, None, (5, 0)), CONTEXT))
    await until(lambda: shard.ledger.fed(VIEW, 3) is not None)
    asking = asyncio.create_task(fed_through(shard, VIEW, 3))
    await asyncio.sleep(0.01)
    assert not asking.done()
    log.gate.set()
    assert await asking == (5, 0)
    await feeding


async def test_a_batch_sees_what_is_in_flight_and_what_it_wrote_itself(
    shard: Shard, log: MemoryLog
) -> None:
    seen: list[list[str]] = []

    def write(rows: LatestRows) -> None:
        seen.clear()
        for reverse in (False, True):
            found = rows.scan(TABLE.prefix, TABLE.end, reverse=reverse)
            seen.append([item["n"]["N"] for item in found])

    def write_and_look(rows: LatestRows) -> None:
        write_row(rows, {"id": {"S": "b"}, "n": {"N": "2"}})
        gone = PutWrite("a", 0)
        rows.remove(TABLE, gone.key, gone.row_key)
        write(rows)

    await shard.write(PutWrite("a", 1), CONTEXT)
    await follow(shard, log)
    log.gate.clear()
    flying = asyncio.create_task(shard.write(PutWrite("c", 3), CONTEXT))
    await until(lambda: shard.latest(PutWrite("c", 0).row_key) is not None)
    feeding = asyncio.create_task(
        feed(shard, Batch(VIEW, 0, None, (1, 0), write_and_look), CONTEXT)
    )
    await until(lambda: seen)
    assert sorted(seen[0]) == ["2", "3"]
    assert seen[1] == seen[0][::-1]
    log.gate.set()
    await asyncio.gather(flying, feeding)
    await follow(shard, log)
    assert sorted(image.item["n"]["N"] for _, image in shard.scan(TABLE.prefix, TABLE.end)) == [
        "2",
        "3",
    ]


async def test_a_row_that_stays_as_it_is_is_no_change(shard: Shard, log: MemoryLog) -> None:
    await feed(shard, adding(1, None, (5, 0)), CONTEXT)
    await feed(shard, adding(0, (5, 0), (6, 0)), CONTEXT)
    assert [len(record.changes()) for record in log.records[1:]] == [1, 0]
    assert await fed_through(shard, VIEW, 3) == (6, 0)


async def test_what_a_batch_itself_takes_back_is_no_change(shard: Shard, log: MemoryLog) -> None:
    def write(rows: LatestRows) -> None:
        for number in (2, 1):
            write_row(rows, {"id": {"S": "old"}, "n": {"N": str(number)}})
        new = PutWrite("new", 5)
        write_row(rows, new._item)
        assert rows.get(new.row_key) == new._item
        rows.remove(TABLE, new.key, new.row_key)
        assert rows.get(new.row_key) is None

    await shard.write(PutWrite("old", 1), CONTEXT)
    await feed(shard, Batch(VIEW, 0, None, (1, 0), write), CONTEXT)
    assert log.records[-1].changes() == []
    assert await fed_through(shard, VIEW, 0) == (1, 0)


async def test_a_batch_that_cant_be_written_leaves_nothing(shard: Shard, log: MemoryLog) -> None:
    def write(rows: LatestRows) -> None:
        write_row(rows, {"id": {"S": "small"}})
        write_row(rows, {"id": {"S": "big"}, "text": {"S": "x" * 500_000}})

    with pytest.raises(ValidationError):
        await feed(shard, Batch(VIEW, 0, None, (1, 0), write), CONTEXT)
    assert await fed_through(shard, VIEW, 0) is None
    assert len(log.records) == 1


async def test_where_the_log_does_not_answer_the_outcome_is_unknown(
    shard: Shard, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamtable.streams.owner.WAIT_S", -1.0)
    log.lose = 2
    with pytest.raises(InternalServerError):
        await feed(shard, adding(1, None, (5, 0)), CONTEXT)
    assert await fed_through(shard, VIEW, 3) is None
    await feed(shard, adding(1, None, (5, 0)), CONTEXT)
    assert total(shard) == "1"


async def test_a_view_that_is_removed_is_forgotten(shard: Shard, log: MemoryLog) -> None:
    await feed(shard, adding(1, None, (5, 0)), CONTEXT)
    await follow(shard, log)
    assert [entry["phase"] for entry in shard.state.entries()] == ["view"]
    shard.state.purge(TABLE.prefix)  # type: ignore[attr-defined]
    assert list(shard.state.entries()) == []
