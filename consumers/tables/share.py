"""Which of the rows in a shard's store are its own, after a split."""

from typing import Final, NamedTuple

from streamtable.core.keys import HASH_BYTES
from streamtable.core.tables import EXPIRY_ROW, PREFIX_BYTES

__all__ = ["Share"]

_SECOND_BYTES: Final = 8


class Share(NamedTuple):
    """Which items are a shard's.

    Attributes:
        number: the shard's number.
        of: how many shards there are.
    """

    number: int
    of: int

    def has(self, row_key: bytes) -> bool:
        """Whether a row's item, or the item whose row it is, is the shard's.

        A row that is of no item is everyone's.
        """
        start = PREFIX_BYTES + _SECOND_BYTES if row_key[0] == EXPIRY_ROW else PREFIX_BYTES
        hashed = row_key[start : start + HASH_BYTES]
        return not hashed or int.from_bytes(hashed, "big") % self.of == self.number
