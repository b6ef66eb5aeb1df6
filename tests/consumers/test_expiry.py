"""The sweeper and its index on a store in memory."""

import asyncio
from typing import Any

import pytest

from streamtable.consumers.expiry import Sweeper
from streamtable.consumers.expiry_index import ExpiryIndex
from streamtable.core.documents import KeyElement, TableDocument, TimeToLive
from streamtable.core.errors import ServiceUnavailable, TransactionConflict
from streamtable.core.expiry import expiry_row, expiry_rows, state_row
from streamtable.core.images import Image
from streamtable.core.tables import Table
from streamtable.core.values import dump_item
from tests.streams.shards import until

NOW = 1_700_000_000


def make_table(attribute="ttl", changed=1.0, enabled=True):
    return Table(
        TableDocument(
            name="users",
            id="00000000-0000-0000-0000-000000000007",
            region="local",
            account="000000000000",
            created=0,
            attributes={"id": "S"},
            keys=(KeyElement(name="id", kind="HASH"),),
            time_to_live=TimeToLive(attribute=attribute, enabled=enabled, changed=changed),
        )
    )


class Store:
    """Rows in a dict, with what the sweeper needs of a shard's store."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def get(self, row_key):
        data = self.rows.get(row_key)
        return None if data is None else Image.decode(data)

    def scan(self, start, end, *, reverse=False):
        assert not reverse
        return ((key, Image.decode(self.rows[key])) for key in self.keys(start, end))

    def keys(self, start, end):
        return iter([key for key in sorted(self.rows) if start <= key < end])

    def load(self, key):
        return self.rows.get(key)

    def write(self, rows):
        for key, value in rows:
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value

    def purge(self, prefix):
        for key in [key for key in self.rows if key.startswith(prefix)]:
            del self.rows[key]


class Shard:
    """Evaluates writes on what is newest; `apply` materializes, as the agent would."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.state = Store()
        self.items: dict[bytes, Any] = {}
        self.owner = self
        self.serving = True
        self.held = False
        self.written: list[tuple[Any, Any]] = []
        self.fails: list[Exception] = []

    def locate(self, name):
        return self.table.keys.locate(self.table.prefix, {"id": {"S": name}})[1]

    def put(self, name, ttl=None, *, applied=True):
        item = {"id": {"S": name}, "text": {"S": "x"}}
        if ttl is not None:
            item["ttl"] = {"N": str(ttl)}
        self.change(self.locate(name), item, applied=applied)

    def change(self, row_key, item, *, applied=True):
        self.items[row_key] = item
        if applied:
            self.apply()

    def apply(self):
        for row_key, item in self.items.items():
            old = self.state.get(row_key)
            before = None if old is None else old.item
            rows = expiry_rows(self.table.document, before, item, row_key)
            value = None if item is None else Image(dump_item(item), 1, 1, "local").encode()
            self.state.write([(row_key, value), *rows])
        self.items.clear()

    def newest(self, row_key):
        if row_key in self.items:
            return self.items[row_key]
        image = self.state.get(row_key)
        return None if image is None else image.item

    async def write(self, write, context):
        await asyncio.sleep(0)
        if self.fails:
            raise self.fails.pop()
        old = self.newest(write.row_key)
        new, _ = write.evaluate(old)
        if new is not old:
            self.written.append((write, context))
            self.change(write.row_key, new, applied=False)

    def names(self):
        return {
            image.item["id"]["S"] for _, image in self.state.scan(self.table.prefix, self.table.end)
        }


class World:
    def __init__(self) -> None:
        self.table = make_table()
        self.shard = Shard(self.table)
        self.now = float(NOW)
        self.tables = [self.table]
        shards: Any = {0: self.shard}
        self.sweeper = Sweeper(
            shards=shards,
            stores={0: self.shard.state},
            tables=lambda: self.tables,
            now=lambda: self.now,
            interval_s=0,
        )

    async def sweep(self) -> set[str]:
        await self.sweeper.sweep()
        self.shard.apply()
        names: set[str] = self.shard.names()
        return names


@pytest.fixture
async def world():
    return World()


class TestSweep:
    async def test_what_has_expired_goes_and_nothing_else(self, world):
        world.shard.put("past", NOW - 1)
        world.shard.put("now", NOW)
        world.shard.put("future", NOW + 1)
        world.shard.put("ancient", NOW - 6 * 366 * 24 * 3600)
        world.shard.put("never")
        assert await world.sweep() == {"future", "ancient", "never"}
        world.now += 1
        assert await world.sweep() == {"ancient", "never"}

    async def test_it_is_the_service_that_removes_it(self, world):
        world.shard.put("past", NOW - 1)
        await world.sweep()
        [(write, context)] = world.shard.written
        assert write.service == context.principal == "dynamodb.amazonaws.com"
        assert write.key == {"id": {"S": "past"}}
        assert write.hash == world.table.keys.locate(b"", write.key)[0]

    async def test_an_item_that_was_renewed_stays(self, world):
        world.shard.put("a", NOW - 1)
        world.shard.put("a", NOW + 100, applied=False)
        assert await world.sweep() == {"a"}
        assert world.shard.written == []

    async def test_an_item_that_lost_its_time_stays(self, world):
        world.shard.put("a", NOW - 1)
        world.shard.put("a", applied=False)
        assert await world.sweep() == {"a"}

    async def test_an_item_is_removed_once_even_if_the_store_lags(self, world):
        world.shard.put("a", NOW - 1)
        await world.sweeper.sweep()
        await world.sweeper.sweep()
        assert len(world.shard.written) == 1

    async def test_many_items(self, world):
        for number in range(1000):
            world.shard.put(str(number), NOW - number % 7)
        assert await world.sweep() == set()
        assert len(world.shard.written) == 1000

    @pytest.mark.parametrize("error", [TransactionConflict(""), ServiceUnavailable("")])
    async def test_what_can_not_be_removed_now_is_removed_later(self, world, error):
        world.shard.put("a", NOW - 1)
        world.shard.fails = [error]
        assert await world.sweep() == {"a"}
        assert await world.sweep() == set()

    async def test_shards_of_other_nodes_are_left_alone(self, world):
        world.shard.put("a", NOW - 1)
        world.shard.serving = False
        assert await world.sweep() == {"a"}

    async def test_while_a_shard_is_split_it_is_left_alone(self, world):
        world.shard.put("a", NOW - 1)
        world.shard.held = True
        assert await world.sweep() == {"a"}
        world.shard.held = False
        assert await world.sweep() == set()

    async def test_tables_without_time_to_live_are_left_alone(self, world):
        world.shard.put("a", NOW - 1)
        world.tables = [make_table(enabled=False)]
        assert await world.sweep() == {"a"}

    async def test_it_runs_until_it_is_stopped(self, world):
        world.shard.put("a", NOW - 1)
        world.shard.fails = [RuntimeError("a mistake of ours")]
        world.sweeper.start()
        await until(lambda: world.shard.written)
        await world.sweeper.stop()


class TestIndex:
    def rows(self, world):
        prefix = b"\x04" + world.table.prefix[1:]
        return [
            key
            for key in sorted(world.shard.state.rows)
            if key.startswith(prefix) and key != state_row(world.table.id)
        ]

    def put_before(self, world, name, ttl):
        """An item from before time to live was switched on: it has no expiry row."""
        world.shard.put(name, ttl)
        world.shard.state.purge(b"\x04")

    async def test_items_that_were_there_before_are_found(self, world):
        for number in range(600):
            self.put_before(world, str(number), NOW - 1)
        assert await world.sweep() == set()

    async def test_building_goes_on_after_a_restart_and_beside_writes(self, world):
        for number in range(600):
            self.put_before(world, str(number), NOW + number)
        assert not ExpiryIndex(world.shard.state).build(world.table)
        world.shard.put("0", NOW + 5000)
        world.shard.put("new", NOW + 6000)
        world.shard.change(world.shard.locate("1"), None)
        index = ExpiryIndex(world.shard.state)
        assert not index.build(world.table)
        assert index.build(world.table)
        assert index.build(world.table)
        expected = {str(number): NOW + number for number in range(2, 600)}
        expected |= {"0": NOW + 5000, "new": NOW + 6000}
        assert self.rows(world) == sorted(
            expiry_row(world.shard.locate(name), at) for name, at in expected.items()
        )

    async def test_another_period_is_built_anew(self, world):
        world.shard.put("a", NOW - 1)
        await world.sweeper.sweep()
        world.shard.items.clear()
        assert len(self.rows(world)) == 1
        world.tables = [make_table("other", 2.0)]
        await world.sweeper.sweep()
        assert self.rows(world) == []
        # Off and on again: what was written meanwhile has no rows yet.
        self.put_before(world, "b", NOW + 1)
        world.tables = [make_table("ttl", 3.0)]
        await world.sweeper.sweep()
        assert len(self.rows(world)) == 2

    async def test_a_row_that_says_what_is_not_so_is_removed(self, world):
        world.shard.put("a", NOW + 5)
        await world.sweep()
        world.shard.state.write([(expiry_row(world.shard.locate("a"), NOW - 5), b"")])
        world.shard.state.write([(expiry_row(world.shard.locate("gone"), NOW - 5), b"")])
        assert await world.sweep() == {"a"}
        assert self.rows(world) == [expiry_row(world.shard.locate("a"), NOW + 5)]
        assert world.shard.written == []
