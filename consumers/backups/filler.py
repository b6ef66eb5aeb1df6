"""Fills a table from a backup, as rows of a view are written: each exactly once.

The items of one shard of the backup are a source. A batch of them names the part and the line that
it leads to, and the ones that it follows on; the shard that it is for notes the place in the
commit, see `streams.feed`. So after any crash it goes on where it was, and one that comes late,
even after the table is in use, does nothing.
"""

import asyncio
from collections import defaultdict
from collections.abc import Hashable
from math import gcd
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import orjson

from streamtable.consumers.backups.long_calls import LongCalls
from streamtable.consumers.backups.manifests import BackupNames, DamagedBackup, Manifest, Part
from streamtable.consumers.backups.parts import PartReader
from streamtable.consumers.checkpoints.objects import NoObject, Objects, StorageUnavailable
from streamtable.core.context import RequestContext
from streamtable.core.errors import ResourceNotFound, ServiceUnavailable
from streamtable.core.tables import Table
from streamtable.core.values import parse_item
from streamtable.streams.catalog import Catalog
from streamtable.streams.feed import Batch, LatestRows, NotNext, feed
from streamtable.streams.layout import Layout
from streamtable.streams.ledger import Place
from streamtable.streams.peers.calls import ShardCall
from streamtable.streams.routes import Routes
from streamtable.streams.shard import Shard

__all__ = ["RestoreFiller"]

# Small, so that others wait for a millisecond while it is written.
_BATCH_BYTES: Final = 32 * 1024
_PRINCIPAL: Final = "RestoreTableFromBackup"


class RestoreFiller:
    """Reads parts of backups on this node, and writes the items on its shards.

    Args:
        catalog: says which tables are being restored.
        layout: the region's shards.
        routes: find the shards' owners.
        objects: where backups are kept.
        region: the region's name.
        scratch: a folder for a part that is being read.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        layout: Layout,
        routes: Routes,
        objects: Objects,
        region: str,
        scratch: Path,
    ) -> None:
        self._catalog = catalog
        self._layout = layout
        self._routes = routes
        self._objects = objects
        self._region = region
        self._scratch = scratch
        self._calls = LongCalls()

    @property
    def calls(self) -> dict[str, ShardCall]:
        """What can be asked of a shard."""
        return {"restore": self._restore, "restore_rows": self._write_rows}

    async def stop(self) -> None:
        """Stop filling."""
        await self._calls.stop()

    # From a source

    async def _restore(self, _shard: Shard, arguments: Any) -> Any:
        """Go on filling a table from a source for a while.

        Returns:
            None if there is more to be done; at the end `{"damaged": REASON}`, where the reason is
            None if all items are there.

        Raises:
            ResourceNotFound: the table is not being restored.
            ServiceUnavailable: begin again.
        """
        table_id, backup_id, source = arguments
        await self._calls.forget(self._has_use)
        self._table(table_id)
        return await self._calls.ask(
            (table_id, source), lambda: self._fill(table_id, backup_id, source)
        )

    def _has_use(self, key: Hashable) -> bool:
        assert isinstance(key, tuple)
        table = self._catalog.by_id(key[0])
        return table is not None and table.document.restoring

    def _table(self, table_id: str) -> Table:
        table = self._catalog.by_id(table_id)
        if table is None or not table.document.restoring:
            raise ResourceNotFound("Requested resource not found: no such table is being restored")
        return table

    async def _fill(self, table_id: str, backup_id: str, source: int) -> dict[str, str | None]:
        names = BackupNames(self._region, backup_id)
        try:
            manifest = await Manifest.read(self._objects, names)
            filling = _Filling(self._table(table_id), source, self._layout.count, self._routes)
            await filling.begin(len(manifest.shards))
            for index, part in enumerate(manifest.shards[source].parts):
                if filling.reached((index, part.items)):
                    continue
                path = self._scratch / uuid4().hex
                try:
                    await self._load(names, part, path)
                    await filling.fill(index, path)
                finally:
                    await asyncio.to_thread(path.unlink, missing_ok=True)
        except DamagedBackup as error:
            return {"damaged": str(error)}
        except (StorageUnavailable, OSError) as error:
            raise ServiceUnavailable(str(error)) from error
        return {"damaged": None}

    async def _load(self, names: BackupNames, part: Part, path: Path) -> None:
        """Have a part in a file.

        Raises:
            DamagedBackup: it is missing, or not what it was.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        key = names.part(part)
        try:
            sha256 = await self._objects.download(key, path)
        except NoObject as error:
            raise DamagedBackup(str(error)) from error
        if sha256 != part.sha256:
            raise DamagedBackup(f"{key} in {self._objects.place} has the checksum {sha256}")

    # On a shard

    async def _write_rows(self, shard: Shard, body: Any) -> bool:
        """Write a batch, all of it or nothing; say whether it was the next one.

        Raises:
            ResourceNotFound: the table is not being restored.
            ServiceUnavailable: nothing was done: begin again.
        """
        table_id, source, after, through, count, items = body
        self._layout.require(count)
        table = self._table(table_id)

        def write(rows: LatestRows) -> None:
            for text in items:
                item, size_bytes = parse_item(orjson.loads(text))
                key, number, row_key = table.locate_item(item)
                if number % self._layout.count != shard.number:
                    raise ServiceUnavailable("The item is on another shard. Begin again.")
                rows.put(table, key, row_key, item, size_bytes)

        context = RequestContext(f"{source}-{through[0]}-{through[1]}", _PRINCIPAL, "")
        batch = Batch(table_id, source, _place(after), (through[0], through[1]), write)
        try:
            await feed(shard, batch, context)
        except NotNext:
            return False
        return True


class _Filling:
    """What of one source is on its way to the shards.

    Args:
        table: the table.
        source: the source's number.
        count: how many shards the region has.
        routes: find their owners.
    """

    def __init__(self, table: Table, source: int, count: int, routes: Routes) -> None:
        self._table = table
        self._source = source
        self._count = count
        self._routes = routes
        self._places: dict[int, Place | None] = {}
        self._waiting: dict[int, list[str]] = defaultdict(list)
        self._waiting_bytes: dict[int, int] = defaultdict(int)

    async def begin(self, sources: int) -> None:
        """Ask the shards how far they are.

        Args:
            sources: how many there are. Which shard an item is on follows from one number modulo
                theirs, so it tells much about where it was; with as many, it is the same one.
        """
        common = gcd(sources, self._count)
        targets = [n for n in range(self._count) if (n - self._source) % common == 0]
        what = [self._table.id, self._source]
        found = await asyncio.gather(*(self._routes.ask(n, "fed", what) for n in targets))
        self._places = {n: _place(place) for n, place in zip(targets, found, strict=True)}

    def reached(self, through: Place) -> bool:
        """Whether all items up to a place are there."""
        return all(place is not None and place >= through for place in self._places.values())

    async def fill(self, index: int, path: Path) -> None:
        """Write the items of a part."""
        reader = PartReader(path)
        line = 0
        try:
            while items := await asyncio.to_thread(reader.read):
                for text in items:
                    line += 1
                    await self._add(text, (index, line))
        finally:
            reader.close()
        # To the shards without an item in it, too: so they say that they have all of it.
        for target in self._places:
            await self._send(target, (index, line))

    async def _add(self, text: bytes, here: Place) -> None:
        _, number, _ = self._table.locate_item(orjson.loads(text))
        target = number % self._count
        place = self._places[target]
        if place is not None and place >= here:
            return
        self._waiting[target].append(text.decode())
        self._waiting_bytes[target] += len(text)
        if self._waiting_bytes[target] > _BATCH_BYTES:
            await self._send(target, here)

    async def _send(self, target: int, through: Place) -> None:
        """Write what waits for a shard; it has everything up to that place then."""
        after = self._places[target]
        if after is not None and after >= through:
            return
        items = self._waiting.pop(target, [])
        self._waiting_bytes.pop(target, None)
        body = [self._table.id, self._source, after, through, self._count, items]
        if not await self._routes.change(target, "restore_rows", body):
            raise ServiceUnavailable(f"Shard {target} was filled by somebody else. Begin again.")
        self._places[target] = through


def _place(given: Any) -> Place | None:
    return None if given is None else (int(given[0]), int(given[1]))
