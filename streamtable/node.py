"""A node: log, shards, tables and endpoint put together."""

import asyncio
import gc
import logging
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from streamtable.consumers.agents import Agents
from streamtable.consumers.checkpoints.objects import Objects
from streamtable.consumers.checkpoints.restore import Restorer, open_store
from streamtable.consumers.checkpoints.taker import Checkpointer
from streamtable.consumers.destinations import Destinations
from streamtable.consumers.expiry import Sweeper
from streamtable.consumers.indexes.backfill import Backfill
from streamtable.consumers.indexes.sender import IndexSender
from streamtable.consumers.tables.epochs import StoreEpochs
from streamtable.consumers.tables.store import ShardStore, StoreMemory
from streamtable.control.checkpoints import CheckpointPages
from streamtable.control.ingest import Ingest
from streamtable.control.knowledge import Knowledge
from streamtable.control.pages import Control
from streamtable.control.settling import Settling
from streamtable.control.views import Views
from streamtable.control.visibility import Visibility
from streamtable.control.why import Why
from streamtable.core.errors import ValidationError
from streamtable.core.tables import Table
from streamtable.data_folder import DataFolder
from streamtable.gateway import HttpServer, create_app
from streamtable.metrics.meters import Meters
from streamtable.metrics.pages import NodePages
from streamtable.metrics.shards import ShardMetrics
from streamtable.operations import handlers
from streamtable.operations.streams import stream_handlers
from streamtable.settings import NodeSettings
from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.catalog import Catalog
from streamtable.streams.clock import HybridClock
from streamtable.streams.fetcher import LogFetcher
from streamtable.streams.item_history import ItemHistory
from streamtable.streams.log import ShardLog
from streamtable.streams.owner import StateUnavailable
from streamtable.streams.security import known_address
from streamtable.streams.shard import Shard, WriteCheck
from streamtable.streams.shards import Shards
from streamtable.streams.stream_reader import StreamReader
from streamtable.streams.topics import Topics
from streamtable.streams.transactions import Transactions

__all__ = ["Node"]

logger = logging.getLogger(__name__)

_CACHE_BYTES: Final = 128 * 1024 * 1024
_WRITE_BYTES: Final = 64 * 1024 * 1024
# The Kafka consumer runs in a thread of its own: at the default of 5 ms it waits for the
# interpreter longer than for the log.
_SWITCH_INTERVAL_S: Final = 0.0005
# What requests leave behind is freed by reference counts; at the defaults the collector looks
# through everything that is in flight again and again, for a fifth of the time.
_GC_THRESHOLDS: Final = (100_000, 20, 50)


class Node:
    """One `streamtable serve` process.

    Args:
        settings: what it is told.
        check: is asked before each write, see `Shard.check`; None asks nobody.
    """

    def __init__(self, settings: NodeSettings, check: WriteCheck | None = None) -> None:
        self.settings = settings
        self._check = check
        self.endpoint = ""
        self.kafka = ""
        self._parts = AsyncExitStack()
        self._stores: dict[int, ShardStore] = {}
        self._failed: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Start everything; returns when the endpoint answers.

        Raises:
            StreamtableError: what can't be started, and what to do.
        """
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        gc.set_threshold(*_GC_THRESHOLDS)
        self._failed = asyncio.get_running_loop().create_future()
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        gc.freeze()

    async def _start(self) -> None:
        settings, parts = self.settings, self._parts
        # 1. The folder, then the log.
        folder = DataFolder(settings.data)
        parts.callback(folder.release)
        if settings.kafka is None:
            self.kafka = await self._start_broker(folder)
        else:
            self.kafka = known_address(settings.kafka, settings.kafka_config)
        topics = Topics(settings.region)
        count = await topics.create(self.kafka, settings.shards)
        # 2. The catalog.
        catalog = Catalog(self.kafka, topics.catalog)
        await catalog.start()
        parts.push_async_callback(catalog.stop)
        # 3. The shards, with what is materialized of them.
        clock = HybridClock(lambda: time.time_ns() // 1_000_000)
        memory = StoreMemory(_CACHE_BYTES, _WRITE_BYTES)
        objects = self._checkpoints(folder)
        restorer = None if objects is None else Restorer(objects, settings.region, count)
        meters = Meters()
        shards = {}
        for number in range(count):
            log = ShardLog(self.kafka, topics.changelog, number)
            parts.push_async_callback(log.close)
            path = folder.shard(number)
            store = self._stores[number] = await open_store(
                number, path, log, partial(ShardStore, path, memory, catalog.by_id), restorer
            )
            parts.callback(store.close)
            shards[number] = Shard(
                number=number,
                log=log,
                state=store,
                clock=clock,
                region=settings.region,
                node=folder.node,
                exclusive=settings.kafka is None,
                fail=self._fail,
            )
            shards[number].check = self._check
            shards[number].owner.measure = meters.appends(number)
            parts.push_async_callback(shards[number].close)
        self._remove_leftovers(catalog.tables())
        catalog.on_change(self._remove_rows)
        all_shards = Shards(shards)
        transactions = Transactions(all_shards, catalog.by_id)
        parts.push_async_callback(transactions.stop)
        # 4. Whoever follows the logs.
        sender = IndexSender(
            address=self.kafka,
            topic=topics.indexes,
            shards=count,
            tables=catalog.tables,
            find=catalog.by_id,
            epoch_before=lambda number, offset: self._stores[number].epoch_before(offset),
        )
        parts.push_async_callback(sender.stop)
        agents = Agents(
            address=self.kafka,
            topics=topics,
            node=folder.node,
            shards=shards,
            stores=self._stores,
            sender=sender,
            fail=self._fail,
        )
        parts.push_async_callback(agents.stop)
        await agents.start()
        backfill = Backfill(
            catalog=catalog,
            shards=shards,
            stores=self._stores,
            sender=sender,
            between=agents.between,
        )
        backfill.start()
        parts.push_async_callback(backfill.stop)
        fetcher = LogFetcher(self.kafka, topics.changelog)
        parts.push_async_callback(fetcher.stop)
        await fetcher.start()
        epochs = StoreEpochs(self._stores)
        reader = StreamReader(fetcher, epochs, count)
        destinations = Destinations(
            address=self.kafka,
            topics=topics,
            shards=count,
            catalog=catalog,
            epochs=epochs,
            log=fetcher,
        )
        destinations.start()
        parts.push_async_callback(destinations.stop)
        sweeper = Sweeper(
            shards=shards,
            stores=self._stores,
            tables=catalog.tables,
            now=time.time,
            interval_s=settings.ttl_interval_s,
        )
        sweeper.start()
        parts.push_async_callback(sweeper.stop)
        checkpointer = None
        if objects is not None:
            checkpointer = Checkpointer(
                objects=objects,
                region=settings.region,
                node=folder.node,
                stores=self._stores,
                owns=lambda number: shards[number].owner.serving,
                scratch=folder.scratch,
                interval_s=settings.checkpoint_interval_s,
            )
            checkpointer.start()
            parts.push_async_callback(checkpointer.stop)
        # 5. The endpoint.
        operations = {
            **handlers(
                catalog, all_shards, transactions, settings, self._totals, address=self._address
            ),
            **stream_handlers(catalog, reader),
        }
        control = Control(
            catalog=catalog,
            settings=settings,
            log=fetcher,
            shards=count,
            kafka=self.kafka,
            changelog=topics.changelog,
            handlers=operations,
        )
        parts.push_async_callback(control.stop)
        knowledge = Knowledge(
            consumers=catalog.consumers,
            positions=control.overview,
            state=control.state,
            dead_letters=control.dead_letters.show,
        )
        why = Why(
            find=catalog.table,
            shards=count,
            history=ItemHistory(fetcher, epochs),
            consumers=knowledge.of,
        )
        ingest = Ingest(catalog, shards, self._stores)
        settling = Settling(self._stores, sender)
        views = Views(
            catalog=catalog,
            settings=settings,
            ends=lambda: {number: shard.owner.last for number, shard in shards.items()},
            settling=settling,
            totals=self._totals,
        )
        visibility = Visibility(
            catalog=catalog,
            frontiers=control.frontiers,
            settling=settling,
            terms={number: shard.owner for number, shard in shards.items()},
        )
        views.start()
        parts.push_async_callback(views.stop)
        checkpoints = CheckpointPages(objects, checkpointer, settings.region, count)
        monitoring = NodePages(
            info={
                "region": settings.region,
                "node": folder.node,
                "version": version("streamtable"),
            },
            collectors=[
                meters.registry,
                ShardMetrics(
                    shards=shards,
                    stores=self._stores,
                    sender=sender,
                    checkpointed_ms=lambda number: _taken_ms(checkpointer, number),
                    now_ms=lambda: time.time_ns() // 1_000_000,
                ),
            ],
            in_flight=lambda: app.running,
            consumers=lambda: control.overview.describe(catalog.consumers()),
            failed=self._has_failed,
            waiting=lambda: [n for n in sorted(agents.assigned) if not shards[n].owner.serving],
        )
        pages = {
            **monitoring.pages,
            "/_streamtable/node": self._node_page,
            "/_streamtable/epochs": self._epochs_page,
            "/_streamtable/checkpoints": checkpoints.list,
            "/_streamtable/views": views.list,
            "/_streamtable/views/tokens": ingest.tokens,
            "/_streamtable/why": why.page,
            **control.pages,
        }
        posts = {
            "/_streamtable/checkpoints": checkpoints.act,
            "/_streamtable/views/create": views.create,
            "/_streamtable/views/drop": views.drop,
            "/_streamtable/views/ingest": ingest.ingest,
            "/_streamtable/views/swap": views.swap,
            **control.posts,
        }
        streams = {"/_streamtable/snapshot": ingest.snapshot}
        app = create_app(
            operations,
            pages,
            posts=posts,
            streams=streams,
            meter=meters.request,
            visible=visibility.wait,
        )
        server = HttpServer(app, host=settings.host, port=settings.port)
        await server.start()
        parts.push_async_callback(server.stop)
        self.endpoint = server.endpoint

    def _checkpoints(self, folder: DataFolder) -> Objects | None:
        place = self.settings.checkpoints
        if place == "none":
            return None
        return Objects(str(folder.checkpoints) if place is None else place)

    async def wait_failed(self) -> None:
        """Return never, or raise what makes this node unable to go on."""
        assert self._failed is not None
        await self._failed

    async def stop(self) -> None:
        """Stop everything, the endpoint first; what was answered is durable already."""
        await self._parts.aclose()

    async def _start_broker(self, folder: DataFolder) -> str:
        broker = Broker(BrokerSettings(data=folder.broker, port=self.settings.broker_port))
        await broker.start()
        self._parts.push_async_callback(broker.stop)
        return broker.address

    def _fail(self, error: BaseException) -> None:
        logger.critical("the node stops: %s", error)
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    def _has_failed(self) -> bool:
        return self._failed is not None and self._failed.done()

    def _address(self) -> str:
        return self.endpoint.removeprefix("http://")

    def _totals(self, table: Table) -> dict[str | None, tuple[int, int]]:
        """Count a table's items and its indexes' rows, and their bytes, on this node's shards."""

        def total(prefix: bytes) -> tuple[int, int]:
            found = [store.total(prefix) for store in self._stores.values()]
            return sum(count for count, _ in found), sum(size for _, size in found)

        prefixes: dict[str | None, bytes] = {None: table.prefix}
        prefixes |= {index.name: index.prefix for index in table.indexes.values()}
        return {name: total(prefix) for name, prefix in prefixes.items()}

    def _remove_rows(self, before: Table | None, after: Table | None) -> None:
        """Remove the rows of a table or an index that was deleted."""
        kept = set() if after is None else set(after.prefixes())
        for prefix in () if before is None else before.prefixes():
            if prefix not in kept:
                try:
                    for store in self._stores.values():
                        store.purge(prefix)
                except StateUnavailable as error:
                    # Nobody reads them any more, and the next start removes them.
                    logger.warning("rows of a deleted table or index stay for now: %s", error)

    def _remove_leftovers(self, tables: Iterable[Table]) -> None:
        """Remove rows of tables that were deleted while a change to them was on its way."""
        kept = {prefix for table in tables for prefix in table.prefixes()}
        for store in self._stores.values():
            for prefix in store.prefixes():
                if prefix not in kept:
                    store.purge(prefix)

    async def _node_page(self, _query: Mapping[str, str]) -> dict[str, Any]:
        return {
            "region": self.settings.region,
            "kafka": self.kafka,
            "shards": len(self._stores),
            "version": version("streamtable"),
            "endpoint": self.endpoint,
        }

    async def _epochs_page(self, query: Mapping[str, str]) -> dict[str, Any]:
        try:
            store, offset = self._stores[int(query["shard"])], int(query["offset"])
        except (KeyError, ValueError):
            msg = "shard and offset must be numbers, shard one of the region's"
            raise ValidationError(msg) from None
        found = store.epoch_before(offset)
        return {"epoch": found and found[0], "barrier": found and found[1]}


def _taken_ms(checkpointer: Checkpointer | None, number: int) -> int | None:
    """When this node took its newest checkpoint of a shard."""
    last = None if checkpointer is None else checkpointer.last.get(number)
    return None if last is None else last.taken_ms
