"""Measure how fast a trigger follows a log that is there already, and how soon it sees a write.

    python -m benchmarks.triggers
    python -m benchmarks.triggers --changes 50000

The broker runs on core 0 and the trigger, an async function that does nothing, on core 1. Changes
put new items of 1 KB, 16 to a commit, which is about what a shard commits at a time under 64
connections.
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import orjson
import uvloop
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamtable import App, Change
from streamtable.consumers.dead_letters import DeadLetterReader, DeadLetterWriter
from streamtable.consumers.triggers.parked_changes import ParkedChanges
from streamtable.consumers.triggers.sink import TriggerName, TriggerSink
from streamtable.core.changes import Change as LogChange
from streamtable.core.images import Image
from streamtable.streams import records
from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.fetcher import LogFetcher
from streamtable.streams.follower import Follower, Source

SHARDS = 4
PER_COMMIT = 16
ITEM_BYTES = 1000
BROKER_CORE, TRIGGER_CORE = 0, 1
# As in a worker: so long the consumer's thread lets the loop wait.
SWITCH_INTERVAL_S = 0.0005


class NoEpochs:
    """The logs of this benchmark are read from their beginning."""

    async def epoch(self, shard: int, offset: int) -> tuple[str | None, int | None]:
        """Name the one epoch that there is."""
        del shard, offset
        return "e", 0


class NoState:
    """Nothing fails here, so nothing is parked."""

    async def load(self, owner: str) -> dict[str, dict[str, Any]]:
        """Return nothing."""
        del owner
        return {}

    async def save(self, owner: str, items: Any, holder: str | None = None) -> None:
        """Refuse all but the claim at the start: it would be measured too."""
        if holder is not None:
            raise AssertionError(owner, items)


def change(number: int, table: str) -> LogChange:
    """Return a change that puts an item of 1 KB."""
    keys = {"id": {"S": f"item-{number}"}}
    item = {**keys, "text": {"S": "x" * (ITEM_BYTES - 20)}, "n": {"N": str(number)}}
    return LogChange(
        table=table,
        table_id="00000000-0000-0000-0000-000000000007",
        keys=keys,
        old=None,
        new=Image(orjson.dumps(item), ITEM_BYTES, number << 16, "bench", item),
        time=number << 16,
        region="bench",
        created_ms=int(time.time() * 1000),
        request_id="R" * 52,
        principal="bench",
    )


def serve(pipe: Connection) -> None:
    """Run a broker until told to end; says first where it listens."""
    os.sched_setaffinity(0, {BROKER_CORE})

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            broker = Broker(BrokerSettings(data=Path(folder) / "broker", port=0))
            await broker.start()
            pipe.send(broker.address)
            await asyncio.to_thread(pipe.recv)
            await broker.stop()

    uvloop.run(run())


class Log:
    """A log of the benchmark's own."""

    def __init__(self, address: str, name: str) -> None:
        self.address = address
        self.topic = f"{name}.changelog"

    async def make(self) -> AIOKafkaProducer:
        """Make its topic and begin a term; return a producer."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        await admin.create_topics([NewTopic(self.topic, SHARDS, 1)])
        await admin.close()
        producer = AIOKafkaProducer(bootstrap_servers=self.address, acks="all")
        await producer.start()
        for shard in range(SHARDS):
            value, headers = records.barrier("e", {})
            await producer.send_and_wait(self.topic, value, partition=shard, headers=headers)
        return producer

    async def fill(self, count: int, tables: list[str]) -> None:
        """Write so many changes, of these tables in turns."""
        producer = await self.make()
        sent = []
        for start in range(0, count, PER_COMMIT):
            changes = [
                change(start + index, tables[index % len(tables)]) for index in range(PER_COMMIT)
            ]
            value, headers = records.commit("e", changes, [])
            shard = start // PER_COMMIT % SHARDS
            sent.append(await producer.send(self.topic, value, partition=shard, headers=headers))
        await asyncio.gather(*sent)
        await producer.stop()


class Following:
    """A trigger that runs on a log. An async context manager."""

    def __init__(self, log: Log, called: Callable[[Change], None], on: Iterable[str]) -> None:
        app = App("bench")

        @app.trigger("mine", on=on)
        async def handle(change: Change) -> None:
            called(change)

        trigger = app.triggers["handle"]
        self._fetcher = LogFetcher(log.address, log.topic)
        self._sink = TriggerSink(
            TriggerName("bench", "handle", 1),
            trigger.options(),
            trigger.invoke(self._describe),
            state=NoState(),
            letters=DeadLetterWriter(log.address, "none"),
            changes=ParkedChanges(self._fetcher, DeadLetterReader(log.address, "none")),
        )
        self.follower = Follower(
            Source(log.address, log.topic, NoEpochs()),
            f"{log.topic}.group",
            wants=self._sink.wants,
            sink=self._sink,
        )

    async def _describe(self, table: str) -> dict[str, Any]:
        raise AssertionError(table)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.follower.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def wait_for(self, count: int) -> None:
        """Return when so many records were handled or passed over."""
        while sum(self.follower.positions.values()) < count:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)


async def throughput(address: str, name: str, count: int, tables: list[str], on: str) -> None:
    """Fill a log, follow it, and tell how fast that went."""
    log = Log(address, name)
    await log.fill(count, tables)
    seen: list[None] = []
    async with Following(log, lambda _: seen.append(None), [on]) as following:
        await following.wait_for(SHARDS)
        cpu, began = time.process_time(), time.perf_counter()
        already = len(seen), sum(following.follower.positions.values()) - SHARDS
        await following.wait_for(count // PER_COMMIT + SHARDS)
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
    done = count - already[1] * PER_COMMIT
    print(
        f"{name:12} {done / took:10,.0f} changes/s {cpu / done * 1e6:8.2f} us of CPU a change, "
        f"{len(seen):,} of {count:,} called for"
    )


async def latency(address: str, count: int) -> None:
    """Write one change after the other, and tell how soon the function saw each."""
    log = Log(address, "latency")
    producer = await log.make()
    loop = asyncio.get_running_loop()
    waiting: dict[str, asyncio.Future[float]] = {}

    def called(change: Change) -> None:
        waiting[change.keys["id"]].set_result(time.perf_counter())

    took = []
    async with Following(log, called, ["INSERT"]) as following:
        await following.wait_for(SHARDS)
        for number in range(count):
            waiting[f"item-{number}"] = loop.create_future()
            value, headers = records.commit("e", [change(number, "mine")], [])
            began = time.perf_counter()
            shard = number % SHARDS
            await producer.send_and_wait(log.topic, value, partition=shard, headers=headers)
            took.append((await waiting[f"item-{number}"]) - began)
            await asyncio.sleep(0.01)
    await producer.stop()
    *_, p99 = statistics.quantiles(took, n=100)
    print(f"latency      p50 {statistics.median(took) * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms")


async def measure(address: str, count: int) -> None:
    """Measure all."""
    await throughput(address, "follow", count, ["mine"], "INSERT")
    await throughput(address, "other-event", count, ["mine"], "REMOVE")
    await throughput(address, "other-table", count, ["others"], "INSERT")
    await throughput(address, "mixed", count, ["mine", *["others"] * 15], "INSERT")
    await latency(address, 500)


def main() -> None:
    """Run the broker, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=100_000, help="changes of each log")
    arguments = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    broker = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,))
    broker.start()
    os.sched_setaffinity(0, {TRIGGER_CORE % (os.cpu_count() or 1)})
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        uvloop.run(measure(ours.recv(), arguments.changes // PER_COMMIT * PER_COMMIT))
    finally:
        ours.send(None)
        broker.join()


if __name__ == "__main__":
    main()
