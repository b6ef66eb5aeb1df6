"""Waiting for views and indexes: what for, and what is told when time is over."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from streamtable.consumers.indexes.settling import Settling, settling_calls
from streamtable.control.frontiers import Frontiers
from streamtable.control.visibility import Visibility
from streamtable.core.documents import ViewDocument
from streamtable.core.errors import NotYetVisible, ValidationError
from streamtable.core.visibility import After
from streamtable.streams.layout import Layout
from tests.operations.conftest import Service

INDEX = {
    "IndexName": "by_state",
    "KeySchema": [{"AttributeName": "state", "KeyType": "HASH"}],
    "Projection": {"ProjectionType": "ALL"},
}
INDEXED: dict[str, Any] = {
    "AttributeDefinitions": [
        {"AttributeName": "id", "AttributeType": "S"},
        {"AttributeName": "state", "AttributeType": "S"},
    ],
    "GlobalSecondaryIndexes": [INDEX],
}


@dataclass
class Shard:
    """A shard's writing end, its store, and what was sent from it, in one."""

    serving: bool = True
    began: int = 0
    last: int = 100
    applied: int = 100
    index_offset: int = 0
    indexed: dict[int, tuple[int, int]] = field(default_factory=dict)

    def indexed_position(self, source):
        return self.indexed.get(source, (-1, 0))


class Sender:
    def __init__(self):
        self.through = {}
        self.targets = {}

    def sent(self, shard):
        return self.through.get(shard, -1)

    def positions(self, source):
        return self.targets.get(source, {})


class World:
    """Tables, views and where everything stands."""

    def __init__(self):
        self.service = Service()
        self.catalog: Any = self.service.catalog
        self.catalog.by_id = lambda table_id: next(  # type: ignore[attr-defined]
            (table for table in self.catalog.tables() if table.id == table_id), None
        )
        self.frontiers = Frontiers(self._committed)
        self.shards = {0: Shard(), 1: Shard()}
        self.sender = Sender()
        terms: Any = self.shards
        self.visibility = Visibility(
            catalog=self.catalog,  # type: ignore[arg-type]
            frontiers=self.frontiers,
            settling=Settling(self._ask),
            layout=Layout(len(self.shards)),
            ends=self._ends,
            terms=lambda: terms,
        )

    async def _ask(self, number, method, arguments):
        calls = settling_calls(self.shards, self.sender)
        shard: Any = SimpleNamespace(number=number)
        return await calls[method](shard, arguments)

    async def _ends(self):
        return {number: shard.last for number, shard in self.shards.items()}

    async def _committed(self, key, generation):
        return {}

    async def view(self, name, *sources, generation=1, **more):
        await self.service.table(name, **more)
        view = ViewDocument(
            app="shop", name=name, kind="view", sources=sources, generation=generation
        )
        document = self.catalog.table(name).document
        await self.catalog.update(document.model_copy(update={"view": view}))

    def reads(self, table, positions, wait_s=0.05, **more):
        body = {"TableName": table, **more}
        return self.visibility.wait("Scan", body, After(positions, wait_s))

    def starts(self, table, positions, **more):
        """Begin a read that has time."""
        return asyncio.create_task(self.reads(table, positions, 20, **more))

    async def refused(self, table, positions, **more):
        with pytest.raises(NotYetVisible) as caught:
            await self.reads(table, positions, **more)
        return caught.value.message


@pytest.fixture
async def world():
    made = World()
    await made.service.table("orders")
    await made.view("days", "orders")
    return made


async def still_waits(task):
    for _ in range(20):
        await asyncio.sleep(0)
    return not task.done()


class TestViews:
    async def test_it_is_reached_when_the_record_is_done(self, world):
        task = world.starts("days", {0: 7})
        world.frontiers.note("shop/days", 1, {0: 7, 1: 50})
        assert await still_waits(task)
        world.frontiers.note("shop/days", 1, {0: 8})
        await task

    async def test_what_is_behind_is_told(self, world):
        world.frontiers.note("shop/days", 1, {0: 5, 1: 3})
        assert await world.refused("days", {0: 7, 1: 2}) == (
            "The view days does not show 0:7 after 50 ms: of shard 0 it has what is before 5, "
            "3 records behind. Read again, or without x-streamtable-after."
        )

    async def test_a_view_without_a_worker(self, world):
        message = await world.refused("days", {0: 7})
        assert "no worker has told how far it is" in message

    async def test_a_view_on_a_view_waits_for_the_logs_ends_then(self, world):
        await world.view("weeks", "days")
        world.frontiers.note("shop/weeks", 1, {0: 101, 1: 101})
        task = world.starts("weeks", {0: 7})
        assert await still_waits(task)
        world.shards[1].last = 120
        world.frontiers.note("shop/days", 1, {0: 8})
        assert await still_waits(task)
        world.frontiers.note("shop/weeks", 1, {1: 120})
        assert await still_waits(task)
        world.frontiers.note("shop/weeks", 1, {1: 121})
        await task

    async def test_a_view_that_is_built_anew_meanwhile(self, world):
        world.frontiers.note("shop/days", 1, {0: 5})
        task = world.starts("days", {0: 7})
        assert await still_waits(task)
        await world.catalog.delete("days")
        await world.view("days", "orders", generation=2)
        world.frontiers.note("shop/days", 2, {0: 6})
        assert await still_waits(task)
        world.frontiers.note("shop/days", 2, {0: 8})
        await task

    async def test_a_table_shows_everything(self, world):
        await world.reads("orders", {0: 10**6})

    async def test_what_is_not_there_is_for_the_read_to_say(self, world):
        await world.reads("nothing", {0: 1})

    async def test_a_shard_that_is_not_there(self, world):
        with pytest.raises(ValidationError, match="names shard 2: this region has the shards 0"):
            await world.reads("orders", {2: 1})


class TestIndexes:
    async def test_what_this_term_has_written_is_shown(self, world):
        await world.service.table("users", **INDEXED)
        await world.reads("users", {0: 100, 1: 1}, IndexName="by_state")

    async def test_what_an_earlier_term_has_written_is_waited_for(self, world):
        await world.service.table("users", **INDEXED)
        world.shards[0].began = 90
        message = await world.refused("users", {0: 80, 1: 5}, IndexName="by_state")
        assert message == (
            "The index by_state of users does not show 0:80 after 50 ms. Read again, or without "
            "x-streamtable-after."
        )
        world.sender.through[0] = 95
        world.sender.targets[0] = {1: (79, 3)}
        task = world.starts("users", {0: 80}, IndexName="by_state")
        assert await still_waits(task)
        world.shards[1].indexed[0] = (79, 3)
        await task

    async def test_what_is_not_in_the_log_yet(self, world):
        await world.service.table("users", **INDEXED)
        assert "0:101" in await world.refused("users", {0: 101}, IndexName="by_state")

    async def test_an_index_of_a_view_shows_what_the_view_shows(self, world):
        await world.view("states", "orders", **INDEXED)
        world.shards[1].began = 90
        world.shards[1].serving = False
        world.frontiers.note("shop/states", 1, {0: 8, 1: 8})
        await world.reads("states", {0: 7})
        message = await world.refused("states", {0: 7}, IndexName="by_state")
        assert "does not show 1:100" in message
