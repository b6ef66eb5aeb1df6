import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtable.core.positions import (
    CHANGES_PER_COMMIT,
    Position,
    parse_sequence_number,
    sequence_number,
)

offsets = st.integers(0, 2**63 - 1)
indexes = st.integers(0, CHANGES_PER_COMMIT - 1)


@given(offsets, indexes)
def test_sequence_numbers_are_read_back(offset, index):
    text = sequence_number(offset, index)
    assert parse_sequence_number(text) == (offset, index)
    assert 21 <= len(text) <= 40
    assert Position(3, offset, index).sequence_number == text


@given(st.integers(0, 10**15), indexes, st.integers(0, 10**15), indexes)
def test_sequence_numbers_are_ordered_as_positions(offset, index, other_offset, other_index):
    left, right = Position(0, offset, index), Position(0, other_offset, other_index)
    assert (left < right) == (left.sequence_number < right.sequence_number)


@pytest.mark.parametrize(
    "text", ["", "1", "0" * 20, "0" * 41, "-" + "0" * 21, "\u0660" * 21, "x" * 21]
)
def test_what_is_no_sequence_number(text):
    with pytest.raises(ValueError, match="not a sequence number"):
        parse_sequence_number(text)


def test_a_commit_has_a_limit():
    with pytest.raises(AssertionError):
        sequence_number(0, CHANGES_PER_COMMIT)
