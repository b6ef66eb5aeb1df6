"""Changes that wait in the state store, so that the shard's position can move past them."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from streamtable.consumers.triggers.engine import Engine
from streamtable.consumers.triggers.entries import PARKED, Entry
from streamtable.consumers.triggers.holding import Holding
from streamtable.consumers.triggers.items import Item
from streamtable.consumers.triggers.state import SAVE_ITEMS
from streamtable.consumers.triggers.verdicts import LONGEST_DELAY_MS
from streamtable.core.errors import StreamtableError
from streamtable.core.positions import Position

__all__ = ["Parking"]

logger = logging.getLogger(__name__)

_PARKED_ITEMS: Final = 1000
_PARKED_ENTRIES: Final = 10_000
_STOP_SAVING_S: Final = 5.0


class Parking:
    """Parks the changes of a shard's items, as many as there may be.

    Args:
        number: the shard.
        engine: the trigger.
        holding: where they are parked.
        items: the shard's items that have changes on their way.
        let_go: called with each change that is not in memory any more.
        conclude: called with each item that has come here, or could not before.

    Attributes:
        parked: what is parked, by its position.
        item_count: how many items have something that is parked and in no call.
    """

    def __init__(
        self,
        number: int,
        engine: Engine,
        holding: Holding,
        items: dict[bytes, Item],
        *,
        let_go: Callable[[Entry], None],
        conclude: Callable[[Item], None],
    ) -> None:
        self.parked: dict[Position, Entry] = {}
        self.item_count = 0
        self._number = number
        self._engine = engine
        self._holding = holding
        self._items = items
        self._let_go = let_go
        self._conclude = conclude
        self._to_save: deque[Item] = deque()
        self._more = asyncio.Event()

    def take_over(self, rows: Mapping[str, dict[str, Any]]) -> None:
        """Go on with what is parked in the state store and not known here yet."""
        touched: dict[bytes, Item] = {}
        clock = self._engine.clock
        now_ms, wall_ms = clock.now_ms(), clock.wall_ms()
        ahead_ms = self._engine.ahead_ms()
        for id_, row in rows.items():
            if not id_.startswith(PARKED):
                continue
            entry = Entry.of_row(row, ahead_ms)
            if entry.position in self.parked:
                continue
            entry.born_ms = now_ms - max(0, wall_ms - entry.created_ms)
            # Whoever noted it may have had a clock that is ahead of what is right now.
            entry.next_ms = min(entry.next_ms, now_ms + LONGEST_DELAY_MS)
            item = self._items.get(entry.key)
            if item is None:
                item = self._items[entry.key] = Item(entry.key)
            if not item.parked:
                self.item_count += 1
            item.parked.append(entry)
            item.reach(entry)
            self.parked[entry.position] = entry
            touched[entry.key] = item
        for item in touched.values():
            item.parked = deque(sorted(item.parked, key=lambda entry: entry.position))
            if not item.running and not item.saving:
                self._conclude(item)

    def was_here(self, entry: Entry) -> bool:
        """Say whether the log brings again what is parked, or was handled before that.

        A change is parked only when all that came before it of its item is handled or parked.
        """
        if not self.parked:
            return False
        item = self._items.get(entry.key)
        return item is not None and item.through is not None and entry.position <= item.through

    def forget(self, entry: Entry) -> None:
        """Take note that a parked change is handled, or given up."""
        self.parked.pop(entry.position, None)
        self._more.set()

    def later(self, item: Item) -> None:
        """Have what waits of an item parked, as soon as there is room."""
        item.wants_saving = True
        if not item.queued and item.waiting:
            item.queued = True
            self._to_save.append(item)
            self._more.set()

    async def keep(self) -> None:
        """Park what is to be parked, until the shard is let go."""
        while not self._holding.closing:
            self._more.clear()
            found = self._pick()
            if found:
                await self._park(found)
            else:
                await self._more.wait()

    def wake(self) -> None:
        """Have `keep` see that the shard is let go."""
        self._more.set()

    async def finish(self) -> None:
        """Park all that waits, within some seconds."""
        for item in self._items.values():
            item.asleep = True
            self.later(item)
        try:
            async with asyncio.timeout(_STOP_SAVING_S):
                while found := self._pick():
                    await self._park(found)
        except (StreamtableError, TimeoutError) as error:
            logger.warning(
                "%s: what failed in shard %d can't be parked, it comes again from the log: %r",
                self._engine.name,
                self._number,
                error,
            )

    def _pick(self) -> list[tuple[Item, list[Entry]]]:
        """Choose what is parked next, as much as one save takes and the limits leave."""
        picked: list[tuple[Item, list[Entry]]] = []
        closing = self._holding.closing
        left = SAVE_ITEMS
        if not closing:
            left = min(left, _PARKED_ENTRIES - len(self.parked))
        while self._to_save and left > 0:
            item = self._to_save[0]
            if not closing and not item.parked and self.item_count >= _PARKED_ITEMS:
                break
            self._to_save.popleft()
            item.queued = False
            if not item.wants_saving or item.saving or not item.waiting:
                continue
            entries = list(islice(item.waiting, left))
            item.saving = len(entries)
            left -= len(entries)
            picked.append((item, entries))
        return picked

    async def _park(self, picked: Sequence[tuple[Item, list[Entry]]]) -> None:
        ahead_ms = self._engine.ahead_ms()
        await self._holding.save(
            {entry.id: entry.row(ahead_ms) for _, entries in picked for entry in entries}
        )
        for item, entries in picked:
            if not item.parked:
                self.item_count += 1
            item.saving = 0
            for entry in entries:
                assert item.waiting[0] is entry
                item.parked.append(item.waiting.popleft())
                item.reach(entry)
                entry.saved = True
                entry.change = None
                self.parked[entry.position] = entry
                self._let_go(entry)
            if item.waiting and item.wants_saving:
                self.later(item)
            if not item.running and not item.asleep:
                self._conclude(item)
