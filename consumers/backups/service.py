"""All about backups that goes on beside the requests on a node."""

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from streamtable.consumers.backups.filler import RestoreFiller
from streamtable.consumers.backups.keeper import BackupKeeper
from streamtable.consumers.backups.restores import RestoreKeeper
from streamtable.consumers.backups.writer import BackupWriter
from streamtable.consumers.checkpoints.objects import Objects
from streamtable.consumers.indexes.settling import Settling
from streamtable.consumers.tables.rows import RowStore
from streamtable.streams.catalog import Catalog
from streamtable.streams.peers.calls import ShardCall
from streamtable.streams.routes import Routes

__all__ = ["Backups"]


class Backups:
    """Makes backups, and tables of them, together with the region's other nodes.

    Args:
        catalog: the region's tables and backups.
        stores: the stores of this node's shards, as they come and go.
        routes: find the shards' owners.
        settling: knows when the indexes have what was written.
        objects: where backups are kept; None: nowhere.
        region: the region's name.
        scratch: a folder of this node for files that nobody misses.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        stores: Mapping[int, RowStore],
        routes: Routes,
        settling: Settling,
        objects: Objects | None,
        region: str,
        scratch: Path,
    ) -> None:
        layout = catalog.layout
        leads = partial(_owns, routes)
        self._scratch = scratch / "backups"
        self._keeper = BackupKeeper(
            catalog=catalog,
            layout=layout,
            ask=routes.ask,
            leads=leads,
            objects=objects,
            region=region,
            scratch=self._scratch,
        )
        self._restores = RestoreKeeper(
            catalog=catalog,
            layout=layout,
            ask=routes.ask,
            settling=settling,
            leads=leads,
            objects=objects,
            region=region,
        )
        self._workers: list[BackupWriter | RestoreFiller] = []
        if objects is not None:
            self._workers = [
                BackupWriter(
                    catalog=catalog,
                    layout=layout,
                    stores=stores,
                    objects=objects,
                    region=region,
                    scratch=self._scratch,
                ),
                RestoreFiller(
                    catalog=catalog,
                    layout=layout,
                    routes=routes,
                    objects=objects,
                    region=region,
                    scratch=self._scratch,
                ),
            ]

    @property
    def calls(self) -> dict[str, ShardCall]:
        """What can be asked of a shard."""
        return {name: call for worker in self._workers for name, call in worker.calls.items()}

    def start(self) -> None:
        """Go on with what is unfinished, until `stop`."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._keeper.start()
        self._restores.start()

    def look(self, shard: int) -> None:
        """Take note that a shard is this node's now."""
        self._keeper.look(shard)
        self._restores.look(shard)

    async def stop(self) -> None:
        """Stop; what is left is done after the next start, or by other nodes."""
        await self._keeper.stop()
        await self._restores.stop()
        for worker in self._workers:
            await worker.stop()


def _owns(routes: Routes, number: int) -> bool:
    return routes.own(number) is not None
