"""Which commits count, for commands that read the log from anywhere."""

from streamtable.streams.epochs import BARRIER, EpochFilter
from streamtable.streams.records import LogRecord
from streamtable.triggers.endpoint import Endpoint, NodeUnavailable

__all__ = ["Epochs"]


class Epochs:
    """The epoch in force in each shard, while its log is read in order.

    Where reading starts in the middle the node is asked for it. Without a node that can tell,
    commits before the first barrier that is read are taken to count.

    Args:
        node: None where the log is read without a node.
    """

    def __init__(self, node: Endpoint | None) -> None:
        self._node = node
        self._filters: dict[int, EpochFilter] = {}

    async def start_at(self, shard: int, offset: int) -> None:
        """Prepare for reading a shard from this offset on."""
        epoch, barrier = await self.in_force(shard, offset)
        if offset == 0 or epoch is not None:
            self._filters[shard] = EpochFilter(epoch, barrier)

    async def in_force(self, shard: int, offset: int) -> tuple[str | None, int | None]:
        """Return epoch and barrier in force just before an offset, None where not known."""
        if self._node is None or offset == 0:
            return None, None
        try:
            return await self._node.epoch(shard, offset)
        except NodeUnavailable:
            return None, None

    def admit(self, record: LogRecord) -> bool:
        """Take the next record of its shard; say whether it is a commit that counts."""
        known = self._filters.get(record.shard)
        if known is None:
            if record.kind != BARRIER:
                return True
            known = self._filters[record.shard] = EpochFilter()
        return known.admit(record.kind, record.epoch, record.offset)
