"""A store's files: frozen amid writes and merges, written out in time, and a store's limit."""

import asyncio
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamtable.consumers.tables import freezing, store
from streamtable.consumers.tables.memory import StoreMemory
from streamtable.consumers.tables.store import ShardStore
from streamtable.consumers.tables.writing_out import WritingOut
from streamtable.streams.owner import StateUnavailable
from tests.streams.shards import TABLE
from tests.support.waiting import until

MEMORY = StoreMemory(1 << 20, 1 << 20)


def opened(path: Path, memory: StoreMemory = MEMORY) -> ShardStore:
    return ShardStore(path, memory, {TABLE.id: TABLE}.get)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[ShardStore]:
    found = opened(tmp_path / "tables")
    yield found
    found.close()


def write(made: ShardStore, number: int, size_bytes: int = 4000) -> None:
    rows = [(b"key %d" % key, os.urandom(size_bytes)) for key in range(20)]
    made.write([*rows, (b"number", b"%d" % number)])


async def test_a_store_is_frozen_whole_amid_writes_and_merges(
    made: ShardStore, tmp_path: Path
) -> None:
    written, first = 0, {}

    async def freeze(number: int) -> None:
        first[number] = written
        await made.freeze(tmp_path / f"frozen-{number}")

    # A megabyte is all that stays in memory, so files are made and merged all the time.
    for number in range(8):
        freezing_ = asyncio.create_task(freeze(number))
        while not freezing_.done():
            await made.until_writable()
            written += 1
            write(made, written)
            await asyncio.sleep(0)
        await freezing_
        frozen = opened(tmp_path / f"frozen-{number}")
        assert first[number] <= int(frozen.load(b"number") or 0) <= written
        assert all(len(frozen.load(b"key %d" % key) or b"") == 4000 for key in range(20))
        frozen.close()


async def test_a_store_that_is_never_quiet_is_not_frozen(
    made: ShardStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezing, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(freezing, "_files", lambda _: None)
    with pytest.raises(StateUnavailable, match="were made and removed"):
        await made.freeze(tmp_path / "frozen")
    assert not (tmp_path / "frozen").exists()


async def test_a_file_that_goes_meanwhile_begins_it_anew(
    made: ShardStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(made, 1)
    made.flush()
    find = freezing._files
    answers = [{("000001.sst", 0)}]
    monkeypatch.setattr(freezing, "_files", lambda db: answers.pop() if answers else find(db))
    await made.freeze(tmp_path / "frozen")
    assert not answers
    frozen = opened(tmp_path / "frozen")
    assert frozen.load(b"number") == b"1"
    frozen.close()


async def test_what_stays_in_memory_for_long_is_written_out(
    made: ShardStore, tmp_path: Path
) -> None:
    writing_out = WritingOut({0: made}, age_s=0.01, look_s=0.01)
    writing_out.start()
    write(made, 1)
    assert made.unwritten_s > 0
    await until(lambda: made.unwritten_s == 0, "the store to write out")
    await until(lambda: list((tmp_path / "tables").glob("*.sst")), "a file")
    await writing_out.stop()


async def test_a_store_takes_nothing_more_while_too_much_waits_for_the_disk(
    made: ShardStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_HELD_UP", ("rocksdb.estimate-num-keys",))
    write(made, 1)
    with pytest.raises(StateUnavailable, match="waits for the disk"):
        write(made, 2)
    waiting = asyncio.create_task(made.until_writable())
    assert (await asyncio.wait([waiting], timeout=0.2))[1]
    monkeypatch.undo()
    await waiting
    write(made, 2)
    assert made.load(b"number") == b"2"


class FullDisk:
    """RocksDB where nothing can be written any more."""

    def __init__(self, db: Any) -> None:
        self._db = db

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self) -> None:
        self._db.close()
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_store_is_closed_where_nothing_can_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full = opened(tmp_path / "tables")
    full._db = FullDisk(full._db)  # type: ignore[assignment]
    full.close()
    assert "No space left on device" in caplog.text
    opened(tmp_path / "tables").close()


@pytest.mark.parametrize(("shards", "megabytes"), [(1, 16), (16, 16), (64, 4), (1000, 1)])
def test_many_shards_share_the_memory_for_writes(shards: int, megabytes: int) -> None:
    memory = StoreMemory(1 << 20, 64 << 20, shards)
    assert memory.buffer_bytes == megabytes << 20
    assert memory.writes.get_buffer_size() == max(64, shards) << 20


@pytest.mark.parametrize(
    ("allowed", "shards", "files"),
    [(resource.RLIM_INFINITY, 4, -1), (20_000, 4, 2_500), (20_000, 1000, 32)],
)
def test_shards_share_the_files_that_the_process_may_open(
    monkeypatch: pytest.MonkeyPatch, allowed: int, shards: int, files: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (allowed, allowed))
    assert StoreMemory(1 << 20, 64 << 20, shards).open_files == files
