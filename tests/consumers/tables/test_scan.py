"""Walking through a store's rows, from a key on and up to another."""

import pytest

from streamtable.consumers.tables.memory import StoreMemory
from streamtable.consumers.tables.store import ShardStore
from streamtable.core.images import Image
from streamtable.core.tables import GLOBAL_ROW
from streamtable.core.values import dump_item, item_size

PREFIXES = [bytes([GLOBAL_ROW]) + bytes([number]) * 16 for number in range(3)]
ROWS = 40


@pytest.fixture
def store(tmp_path):
    item = {"id": {"S": "x" * 20}}
    image = Image(dump_item(item), item_size(item), 1, "local", item)
    made = ShardStore(tmp_path, StoreMemory(1024 * 1024, 1024 * 1024), lambda _: None)
    rows = [(prefix + bytes([number]), image) for number in range(ROWS) for prefix in PREFIXES]
    made.apply_index([(0, [((1, 0), rows)])], 1)
    yield made
    made.close()


@pytest.mark.parametrize("reverse", [False, True])
def test_every_row_between_the_bounds_and_no_other(store, reverse):
    # More than once: what an iterator needs must stay in memory while others walk too.
    prefix = PREFIXES[1]
    expected = [prefix + bytes([number]) for number in range(ROWS)]
    for _ in range(200):
        found = [key for key, _ in store.scan(prefix, prefix + b"\xff", reverse=reverse)]
        assert found == (expected[::-1] if reverse else expected)


def test_walks_side_by_side(store):
    prefix = PREFIXES[1]
    walks = [store.scan(prefix, prefix + bytes([end])) for end in range(ROWS)]
    assert [len(list(walk)) for walk in walks] == list(range(ROWS))
