"""A region's tables, consumers and backups, in memory on each node, changed through the catalog."""

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from streamtable.core.backups import BackupDocument
from streamtable.core.consumers import ConsumerDocument
from streamtable.core.documents import TableDocument
from streamtable.core.ended_streams import end_streams, is_readable
from streamtable.core.errors import ResourceInUse, ResourceNotFound
from streamtable.core.layouts import LayoutDocument
from streamtable.core.tables import Table
from streamtable.streams.catalog_log import LAYOUT, CatalogConflict, CatalogLog
from streamtable.streams.layout import Layout

__all__ = ["Catalog", "ChangedMeanwhile", "ConsumerChangedMeanwhile", "LayoutChangedMeanwhile"]

_TABLE: Final = "table/"
_ENDED: Final = "ended/"
_CONSUMER: Final = "consumer/"
_BACKUP: Final = "backup/"


class ChangedMeanwhile(ResourceInUse):
    """Another change of the table came first: nothing was done, look again and decide anew."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Attempt to change a resource which is still in use: Table is being updated: {name}"
        )


class ConsumerChangedMeanwhile(ResourceInUse):
    """Another change of the consumer came first: nothing was done, look again and decide anew."""

    def __init__(self, app: str, name: str) -> None:
        super().__init__(f"The consumer {app}/{name} was changed by someone else at the same time")


class LayoutChangedMeanwhile(ResourceInUse):
    """Another change of the region's shards came first: look again and decide anew."""

    def __init__(self) -> None:
        super().__init__("The number of shards was changed by someone else at the same time")


class Catalog:
    """What tables there are, what consumers and backups, and how many shards.

    Args:
        address: the brokers, `host:port,...`.
        topic: the catalog's topic.
        layout: told what the catalog says about the shards.
        fail: told of an error after which this is not what the catalog says any more.
    """

    def __init__(
        self, address: str, topic: str, layout: Layout, fail: Callable[[BaseException], None]
    ) -> None:
        self.layout = layout
        self._log = CatalogLog(address, topic, self._take, fail)
        self._tables: dict[str, Table] = {}
        # What `_tables` has, by id and name: a table that is being renamed has two names.
        self._names: dict[str, dict[str, Table]] = {}
        self._by_id: dict[str, Table] = {}
        self._by_name: tuple[Table, ...] | None = None
        self._sources: frozenset[str] | None = None
        self._ended: dict[str, TableDocument] = {}
        self._consumers: dict[str, ConsumerDocument] = {}
        self._backups: dict[str, BackupDocument] = {}
        self._on_change: list[Callable[[Table | None, Table | None], None]] = []
        self._on_backup: list[Callable[[], None]] = []
        self._spread: Callable[[int], Awaitable[None]] | None = None

    @property
    def next(self) -> int:
        """How far the catalog is read: the offset of the next change to come."""
        return self._log.next

    async def caught_up(self, offset: int) -> None:
        """Return when the catalog is read up to an offset."""
        if self._log.next < offset:
            await self._log.caught_up(offset)

    def spread_by(self, spread: Callable[[int], Awaitable[None]]) -> None:
        """Have `spread(next)` awaited after each change that this node makes.

        So other nodes know of it when it is answered.
        """
        self._spread = spread

    async def start(self) -> None:
        """Read the catalog; raises CatalogUnavailable or NewerFormat."""
        await self._log.start()

    async def stop(self) -> None:
        """Stop following the catalog."""
        await self._log.stop()

    def on_change(self, callback: Callable[[Table | None, Table | None], None]) -> None:
        """Have `callback(before, after)` called for each change of a table.

        `before` is None for a new table, `after` for one that was removed. Both are the same
        table, maybe under two names: a table made again under its name is two changes.
        """
        self._on_change.append(callback)

    def on_backup(self, callback: Callable[[], None]) -> None:
        """Have `callback()` called after each change of a backup."""
        self._on_backup.append(callback)

    def table(self, name: str) -> Table:
        """Return the table of that name.

        Raises:
            ResourceNotFound: there is none.
        """
        try:
            return self._tables[name]
        except KeyError:
            raise ResourceNotFound("Requested resource not found") from None

    def by_id(self, table_id: str) -> Table | None:
        """Return the table of an id, None if there is none, or none any more."""
        return self._by_id.get(table_id)

    def tables(self) -> Iterable[Table]:
        """Every table, by name."""
        if self._by_name is None:
            self._by_name = tuple(self._tables[name] for name in sorted(self._tables))
        return self._by_name

    def feeds_view(self, name: str) -> bool:
        """Whether a view follows from the table of that name."""
        if self._sources is None:
            views = [table.view for table in self._tables.values() if table.view is not None]
            self._sources = frozenset(source for view in views for source in view.sources)
        return name in self._sources

    def ended_tables(self) -> Iterable[TableDocument]:
        """Tables that were deleted, as long as their streams can be read."""
        return list(self._ended.values())

    def consumers(self) -> Iterable[ConsumerDocument]:
        """Every consumer, by app and name."""
        found = (self._consumers[key] for key in sorted(self._consumers))
        return [consumer for consumer in found if consumer.removed is None]

    def consumer(self, app: str, name: str) -> ConsumerDocument | None:
        """Return a consumer of an app, None if there is none of that name."""
        found = self._consumers.get(f"{app}/{name}")
        return None if found is None or found.removed is not None else found

    def next_generation(self, app: str, origin: str) -> int:
        """Return the first generation of consumers that began under a name that was never used."""
        known = [
            consumer.generation
            for consumer in self._consumers.values()
            if consumer.app == app and consumer.origin == origin
        ]
        return max(known, default=0) + 1

    async def put_consumer(self, document: ConsumerDocument) -> None:
        """Add or replace a consumer; it is durable on return.

        Raises:
            CatalogUnavailable: the outcome is unknown.
            ConsumerChangedMeanwhile: the consumer was changed at the same time.
        """
        name = f"{_CONSUMER}{document.app}/{document.name}"
        try:
            await self._change(name, document.model_dump(mode="json"))
        except CatalogConflict:
            raise ConsumerChangedMeanwhile(document.app, document.name) from None

    async def remove_consumer(self, app: str, name: str) -> None:
        """Remove a consumer; nothing happens where there is none.

        Raises:
            CatalogUnavailable: the outcome is unknown.
            ConsumerChangedMeanwhile: the consumer was changed at the same time.
        """
        document = self.consumer(app, name)
        if document is not None:
            await self.put_consumer(document.model_copy(update={"removed": time.time()}))

    def backups(self) -> Iterable[BackupDocument]:
        """Every backup."""
        return list(self._backups.values())

    def backup(self, backup_id: str) -> BackupDocument | None:
        """Return the backup of an id, None if there is none."""
        return self._backups.get(backup_id)

    async def put_backup(self, document: BackupDocument) -> None:
        """Add or replace a backup; it is durable on return.

        Raises:
            CatalogUnavailable: the outcome is unknown.
            ChangedMeanwhile: the backup was changed at the same time.
        """
        await self._change_backup(document, document.model_dump(mode="json"))

    async def remove_backup(self, document: BackupDocument) -> None:
        """Remove a backup.

        Raises:
            CatalogUnavailable: the outcome is unknown.
            ChangedMeanwhile: the backup was changed at the same time.
        """
        await self._change_backup(document, None)

    async def _change_backup(
        self, document: BackupDocument, content: dict[str, Any] | None
    ) -> None:
        try:
            await self._change(_BACKUP + document.id, content)
        except CatalogConflict:
            raise ChangedMeanwhile(document.table.name) from None

    async def put_layout(self, document: LayoutDocument) -> None:
        """Replace what is said about the region's shards; durable and in force here on return.

        Raises:
            CatalogUnavailable: the outcome is unknown.
            LayoutChangedMeanwhile: it was changed at the same time.
        """
        try:
            await self._change(LAYOUT, document.model_dump(mode="json"))
        except CatalogConflict:
            raise LayoutChangedMeanwhile from None

    async def create(self, document: TableDocument) -> None:
        """Add a table; it is durable and can be used on return.

        Raises:
            ResourceInUse: there is one of that name.
        """
        if document.name in self._tables:
            raise ResourceInUse(f"Table already exists: {document.name}")
        try:
            await self._put(document)
        except CatalogConflict:
            raise ResourceInUse(f"Table already exists: {document.name}") from None

    async def update(self, document: TableDocument) -> None:
        """Replace a table's document.

        Raises:
            ChangedMeanwhile: the table was changed at the same time.
            ResourceNotFound: there is no table of that name and id.
        """
        if self.table(document.name).id != document.id:
            raise ResourceNotFound("Requested resource not found")
        try:
            await self._put(document)
        except CatalogConflict:
            raise ChangedMeanwhile(document.name) from None

    async def delete(self, name: str) -> None:
        """Remove a table and have its rows removed; its streams can be read for a day more.

        Raises:
            ChangedMeanwhile: the table was changed at the same time.
            ResourceNotFound: there is none.
        """
        document = self.table(name).document
        now = time.time()
        try:
            # Its streams first: what is kept of a table that is still there is not looked at.
            ended = end_streams(document, now)
            if ended is not None:
                await self._change(_ENDED + ended.id, ended.model_dump(mode="json"))
            await self._change(_TABLE + name, None)
            for old in [each for each in self._ended.values() if not is_readable(each, now)]:
                await self._change(_ENDED + old.id, None)
        except CatalogConflict:
            raise ChangedMeanwhile(name) from None

    async def rename(self, table: Table, document: TableDocument) -> None:
        """Give a table another name, in place of whatever table has it, which is deleted.

        One record does it: whoever reads the catalog finds either table under the name. Until
        the next record the table has its old name too, and after a crash until somebody calls
        `forget_name`.

        Args:
            table: the table, as it was looked at.
            document: what it is to be.

        Raises:
            ChangedMeanwhile: one of the two tables was changed at the same time.
        """
        replaced = self._tables.get(document.name)
        now = time.time()
        try:
            ended = None if replaced is None else end_streams(replaced.document, now)
            if ended is not None:
                await self._change(_ENDED + ended.id, ended.model_dump(mode="json"))
            unchanged = self._tables.get(document.name) is replaced
            if not unchanged or self._tables.get(table.name) is not table:
                raise ChangedMeanwhile(document.name)
            await self._put(document)
        except CatalogConflict:
            raise ChangedMeanwhile(document.name) from None
        await self.forget_name(table.name)

    async def forget_name(self, name: str) -> None:
        """Remove a name of a table that has another one, with which it stays.

        Raises:
            ChangedMeanwhile: the table was changed at the same time.
        """
        if name not in self._tables:
            return
        try:
            await self._change(_TABLE + name, None)
        except CatalogConflict:
            raise ChangedMeanwhile(name) from None

    async def _change(self, name: str, document: dict[str, Any] | None) -> None:
        await self._log.put(name, document)
        if self._spread is not None:
            await self._spread(self._log.next)

    async def _put(self, document: TableDocument) -> None:
        await self._change(_TABLE + document.name, document.model_dump(mode="json"))

    def _take(self, name: str, document: dict[str, Any] | None) -> None:
        if name == LAYOUT and document is not None:
            self.layout.take(LayoutDocument.model_validate(document))
        if name.startswith(_ENDED):
            self._ended.pop(name.removeprefix(_ENDED), None)
            if document is not None:
                self._ended[document["id"]] = TableDocument.model_validate(document)
        if name.startswith(_CONSUMER):
            self._consumers.pop(name.removeprefix(_CONSUMER), None)
            if document is not None:
                consumer = ConsumerDocument.model_validate(document)
                self._consumers[consumer.key] = consumer
        if name.startswith(_BACKUP):
            self._backups.pop(name.removeprefix(_BACKUP), None)
            if document is not None:
                backup = BackupDocument.model_validate(document)
                self._backups[backup.id] = backup
            for callback in self._on_backup:
                callback()
        if not name.startswith(_TABLE):
            return
        table_name = name.removeprefix(_TABLE)
        self._by_name = self._sources = None
        ids = []
        before = self._tables.pop(table_name, None)
        if before is not None:
            del self._names[before.id][table_name]
            ids.append(before.id)
        if document is not None:
            after = Table(TableDocument.model_validate(document))
            self._tables[table_name] = after
            self._names.setdefault(after.id, {})[table_name] = after
            if after.id not in ids:
                ids.append(after.id)
        for table_id in ids:
            self._look(table_id)

    def _look(self, table_id: str) -> None:
        """See what a table is now, and tell."""
        names = self._names[table_id]
        # Of two names the one that users see counts.
        after = min(names.values(), key=lambda table: table.document.hidden, default=None)
        if after is None:
            del self._names[table_id]
            before = self._by_id.pop(table_id, None)
        else:
            before = self._by_id.get(table_id)
            self._by_id[table_id] = after
        if before is not after:
            for callback in self._on_change:
                callback(before, after)
