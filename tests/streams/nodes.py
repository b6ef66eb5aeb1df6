"""Nodes of one region in one process: real shards, routes and transactions, on logs in memory.

What they say to each other is made JSON and read again, as between processes.
"""

from pathlib import Path
from typing import Any

import orjson

from streamtable.core.errors import ApiError, ResourceNotFound
from streamtable.core.operations.put import Put, plan_put
from streamtable.core.tables import Table
from streamtable.streams.held import HeldShards
from streamtable.streams.layout import Layout
from streamtable.streams.owner import Moved
from streamtable.streams.peers.calls import shard_calls
from streamtable.streams.peers.client import PeerLost
from streamtable.streams.peers.frames import Packed
from streamtable.streams.peers.messages import error_from_json, error_to_json
from streamtable.streams.peers.participants import participant_calls
from streamtable.streams.placement import Placement
from streamtable.streams.routes import Routes
from streamtable.streams.transactions import Transactions
from tests.streams.shards import TABLE, MemoryLog, make_shard

__all__ = ["Node", "Nodes", "find", "key_on", "put"]


def find(name: str) -> Table:
    if name != TABLE.name:
        raise ResourceNotFound(name)
    return TABLE


def put(key: str, value: int, expect: int | None = None) -> Put:
    """Plan a put of `{"id": key, "n": value}`; with `expect`, only if n has that value now."""
    body: dict[str, Any] = {
        "TableName": TABLE.name,
        "Item": {"id": {"S": key}, "n": {"N": str(value)}},
    }
    if expect is not None:
        body["ConditionExpression"] = "n = :n"
        body["ExpressionAttributeValues"] = {":n": {"N": str(expect)}}
    return plan_put(body, find)


def key_on(shard: int, count: int, number: int = 0) -> str:
    """Return a key of an item on a shard, another one for each number."""
    found = (key for key in map(str, range(10_000)) if put(key, 0).hash % count == shard)
    for _ in range(number):
        next(found)
    return next(found)


class Node:
    """One node; `loses` says how many of the next calls to it have no answer."""

    def __init__(self, nodes: "Nodes", address: str) -> None:
        self.address = address
        self.held = HeldShards(Layout(len(nodes.logs)))
        self.placement = Placement(address)
        self.calls = shard_calls(find, {TABLE.id: TABLE}.get)
        self.routes = Routes(self.held, self.placement, nodes, self.calls, lambda: 0)  # type: ignore[arg-type]
        self.transactions = Transactions(self.held.layout, {TABLE.id: TABLE}.get, self.routes)
        self.calls |= participant_calls(self.transactions.participant, find)
        self._nodes = nodes

    async def take(self, number: int) -> None:
        """Own a shard from now on."""
        for node in self._nodes.nodes.values():
            if number in node.held:
                await node.give(number)
        shard = make_shard(
            self._nodes.folder / self.address / str(number),
            self._nodes.logs[number],
            exclusive=False,
        )
        shard.number = shard.owner.number = number
        self.transactions.join(shard)
        self.held.add(shard)
        await shard.take_over()
        self._nodes.owners[number] = self.address
        self._nodes.tell()

    async def give(self, number: int) -> None:
        """Own a shard no longer."""
        shard = self.held[number]
        await shard.close()
        self.held.remove(number)
        self.transactions.leave(number)
        shard.state.close()  # type: ignore[attr-defined]

    async def call(self, method: str, arguments: Any) -> Any:
        """Carry out what another node asks."""
        number, rest = arguments
        shard = self.routes.own(number)
        if shard is None:
            raise Moved(f"Shard {number} is not this node's. Try again.")
        return await self.calls[method](shard, rest)


class Nodes:
    """A region. It stands where each node's `PeerClient` stands.

    Attributes:
        asked: what was asked of other nodes: the address and the method.
        lost: problems that the next calls to a node end with, by its address.
    """

    def __init__(self, folder: Path, shards: int, *addresses: str) -> None:
        self.folder = folder
        self.logs = [MemoryLog() for _ in range(shards)]
        self.owners: dict[int, str] = {}
        self.asked: list[tuple[str, str]] = []
        self.lost: dict[str, list[PeerLost]] = {}
        self.nodes = {address: Node(self, address) for address in addresses}

    def tell(self) -> None:
        """Tell all nodes who owns which shard."""
        for node in self.nodes.values():
            node.placement.set(self.owners, frozenset(self.nodes))

    async def call(self, address: str, method: str, arguments: Any, *, catalog: int = 0) -> Any:
        self.asked.append((address, method))
        if self.lost.get(address):
            raise self.lost[address].pop(0)
        try:
            answer = await self.nodes[address].call(method, _sent(arguments))
        except ApiError as error:
            raise error_from_json(_sent(error_to_json(error))) from None
        if isinstance(answer, Packed):
            return Packed(_sent(answer.value), answer.content)
        return _sent(answer)

    async def stop(self) -> None:
        for node in self.nodes.values():
            await node.transactions.stop()
            for number in node.held:
                await node.give(number)


def _sent(message: Any) -> Any:
    return orjson.loads(orjson.dumps(message))
