"""Nodes that split the shard for which they contend, by a catalog that each of them reads late.

What leads and takes part in a split is the real code. Only the parent's side is here: there are no
copies, and no item goes elsewhere.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from streamtable.consumers.reshard.driver import ReshardDriver
from streamtable.consumers.reshard.member import ReshardMember
from streamtable.core.errors import ApiError, ServiceUnavailable, StreamtableError
from streamtable.core.layouts import LayoutDocument
from streamtable.streams.catalog import LayoutChangedMeanwhile
from streamtable.streams.catalog_log import CatalogUnavailable
from streamtable.streams.gate import Gate
from streamtable.streams.layout import Layout
from streamtable.streams.records import Headers
from tests.simulation.cluster import Node, Simulation
from tests.simulation.log import Partition

__all__ = ["Splits"]

LOST = 0.05


@dataclass
class TimedPartition(Partition):
    """A log that knows when each record came."""

    times: list[float] = field(default_factory=list)

    def store(self, value: bytes, headers: Headers) -> int:
        self.times.append(asyncio.get_running_loop().time())
        return super().store(value, headers)


class Catalog:
    """One process's view of what the region's catalog says about the shards."""

    def __init__(self, simulation: "Splits") -> None:
        self.layout = Layout(1)
        self.next = 0
        self._simulation = simulation

    def tables(self) -> list[Any]:
        return []

    async def follow(self, running: asyncio.Event) -> None:
        while True:
            await asyncio.sleep(self._simulation.chance.expovariate(100))
            await running.wait()
            for document, _ in self._simulation.documents[self.next :]:
                self.next += 1
                self.layout.take(document)

    async def caught_up(self, offset: int) -> None:
        while self.next < offset:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)

    async def put_layout(self, document: LayoutDocument) -> None:
        simulation, known = self._simulation, self.next
        await asyncio.sleep(simulation.chance.expovariate(200))
        if known != len(simulation.documents):
            raise LayoutChangedMeanwhile
        fate = simulation.chance.random()
        if fate < LOST:
            raise CatalogUnavailable("lost")
        simulation.documents.append((document, asyncio.get_running_loop().time()))
        if fate < 2 * LOST:
            raise CatalogUnavailable("no answer")
        await self.caught_up(known + 1)


class Agents:
    """What a node's shards are by the group."""

    waiting: Mapping[int, str] = {}

    def __init__(self, node: "SplittingNode") -> None:
        self._node = node

    async def copy(self) -> None:
        pass

    async def grow(self) -> None:
        pass

    @property
    def assigned(self) -> frozenset[int]:
        return frozenset([0] if self._node.shard.owner.wanted else [])


class Nothing:
    """No copies, nothing to clean, no topics."""

    def status(self) -> dict[int, Any]:
        return {}

    def left(self) -> int:
        return 0

    async def grow(self, _address: str, _count: int) -> None:
        pass


class SplittingNode(Node):
    """A node that leads and takes part in splits."""

    def start(self) -> None:
        super().start()
        simulation: Any = self._simulation
        if simulation.over:
            return
        catalog: Any = Catalog(simulation)
        nothing: Any = Nothing()
        self.member = ReshardMember(
            catalog=catalog,
            gate=Gate(),
            held={0: self.shard},  # type: ignore[arg-type]
            stores={},
            copies=nothing,
            cleaner=nothing,
            agents=Agents(self),
            checkpointer=lambda: None,
            grown=lambda _count: None,
            all_held=False,
        )
        self.shard.owner.is_decided = self.member.is_decided
        self.driver = ReshardDriver(
            address="",
            topics=nothing,
            catalog=catalog,
            ask=self._ask_shard,
            ask_all=self._ask_all,
            owner=lambda _shard: None,
            index_end=self._index_end,
            leads=lambda _shard: self.shard.owner.wanted,
        )
        self.catalog = catalog
        self.member.start()
        self.driver.start()
        self.run(catalog.follow(self.handle.running))

    def die(self) -> None:
        if self.driver._task is not None:
            self.driver._task.cancel()
        for task in sorted(self.member._tasks, key=lambda task: int(task.get_name()[5:])):
            task.cancel()
        super().die()

    async def _index_end(self, _shard: int) -> int:
        return 0

    async def _ask_shard(self, _shard: int, method: str, _arguments: Any) -> Any:
        await self._delay()
        return {"sent": [], "index_offset": 0}[method]

    async def _ask_all(self, method: str, arguments: Any) -> dict[str, Any]:
        await self._delay()
        nodes: list[Any] = self._simulation.nodes
        asked = [node.run(node.answer(method, arguments)) for node in nodes]
        found = await asyncio.gather(*asked, return_exceptions=True)
        await self._delay()
        for answer in found:
            if isinstance(answer, asyncio.CancelledError):
                raise ServiceUnavailable("it died")
            if isinstance(answer, BaseException):
                raise answer
        return {str(number): answer for number, answer in enumerate(found)} | self._others(method)

    def _others(self, method: str) -> dict[str, Any]:
        """What nodes say that have the other shards, and copies that are always whole."""
        document = self.catalog.layout.document
        if method == "reshard_split":
            return {"others": [(number, 0) for number in range(1, document.count)]}
        if method == "reshard_copies" and document.reshard is not None:
            whole = {"lag": 0, "error": None, "split": document.reshard.id, "index_offset": 0}
            copies = {str(n): whole for n in range(document.count, document.reshard.target)}
            return {"others": {"copies": copies, "saved": True}}
        return {}

    async def answer(self, method: str, arguments: Any) -> Any:
        await self.handle.running.wait()
        return await self.member.calls[method](arguments)

    async def _delay(self) -> None:
        await self.handle.running.wait()
        await asyncio.sleep(self._simulation.chance.expovariate(500))


@dataclass
class Splits(Simulation):
    """A simulation in which the shard is split again and again.

    Attributes:
        documents: what the catalog was told, and when.
        over: whether nobody is to begin anything more.
    """

    documents: list[tuple[LayoutDocument, float]] = field(default_factory=list)
    over: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.partition: TimedPartition = TimedPartition()

    def make_node(self, number: int) -> Node:
        return SplittingNode(self, number)

    async def trouble(self) -> None:
        splitting = asyncio.create_task(self._split_on_and_on())
        try:
            await super().trouble()
        finally:
            self.over = True
            splitting.cancel()

    async def _split_on_and_on(self) -> None:
        while True:
            await asyncio.sleep(self.chance.expovariate(30))
            node: Any = self.given
            with suppress(ApiError, StreamtableError):
                await node.driver.ask_for(2 * node.catalog.layout.count)
