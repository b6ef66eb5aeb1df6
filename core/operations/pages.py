"""A page: what one Query or Scan request reads, up to Limit items or 1 MB."""

from collections.abc import Iterable
from typing import Any

from streamtable.core.expressions.condition import Condition
from streamtable.core.expressions.projection import Projection
from streamtable.core.images import Image
from streamtable.core.limits import PAGE_BYTES
from streamtable.core.values import dump_item

__all__ = ["Page"]


class Page:
    """The items that one request reads, collected as JSON while they are read.

    Attributes:
        count: items that passed the filter.
        scanned: items read.
        size_bytes: their size.
        last: the last item read, where the page ended before the range did.
    """

    __slots__ = (
        "_condition",
        "_counting",
        "_items",
        "_limit",
        "_projection",
        "count",
        "last",
        "scanned",
        "size_bytes",
    )

    def __init__(
        self,
        *,
        limit: int | None,
        condition: Condition | None,
        projection: Projection | None,
        counting: bool,
    ) -> None:
        self._limit = limit
        self._condition = condition
        self._projection = projection
        self._counting = counting
        self._items: list[bytes] = []
        self.count = 0
        self.scanned = 0
        self.size_bytes = 0
        self.last: Image | None = None

    @property
    def room(self) -> int | None:
        """How many more items it takes at most, None where only their size counts."""
        return None if self._limit is None else self._limit - self.scanned

    def read(self, rows: Iterable[tuple[bytes, Image]]) -> bool:
        """Read rows until the page is full; return whether it is."""
        limit = self._limit or -1
        condition, projection = self._condition, self._projection
        items, counting = self._items, self._counting
        scanned, size = self.scanned, self.size_bytes
        try:
            for _, image in rows:
                scanned += 1
                size += image.size_bytes
                if condition is None or condition.matches(image.item):
                    self.count += 1
                    if not counting:
                        items.append(
                            image.json
                            if projection is None
                            else dump_item(projection.project(image.item))
                        )
                if scanned == limit or size >= PAGE_BYTES:
                    self.last = image
                    return True
            return False
        finally:
            self.scanned, self.size_bytes = scanned, size

    def members(self) -> list[bytes]:
        """Return the members Items, Count and ScannedCount of the response, as JSON."""
        members = [b'"Count":%d,"ScannedCount":%d' % (self.count, self.scanned)]
        if not self._counting:
            members.insert(0, b'"Items":[' + b",".join(self._items) + b"]")
        return members

    def key(self, names: Iterable[str]) -> dict[str, Any] | None:
        """Return the LastEvaluatedKey with these attributes, None at the end of the range."""
        if self.last is None:
            return None
        item = self.last.item
        return {name: item[name] for name in names}
