"""Three nodes on a Kafka of three brokers."""

import asyncio
import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from aiokafka.admin import AIOKafkaAdminClient

from tests.support.apache_kafka import KafkaCluster
from tests.support.load import AsyncConnection
from tests.support.ports import free_ports
from tests.support.server import Server, client_settings
from tests.support.slow_disks import SlowDisk
from tests.support.toxiproxy import Toxiproxy

__all__ = ["NODES", "SHARDS", "Region", "takes_writes"]

NODES = 3
SHARDS = 6
_SERVED_S = 90
_PAGE_BYTES = 4096


class Region:
    """Three nodes on one Kafka.

    Args:
        folder: for what they keep.
        kafka: the brokers.
        proxy: where the last node's connections go through.
        brokers: the ports of the proxies before the brokers.
        names: those proxies.

    Attributes:
        nodes: the nodes; each one keeps its ports.
        endpoints: their endpoints.
        disk: what the first node keeps is on it.
    """

    def __init__(
        self,
        folder: Path,
        kafka: KafkaCluster,
        proxy: Toxiproxy,
        brokers: Sequence[int],
        names: Sequence[str],
    ) -> None:
        self.kafka = kafka
        self._proxy = proxy
        self._to_brokers = names
        ports = free_ports(2 * NODES)
        self.endpoints = [f"http://127.0.0.1:{port}" for port in ports[:NODES]]
        proxied = ",".join(f"127.0.0.1:{port}" for port in brokers)
        # What others are told is an address of the proxy; the node listens on 127.0.0.1.
        self._to_last = proxy.forward(f"127.0.0.2:{ports[-1]}", f"127.0.0.1:{ports[-1]}")
        self.nodes = []
        for number, (port, peer) in enumerate(zip(ports[:NODES], ports[NODES:], strict=True)):
            last = number == NODES - 1
            self.nodes.append(
                Server(
                    folder / f"node-{number}",
                    "--port", str(port),
                    "--kafka", proxied if last else kafka.address,
                    "--advertise", f"127.0.0.{2 if last else 1}:{peer}",
                    "--shards", str(SHARDS),
                )
            )  # fmt: skip

        self.disk = SlowDisk(folder / "disk", folder / "node-0", smallest=_PAGE_BYTES)
        self.nodes[0].environment = self.disk.environment

    def start(self) -> None:
        """Start the nodes, the first one first: it makes the topics."""
        for node in self.nodes:
            node.start()

    def kill(self) -> None:
        """End the nodes that run."""
        for node in self.nodes:
            if node.endpoint:
                node.kill()

    def client(self, number: int) -> Any:
        """Return a boto3 client of one node that does not retry."""
        return boto3.client(**client_settings(self.endpoints[number]))

    def owned(self, number: int) -> list[int]:
        """Return the shards that a node serves."""
        return [shard for shard, value in self._gauge(number, "serving") if value]

    def take_checkpoints(self, number: int) -> int:
        """Have a node take a checkpoint of each of its shards; return how many it took."""
        request = urllib.request.Request(
            f"{self.endpoints[number]}/_streamtable/checkpoints", b'{"action": "take"}'
        )
        with urllib.request.urlopen(request, timeout=_SERVED_S) as answer:
            return len(json.load(answer)["checkpoints"])

    def prepared(self) -> int:
        """How many shards' parts of transactions wait for their decision."""
        found = (self._gauge(number, "prepared_transactions") for number in range(NODES))
        return int(sum(value for gauge in found for _, value in gauge))

    def _gauge(self, number: int, name: str) -> list[tuple[int, float]]:
        """Return what a node says of its shards."""
        page = f"{self.endpoints[number]}/metrics"
        with urllib.request.urlopen(page, timeout=_SERVED_S) as answer:
            text = answer.read().decode()
        found = re.findall(
            rf'^streamtable_shard_{name}{{shard="(\d+)"}} (\S+)$', text, re.MULTILINE
        )
        return [(int(shard), float(value)) for shard, value in found]

    @contextmanager
    def standing_still(self, number: int) -> Iterator[None]:
        """Have a node do nothing for a while, as one does whose machine swaps or is moved."""
        os.kill(self.nodes[number].pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.nodes[number].pid, signal.SIGCONT)

    async def leader(self, shard: int) -> int:
        """Return which broker leads a shard's log, from 0 on."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka.address)
        await admin.start()
        try:
            [topic] = await admin.describe_topics(["local.changelog"])
        finally:
            await admin.close()
        [leader] = [each["leader"] for each in topic["partitions"] if each["partition"] == shard]
        return int(leader) - 1

    @contextmanager
    def last_without_brokers(self, only: int | None = None) -> Iterator[None]:
        """Cut the last node off from the brokers, or from one of them."""
        cut = self._to_brokers if only is None else [self._to_brokers[only]]
        with self._proxy.silent(*cut):
            yield

    @contextmanager
    def last_unreachable(self) -> Iterator[None]:
        """Have the other nodes not reach the last one; it reaches them."""
        with self._proxy.silent(self._to_last):
            yield

    async def served(self, table: str) -> None:
        """Wait until each node answers a write on each shard."""
        for endpoint in self.endpoints:
            async with AsyncConnection(endpoint) as connection:
                await takes_writes(connection, table)


async def takes_writes(connection: AsyncConnection, table: str) -> None:
    """Wait until writes are taken on every shard.

    Args:
        connection: to the node that is asked.
        table: one with the keys of `load.create_table`; the items begin with `probe`.
    """
    for number in range(8 * SHARDS):
        item = {"owner": {"S": f"probe {number}"}, "n": {"S": "0"}}
        deadline = asyncio.get_running_loop().time() + _SERVED_S
        while True:
            status, answer = await connection.call("PutItem", {"TableName": table, "Item": item})
            if status == 200:
                break
            assert status >= 500, answer
            assert asyncio.get_running_loop().time() < deadline, answer
