"""A node: log, shards, tables and endpoint put together."""

import asyncio
import gc
import logging
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from streamtable.consumers.agents import Agents
from streamtable.consumers.backups.service import Backups
from streamtable.consumers.checkpoints.objects import Objects, StorageRefuses, StorageUnavailable
from streamtable.consumers.checkpoints.restore import Restorer
from streamtable.consumers.checkpoints.taker import Checkpointer
from streamtable.consumers.destinations import Destinations
from streamtable.consumers.expiry import Sweeper
from streamtable.consumers.holdings import Holdings, ShardMaker, Tables
from streamtable.consumers.indexes.backfill import Backfill, ShardFiller
from streamtable.consumers.indexes.sender import IndexSender
from streamtable.consumers.indexes.settling import Settling, settling_calls
from streamtable.consumers.reshard.driver import ReshardDriver
from streamtable.consumers.reshard.member import ReshardMember
from streamtable.consumers.tables.epochs import StoreEpochs, epoch_calls
from streamtable.consumers.tables.memory import StoreMemory
from streamtable.consumers.tables.store import ShardStore
from streamtable.consumers.tables.writing_out import WritingOut
from streamtable.consumers.totals import TableTotals, total_calls
from streamtable.control.checkpoints import CheckpointPages
from streamtable.control.ingest import Ingest
from streamtable.control.knowledge import Knowledge
from streamtable.control.pages import Control
from streamtable.control.reshard import ReshardPages
from streamtable.control.shards import ShardPages, status_calls
from streamtable.control.views import Views
from streamtable.control.visibility import Visibility
from streamtable.control.why import Why
from streamtable.core.errors import StreamtableError, ValidationError
from streamtable.core.tables import Table
from streamtable.data_folder import DataFolder
from streamtable.file_limit import raise_file_limit
from streamtable.gateway import HttpServer, create_app, reserve
from streamtable.metrics.backups import BackupMetrics
from streamtable.metrics.beside import Beside
from streamtable.metrics.meters import Meters
from streamtable.metrics.pages import NodePages
from streamtable.metrics.shards import ShardMetrics
from streamtable.metrics.storage import StorageMetrics
from streamtable.operations import handlers
from streamtable.operations.lookup import write_lookup
from streamtable.operations.passing import passed_on, request_calls
from streamtable.operations.streams import stream_handlers
from streamtable.peering import Peering
from streamtable.settings import NodeSettings
from streamtable.streams.appender import LocalBroker
from streamtable.streams.appends import AppendClient
from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.catalog import Catalog
from streamtable.streams.clock import HybridClock
from streamtable.streams.fetcher import LogFetcher
from streamtable.streams.gate import Gate
from streamtable.streams.group_offsets import GroupOffsets
from streamtable.streams.held import HeldShards
from streamtable.streams.item_history import ItemHistory
from streamtable.streams.layout import Layout
from streamtable.streams.log import LogUnavailable
from streamtable.streams.open_files import check_open_files
from streamtable.streams.owner import StateUnavailable
from streamtable.streams.peers.calls import ShardCall, shard_calls
from streamtable.streams.peers.participants import participant_calls
from streamtable.streams.reach import Reach
from streamtable.streams.routes import RoutedShard
from streamtable.streams.security import known_address
from streamtable.streams.shard import Shard, WriteCheck
from streamtable.streams.shard_log import ShardLog, ShardLogs
from streamtable.streams.shards import Shards
from streamtable.streams.standstill import Standstill
from streamtable.streams.stream_reader import StreamReader
from streamtable.streams.topics import Topics
from streamtable.streams.transactions import Transactions
from streamtable.streams.unreachable import check_brokers

if TYPE_CHECKING:
    from streamtable.tracing import Traces

__all__ = ["NoOtherNode", "Node"]

logger = logging.getLogger(__name__)


class NoOtherNode(ValidationError, LookupError):
    """Nobody could take a node's shards."""


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
        seat: which one of the processes it is that share data folder and port; None for a node
            that has them for itself.
        appends: where this machine's broker takes appends, if another process has one.
    """

    def __init__(
        self,
        settings: NodeSettings,
        check: WriteCheck | None = None,
        *,
        seat: int | None = None,
        appends: str | None = None,
    ) -> None:
        self.settings = settings
        self._check = check
        self._seat = seat
        self._appends = appends
        self.endpoint = ""
        self.kafka = ""
        self._parts = AsyncExitStack()
        self._stores: dict[int, ShardStore] = {}
        self._calls: dict[str, ShardCall] = {}
        self._meters = Meters()
        self._standstill = Standstill()
        self._gate = Gate(None if self._alone else self._standstill)
        self._shards: Shards | None = None
        self._failed: asyncio.Future[None] | None = None
        self._draining: asyncio.Task[None] | None = None
        # Made as the node starts.
        self._folder: DataFolder
        self._topics: Topics
        self._catalog: Catalog
        self._held: HeldShards
        self._peering: Peering
        self._transactions: Transactions
        self._sender: IndexSender
        self._agents: Agents
        self._member: ReshardMember
        self._driver: ReshardDriver
        self._logs: ShardLogs
        self._epochs: StoreEpochs
        self._objects: Objects | None
        self._checkpointer: Checkpointer | None = None
        self._broker: Broker | None = None
        self._traces: Traces | None = None
        self._server: HttpServer

    async def start(self) -> None:
        """Start everything; returns when the endpoint answers.

        Raises:
            StreamtableError: what can't be started, and what to do.
        """
        raise_file_limit()
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        gc.set_threshold(*_GC_THRESHOLDS)
        self._failed = asyncio.get_running_loop().create_future()
        try:
            # Who can't have the port is to take no shards from others in vain.
            port = await reserve(
                self.settings.host, self.settings.port, shared=self._seat is not None
            )
            self._parts.callback(port.close)
            await self._start_log()
            await self._start_shards()
            await self._start_followers()
            await self._start_endpoint(port)
        except BaseException:
            await self.stop()
            raise
        gc.freeze()

    @property
    def _alone(self) -> bool:
        """Whether no other node can have the shards: nobody else speaks to the embedded broker."""
        return self.settings.kafka is None

    @property
    def _one_broker(self) -> bool:
        """Whether the log is on one broker, of this machine."""
        return self._alone or self._appends is not None

    async def _start_log(self) -> None:
        """Take the folder, reach the log, read the catalog, and be found by other nodes."""
        settings, parts = self.settings, self._parts
        if self._seat is None:
            folder = DataFolder(settings.data)
        else:
            folder = DataFolder(settings.data / "workers" / str(self._seat), settings.data)
        self._folder = folder
        parts.callback(folder.release)
        if settings.traces is not None:
            self._traces = self._send_traces(settings.traces, folder.node)
            parts.push_async_callback(self._traces.close)
        local: LocalBroker | None = None
        if settings.kafka is None:
            check_open_files(settings.shards or 0)
            local = self._broker = await self._start_broker(folder)
            self.kafka = self._broker.address
        else:
            self.kafka = known_address(settings.kafka, settings.kafka_config)
        if not self._one_broker:
            await check_brokers(self.kafka)
        if self._appends is not None:
            client = AppendClient(self._appends, settings.region, folder.workers)
            parts.push_async_callback(client.stop)
            local = client
        topics = self._topics = Topics(settings.region)
        layout = Layout(await topics.create(self.kafka, settings.shards))
        if self._alone:
            check_open_files(layout.count)
        logs = self._logs = ShardLogs(self.kafka, topics, local)
        parts.push_async_callback(logs.stop)
        await logs.start()
        catalog = self._catalog = Catalog(self.kafka, topics.catalog, layout, self._fail)
        await catalog.start()
        parts.push_async_callback(catalog.stop)
        topics.check_shards(layout.count, settings.shards)
        catalog.on_change(self._remove_rows)
        self._held = HeldShards(layout)
        peering = self._peering = Peering(
            settings,
            folder.peer_port,
            catalog,
            self._held,
            self._calls,
            standstill=self._standstill,
            sockets=folder.peer_sockets,
        )
        if not self._alone:
            self._standstill.start()
            parts.callback(self._standstill.stop)
            await peering.start()
        parts.push_async_callback(peering.stop)
        if not self._one_broker:
            await peering.check_taken(await self._members())

    async def _start_shards(self) -> None:
        """Join the group, and take over the shards that it gives this node."""
        settings, parts, catalog, topics = (
            self.settings,
            self._parts,
            self._catalog,
            self._topics,
        )
        held, stores, routes = self._held, self._stores, self._peering.routes
        layout = catalog.layout
        find_written = write_lookup(catalog)
        transactions = self._transactions = Transactions(
            layout, catalog.by_id, None if self._alone else routes, catalog.feeds_view
        )
        transactions.start()
        parts.push_async_callback(transactions.stop)
        objects = self._objects = self._checkpoints(self._folder)
        if objects is not None:
            await self._check_storage(objects)
        holdings = Holdings(
            address=self.kafka,
            topics=topics,
            logs=self._logs,
            catalog=lambda: catalog.next,
            held=held,
            stores=stores,
            path=self._folder.shard,
            memory=StoreMemory(_CACHE_BYTES, _WRITE_BYTES, layout.count),
            tables=Tables(catalog.by_id, catalog.tables),
            restorer=None if objects is None else Restorer(objects, settings.region, layout),
            make=self._make_shard(HybridClock(lambda: time.time_ns() // 1_000_000)),
            opened=transactions.join,
            closed=transactions.leave,
            fail=self._fail,
        )
        holdings.cleaner.start()
        sender = self._sender = IndexSender(
            address=self.kafka,
            topic=topics.indexes,
            layout=layout,
            tables=catalog.tables,
            find=catalog.by_id,
            epoch_before=lambda number, offset: stores[number].epoch_before(offset),
        )
        parts.push_async_callback(sender.stop)
        node = self._folder.node
        agents = self._agents = Agents(
            address=self.kafka,
            topics=topics,
            # A member that comes back with another address is another one.
            node=node if self._alone else f"{node}@{self._peering.placement.own}",
            holdings=holdings,
            sender=sender,
            fail=self._fail,
            placement=None if self._alone else self._peering.placement,
            # Processes of one machine share the rows, and open each shard's once.
            replicas=settings.replicas if self._seat is None else 0,
            checked=not self._one_broker,
        )
        routes.replica = agents.replicas.fresh
        parts.push_async_callback(self._stop_agents)
        filler = ShardFiller(catalog=catalog, stores=stores, sender=sender, between=agents.between)
        self._calls |= {
            **shard_calls(find_written, catalog.by_id),
            **participant_calls(transactions.participant, find_written),
            **epoch_calls(stores),
            **settling_calls(stores, sender),
            **total_calls(stores),
            **filler.calls,
        }
        member = self._member = ReshardMember(
            catalog=catalog,
            gate=self._gate,
            held=held,
            stores=stores,
            copies=holdings.copies,
            cleaner=holdings.cleaner,
            agents=agents,
            checkpointer=lambda: self._checkpointer,
            grown=self._grow,
            all_held=self._alone,
        )
        self._peering.node_calls |= member.calls
        member.start()
        parts.push_async_callback(member.stop)
        await agents.start()
        if not self._one_broker:
            reach = Reach(
                address=self.kafka,
                waiting=self._waiting,
                ask_others=self._peering.ask_others,
                fail=self._fail,
            )
            self._peering.node_calls |= reach.calls
            reach.start()
            parts.push_async_callback(reach.stop)

    def _waiting(self) -> list[int]:
        """Return the shards that this node is to serve, and does not."""
        held = self._held
        return [
            n for n in sorted(self._agents.assigned) if n not in held or not held[n].owner.serving
        ]

    async def _members(self) -> frozenset[str]:
        """Return the addresses of the region's nodes, as far as Kafka tells them."""
        groups = GroupOffsets(self.kafka, self._topics.changelog)
        try:
            return await groups.addresses(self._topics.nodes)
        except LogUnavailable as error:
            logger.info("who the other nodes are is not known yet: %s", error)
            return frozenset()
        finally:
            await groups.stop()

    def _grow(self, count: int) -> None:
        """Have requests find as many shards."""
        if self._shards is not None:
            self._shards.grow(count)

    def _make_shard(self, clock: HybridClock) -> ShardMaker:
        def make(number: int, log: ShardLog, store: ShardStore) -> Shard:
            shard = Shard(
                number=number,
                log=log,
                state=store,
                clock=clock,
                region=self.settings.region,
                node=self._folder.node,
                exclusive=self._alone,
                one_broker=self._one_broker,
                fail=self._fail,
            )
            shard.check = self._check
            shard.owner.is_decided = self._member.is_decided
            shard.owner.measure = self._meters.appends(number)
            shard.owner.tracer = self._traces
            return shard

        return make

    async def _start_followers(self) -> None:
        """Start what follows the logs beside the tables."""
        settings, parts, catalog, topics = (
            self.settings,
            self._parts,
            self._catalog,
            self._topics,
        )
        held, stores, routes = self._held, self._stores, self._peering.routes
        self._settling = Settling(routes.ask)
        backfill = Backfill(
            catalog=catalog,
            layout=catalog.layout,
            ask=routes.ask,
            settling=self._settling,
            leads=lambda number: routes.own(number) is not None,
        )
        backfill.start()
        self._agents.on_taken.append(backfill.look)
        parts.push_async_callback(backfill.stop)
        fetcher = self._logs.changes
        epochs = self._epochs = StoreEpochs(stores, routes.ask)
        destinations = Destinations(
            address=self.kafka,
            topics=topics,
            catalog=catalog,
            epochs=epochs,
            log=fetcher,
        )
        destinations.start()
        parts.push_async_callback(destinations.stop)
        self._driver = driver = ReshardDriver(
            address=self.kafka,
            topics=topics,
            catalog=catalog,
            ask=routes.ask,
            ask_all=self._peering.ask_all,
            owner=self._peering.placement.owner,
            index_end=partial(_end, self._logs.rows),
            leads=lambda number: routes.own(number) is not None,
        )
        driver.start()
        self._agents.on_taken.append(driver.look)
        parts.push_async_callback(driver.stop)
        sweeper = Sweeper(
            shards=held,
            stores=stores,
            tables=catalog.tables,
            now=time.time,
            interval_s=settings.ttl_interval_s,
        )
        sweeper.start()
        parts.push_async_callback(sweeper.stop)
        writing_out = WritingOut(stores)
        writing_out.start()
        parts.push_async_callback(writing_out.stop)
        if self._objects is not None:
            checkpointer = self._checkpointer = Checkpointer(
                objects=self._objects,
                region=settings.region,
                node=self._folder.node,
                layout=catalog.layout,
                stores=stores,
                owns=lambda number: number in held and held[number].owner.serving,
                scratch=self._folder.scratch,
                interval_s=settings.checkpoint_interval_s,
            )
            checkpointer.start()
            parts.push_async_callback(checkpointer.stop)

    async def _start_endpoint(self, port: socket.socket) -> None:
        """Answer requests, on a port that was reserved."""
        settings, parts, catalog = self.settings, self._parts, self._catalog
        held, stores, routes = self._held, self._stores, self._peering.routes
        layout, agents, gate = catalog.layout, self._agents, self._gate
        totals = TableTotals(layout, routes.ask)
        shards = self._shards = Shards(
            held.__getitem__ if self._alone else lambda number: RoutedShard(number, routes),
            layout.count,
        )
        operated = handlers(
            catalog,
            shards,
            self._transactions,
            settings,
            totals.of,
            address=self._address,
            objects=self._objects,
        )
        if not self._alone:
            self._calls |= request_calls(operated, catalog, shards)
            operated |= passed_on(operated, catalog, shards, routes)
        operations = {
            **{name: gate.keeps(handler) for name, handler in operated.items()},
            **stream_handlers(catalog, StreamReader(self._logs.changes, self._epochs, layout)),
        }
        control = Control(
            catalog=catalog,
            settings=settings,
            log=self._logs.changes,
            layout=layout,
            kafka=self.kafka,
            changelog=self._topics.changelog,
            handlers=operations,
            tell_others=self._peering.tell_others,
        )
        self._peering.node_calls["report"] = control.note_report
        parts.push_async_callback(control.stop)
        knowledge = Knowledge(
            consumers=catalog.consumers,
            positions=control.overview,
            state=control.state,
            dead_letters=control.dead_letters.show,
        )
        why = Why(
            find=catalog.table,
            layout=layout,
            history=ItemHistory(self._logs.changes, self._epochs),
            consumers=knowledge.of,
        )
        ingest = Ingest(catalog, layout, stores, routes)
        self._calls |= ingest.calls
        views = Views(
            catalog=catalog,
            settings=settings,
            ends=self._ends,
            settling=self._settling,
            totals=totals.of,
        )
        visibility = Visibility(
            catalog=catalog,
            frontiers=control.frontiers,
            settling=self._settling,
            layout=layout,
            ends=self._ends,
            terms=lambda: {n: held[n].owner for n in held} if self._alone else {},
        )
        views.start()
        parts.push_async_callback(views.stop)
        backups = Backups(
            catalog=catalog,
            stores=stores,
            routes=routes,
            settling=self._settling,
            objects=self._objects,
            region=settings.region,
            scratch=self._folder.scratch,
        )
        self._calls |= backups.calls
        backups.start()
        self._agents.on_taken.append(backups.look)
        parts.push_async_callback(backups.stop)
        checkpoints = CheckpointPages(self._objects, self._checkpointer, settings.region, layout)
        monitoring = NodePages(
            info={
                "region": settings.region,
                "node": self._folder.node,
                "version": version("streamtable"),
            },
            collectors=[
                self._meters.registry,
                ShardMetrics(
                    assigned=lambda: agents.assigned,
                    shards=held,
                    stores=stores,
                    replica_lags=agents.replicas.lags,
                    sender=self._sender,
                    checkpointed_ms=partial(_taken_ms, self._checkpointer),
                    now_ms=lambda: time.time_ns() // 1_000_000,
                ),
                StorageMetrics(self._objects),
                BackupMetrics(backups=catalog.backups, tables=catalog.tables, now_s=time.time),
            ],
            in_flight=lambda: app.running,
            consumers=lambda: control.overview.describe(catalog.consumers()),
            failed=self._has_failed,
            waiting=self._waiting,
            leaving=lambda: self._draining is not None,
            beside=None if self._seat is None else self._beside(self._seat),
        )
        if self._seat is not None:
            self._peering.node_calls |= monitoring.calls
        shard_pages = ShardPages(
            layout=layout,
            ask=routes.ask,
            owner=self._peering.placement.owner,
            log=self._logs.changes,
            drain=self.drain,
        )
        self._calls |= status_calls(self._folder.node, stores)
        reshard_pages = ReshardPages(self._driver)
        pages = {
            **monitoring.pages,
            "/_streamtable/reshard": reshard_pages.status,
            "/_streamtable/shards": shard_pages.list,
            "/_streamtable/node": self._node_page,
            "/_streamtable/epochs": self._epochs_page,
            "/_streamtable/checkpoints": checkpoints.list,
            "/_streamtable/views": views.list,
            "/_streamtable/views/tokens": gate.keeps(ingest.tokens),
            "/_streamtable/why": why.page,
            **control.pages,
        }
        posts = {
            "/_streamtable/drain": shard_pages.drain,
            "/_streamtable/reshard": reshard_pages.act,
            "/_streamtable/checkpoints": checkpoints.act,
            "/_streamtable/views/create": views.create,
            "/_streamtable/views/drop": views.drop,
            "/_streamtable/views/ingest": gate.keeps(ingest.ingest),
            "/_streamtable/views/swap": views.swap,
            **control.posts,
        }
        streams = {"/_streamtable/snapshot": ingest.snapshot}
        app = create_app(
            operations,
            pages,
            posts=posts,
            streams=streams,
            meter=self._meters.request,
            visible=visibility.wait,
            sampler=self._traces,
        )
        server = self._server = HttpServer(
            app, host=settings.host, port=settings.port, reserved=port
        )
        await server.start()
        parts.push_async_callback(server.stop)
        self.endpoint = server.endpoint

    def _beside(self, seat: int) -> Beside:
        """Return what this process's pages know of the others."""
        placement, layout = self._peering.placement, self._catalog.layout
        return Beside(
            seat, self._peering.ask_others, lambda: len(set(layout) - placement.owners.keys())
        )

    async def _ends(self) -> dict[int, int]:
        """Ask by shard for the offset of the last record of its log."""
        numbers = list(self._catalog.layout)
        ask = self._peering.routes.ask
        return dict(enumerate(await asyncio.gather(*(ask(n, "end", None) for n in numbers))))

    def _send_traces(self, url: str, node: str) -> "Traces":
        # OpenTelemetry is an extra.
        from streamtable.tracing import Traces  # noqa: PLC0415

        known = {
            "service.instance.id": node,
            "service.version": version("streamtable"),
            "streamtable.region": self.settings.region,
        }
        return Traces(url, "streamtable", known, ratio=self.settings.trace_ratio)

    def _checkpoints(self, folder: DataFolder) -> Objects | None:
        place = self.settings.checkpoints
        if place == "none":
            return None
        return Objects(str(folder.checkpoints) if place is None else place)

    async def _check_storage(self, objects: Objects) -> None:
        """Look whether checkpoints can be kept there, now and not when the first one is due.

        Raises:
            StorageRefuses: they can't.
        """
        try:
            await objects.check(f"{self.settings.region}/starts/{self._folder.node}")
        except StorageRefuses:
            raise
        except StorageUnavailable as error:
            logger.warning("no checkpoints until the storage answers: %s", error)

    async def wait_failed(self) -> None:
        """Return never, or raise what makes this node unable to go on."""
        assert self._failed is not None
        # Who waits may be cancelled; the node has not failed by that.
        await asyncio.shield(self._failed)

    async def drain(self) -> None:
        """Hand this node's shards over to others; requests are passed on to them from then on.

        Each answer closes its connection from now on, so that clients go to other nodes.

        Raises:
            NoOtherNode: there is none that could take them, or this is one of several processes.
            ServiceUnavailable: none has taken all of them in time.
        """
        if self._seat is not None:
            # Only the one that was asked would go, and be told that the node may be stopped.
            raise NoOtherNode("a node of several processes (--workers) stops with all of them")
        if self._alone or not self._peering.placement.others:
            raise NoOtherNode("there is no other node that could take the shards")
        if self._draining is None:
            self._server.leave()
            self._draining = asyncio.create_task(self._hand_over())
        await asyncio.shield(self._draining)

    async def _hand_over(self) -> None:
        await self._agents.leave()
        await self._peering.hand_over()

    async def close_endpoint(self) -> None:
        """Answer what is under way, and take no more; other nodes are still answered."""
        await self._server.stop()

    async def stop(self) -> None:
        """Stop everything, the endpoint first; what was answered is durable already.

        Other nodes get this one's shards before, so that their requests hardly notice.
        """
        try:
            # Processes that share a machine stop together, or come back at once.
            if self.endpoint and self._seat is None:
                await self.drain()
        except NoOtherNode:
            pass
        except StreamtableError as error:
            logger.warning("the shards are not handed over: %s", error)
        finally:
            await self._parts.aclose()

    async def _stop_agents(self) -> None:
        # One that can't start, or go on, can't when it is started again either, most likely. As a
        # member that is only away it would find its shards again each time, and nobody serve them.
        gave_up = not self.endpoint or self._has_failed()
        await self._agents.stop(for_good=gave_up and self._seat is None and not self._alone)

    async def _start_broker(self, folder: DataFolder) -> Broker:
        broker = Broker(BrokerSettings(data=folder.broker, port=self.settings.broker_port))
        await broker.start()
        self._parts.push_async_callback(broker.stop)
        return broker

    def _fail(self, error: BaseException) -> None:
        logger.critical("the node stops: %s", error)
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    def _has_failed(self) -> bool:
        return self._failed is not None and self._failed.done()

    def _address(self) -> str:
        return self.endpoint.removeprefix("http://")

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

    async def _node_page(self, _query: Mapping[str, str]) -> dict[str, Any]:
        return {
            "region": self.settings.region,
            "kafka": self.kafka,
            "shards": self._catalog.layout.count,
            "splits": [each.model_dump() for each in self._catalog.layout.document.splits],
            "version": version("streamtable"),
            "endpoint": self.endpoint,
        }

    async def _epochs_page(self, query: Mapping[str, str]) -> dict[str, Any]:
        try:
            shard, offset = int(query["shard"]), int(query["offset"])
        except (KeyError, ValueError):
            shard, offset = -1, -1
        if not 0 <= shard < self._catalog.layout.count:
            msg = "shard and offset must be numbers, shard one of the region's"
            raise ValidationError(msg)
        epoch, barrier = await self._epochs.epoch(shard, offset)
        return {"epoch": epoch, "barrier": barrier}


async def _end(log: LogFetcher, number: int) -> int:
    """The end of a shard's part of a log."""
    _, end = await log.bounds(number)
    return end


def _taken_ms(checkpointer: Checkpointer | None, number: int) -> int | None:
    """When this node took its newest checkpoint of a shard."""
    last = None if checkpointer is None else checkpointer.last.get(number)
    return None if last is None else last.taken_ms
