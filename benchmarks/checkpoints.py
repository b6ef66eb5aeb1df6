"""Measure how fast a node with empty tables is ready: by its log, and by a checkpoint.

    python -m benchmarks.checkpoints
    python -m benchmarks.checkpoints --items 10000000

A log of a new table's items of 200 B, 25 to a commit, is written to the broker. A node without
tables then starts and applies all of it; it takes checkpoints of everything, and items are put
meanwhile, and in between; its tables are removed; it starts again. What a start takes with the
tables there is taken off both times.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer

from benchmarks.run import free_port
from benchmarks.servers import CACHE, ROOT
from streamtable.core.changes import Change
from streamtable.core.documents import KeyElement, TableDocument
from streamtable.core.images import Image
from streamtable.core.tables import Table
from streamtable.streams import records
from streamtable.streams.broker import Broker, BrokerSettings

SHARDS = 4
PER_COMMIT = 25
ITEM_BYTES = 200
READY_S = 3600
TAKES = 5
QUIET_S = 2.0
NAME = "bench"
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
# Read, not checked.
AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=a/20260101/local/dynamodb/aws4_request, "
    "SignedHeaders=host;x-amz-date, Signature=0"
)


class Node:
    """`streamtable serve` on a folder."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port = free_port()

    def start(self) -> float:
        """Start it; return how long it took until it was ready, seconds."""
        began = time.perf_counter()
        command = [sys.executable, "-m", "streamtable", "serve", "--data", str(self.data)]
        options = ["--port", str(self.port), "--broker-port", "0", "--shards", str(SHARDS)]
        self._process = subprocess.Popen(
            [*command, *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            sys.exit("the node did not start")
        return time.perf_counter() - began

    def stop(self) -> None:
        """Stop it in good order."""
        self._process.terminate()
        self._process.communicate()

    def follow(self) -> None:
        """Put an item in each shard, nearly surely, and wait until its table has them.

        A node whose group of consumers is new has the whole log sent once more when it is ready,
        and passes over it before it follows what comes.
        """
        Puts("first").run(self, partial(past, time.monotonic() + QUIET_S))
        while any(shard["lag"] for shard in self.get("/_streamtable/shards")["shards"]):
            time.sleep(QUIET_S)

    @staticmethod
    def headers(target: str | None) -> dict[str, str]:
        """Return the headers of a request to an operation, or to another path."""
        headers = {"Authorization": AUTHORIZATION, "X-Amz-Date": "20260101T000000Z"}
        if target is not None:
            headers["X-Amz-Target"] = f"DynamoDB_20120810.{target}"
            headers["Content-Type"] = "application/x-amz-json-1.0"
        return headers

    def get(self, path: str) -> dict[str, Any]:
        """Return a page."""
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, timeout=READY_S) as response:
            answer: dict[str, Any] = json.load(response)
            return answer

    def post(self, path: str, body: Any, target: str | None = None) -> dict[str, Any]:
        """Send a request and return its answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), self.headers(target)
        )
        with urllib.request.urlopen(request, timeout=READY_S) as response:
            answer: dict[str, Any] = json.load(response)
            return answer


class Puts:
    """What PutItem took, one after the other, milliseconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._took_ms: list[float] = []

    def run(self, node: Node, until: Callable[[], bool]) -> None:
        """Put items until that is so."""
        connection = HTTPConnection("127.0.0.1", node.port, timeout=READY_S)
        headers = node.headers("PutItem")
        while not until():
            # A new item each time: one that is there already changes nothing.
            key = f"{self._name} {len(self._took_ms)}"
            item = {"id": {"S": key}, "text": {"S": "x" * ITEM_BYTES}}
            body = json.dumps({"TableName": NAME, "Item": item})
            began = time.perf_counter()
            connection.request("POST", "/", body, headers)
            connection.getresponse().read()
            self._took_ms.append((time.perf_counter() - began) * 1000)
        connection.close()

    def __str__(self) -> str:
        took = sorted(self._took_ms)
        parts = [f"{name} {took[int(len(took) * part)]:6.2f}" for name, part in QUANTILES.items()]
        return f"{self._name:20} {', '.join(parts)}, most {took[-1]:6.2f} ms of {len(took):,}"


def past(end: float) -> bool:
    """Whether a time on the monotonic clock has passed."""
    return time.monotonic() > end


def take(node: Node) -> tuple[Puts, Puts, float]:
    """Put items while checkpoints of everything are taken, and while none is; in turns.

    Returns:
        What the puts took while none was taken, and while one was; how long one took, seconds.
    """
    node.follow()
    quiet, amid, took_s = Puts("no checkpoint"), Puts("amid a checkpoint"), 0.0
    with ThreadPoolExecutor(1) as threads:
        for _ in range(TAKES):
            quiet.run(node, partial(past, time.monotonic() + QUIET_S))
            # All files are sent again. What was sent is removed when nothing is measured: to free
            # gigabytes keeps the disk busy.
            sent, aside = node.data / "checkpoints" / "local", node.data / "aside"
            if sent.exists():
                sent.rename(aside)
            began = time.monotonic()
            taken = threads.submit(node.post, "/_streamtable/checkpoints", {"action": "take"})
            amid.run(node, taken.done)
            took_s += (time.monotonic() - began) / TAKES
            shutil.rmtree(aside, ignore_errors=True)
            os.sync()
            assert taken.result()["checkpoints"]
    return quiet, amid, took_s


def words(size: int) -> str:
    """Return a text of words that a short dictionary has, each as often as another."""
    chance = random.Random(1)
    letters = "etaoinshrdlcumwfgypbvk"
    known = ["".join(chance.choices(letters, k=chance.randint(2, 9))) for _ in range(2000)]
    return " ".join(chance.choices(known, k=size // 4))[:size]


TEXT = words(1 << 20)


def text(number: int) -> str:
    """Return a text for an item; lz4 makes two thirds of it."""
    start = number * 7919 % (len(TEXT) - ITEM_BYTES)
    return TEXT[start : start + ITEM_BYTES - 21]


def change(table: Table, number: int) -> tuple[int, Change]:
    """Return the hash of a new item's partition key, and the change that puts it."""
    keys = {"id": {"S": f"item-{number:010}"}}
    item = {**keys, "text": {"S": text(number)}}
    partition_hash, _ = table.keys.locate(table.prefix, keys)
    image = Image(orjson.dumps(item), ITEM_BYTES, number << 16, "local", item)
    return partition_hash, Change(
        table=table.name,
        table_id=table.id,
        keys=keys,
        old=None,
        new=image,
        time=number << 16,
        region="local",
        created_ms=int(time.time() * 1000),
        request_id="R" * 52,
        principal="bench",
    )


async def fill(data: Path, table: Table, count: int) -> None:
    """Write the log of so many new items, under a term of its own."""
    broker = Broker(BrokerSettings(data=data / "broker", port=0))
    await broker.start()
    producer = AIOKafkaProducer(bootstrap_servers=broker.address, acks="all")
    await producer.start()
    topic, epoch = "local.changelog", uuid.uuid4().hex
    for shard in range(SHARDS):
        value, headers = records.barrier(epoch, {})
        await producer.send_and_wait(topic, value, partition=shard, headers=headers)
    commits: dict[int, list[Change]] = {shard: [] for shard in range(SHARDS)}
    sent = []

    async def send(shard: int) -> None:
        value, headers = records.commit(epoch, commits[shard], [])
        commits[shard] = []
        sent.append(await producer.send(topic, value, partition=shard, headers=headers))

    for number in range(count):
        partition_hash, made = change(table, number)
        shard = partition_hash % SHARDS
        commits[shard].append(made)
        if len(commits[shard]) == PER_COMMIT:
            await send(shard)
            if len(sent) > 1000:
                await asyncio.gather(*sent)
                sent.clear()
    for shard in range(SHARDS):
        if commits[shard]:
            await send(shard)
    await asyncio.gather(*sent)
    await producer.stop()
    await broker.stop()


def measure(data: Path, count: int) -> None:
    """Measure both ways."""
    node = Node(data)
    node.start()
    schema = {
        "TableName": NAME,
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
    }
    made = node.post("/", schema, "CreateTable")["TableDescription"]
    node.stop()
    table = Table(
        TableDocument(
            name=NAME,
            id=made["TableId"],
            region="local",
            account="000000000000",
            created=0,
            attributes={"id": "S"},
            keys=(KeyElement(name="id", kind="HASH"),),
        )
    )
    asyncio.run(fill(data, table, count))
    shutil.rmtree(data / "shards")
    replayed = node.start()
    quiet, amid, took_s = take(node)
    node.stop()
    # The broker reads its log, whatever the tables need.
    nothing = node.start()
    node.stop()
    replayed -= nothing
    print(f"log         {replayed:8.1f} s  {count / replayed:12,.0f} items/s")
    print(f"PutItem, {quiet}")
    print(f"PutItem, {amid}; it took {took_s:.1f} s")
    shutil.rmtree(data / "shards")
    restored = node.start() - nothing
    found = node.post("/", {"TableName": NAME}, "DescribeTable")["Table"]["ItemCount"]
    node.stop()
    print(f"checkpoint  {restored:8.1f} s  {count / restored:12,.0f} items/s")
    print(f"{replayed / restored:.1f} times faster; {found:,} of {count:,} items are there")


def main() -> None:
    """Measure, in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, ignore_cleanup_errors=True) as folder:
        measure(Path(folder), parser.parse_args().items)


if __name__ == "__main__":
    main()
