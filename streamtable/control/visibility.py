"""Read-your-writes: reads of views and indexes that wait until they show a write.

A table shows what was answered. A view shows a write when its worker has made rows of it, an
index when its rows have reached their shard: commonly some milliseconds later. A read that names
the position of a write waits for that, or says that its time was over first.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from streamtable.consumers.indexes.settling import Settling
from streamtable.core.documents import ViewDocument
from streamtable.core.errors import NotYetVisible, ResourceNotFound, ValidationError
from streamtable.core.operations.read_targets import read_targets
from streamtable.core.tables import Table
from streamtable.core.visibility import AFTER_HEADER, After, format_positions
from streamtable.operations.lookup import item_lookup
from streamtable.streams.catalog import Catalog
from streamtable.streams.layout import Layout

__all__ = ["Term", "Visibility", "WaitsForConsumers"]


_LOOK_S: Final = 0.01


class WaitsForConsumers(Protocol):
    """Knows how far consumers have got: `Frontiers`."""

    def next(self, key: str, generation: int) -> Mapping[int, int]:
        """Return by shard how far a generation is known to have got."""

    async def reached(
        self, key: str, generation: int, targets: Mapping[int, int], timeout_s: float
    ) -> bool:
        """Wait until a consumer is done with the records at these offsets."""


class Term(Protocol):
    """The writing end of a shard: `Owner`."""

    @property
    def serving(self) -> bool:
        """Whether the term has started, and no outcome is unknown."""

    @property
    def last(self) -> int:
        """Offset of the last record known to be in the log."""

    began: int
    """Offset of the term's barrier."""


class Visibility:
    """Waits until a read will show what is at the positions that it names.

    Args:
        catalog: the region's tables.
        frontiers: knows how far the views have got.
        settling: knows when the indexes have what was written.
        layout: the region's shards.
        ends: returns by shard the offset of the last record of its log.
        terms: the writing ends of this node's shards, where it has them all.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        frontiers: WaitsForConsumers,
        settling: Settling,
        layout: Layout,
        ends: Callable[[], Awaitable[Mapping[int, int]]],
        terms: Callable[[], Mapping[int, Term]],
    ) -> None:
        self._catalog = catalog
        self._find = item_lookup(catalog)
        self._frontiers = frontiers
        self._settling = settling
        self._layout = layout
        self._ends = ends
        self._terms = terms

    async def wait(self, operation: str, body: dict[str, Any], after: After) -> None:
        """Return when what an operation reads shows the positions; at once for a table.

        A view on a view shows them when both have got there. An operation that reads nothing does
        not wait.

        Raises:
            NotYetVisible: it did not in time; the message says what is behind, and how far.
            ValidationError: a position is in no shard of the region.
        """
        shards = self._layout.count
        unknown = [shard for shard in after.positions if shard >= shards]
        if unknown:
            raise ValidationError(
                f"{AFTER_HEADER} names shard {unknown[0]}: this region has the shards 0 to "
                f"{shards - 1}"
            )
        deadline = time.monotonic() + after.wait_s
        for name, index_name in sorted(read_targets(operation, body), key=repr):
            try:
                table = self._find(name)
            except (ResourceNotFound, ValidationError):
                continue  # whoever reads says so
            shown: Mapping[int, int] = after.positions
            if table.view is not None:
                await self._view(table, table.view, after, deadline)
                # What its rows have come to be is in the log by now.
                shown = await self._ends()
            index = table.indexes.get(index_name or "")
            if index is not None and index.is_global:
                await self._index(f"{index.name} of {table.name}", shown, after, deadline)

    async def _view(self, table: Table, view: ViewDocument, after: After, deadline: float) -> None:
        targets = dict(after.positions)
        for source in view.sources:
            found = self._view_table(source)
            if found is not None:
                following, document = found
                # None of them follows from itself: that is refused when they are made.
                await self._view(following, document, after, deadline)
                targets = dict(await self._ends())
        while not await self._frontiers.reached(
            view.key, view.generation, targets, max(0.0, deadline - time.monotonic())
        ):
            if time.monotonic() >= deadline:
                raise self._not_yet(view, targets, after)
            # It was built anew meanwhile, or is about to be: what clients read then counts.
            await asyncio.sleep(_LOOK_S)
            replaced = self._view_table(view.name)
            if self._catalog.by_id(table.id) is None and replaced is not None:
                table, view = replaced

    def _view_table(self, name: str) -> tuple[Table, ViewDocument] | None:
        """The table of a view and what makes it one; None if the name is another table's."""
        try:
            table = self._catalog.table(name)
        except ResourceNotFound:
            return None
        return None if table.view is None else (table, table.view)

    async def _index(
        self, what: str, positions: Mapping[int, int], after: After, deadline: float
    ) -> None:
        terms = self._terms()
        # What this node has written itself its reads see at once.
        behind = {
            number: offset
            for number, offset in positions.items()
            if not _has_written(terms.get(number), offset)
        }
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._settling.settled(behind)
        except TimeoutError:
            raise NotYetVisible(
                f"The index {what} does not show {format_positions(behind)} after "
                f"{after.wait_s * 1000:.0f} ms. Read again, or without {AFTER_HEADER}."
            ) from None

    def _not_yet(
        self, view: ViewDocument, targets: Mapping[int, int], after: After
    ) -> NotYetVisible:
        following = self._frontiers.next(view.key, view.generation)
        missing = {
            shard: offset for shard, offset in targets.items() if following.get(shard, 0) <= offset
        }
        where = "no worker has told how far it is"
        if following:
            where = "; ".join(
                f"of shard {shard} it has what is before {following.get(shard, 0)}, "
                f"{offset + 1 - following.get(shard, 0)} records behind"
                for shard, offset in missing.items()
            )
        return NotYetVisible(
            f"The view {view.name} does not show {format_positions(missing)} after "
            f"{after.wait_s * 1000:.0f} ms: {where}. Read again, or without {AFTER_HEADER}."
        )


def _has_written(term: Term | None, offset: int) -> bool:
    """Whether a shard's term on this node has written a record: then its index rows show here."""
    return term is not None and term.serving and term.began <= offset <= term.last
