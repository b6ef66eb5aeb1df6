"""The page `/_streamtable/why`: what happened to one item, and what became of it."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from streamtable.control.outcomes import ConsumerOnShard, outcomes
from streamtable.core.changes import change_to_json
from streamtable.core.errors import ResourceNotFound, ValidationError
from streamtable.core.key_texts import InvalidKeyText, parse_key_text
from streamtable.core.tables import Table
from streamtable.streams.fetcher import LogTrimmed
from streamtable.streams.item_history import ItemHistory, SoughtItem
from streamtable.streams.layout import Layout

__all__ = ["ConsumersOf", "Why"]

ConsumersOf = Callable[[str, int], Awaitable[Sequence[ConsumerOnShard]]]
"""Returns what is known of the consumers of a table on a shard."""

_DAY_MS: Final = 24 * 3600 * 1000


class Why:
    """Answers what happened to an item.

    Args:
        find: returns the table of a name, or raises ResourceNotFound.
        layout: the region's shards.
        history: finds the item's changes.
        consumers: what is known of a table's consumers on a shard.
        now_ms: a clock.
    """

    def __init__(
        self,
        *,
        find: Callable[[str], Table],
        layout: Layout,
        history: ItemHistory,
        consumers: ConsumersOf,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._find = find
        self._layout = layout
        self._history = history
        self._consumers = consumers
        self._now_ms = now_ms

    async def page(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Answer a request.

        `table` and `key` (see `core.key_texts`) name the item. `since_ms` is where to begin, in
        milliseconds since 1970, 24 hours ago unless told. A search takes a limited time: while
        `next` in the answer is less than `end`, the next request says `from=` what `next` was.

        Returns:
            `table`, `key`, `shard`, `from`, `next`, `end`, `then` (the shard that the item went to
            in a split, whose log is to be asked for when `next` is `end`), and `changes`: each as
            the log has it, with its position and `consumers`, what each made of it.

        Raises:
            ResourceNotFound: there is no such table.
            ValidationError: a parameter is missing or is none, or the log no longer has `from`.
        """
        name = _needed(query, "table")
        try:
            table = self._find(name)
        except ResourceNotFound:
            raise ResourceNotFound(f"there is no table {name}") from None
        try:
            key = parse_key_text(table.keys, _needed(query, "key"))
        except InvalidKeyText as error:
            raise ValidationError(str(error)) from error
        number, _ = table.keys.locate(table.prefix, key)
        since_ms = _number(query, "since_ms")
        since_ms = self._now_ms() - _DAY_MS if since_ms is None else since_ms
        document = self._layout.document
        chain = document.chain(number % document.count, since_ms / 1000)
        shard = _number(query, "shard")
        if shard is not None and shard not in chain:
            raise ValidationError(f"the item was never on shard {shard}")
        at = 0 if shard is None else chain.index(shard)
        item = SoughtItem(table.document.logged_as, table.id, key, chain[at])
        start = _number(query, "from")
        if start is None:
            start = await self._history.start(item.shard, since_ms)
        try:
            found = await self._history.read(item, start)
        except LogTrimmed as error:
            raise ValidationError(str(error)) from error
        # After the search: what it found can only have got further since.
        known = await self._consumers(table.name, item.shard) if found.changes else ()
        judges = [outcomes(each) for each in known]
        changes = []
        for position, change in found.changes:
            judged = [judge(position, change) for judge in judges]
            changes.append(
                {
                    "shard": position.shard,
                    "offset": position.offset,
                    "index": position.index,
                    "sequenceNumber": position.sequence_number,
                    **change_to_json(change),
                    "consumers": [each for each in judged if each is not None],
                }
            )
        return {
            "table": table.name,
            "key": key,
            "shard": item.shard,
            "from": start,
            "next": found.next,
            "end": found.end,
            "then": chain[at + 1] if at + 1 < len(chain) else None,
            "changes": changes,
        }


def _needed(query: Mapping[str, str], name: str) -> str:
    value = query.get(name)
    if not value:
        raise ValidationError(f"{name} is missing: /_streamtable/why?table=NAME&key=KEY")
    return value


def _number(query: Mapping[str, str], name: str) -> int | None:
    value = query.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit()):
        raise ValidationError(f"{name}={value} is no number")
    return int(value)
