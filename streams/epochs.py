"""Which records of a shard's log count: the one rule that every reader applies.

A group membership is no lock, so a node that lost a shard may still append to it. Each owner
therefore starts its term with a *barrier*, a record with a fresh id, its epoch. A commit is valid
only if it carries the epoch of the last barrier before it in the log; any other is void for every
reader, for ever. Nothing else (no clock, no lease, no offset) decides that.
"""

from typing import Final, Protocol

__all__ = ["BARRIER", "SPLIT", "EpochFilter", "EpochSource"]

BARRIER: Final = "barrier"
SPLIT: Final = "split"


class EpochFilter:
    """The epoch in force while a shard's log is read in order.

    Args:
        epoch: the epoch in force just before the first record that will be passed in. None
            where none is known to be: at offset 0 of the log, or on a log without a barrier.
        barrier: the offset of that epoch's barrier.
    """

    __slots__ = ("barrier", "epoch")

    def __init__(self, epoch: str | None = None, barrier: int | None = None) -> None:
        self.epoch = epoch
        self.barrier: int | None = barrier

    def admit(self, kind: str, epoch: str, offset: int) -> bool:
        """Take the next record and say whether it counts.

        Args:
            kind: the record's kind, `BARRIER`, `SPLIT`, or a kind of commit.
            epoch: the epoch in its header.
            offset: its offset; kept as `barrier` when it is one.

        Returns:
            True for a valid commit; False for a void one, for a split, which carries no change,
            and for a barrier, which changes the epoch in force.
        """
        if kind == BARRIER:
            self.epoch = epoch
            self.barrier = offset
            return False
        return epoch == self.epoch and kind != SPLIT


class EpochSource(Protocol):
    """Knows the epoch in force at any offset, for readers that start in the middle of the log.

    On the node that is what its stores have applied; a worker asks the node's page `epochs`.
    """

    async def epoch(self, shard: int, offset: int) -> tuple[str | None, int | None]:
        """Return epoch and barrier in force just before `offset`; waits until they are known.

        Both are None where no barrier lies before it.

        Raises:
            StreamtableError: they are not known in time.
        """
