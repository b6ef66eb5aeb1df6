import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtable.core.errors import ValidationError
from streamtable.core.visibility import After, format_positions, parse_after, parse_positions

POSITIONS = st.dictionaries(st.integers(0, 999), st.integers(0, 10**15), min_size=1, max_size=50)


@given(POSITIONS)
def test_positions_survive_their_text(positions):
    assert parse_positions(format_positions(positions)) == positions


def test_the_positions_of_several_answers_may_be_joined():
    assert parse_positions("0:5, 3:7,0:9,0:2") == {0: 9, 3: 7}


@pytest.mark.parametrize(
    "text", ["", "0", "0:", ":1", "0:1,", "0:-1", "0:1;2:3", "a:1", "0:1e3", "\u0660:1"]
)
def test_what_is_no_position(text):
    with pytest.raises(ValueError, match="is not SHARD:OFFSET"):
        parse_positions(text)


def test_no_more_than_a_region_has_shards():
    with pytest.raises(ValueError, match="more than 1000"):
        parse_positions(",".join(["0:1"] * 1001))


@pytest.mark.parametrize(("wait", "wait_s"), [(None, 1.0), ("0", 0.0), ("10000", 10.0)])
def test_how_long_a_read_waits(wait, wait_s):
    assert parse_after("0:1", wait) == After({0: 1}, wait_s)


@pytest.mark.parametrize("wait", ["", "-1", "10001", "1.5", "soon", "9" * 30])
def test_how_long_it_can_not_wait(wait):
    with pytest.raises(ValidationError, match="at most 10000"):
        parse_after("0:1", wait)
