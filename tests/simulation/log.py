"""A shard's log on a broker that loses, hides and delays, and that several nodes write to."""

import asyncio
import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from streamtable.streams.log import LogUnavailable
from streamtable.streams.records import Headers, LogRecord

__all__ = ["Faults", "Partition", "ProducerHandle"]


@dataclass(frozen=True)
class Faults:
    """How often an append goes wrong, of 1.

    Attributes:
        lost: it never reaches the broker.
        hidden: it is stored, its answer is lost.
        late: it is given up, and stored afterwards.
        fencing: the broker refuses producers that are older than another of the shard.
    """

    lost: float = 0.03
    hidden: float = 0.03
    late: float = 0.03
    fencing: bool = True


@dataclass
class Partition:
    """What the broker has.

    Attributes:
        overlapping: what a producer sent while an append of its own was under way. The broker tells
            a producer's batches by their numbers, and may take two of the same for one.
    """

    records: list[LogRecord] = field(default_factory=list)
    producer_epoch: int = 0
    overlapping: list[bytes] = field(default_factory=list)

    def store(self, value: bytes, headers: Headers) -> int:
        offset = len(self.records)
        self.records.append(LogRecord.read(0, offset, 0, headers, value))
        return offset


class ProducerHandle:
    """One node's end of the log. Stands where `ShardLog` stands.

    Attributes:
        paused: set while the node runs; a node that does not run neither sends nor hears.
    """

    def __init__(self, partition: Partition, chance: random.Random, faults: Faults) -> None:
        self.running = asyncio.Event()
        self.running.set()
        self._partition = partition
        self._chance = chance
        self._faults = faults
        self._epoch = 0
        self._sending: set[int] = set()
        self._late: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        await self._delay()
        self._partition.producer_epoch += 1
        self._epoch = self._partition.producer_epoch
        await self._delay()

    async def close(self) -> None:
        self._epoch = 0

    async def append(self, value: bytes, headers: Headers) -> int:
        epoch = self._epoch
        if epoch and epoch in self._sending:
            self._partition.overlapping.append(value)
        self._sending.add(epoch)
        try:
            return await self._append(epoch, value, headers)
        finally:
            self._sending.discard(epoch)

    async def _append(self, epoch: int, value: bytes, headers: Headers) -> int:
        fate, faults = self._chance.random(), self._faults
        await self._delay()
        if fate < faults.lost:
            raise LogUnavailable("lost")
        if fate < faults.lost + faults.late:
            late = asyncio.create_task(self._store_late(epoch, value, headers))
            self._late.add(late)
            late.add_done_callback(self._late.discard)
            raise LogUnavailable("given up")
        self._check(epoch)
        offset = self._partition.store(value, headers)
        await self._delay()
        if fate < faults.lost + faults.late + faults.hidden:
            raise LogUnavailable("no answer")
        return offset

    async def bounds(self) -> tuple[int, int]:
        await self._delay()
        end = len(self._partition.records)
        await self._delay()
        return 0, end

    async def end(self) -> int:
        _, end = await self.bounds()
        if self._chance.random() < self._faults.lost:
            raise LogUnavailable("its end is not known")
        return end

    async def read(self, start: int) -> AsyncGenerator[list[LogRecord]]:
        while True:
            await self._delay()
            batch = self._partition.records[start : start + self._chance.randint(1, 5)]
            start += len(batch)
            await self._delay()
            yield batch

    async def _store_late(self, epoch: int, value: bytes, headers: Headers) -> None:
        await asyncio.sleep(self._chance.expovariate(20))
        if not self._faults.fencing or epoch == self._partition.producer_epoch:
            self._partition.store(value, headers)

    def _check(self, epoch: int) -> None:
        if self._faults.fencing and epoch != self._partition.producer_epoch:
            raise LogUnavailable("a newer producer has the shard")

    async def _delay(self) -> None:
        await self.running.wait()
        await asyncio.sleep(self._chance.expovariate(500))
        await self.running.wait()
