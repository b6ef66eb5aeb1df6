"""Makes sure that a join's rows have the join value in their key."""

from streamtable.consumers.views.mapping import InvalidRows, MappingFailed, Row
from streamtable.consumers.views.specs import ViewSpec
from streamtable.core.values import Item

__all__ = ["TiedKeys"]


class TiedKeys:
    """Refuses a row whose key an item's row under another join value could have, too.

    The rows of an item that moves from one join value to another come from two logs: under one key
    the last of them to come would win, and that may be the older one.

    Args:
        spec: the join.
    """

    def __init__(self, spec: ViewSpec) -> None:
        assert spec.on is not None
        self._spec = spec
        self._attribute = spec.on[0]
        # The key attributes that have had the join value in all rows so far.
        self._tied = set(spec.keys.names)

    def check(self, row: Row, left: Item) -> None:
        """Check a row that was made of a left item and what it meets.

        Raises:
            MappingFailed: its key has not the join value where the others had it.
        """
        value = left.get(self._attribute)
        if value is None:
            return
        self._tied = {name for name in self._tied if row.key[name] == value}
        if not self._tied:
            source, attribute = self._spec.sources[0], self._attribute
            cause = InvalidRows(
                f"the row {row.key} has not the join value, {attribute} of {source}, in its key: "
                "rows of an item that moves from one join value to another would be lost. Have "
                f"one key attribute be that value, for example key=(..., {attribute!r})"
            )
            raise MappingFailed(self._spec.key, cause)
