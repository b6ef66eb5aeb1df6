"""What a store counts of the rows of indexes, as they are written, replaced and removed."""

import random
from pathlib import Path

import pytest

from streamtable.consumers.tables.memory import StoreMemory
from streamtable.consumers.tables.store import ShardStore
from streamtable.core.images import Image
from streamtable.core.tables import GLOBAL_ROW
from streamtable.core.values import dump_item, item_size

INDEX = bytes([GLOBAL_ROW]) + bytes(16)
OTHER = bytes([GLOBAL_ROW]) + bytes([1] * 16)


def image(text: str) -> Image:
    item = {"id": {"S": text}}
    return Image(dump_item(item), item_size(item), 1, "local", item)


def open_store(path: Path) -> ShardStore:
    return ShardStore(path, StoreMemory(1024 * 1024, 1024 * 1024), lambda _: None)


@pytest.fixture
def store(tmp_path):
    made = open_store(tmp_path)
    yield made
    made.close()


def test_a_row_that_is_replaced_counts_once_and_one_that_is_not_there_not_at_all(store):
    a, b = INDEX + b"a", INDEX + b"b"
    store.apply_index([(0, [((1, 0), [(a, image("x")), (a, image("xyz")), (b, None)])])], 1)
    assert store.total(INDEX) == (1, 5)
    store.apply_index([(0, [((2, 0), [(a, image("xy"))])])], 2)
    assert store.total(INDEX) == (1, 4)
    store.apply_index([(0, [((3, 0), [(a, None), (b, image("x")), (a, None)])])], 3)
    assert store.total(INDEX) == (1, 3)
    assert store.total(OTHER) == (0, 0)


def test_what_was_applied_before_is_not_counted_again(store):
    rows = [(0, [((1, 0), [(INDEX + b"a", image("x"))])])]
    store.apply_index(rows, 1)
    store.apply_index([*rows, (1, [((1, 0), [(OTHER + b"a", image("x"))])])], 1)
    assert store.total(INDEX) == (1, 3)
    assert store.total(OTHER) == (1, 3)
    store.purge(INDEX)
    assert store.total(INDEX) == (0, 0)
    assert store.total(OTHER) == (1, 3)


@pytest.mark.parametrize("seed", range(10))
def test_totals_are_those_of_the_rows_whatever_comes_and_after_a_restart(tmp_path, seed):
    chance = random.Random(seed)
    store = open_store(tmp_path)
    for offset in range(60):
        rows = [
            (
                chance.choice([INDEX, OTHER]) + bytes([chance.randrange(12)]),
                chance.choice([None, image("x" * chance.randint(1, 9))]),
            )
            for _ in range(chance.randint(1, 8))
        ]
        store.apply_index([(0, [((offset, 0), rows)])], offset + 1)
        if chance.random() < 0.1:
            store.close()
            store = open_store(tmp_path)
        for prefix in (INDEX, OTHER):
            found = [each for _, each in store.scan(prefix, prefix + b"\xff")]
            assert store.total(prefix) == (len(found), sum(each.size_bytes for each in found))
    store.close()
