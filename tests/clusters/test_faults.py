"""Nodes and brokers that die, stand still and don't reach each other, under load all the time.

What clients heard is linearizable for each item and serializable for transactions (porcupine says
so); each answered write is in the table, its index and its stream once, and came to the trigger.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.clusters.clients import Clients
from tests.clusters.nemesis import LEFT, Nemesis
from tests.clusters.region import NODES, SHARDS, Region, takes_writes
from tests.faults.conftest import ROUNDS
from tests.support.audit import check_indexes, check_stream, read_all
from tests.support.clocks import FalseClock
from tests.support.linearizable import wrong
from tests.support.load import AsyncConnection, Item, Load, create_table, key_of
from tests.support.waiting import until
from tests.support.witness import Witness

pytestmark = [
    pytest.mark.clusters,
    pytest.mark.faults,
    pytest.mark.kafka,
    pytest.mark.slow,
    pytest.mark.timeout(180 + 120 * ROUNDS),
]

TABLE = "shared"

Fault = Callable[[Clients], Awaitable[None]]
UnderLoad = Callable[[Fault], None]


@pytest.fixture(scope="module")
def witness(region: Region, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witness]:
    """A trigger on the table that all these tests write to."""

    async def make() -> None:
        async with AsyncConnection(region.endpoints[0]) as connection:
            await create_table(connection, TABLE)

    asyncio.run(make())
    made = Witness(tmp_path_factory.mktemp("witness"), TABLE)
    made.start(region.endpoints[0])
    yield made
    made.kill()


@pytest.fixture
def under_load(
    region: Region,
    witness: Witness,
    chance: random.Random,
    checker: str,
    request: pytest.FixtureRequest,
) -> UnderLoad:
    """Brings a fault about under load, again and again; then compares everything."""

    async def round_of(number: int, fault: Fault) -> None:
        started = time.monotonic()
        clients = Clients(TABLE, f"{request.node.name} {number}", region.endpoints, chance)
        async with clients:
            await fault(clients)
            await region.served(TABLE)
            await clients.more(100)
        print(f"{time.monotonic() - started:.1f} s, {clients}")
        assert wrong(checker, clients.histories()) == ""
        async with AsyncConnection(chance.choice(region.endpoints)) as connection:
            await check_indexes(connection, TABLE, "by-group")
            records = await check_stream(connection, TABLE, {}, probes="")
        clients.check_records(records)
        await witness.check(records)
        await until(lambda: not region.prepared(), "what was prepared to be settled")
        print(f"{time.monotonic() - started:.1f} s with all checks")

    def run(fault: Fault) -> None:
        for number in range((ROUNDS + 1) // 2):
            asyncio.run(round_of(number, fault))

    return run


async def serves(region: Region, number: int) -> float:
    """Wait until a node answers writes on every shard; return how long that took, seconds."""
    started = time.monotonic()
    async with AsyncConnection(region.endpoints[number]) as connection:
        await takes_writes(connection, TABLE)
    return time.monotonic() - started


def test_a_node_is_killed(region: Region, chance: random.Random, under_load: UnderLoad) -> None:
    async def kill(clients: Clients) -> None:
        victim = chance.randrange(NODES)
        region.nodes[victim].kill()
        took_s = await serves(region, (victim + 1) % NODES)
        print(f"every shard is served again {took_s:.1f} s after the kill")
        await asyncio.to_thread(region.nodes[victim].start)

    under_load(kill)


def test_a_node_stands_still(region: Region, chance: random.Random, under_load: UnderLoad) -> None:
    async def stand_still(clients: Clients) -> None:
        victim = chance.randrange(NODES)
        with region.standing_still(victim):
            if chance.random() < 0.7:
                # Until others have its shards, of which it knows nothing when it goes on.
                await serves(region, (victim + 1) % NODES)
            else:
                await asyncio.sleep(chance.uniform(1, 6))

    under_load(stand_still)


def test_a_machine_with_a_node_and_a_broker_stands_still(
    region: Region, chance: random.Random, under_load: UnderLoad
) -> None:
    async def stand_still(clients: Clients) -> None:
        victim, broker = chance.randrange(NODES), chance.choice(region.kafka.brokers)
        keys = [{"owner": {"S": f"woken {n}"}, "n": {"S": "0"}} for n in range(4 * SHARDS)]
        async with AsyncConnection(region.endpoints[(victim + 1) % NODES]) as other:
            await put_all(other, keys, "old")
            with region.standing_still(victim), broker.standing_still():
                took_s = await serves(region, (victim + 1) % NODES)
                print(f"every shard is served again after {took_s:.1f} s")
                await put_all(other, keys, "new")
                # The requests wait for it to wake.
                reading = [
                    asyncio.create_task(read_at(region.endpoints[victim], key)) for key in keys
                ]
                asked = time.monotonic()
                await until(lambda: time.monotonic() - asked > 0.5, "the requests to be sent")
            # The broker takes itself for the leader of shards that are the node's, as it thinks.
            found = await asyncio.gather(*reading)
        assert {None, "new"} >= set(found)

    under_load(stand_still)


async def put_all(connection: AsyncConnection, keys: Sequence[Item], value: str) -> None:
    """Write items until each is answered."""
    for key in keys:

        async def put(key: Item = key) -> bool:
            item = {**key, "text": {"S": value}}
            return (await connection.call("PutItem", {"TableName": TABLE, "Item": item}))[0] == 200

        await until(put, "the item to be written")


async def read_at(endpoint: str, key: Item) -> str | None:
    """Read an item with strong consistency, once; None where that is refused."""
    asked = {"TableName": TABLE, "Key": key, "ConsistentRead": True}
    async with AsyncConnection(endpoint) as connection:
        status, answer = await connection.call("GetItem", asked)
    return str(answer["Item"]["text"]["S"]) if status == 200 else None


def test_a_broker_is_killed(region: Region, chance: random.Random, under_load: UnderLoad) -> None:
    async def kill(clients: Clients) -> None:
        victim = chance.choice(region.kafka.brokers)
        victim.kill()
        await clients.more(200)
        await asyncio.to_thread(victim.start)

    under_load(kill)


def test_two_brokers_are_killed(
    region: Region, chance: random.Random, under_load: UnderLoad
) -> None:
    async def kill(clients: Clients) -> None:
        victims = chance.sample(region.kafka.brokers, 2)
        for victim in victims:
            victim.kill()
        # Nobody can say that a write is there; those who ask are told so.
        refused = len(clients.refused)
        await until(lambda: len(clients.refused) > refused, "a request to be refused")
        for victim in victims:
            victim.launch()
        for victim in victims:
            await asyncio.to_thread(victim.wait_started)

    under_load(kill)


def test_a_node_loses_the_brokers(region: Region, under_load: UnderLoad) -> None:
    async def cut(clients: Clients) -> None:
        with region.last_without_brokers():
            await serves(region, 0)

    under_load(cut)


def test_a_node_loses_one_broker(region: Region, under_load: UnderLoad) -> None:
    """The group hears it, but those of its shards that the broker leads wait for it."""

    async def cut(clients: Clients) -> None:
        last = region.nodes[-1]
        with region.last_without_brokers(await region.leader(region.owned(NODES - 1)[0])):
            print(f"every shard is served again after {await serves(region, 0):.1f} s")
            assert await asyncio.to_thread(last.ended, 60) == 1
            assert LEFT in last.output()
        await asyncio.to_thread(last.start)

    under_load(cut)


def test_a_node_is_not_reached_by_the_others(region: Region, under_load: UnderLoad) -> None:
    async def cut(clients: Clients) -> None:
        refused = len(clients.refused)
        with region.last_unreachable():
            await until(lambda: len(clients.refused) > refused, "a request to be refused")
            # Where its shards are, they are served.
            await serves(region, NODES - 1)

    under_load(cut)


def test_the_disk_of_a_node_is_slow(region: Region, under_load: UnderLoad) -> None:
    async def slow(clients: Clients) -> None:
        with region.disk.slow(20, 200):
            await asyncio.to_thread(region.take_checkpoints, 0)
        with region.disk.standing_still():
            # Nobody waits for it: what is answered is in the log, and in memory.
            await serves(region, 0)
            taking = asyncio.create_task(asyncio.to_thread(region.take_checkpoints, 0))
            await clients.more(200)
            assert not taking.done()
        assert await taking
        assert clients.refused == []

    under_load(slow)


def test_the_disk_of_a_broker_is_slow(region: Region, under_load: UnderLoad) -> None:
    async def slow(clients: Clients) -> None:
        with region.kafka.disk.slow(20, 200):
            # Each write waits for the slowest of the brokers.
            await clients.more(100)
        with region.kafka.disk.standing_still():
            asked = time.monotonic()
            await until(lambda: time.monotonic() - asked > 2, "the disk to stand still for a while")
        await clients.more(100)

    under_load(slow)


def test_a_clock_jumps(
    region: Region, chance: random.Random, under_load: UnderLoad, tmp_path: Path
) -> None:
    clock = FalseClock(tmp_path / "clock")

    async def jump(clients: Clients) -> None:
        node = chance.choice(region.nodes)
        await asyncio.to_thread(node.stop)
        before, node.environment = node.environment, clock.environment
        await asyncio.to_thread(node.start)
        # Kafka takes no record that its producer dates more than an hour ahead.
        for by in ("+3h", chance.choice(["-3d", "-1h", "+2m"])):
            print(f"the clock jumps by {by}")
            clock.jump(by)
            await serves(region, region.nodes.index(node))
            await clients.more(100)
        await asyncio.to_thread(node.stop)
        node.environment = before
        await asyncio.to_thread(node.start)

    under_load(jump)


def test_all_nodes_stop_and_start_at_once(region: Region, under_load: UnderLoad) -> None:
    async def restart(clients: Clients) -> None:
        # None waits for another one to take its shards; in half a minute this would fail.
        codes = await asyncio.gather(*(asyncio.to_thread(node.stop) for node in region.nodes))
        assert codes == [0] * NODES, [node.output() for node in region.nodes]
        await asyncio.gather(*(asyncio.to_thread(node.start) for node in region.nodes))

    under_load(restart)


def test_nodes_are_restarted_one_after_the_other(
    region: Region, witness: Witness, chance: random.Random, checker: str
) -> None:
    async def check(load: Load) -> None:
        async with AsyncConnection(chance.choice(region.endpoints)) as connection:
            stored = {key_of(item): item for item in await read_all(connection, load.table)}
            history = load.settle(stored)
            await check_indexes(connection, load.table)
            await check_stream(connection, load.table, history)

    async def run() -> None:
        async with AsyncConnection(region.endpoints[0]) as connection:
            await create_table(connection, "rolling")
        load = Load("rolling", 8, chance)
        for victim in range(NODES):
            others = [each for each in region.endpoints if each != region.endpoints[victim]]
            clients = Clients(TABLE, f"rolling {victim}", others, chance)

            async def restart(victim: int = victim, clients: Clients = clients) -> None:
                asked = time.monotonic()
                code = await asyncio.to_thread(region.nodes[victim].stop)
                stopped = time.monotonic()
                assert code == 0, region.nodes[victim].output()
                longest = max(took for at, took in clients.waits if at > asked)
                print(f"stopped in {stopped - asked:.1f} s, longest answer {longest:.2f} s")
                await asyncio.to_thread(region.nodes[victim].start)

            async with clients:
                await load.run(others, 100, restart)
                await clients.more(50)
            # Whoever asks another node notices nothing.
            assert clients.refused == []
            assert load.unanswered == []
            assert wrong(checker, clients.histories()) == ""
        await check(load)

    asyncio.run(run())


def test_several_faults_at_once(
    region: Region, chance: random.Random, under_load: UnderLoad
) -> None:
    nemesis = Nemesis(region, chance)

    async def strike(clients: Clients) -> None:
        await nemesis.strike()

    under_load(strike)
