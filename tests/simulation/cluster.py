"""Nodes that contend for one shard, clients that write and read it, and what they saw.

The nodes run the real owner, shard, overlay and void rule on a simulated log (`log.py`). A shard is
given to one node after the other; who loses it learns late or never, may stand still for a while,
and may die at any time. Nothing else is assumed of a group.
"""

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

from streamtable.core.errors import (
    ConditionalCheckFailed,
    InternalServerError,
    ServiceUnavailable,
)
from streamtable.streams.clock import HybridClock
from streamtable.streams.owner import LogGap, Moved
from streamtable.streams.shard import Shard
from tests.simulation.log import Partition, ProducerHandle
from tests.simulation.runs import Run, Work
from tests.simulation.state import MemoryState
from tests.streams.shards import CONTEXT, PutWrite
from tests.support.linearizable import NEVER

__all__ = ["KEYS", "ConditionalPut", "Node", "Operation", "Simulation"]

NODES = 3
CLIENTS = 5
OPERATIONS = 12
KEYS = ("a", "b")
SETTLED = 0.7
PATIENCE_S = 10.0


@dataclass
class Operation:
    """What a client asked and heard; values are numbers, 0 where there is no item.

    Attributes:
        kind: get, put, or cput: put `value` if the item is `expect`.
        call: when it was asked.
        answered: when it was answered, `NEVER` where nobody knows what became of it.
        done: what a get returned, or whether (1 or 0) a cput's condition held.
    """

    client: int
    key: str
    kind: str
    value: int
    expect: int
    call: float
    answered: float = NEVER
    done: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it as the checker reads it, with one item that has the number 0."""
        known = self.answered < NEVER
        return {
            "client": self.client,
            "needs": [[0, self.expect]] if self.kind == "cput" else [],
            "writes": [] if self.kind == "get" else [[0, self.value]],
            "saw": [[0, self.done]] if self.kind == "get" and known else [],
            "done": self.kind != "cput" or self.done == 1,
            "call": self.call,
            "answered": self.answered,
        }


class Node(Work):
    """A process: it can stand still, and die and come back with its disk."""

    def __init__(self, simulation: "Simulation", number: int) -> None:
        super().__init__()
        self.number = number
        self.state = MemoryState()
        self._simulation = simulation
        self.start()

    def start(self) -> None:
        simulation = self._simulation
        loop = asyncio.get_running_loop()
        self.handle = ProducerHandle(simulation.partition, simulation.chance, simulation.faults)
        self.shard = Shard(
            number=0,
            log=self.handle,  # type: ignore[arg-type]
            state=self.state,
            clock=HybridClock(lambda: int(loop.time() * 1000)),
            region="test",
            node=f"node-{self.number}",
            exclusive=False,
            one_broker=False,
            fail=simulation.fail,
        )
        # Then its reads are proven by appends.
        self.shard.owner.is_settled = lambda: simulation.chance.random() < SETTLED

    async def take(self) -> None:
        """The group gives it the shard."""
        owner = self.shard.owner
        try:
            await self.shard.take_over()
        except OSError:
            # As a node does: the unknown outcome is settled in the background.
            owner._recover(lost=False)
        with suppress(LogGap):
            await self._follow()

    async def _follow(self) -> None:
        async with aclosing(self.handle.read(self.state.applied + 1)) as batches:
            async for batch in batches:
                await asyncio.sleep(self._simulation.chance.expovariate(50))
                if batch:
                    await self.shard.owner.follow(batch)

    def die(self) -> None:
        """Lose everything but the disk. What is on its way to the broker may still arrive."""
        for task in list(self.tasks):
            task.cancel()
        appending = self.shard.owner._appending
        if appending is not None:
            appending.cancel()
        self.start()


@dataclass
class Simulation(Run):
    """Nodes and clients for a while.

    Attributes:
        history: what the clients asked and heard.
        moved: how often they were sent on to another node.
    """

    history: list[Operation] = field(default_factory=list)
    moved: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.partition = Partition()

    async def run(self) -> None:
        """Let clients work until each has asked its share, then settle everything."""
        self.nodes = [self.make_node(number) for number in range(NODES)]
        self.given = self.nodes[0]
        self.nodes[0].run(self.nodes[0].take())
        trouble = asyncio.create_task(self.trouble())
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._client(number))
        trouble.cancel()
        await asyncio.wait([trouble])
        for node in self.nodes:
            node.handle.running.set()
            node.die()
        await asyncio.sleep(10)

    def make_node(self, number: int) -> Node:
        """Return a node that has begun."""
        return Node(self, number)

    async def trouble(self) -> None:
        """Give the shard to one node after the other, and stop and kill them, until cancelled."""
        while True:
            await asyncio.sleep(self.chance.expovariate(8))
            node = self.chance.choice(self.nodes)
            match self.chance.choice(("give", "give", "move", "pause", "die")):
                case "move":
                    # As in good order: it stops serving before the other one is told to.
                    old, self.given = self.given, node
                    if old is not node and old.handle.running.is_set():
                        old.shard.owner.step_down()
                    node.run(node.take())
                case "give":
                    old, self.given = self.given, node
                    if self.chance.random() < 0.7 and old is not node:
                        # It learns that it lost the shard; otherwise it never does.
                        old.run(self._step_down_later(old))
                    node.run(node.take())
                case "pause":
                    node.handle.running.clear()
                    await asyncio.sleep(self.chance.expovariate(10))
                    node.handle.running.set()
                case "die":
                    node.die()
                    if node is self.given:
                        node.run(node.take())

    async def _step_down_later(self, node: Node) -> None:
        await asyncio.sleep(self.chance.expovariate(20))
        await node.handle.running.wait()
        if node is not self.given:
            node.shard.owner.step_down()

    async def _client(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(OPERATIONS):
            await asyncio.sleep(self.chance.expovariate(30))
            # Mostly it asks the right node, and sometimes one that was.
            node = self.given if self.chance.random() < 0.7 else self.chance.choice(self.nodes)
            operation = Operation(
                number,
                self.chance.choice(KEYS),
                self.chance.choice(("get", "put", "cput")),
                self.next_value(),
                self.chance.choice([0, *(each.value for each in self.history[-6:])]),
                loop.time(),
            )
            known: bool | None = False
            while loop.time() < operation.call + PATIENCE_S:
                task = node.run(self._ask(node, operation))
                try:
                    known = await task
                except asyncio.CancelledError:
                    known = operation.kind != "get" and None
                except Moved:
                    self.moved += 1
                    await asyncio.sleep(self.chance.expovariate(50))
                    node = self.given
                    continue
                break
            if known is False:
                continue
            if known:
                operation.answered = loop.time()
            self.history.append(operation)

    async def _ask(self, node: Node, operation: Operation) -> bool | None:
        """Carry an operation out. True: answered; False: nothing was done; None: nobody knows.

        Raises:
            Moved: nothing was done; another node has the shard.
        """
        write = PutWrite(operation.key, operation.value)
        await node.handle.running.wait()
        try:
            if operation.kind == "get":
                image = await node.shard.read(write.row_key, consistent=True)
                operation.done = 0 if image is None else int(image.item["n"]["N"])
            elif operation.kind == "put":
                await node.shard.write(write, CONTEXT)
            else:
                expecting = ConditionalPut(operation.key, operation.value, operation.expect)
                await node.shard.write(expecting, CONTEXT)
                operation.done = 1
        except ConditionalCheckFailed:
            operation.done = 0
        except Moved:
            raise
        except ServiceUnavailable:
            return False
        except InternalServerError:
            return None
        await node.handle.running.wait()
        return True


class ConditionalPut(PutWrite):
    """A put on the condition that the item has a value; 0: that there is none."""

    def __init__(self, key: str, value: int, expect: int) -> None:
        super().__init__(key, value)
        self.needs_old = True
        self._expected = expect

    def evaluate(self, old: dict[str, Any] | None) -> tuple[dict[str, Any] | None, int]:
        found = 0 if old is None else int(old["n"]["N"])
        if found != self._expected:
            raise ConditionalCheckFailed
        return super().evaluate(None)
