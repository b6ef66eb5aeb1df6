"""One node with several shards, transactions over them, and what their clients saw.

The node dies again and again; what is on its way to the logs then arrives or not. Its shards, and
the transactions over them, are the real ones.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from streamtable.core.errors import (
    InternalServerError,
    ServiceUnavailable,
    TransactionCanceled,
    TransactionConflict,
)
from streamtable.streams.clock import HybridClock
from streamtable.streams.layout import Layout
from streamtable.streams.owner import LogGap
from streamtable.streams.shard import Outcome, Shard
from streamtable.streams.snapshots import Read
from streamtable.streams.transactions import Transactions
from tests.simulation.cluster import ConditionalPut
from tests.simulation.log import Partition, ProducerHandle
from tests.simulation.runs import Run, Work
from tests.simulation.state import MemoryState
from tests.streams.shards import CONTEXT, TABLE, PutWrite
from tests.support.linearizable import NEVER

__all__ = ["Bank", "Transaction"]

SHARDS = 3
CLIENTS = 5
OPERATIONS = 8
ITEMS = 4


def _keys() -> list[str]:
    """Keys of items that are spread over all shards."""
    names = (f"item-{number}" for number in range(1000))
    left = [number % SHARDS for number in range(ITEMS)]
    found = []
    for name in names:
        shard = PutWrite(name, 0).hash % SHARDS
        if shard in left:
            left.remove(shard)
            found.append(name)
    assert not left
    return found


KEYS = _keys()


@dataclass
class Transaction:
    """What a client asked and heard, as the checker reads it; items are numbers."""

    client: int
    call: float
    needs: list[tuple[int, int]] = field(default_factory=list)
    writes: list[tuple[int, int]] = field(default_factory=list)
    saw: list[tuple[int, int]] = field(default_factory=list)
    done: bool = True
    answered: float = NEVER

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


_Work: TypeAlias = Callable[["Process", Transaction, list[int]], Coroutine[Any, Any, bool | None]]
"""Has a process carry out what a client asks: whether it was answered, None if nobody knows."""


class Process(Work):
    """The node's memory: shards and transactions, until it dies."""

    def __init__(self, bank: "Bank") -> None:
        loop = asyncio.get_running_loop()
        super().__init__()
        self.shards: list[Shard] = []
        self.handles: list[ProducerHandle] = []
        for number in range(SHARDS):
            handle = ProducerHandle(bank.partitions[number], bank.chance, bank.faults)
            self.handles.append(handle)
            self.shards.append(
                Shard(
                    number=number,
                    log=handle,  # type: ignore[arg-type]
                    state=bank.states[number],
                    clock=HybridClock(lambda: int(loop.time() * 1000)),
                    region="test",
                    node="node",
                    exclusive=bank.seed % 2 == 0,
                    one_broker=False,
                    fail=bank.fail,
                )
            )
        self.transactions = Transactions(Layout(SHARDS), {TABLE.id: TABLE}.get)
        for shard in self.shards:
            self.transactions.join(shard)
        self._chance = bank.chance

    async def serve(self, number: int) -> None:
        """Take a shard over and follow its log."""
        shard = self.shards[number]
        try:
            await shard.take_over()
        except OSError:
            shard.owner._recover(lost=False)
        with suppress(LogGap):
            async with aclosing(self.handles[number].read(shard.state.applied + 1)) as batches:
                async for batch in batches:
                    await asyncio.sleep(self._chance.expovariate(50))
                    if batch:
                        await shard.owner.follow(batch)

    async def die(self) -> None:
        """End everything that it does. What cleans up after itself is ended again."""
        while True:
            tasks = [*self.tasks, *self.transactions._tasks]
            for shard in self.shards:
                owner = shard.owner
                owner._wanted = False
                tasks += [task for task in (owner._appending, owner._proof) if task is not None]
            if all(task.done() for task in tasks):
                return
            for task in tasks:
                task.cancel()
            await asyncio.sleep(0)


@dataclass
class Bank(Run):
    """A node and clients for a while.

    Attributes:
        history: what the clients asked and heard.
        answered: by item the newest version of a write that was answered.
        stale: items that were read and were older than that.
    """

    history: list[Transaction] = field(default_factory=list)
    answered: dict[int, int] = field(default_factory=dict)
    stale: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.partitions = [Partition() for _ in range(SHARDS)]
        self.states = [MemoryState() for _ in range(SHARDS)]
        self._deadly = asyncio.Event()

    def settled(self) -> bool:
        """Whether nothing is prepared and waits for a decision."""
        return not any(
            list(state.entries()) or shard.ledger.locking
            for state, shard in zip(self.states, self.process.shards, strict=True)
        )

    async def run(self) -> None:
        """Let clients work, then let the last process settle what is open."""
        self._start()
        trouble = asyncio.create_task(self._trouble())
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._client(number))
        trouble.cancel()
        await asyncio.wait([trouble])
        await self.process.die()
        self._start()
        for _ in range(1000):
            await asyncio.sleep(1)
            if self.settled():
                break
        await self.process.die()

    def _start(self) -> None:
        self.process = Process(self)
        for number in range(SHARDS):
            self.process.run(self.process.serve(number))

    async def _trouble(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.chance.expovariate(3)):
                    await self._deadly.wait()
            self._deadly.clear()
            await self.process.die()
            self._start()

    async def _client(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(OPERATIONS):
            await asyncio.sleep(self.chance.expovariate(20))
            asked = Transaction(number, loop.time())
            items = self.chance.sample(range(ITEMS), self.chance.randint(1, 3))
            process = self.process
            work: _Work = self._write
            if self.chance.random() < 0.4:
                work = self._read if self.chance.random() < 0.7 else self._get
            task = process.run(work(process, asked, items))
            known: bool | None = None
            with suppress(asyncio.CancelledError):
                known = await task
            if known:
                asked.answered = loop.time()
            if known or (known is None and asked.writes):
                self.history.append(asked)
            if known and len(asked.writes) > 1 and self.chance.random() < 0.2:
                # The answer is the last thing that the node does.
                self._deadly.set()
                while self.process is process:  # noqa: ASYNC110 - in no time at all
                    await asyncio.sleep(0)
                for item in items:
                    with suppress(asyncio.CancelledError):
                        await self.process.run(self._get(self.process, asked, [item]))

    async def _read(self, process: Process, asked: Transaction, items: list[int]) -> bool:
        writes = [PutWrite(KEYS[item], 0) for item in items]
        try:
            found = await process.transactions.read(
                [Read(write.hash, write.row_key) for write in writes]
            )
        except (TransactionCanceled, ServiceUnavailable):
            return False
        for item, image in zip(items, found, strict=True):
            asked.saw.append((item, 0 if image is None else int(image.item["n"]["N"])))
        return True

    async def _get(self, process: Process, _asked: Transaction, items: list[int]) -> bool:
        """Read an item by itself: it may be between two of a transaction, but of those answered.

        So it is not in the history.
        """
        item = items[0]
        write, answered = PutWrite(KEYS[item], 0), self.answered.get(item, 0)
        with suppress(ServiceUnavailable):
            image = await process.shards[write.hash % SHARDS].read(write.row_key, consistent=True)
            if answered > (0 if image is None else image.time):
                self.stale.append(item)
        return False

    async def _write(self, process: Process, asked: Transaction, items: list[int]) -> bool | None:
        """Carry it out. True: answered; False: nothing was done; None: nobody knows."""
        writes: list[PutWrite] = []
        outcomes: list[Outcome] = []
        for item in items:
            value = self.next_value()
            asked.writes.append((item, value))
            if self.chance.random() < 0.3:
                recent = [value for each in self.history[-4:] for _, value in each.writes]
                expect = self.chance.choice([0, *recent])
                asked.needs.append((item, expect))
                writes.append(ConditionalPut(KEYS[item], value, expect))
            else:
                writes.append(PutWrite(KEYS[item], value))
        try:
            if len(writes) == 1 and not asked.needs:
                shard = process.shards[writes[0].hash % SHARDS]
                outcomes = [await shard.write(writes[0], CONTEXT)]
            else:
                outcomes = await process.transactions.write(writes, None, CONTEXT) or []
        except TransactionCanceled as error:
            codes = {reason["Code"] for reason in error.reasons}
            if codes - {"None", "ConditionalCheckFailed"}:
                return False
            asked.done = False
        except (ServiceUnavailable, TransactionConflict):
            return False
        except InternalServerError:
            return None
        for item, outcome in zip(items, outcomes, strict=False):
            if outcome.new is not None:
                self.answered[item] = max(outcome.new.time, self.answered.get(item, 0))
        return True
