"""Positions in the change log, and the sequence numbers that stand for them in a stream.

A position is a shard, the offset of a commit in it, and the index of a change in the commit. Within
a shard its sequence number is a decimal number that grows with the position; like DynamoDB's it has
at least 21 digits, so that sequence numbers of one shard are ordered as strings too.
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["CHANGES_PER_COMMIT", "Position", "parse_sequence_number", "sequence_number"]

CHANGES_PER_COMMIT: Final = 100_000
"""How many changes of one commit the sequence numbers can tell apart."""

_DIGITS: Final = 21  # the shortest SequenceNumber that the service's model allows
_MAX_DIGITS: Final = 40  # the longest


@dataclass(frozen=True, order=True, slots=True)
class Position:
    """Where a change is in the log. Ordered within a shard.

    Attributes:
        shard: number of the shard, which is the partition of the log.
        offset: offset of the commit's record.
        index: which change of the commit, from 0.
    """

    shard: int
    offset: int
    index: int

    @property
    def sequence_number(self) -> str:
        """The position within its shard, as the stream tells it."""
        return sequence_number(self.offset, self.index)

    def to_json(self) -> list[int]:
        """Return shard, offset and index."""
        return [self.shard, self.offset, self.index]


def sequence_number(offset: int, index: int) -> str:
    """Return the sequence number of a change, by its commit's offset and its index in it."""
    assert 0 <= index < CHANGES_PER_COMMIT, f"a commit of more than {CHANGES_PER_COMMIT} changes"
    return f"{offset * CHANGES_PER_COMMIT + index:0{_DIGITS}d}"


def parse_sequence_number(text: str) -> tuple[int, int]:
    """Return the offset and the index that a sequence number stands for.

    Raises:
        ValueError: the text is no sequence number.
    """
    if not (_DIGITS <= len(text) <= _MAX_DIGITS and text.isascii() and text.isdigit()):
        raise ValueError(f"not a sequence number of {_DIGITS} to {_MAX_DIGITS} digits: {text!r}")
    return divmod(int(text), CHANGES_PER_COMMIT)
