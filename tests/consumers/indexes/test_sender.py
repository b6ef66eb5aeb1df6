from types import SimpleNamespace
from typing import Any

from streamtable.consumers.indexes.sender import _parts, _records
from streamtable.core.images import Image

MEGABYTE = 1024 * 1024


def row(size_bytes: int) -> Any:
    return SimpleNamespace(image=Image(b"x" * size_bytes, size_bytes, 1, "local"))


def test_the_rows_of_one_commit_are_cut_into_parts_that_count_up() -> None:
    rows = [row(400_000) for _ in range(7)] + [SimpleNamespace(image=None)]
    parts = list(_parts((9, 0), rows))
    assert [position for position, _ in parts] == [(9, 0), (9, 1), (9, 2), (9, 3)]
    assert [one for _, theirs in parts for one in theirs] == rows


def test_a_row_larger_than_a_part_goes_alone() -> None:
    rows = [row(2 * MEGABYTE), row(10)]
    assert [len(theirs) for _, theirs in _parts((1, 5), rows)] == [1, 1]


def test_small_entries_share_a_record_and_large_ones_do_not() -> None:
    entries = [((n, 0), [row(size)]) for n, size in enumerate([10, 10, 900_000, 300_000, 10])]
    records = list(_records(entries))
    assert [[position[0] for position, _ in record] for record in records] == [[0, 1, 2], [3, 4]]
    assert not list(_records([]))
