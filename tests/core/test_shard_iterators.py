import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtable.core.errors import ExpiredIterator, ValidationError
from streamtable.core.shard_iterators import ShardIterator

NOW = 1_700_000_000.5
ITERATOR = ShardIterator("arn:aws:dynamodb:local:0:table/users/stream/x", 3, 2**40, 99_999)


@given(
    st.builds(
        ShardIterator,
        st.text(max_size=300),
        st.integers(0, 1000),
        st.integers(0, 2**62),
        st.integers(0, 100_000),
    )
)
def test_what_is_encoded_is_decoded(iterator):
    assert ShardIterator.decode(iterator.encode(NOW), NOW) == iterator


def test_it_lasts_fifteen_minutes():
    token = ITERATOR.encode(NOW)
    assert ShardIterator.decode(token, NOW + 900) == ITERATOR
    with pytest.raises(ExpiredIterator):
        ShardIterator.decode(token, NOW + 900.002)


def test_the_longest_fits_the_models_length():
    iterator = ShardIterator("x" * 1024, 999, 2**62, 99_999)
    assert len(iterator.encode(NOW)) <= 2048


@given(st.data())
def test_a_damaged_token_is_refused(data):
    token = ITERATOR.encode(NOW)
    position = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.characters(codec="ascii").filter(lambda each: each != token[position]))
    damaged = token[:position] + letter + token[position + 1 :]
    with pytest.raises(ValidationError, match="Invalid ShardIterator"):
        ShardIterator.decode(damaged, NOW)


@given(st.text(max_size=60))
def test_any_other_text_is_refused(text):
    with pytest.raises(ValidationError, match="Invalid ShardIterator"):
        ShardIterator.decode(text, NOW)
