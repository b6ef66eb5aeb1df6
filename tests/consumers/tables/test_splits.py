"""A store after a split: a copy of the parent's rows, of which only its own are shown and kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamtable.consumers.tables.memory import StoreMemory
from streamtable.consumers.tables.share import Share
from streamtable.consumers.tables.store import ShardStore
from streamtable.core.expiry import expiry_row
from streamtable.core.tables import EXPIRY_ROW
from streamtable.streams import records
from streamtable.streams.overlay import Overlay
from streamtable.streams.records import Headers, LogRecord, SplitMark
from tests.streams.logs import put
from tests.streams.shards import TABLE

NAMES = [f"item {number}" for number in range(40)]


@contextmanager
def opened(path: Path) -> Iterator[ShardStore]:
    store = ShardStore(path, StoreMemory(1024 * 1024, 1024 * 1024), {TABLE.id: TABLE}.get)
    try:
        yield store
    finally:
        store.close()


def append(store: ShardStore, *written: tuple[bytes, Headers]) -> None:
    first = store.applied + 1
    found = [
        LogRecord.read(0, first + number, 0, headers, value)
        for number, (value, headers) in enumerate(written)
    ]
    store.apply(found, Overlay())


def names(store: ShardStore) -> list[str]:
    return [image.item["id"]["S"] for _, image in store.scan(TABLE.prefix, TABLE.end)]


def own(share: Share) -> list[str]:
    return [name for name in NAMES if share.has(row_key(name))]


def row_key(name: str) -> bytes:
    return TABLE.keys.locate(TABLE.prefix, {"id": {"S": name}})[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of a shard that was split."""
    with opened(tmp_path / "parent") as store:
        append(store, records.barrier("one", {}))
        for name in NAMES:
            append(store, records.commit("one", [put(name)], []))
        append(store, records.split("one", "attempt", 5))
    return tmp_path / "parent"


def test_a_split_that_counts_is_kept(folder: Path) -> None:
    mark = SplitMark(len(NAMES) + 1, "attempt", 5)
    with opened(folder) as store:
        found = [store.split]
        for epoch, attempt in (("other", "void"), ("one", "again")):
            append(store, records.split(epoch, attempt, 9))
            found.append(store.split)
        assert found == [mark, mark, SplitMark(mark.offset + 2, "again", 9)]


@pytest.mark.parametrize("reverse", [False, True])
def test_only_its_own_rows_are_shown_and_in_the_end_kept(folder: Path, *, reverse: bool) -> None:
    share = Share(0, 2)
    mine = sorted(own(share))
    assert 0 < len(mine) < len(NAMES)
    with opened(folder) as store:
        total, size = store.total(TABLE.prefix)
        assert store.share(share, 2)
        found = store.scan(TABLE.prefix, TABLE.end, reverse=reverse)
        assert sorted(image.item["id"]["S"] for _, image in found) == mine
        # Counted at once, as well as that goes without looking.
        assert store.total(TABLE.prefix) == (total // 2, size // 2)
        cursor: bytes | None = b""
        steps = 0
        while cursor is not None:
            cursor = store.drop_foreign(cursor, 7)
            steps += 1
        assert steps > len(NAMES) // 7
        assert sorted(names(store)) == mine
        assert store.total(TABLE.prefix)[0] == len(mine)
        assert not store.share(share, 2), "it has only its own"
    with opened(folder) as again:
        assert sorted(names(again)) == mine
        assert again.total(TABLE.prefix)[0] == len(mine)
        assert not again.share(share, 2)


def test_after_a_restart_in_between_the_others_are_not_shown_either(folder: Path) -> None:
    share = Share(1, 2)
    with opened(folder) as store:
        store.share(share, 2)
        store.drop_foreign(b"", 7)
    with opened(folder) as again:
        assert again.share(share, 2)
        assert sorted(names(again)) == sorted(own(share))


def test_items_of_other_shards_do_not_expire_here(folder: Path) -> None:
    share = Share(0, 2)
    with opened(folder) as store:
        store.write([(expiry_row(row_key(name), 100), b"") for name in NAMES])
        store.share(share, 2)
        found = list(store.keys(bytes([EXPIRY_ROW]), bytes([EXPIRY_ROW + 1])))
        assert len(found) == len(own(share))


async def test_a_copy_becomes_a_shard_of_its_own_at_the_start_of_its_logs(
    folder: Path, tmp_path: Path
) -> None:
    share = Share(1, 2)
    removed = put("gone")
    removed.old, removed.new = removed.new, None
    with opened(folder) as store:
        append(store, records.commit("one", [removed], []))
        await store.freeze(tmp_path / "child")
    with opened(tmp_path / "child") as child:
        seen = [child.copy_of]
        child.begin_copy(0, 1)
        seen.append(child.copy_of)
        assert seen == [None, (0, 1, False)]
        child.finish_copy()
        assert (child.applied, child.split, child.index_offset) == (-1, None, 0)
        assert child.epoch_before(10_000) is None
        child.share(share, 2)
        assert child.removed_at == removed.time
        change = put(own(share)[0], "w")
        append(child, records.barrier("two", {}), records.commit("two", [change], []))
    with opened(tmp_path / "child") as again:
        assert again.copy_of == (0, 1, True)
        assert (again.applied, again.removed_at) == (1, removed.time)
        assert again.share(share, 2)
        assert sorted(names(again)) == sorted(own(share))
