"""Rows of other shards are removed only when nothing can bring them back."""

from typing import Any

import pytest

from streamtable.consumers.reshard.cleaner import Cleaner
from streamtable.consumers.tables.share import Share
from streamtable.core.layouts import LayoutDocument, Split
from streamtable.streams.layout import Layout
from streamtable.streams.owner import StateUnavailable
from tests.support.waiting import until

SPLIT = Split(before=1, after=2, ends=(10,), index_ends=(5,), at=1.0)


class Store:
    """Stands where a store stands; there are two chunks of foreign rows."""

    def __init__(self, applied: int, index_offset: int) -> None:
        self.at = applied, index_offset
        self.looked = 0
        self.shared: list[tuple[Share, int]] = []
        self.dropped: list[bytes] = []
        self.failing = False

    @property
    def applied(self) -> int:
        self.looked += 1
        return self.at[0]

    @property
    def index_offset(self) -> int:
        return self.at[1]

    async def until_writable(self) -> None:
        pass

    def share(self, share: Share, parts: int) -> bool:
        self.shared.append((share, parts))
        return True

    def drop_foreign(self, cursor: bytes, limit: int) -> bytes | None:
        assert limit > 0
        if self.failing:
            self.failing = False
            raise StateUnavailable("the disk is full")
        self.dropped.append(cursor)
        return None if cursor else b"more"


@pytest.fixture
def layout() -> Layout:
    made = Layout(1)
    made.take(LayoutDocument(count=2, splits=(SPLIT,)))
    return made


async def test_without_a_split_there_is_nothing_to_do() -> None:
    store: Any = Store(0, 0)
    cleaner = Cleaner(Layout(1), {0: store})
    cleaner.show_own(0, store)
    assert not store.shared
    assert not cleaner.left()


async def test_a_parent_waits_until_both_logs_are_past_the_split(layout: Layout) -> None:
    store: Any = Store(9, 4)
    cleaner = Cleaner(layout, {0: store})
    cleaner.show_own(0, store)
    assert store.shared == [(Share(0, 2), 2)]
    cleaner.start()
    for at in ((9, 5), (10, 4)):
        store.at = at
        store.looked = 0
        await until(lambda: store.looked > 1, "it to look again")
        assert not store.dropped
    store.at = 10, 5
    await until(lambda: not cleaner.left(), "all to be removed")
    assert store.dropped == [b"", b"more"]
    await cleaner.stop()


async def test_a_child_has_all_there_is_and_is_cleaned_at_once(layout: Layout) -> None:
    store: Any = Store(-1, 0)
    store.failing = True
    cleaner = Cleaner(layout, {1: store})
    cleaner.show_own(1, store)
    cleaner.start()
    await until(lambda: not cleaner.left(), "all to be removed")
    assert store.dropped == [b"", b"more"]
    await cleaner.stop()


async def test_a_store_that_is_closed_meanwhile_is_left_alone(layout: Layout) -> None:
    store: Any = Store(-1, 0)
    cleaner = Cleaner(layout, {})
    cleaner.show_own(1, store)
    cleaner.start()
    await until(lambda: not cleaner.left(), "it to be forgotten")
    assert not store.dropped
    await cleaner.stop()
