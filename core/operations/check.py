"""A check: an action of a transaction that changes nothing, but an item has to be as it says."""

from streamtable.core.operations.writes import Write
from streamtable.core.values import Item

__all__ = ["Check"]


class Check(Write):
    """The plan of a ConditionCheck, or of an EXISTS in PartiQL."""

    __slots__ = ()

    def evaluate(self, old: Item | None) -> tuple[Item | None, int]:
        """Return the very item that there is."""
        self.check(old)
        return old, 0
