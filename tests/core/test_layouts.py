"""Which shard came from which, and what of the log is whose."""

import pytest

from streamtable.core.errors import ValidationError
from streamtable.core.layouts import Birth, LayoutDocument, Reshard, Split, check_target
from streamtable.core.positions import sequence_number

# 2 shards became 4, then 8.
FIRST = Split(before=2, after=4, ends=(10, 20), index_ends=(1, 2), at=100.0)
SECOND = Split(before=4, after=8, ends=(15, 30, 7, 5), index_ends=(3, 4, 5, 6), at=200.0)
LAYOUT = LayoutDocument(count=8, splits=(FIRST, SECOND))


@pytest.mark.parametrize("target", [4, 6, 1000])
def test_a_multiple_is_possible(target):
    check_target(2, target)


@pytest.mark.parametrize("target", [1, 2, 3, 1002])
def test_other_numbers_are_refused_with_those_that_are_possible(target):
    with pytest.raises(ValidationError, match=r"4, 6, 8 and so on\. It can't be made"):
        check_target(2, target)


def test_there_may_be_no_larger_number():
    with pytest.raises(ValidationError, match="there is none"):
        check_target(600, 1200)


def test_a_shard_is_born_of_the_one_that_had_its_items():
    assert [LAYOUT.birth(n) for n in (0, 1)] == [None, None]
    assert LAYOUT.birth(3) == Birth(1, 2, 20, 2)
    assert LAYOUT.birth(6) == Birth(2, 4, 7, 5)
    assert LAYOUT.birth(8) is None


def test_a_shard_has_the_births_of_those_before_it():
    assert LAYOUT.births(0) == []
    assert LAYOUT.births(2) == [Birth(0, 2, 10, 1)]
    assert LAYOUT.births(6) == [Birth(0, 2, 10, 1), Birth(2, 4, 7, 5)]
    assert LAYOUT.births(5) == [Birth(1, 4, 30, 4)]


def test_a_shards_children_are_those_of_its_last_split():
    assert [[*LAYOUT.children(n)] for n in (0, 3, 5)] == [[4], [7], []]
    assert [
        *LayoutDocument(count=6, splits=(FIRST.model_copy(update={"after": 6}),)).children(1)
    ] == [3, 5]


def test_a_shard_that_is_to_be_has_a_parent_and_no_beginning_yet():
    reshard = Reshard(id="one", target=6, since=1.0)
    document = LayoutDocument(count=2, reshard=reshard)
    assert document.birth(5) == Birth(1, 2, None, None)
    assert document.birth(1) is None


def test_a_parents_log_is_its_own_after_the_last_split():
    last = [(15, 3), (30, 4), (7, 5), (5, 6)]
    assert [LAYOUT.began(n) for n in range(8)] == [*last, *[(-1, 0)] * 4]
    assert LayoutDocument(count=2).began(0) == (-1, 0)


def test_an_item_was_in_its_shards_ancestors_before():
    assert LAYOUT.chain(7, 0.0) == [1, 3, 7]
    assert LAYOUT.chain(7, 150.0) == [3, 7]
    assert LAYOUT.chain(7, 201.0) == [7]
    assert LAYOUT.chain(1, 0.0) == [1]
    assert LAYOUT.chain(5, 0.0) == [1, 5]


def test_without_a_split_the_parts_are_the_shards():
    parts = LayoutDocument(count=3).parts()
    assert [part.code for part in parts] == [0, 1, 2]
    assert all(part.parent is part.end is None and part.first == 0 for part in parts)


def test_parts_follow_one_another_and_name_their_parents():
    parts = {part.code: part for part in LAYOUT.parts()}
    assert len(parts) == 2 + 4 + 8
    ended = [part for part in parts.values() if part.end is not None]
    assert len(ended) == 2 + 4
    assert [part.generation for part in LAYOUT.parts()] == [0] * 2 + [1] * 4 + [2] * 8
    for part in parts.values():
        if part.parent is None:
            assert part.generation == 0
            continue
        parent = parts[part.parent]
        assert part.number % (2 * 2 ** (part.generation - 1)) == parent.number
        assert part.began == parent.ended
        # It goes on behind its parent in the same partition, or begins in another.
        assert part.first == (parent.end if part.number == parent.number else 0)


def test_sequence_numbers_of_an_item_grow_from_parent_to_child():
    parts = {part.code: part for part in LAYOUT.parts()}
    for part in parts.values():
        if part.parent is None:
            continue
        parent = parts[part.parent]
        assert parent.end is not None
        last = sequence_number(LAYOUT.numbered_from(parent.number) + parent.end - 1, 99_999)
        assert last < sequence_number(LAYOUT.numbered_from(part.number) + part.first, 0)
