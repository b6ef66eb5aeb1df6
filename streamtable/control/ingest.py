"""What workers ask of a node to build and feed views: snapshots, tokens, and rows.

| page | |
|---|---|
| `GET /_streamtable/snapshot?table=NAME&shard=N` | a table's rows on a shard, as of an offset |
| ... `&versions=1` | each with the time of its version |
| `GET /_streamtable/views/tokens?view=ID&source=N` | how far a view is fed from a shard's log |
| `POST /_streamtable/views/ingest` | rows of a view on one shard, each exactly once |
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any, Final

import orjson

from streamtable.consumers.tables.rows import RowStore
from streamtable.control.view_rows import ViewRows
from streamtable.core.context import RequestContext
from streamtable.core.errors import ResourceNotFound, ServiceUnavailable, ValidationError
from streamtable.core.tables import Table
from streamtable.streams.catalog import Catalog
from streamtable.streams.feed import Batch, LatestRows, NotNext, fed_through, feed
from streamtable.streams.layout import Layout
from streamtable.streams.ledger import Place
from streamtable.streams.peers.calls import ShardCall
from streamtable.streams.routes import Routes
from streamtable.streams.shard import Shard

__all__ = ["Ingest"]

_CHUNK_BYTES: Final = 256 * 1024
_CURSOR_S: Final = 60.0


class Ingest:
    """The pages.

    Args:
        catalog: the region's tables.
        layout: the region's shards.
        stores: the stores of this node's shards.
        routes: find the shards' owners.
    """

    def __init__(
        self,
        catalog: Catalog,
        layout: Layout,
        stores: Mapping[int, RowStore],
        routes: Routes,
    ) -> None:
        self._catalog = catalog
        self._layout = layout
        self._stores = stores
        self._routes = routes
        self._cursors: dict[str, tuple[float, AsyncIterator[bytes]]] = {}

    @property
    def calls(self) -> dict[str, ShardCall]:
        """What can be asked of a shard."""
        return {"ingest": self._ingest, "fed": self._fed, "snapshot": self._snapshot}

    async def snapshot(self, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Yield a table's rows on a shard as JSON lines, all as of one offset of the shard's log.

        The first line is `{"offset": o}`: what the commits through `o` did is in the rows, what
        later ones did is not. Then one item a line, in wire form; the last line is `{"rows": n}`.
        With `shards` in the query they are answered only where the region has so many. With
        `versions` an item is `{"version": time, "item": {...}}`, by the time of
        its version.

        Raises:
            ResourceNotFound: there is no such table.
            ServiceUnavailable: the shard has moved meanwhile; begin again.
            ValidationError: there is no such shard.
        """
        table = self._catalog.table(query.get("table", ""))
        number, versions = self._number(query.get("shard")), "versions" in query
        count = str(self._layout.count)
        if query.get("shards", count) != count:
            raise ServiceUnavailable(f"The region has {count} shards now. Begin again.")
        if self._routes.own(number) is not None:
            async for lines in self._lines(table, number, versions=versions):
                yield lines
            return
        cursor, more = None, True
        while more:
            cursor, found, more = await self._routes.ask(
                number, "snapshot", [table.id, versions, cursor]
            )
            yield found.encode()

    async def _snapshot(self, shard: Shard, arguments: Any) -> Any:
        """Return the next lines of a snapshot, and the cursor that leads to those after them."""
        table_id, versions, cursor = arguments
        now = time.monotonic()
        for each, (until, _) in list(self._cursors.items()):
            if until < now:
                del self._cursors[each]
        if cursor is None:
            table = self._catalog.by_id(table_id)
            if table is None:
                raise ResourceNotFound("Requested resource not found")
            cursor = secrets.token_hex(8)
            lines = self._lines(table, shard.number, versions=versions)
        elif cursor in self._cursors:
            _, lines = self._cursors.pop(cursor)
        else:
            raise ServiceUnavailable(f"Shard {shard.number} has moved. Begin again.")
        found = await anext(lines, None)
        if found is None:
            return [None, "", False]
        self._cursors[cursor] = (now + _CURSOR_S, lines)
        return [cursor, found.decode(), True]

    async def _lines(self, table: Table, number: int, *, versions: bool) -> AsyncIterator[bytes]:
        store = self._stores[number]
        # Both in one step: nothing is applied between.
        offset, rows = store.applied, store.scan(table.prefix, table.end)
        lines = [orjson.dumps({"offset": offset})]
        count = size_bytes = 0
        for _, image in rows:
            lines.append(
                b'{"version":%d,"item":%b}' % (image.time, image.json) if versions else image.json
            )
            count += 1
            size_bytes += len(image.json)
            if size_bytes > _CHUNK_BYTES:
                yield b"\n".join(lines) + b"\n"
                lines, size_bytes = [], 0
                # Whoever waits for a write goes first.
                await asyncio.sleep(0)
        lines.append(orjson.dumps({"rows": count}))
        yield b"\n".join(lines) + b"\n"

    async def tokens(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Answer the places through which a view is fed from a shard, by target shard.

        Raises:
            InternalServerError: the log does not answer.
            ServiceUnavailable: a shard does not serve.
            ValidationError: there is no such shard.
        """
        source, view = self._number(query.get("source")), query.get("view", "")
        found = await asyncio.gather(
            *(self._routes.ask(number, "fed", [view, source]) for number in self._layout)
        )
        return {"tokens": {str(n): place for n, place in enumerate(found) if place is not None}}

    @staticmethod
    async def _fed(shard: Shard, arguments: Any) -> Place | None:
        view, source = arguments
        return await fed_through(shard, view, source)

    async def ingest(self, body: dict[str, Any]) -> dict[str, Any]:
        """Carry out a batch of a view's rows on one shard, all of it or nothing.

        Its `operations` are texts, each with the JSON of one; see `view_rows`.

        The answer is `{"applied": true, "position": [shard, offset]}` when it is durable, or
        `{"applied": false, "token": place}` when the view is fed through another place than
        `after`: then nothing was done. Nor was it with `{"applied": false, "shards": n}`: the
        region has n shards, not as many as the batch was made for.

        Raises:
            InternalServerError: the outcome is not known; ask for the tokens.
            ResourceNotFound: there is no such view.
            ServiceUnavailable: the shard does not serve; nothing was done.
            ValidationError: a row does not fit the view; nothing was done.
        """
        target = self._number(body.get("target"))
        answer: dict[str, Any] = await self._routes.change(target, "ingest", body)
        return answer

    async def _ingest(self, shard: Shard, body: Any) -> dict[str, Any]:
        target = shard.number
        # Also while it waits for the shard their number may change.
        count = self._layout.count
        if body.get("shards", count) != count:
            return {"applied": False, "shards": count}
        try:
            source = self._number(body["source"])
            after, through = _place(body["after"]), _place(body["through"])
            view = self._view(body["view"])
            operations = [*body["operations"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ValidationError(f"this is no batch of a view's rows: {error!r}") from None
        if through is None or (after is not None and through <= after):
            raise ValidationError(f"a batch leads from {after} to {through}: not forward")

        def write(rows: LatestRows) -> None:
            # Looked up once more: its table may have got the view's name meanwhile, which is then
            # the name that the changes have in the log.
            found = self._view(view.id)
            writing = ViewRows(found, self._values(found), partial(self._check_target, target))
            writing.carry_out(operations, rows)

        document = view.document.view
        assert document is not None
        context = RequestContext(
            f"{source}-{through[0]}-{through[1]}", f"{document.app}/{document.name}", ""
        )
        batch = Batch(view.id, source, after, through, write)
        try:
            offset = await feed(shard, batch, context)
        except NotNext as error:
            return {"applied": False, "token": error.through}
        return {"applied": True, "position": [target, offset]}

    def _check_target(self, target: int, number: int) -> None:
        count = self._layout.count
        if number % count != target:
            raise ValidationError(
                f"one of the rows belongs to shard {number % count}, not {target}"
            )

    def _values(self, view: Table) -> Table | None:
        document = view.document.view
        if document is None or document.values_id is None:
            return None
        values = self._catalog.by_id(document.values_id)
        if values is None:
            raise ResourceNotFound("Requested resource not found: the view is gone")
        return values

    def _view(self, table_id: str) -> Table:
        table = self._catalog.by_id(table_id)
        if table is None or table.document.view is None:
            raise ResourceNotFound("Requested resource not found: the view is gone")
        return table

    def _number(self, given: Any) -> int:
        number = int(given) if isinstance(given, int | str) and str(given).isdecimal() else -1
        if not 0 <= number < self._layout.count:
            raise ValidationError(f"{given!r} is no shard of this region")
        return number


def _place(given: Any) -> Place | None:
    if given is None:
        return None
    offset, number = given
    return int(offset), int(number)
