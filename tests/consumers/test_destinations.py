"""Copies of a table's changes in a topic of its own, on both kinds of broker.

The test writes the log that they come from.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from streamtable.consumers.destinations import Destinations
from streamtable.core.documents import DestinationDocument, KeyElement, TableDocument
from streamtable.core.tables import Table
from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.fetcher import LogFetcher
from streamtable.streams.layout import Layout
from streamtable.streams.topics import Topics
from tests.support.changelog import Changelog, change
from tests.support.topics import read_topic
from tests.support.waiting import until

TABLE_ID = "00000000-0000-0000-0000-000000000007"
SECOND_ID = "00000000-0000-0000-0000-000000000008"
NOW = 1_700_000_000_000  # When the changes of `change` are made.
ARN = "arn:aws:kinesis:eu-central-1:000000000000:stream/changes"


def destination(**changes: Any) -> DestinationDocument:
    given: dict[str, Any] = {
        "id": "one",
        "stream_arn": ARN,
        "status": "ENABLING",
        "precision": "MILLISECOND",
        "enabled_ms": NOW,
        **changes,
    }
    return DestinationDocument(**given)


class Tables:
    """A catalog of one table."""

    def __init__(self, name: str = "users", **changes: Any) -> None:
        document = TableDocument(
            name=name,
            id=TABLE_ID,
            region="local",
            account="000000000000",
            created=1.0,
            attributes={"id": "S"},
            keys=(KeyElement(name="id", kind="HASH"),),
            destinations=(destination(**changes),),
        )
        self.layout = Layout(2)
        self._table: Table | None = Table(document)
        self._callbacks: list[Any] = []

    def tables(self) -> list[Table]:
        return [] if self._table is None else [self._table]

    def by_id(self, table_id: str) -> Table | None:
        return self._table

    def on_change(self, callback: Any) -> None:
        self._callbacks.append(callback)

    async def update(self, document: TableDocument) -> None:
        self._replace(Table(document))

    def _replace(self, table: Table | None) -> None:
        before, self._table = self._table, table
        for callback in self._callbacks:
            callback(before, self._table)

    @property
    def destination(self) -> DestinationDocument:
        assert self._table is not None
        return self._table.document.destinations[-1]

    async def change(self, **changes: Any) -> None:
        assert self._table is not None
        changed = self.destination.model_copy(update=changes)
        await self.update(self._table.document.with_destination(changed))

    def delete(self) -> None:
        self._replace(None)

    def swap(self, table_id: str) -> None:
        """Give the name to another table, as a view's is when it was built anew."""
        assert self._table is not None
        before = self._table
        changed = self.destination.model_copy(update={"former_ids": (before.id,)})
        document = before.document.with_destination(changed)
        self._table = Table(document.model_copy(update={"id": table_id}))
        # The catalog tells what has become of each of the two.
        for gone, come in ((before, None), (None, self._table)):
            for callback in self._callbacks:
                callback(gone, come)


@pytest.fixture
async def embedded_address(tmp_path: Path) -> AsyncIterator[str]:
    broker = Broker(BrokerSettings(data=tmp_path / "broker", port=0))
    await broker.start()
    yield broker.address
    await broker.stop()


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)])
async def log(request: pytest.FixtureRequest, embedded_address: str) -> AsyncIterator[Changelog]:
    # An async fixture can't be asked for here, so the embedded broker runs in either case.
    address = embedded_address
    if request.param == "apache":
        address = request.getfixturevalue("apache").address
    async with Changelog(address) as made:
        yield made


@asynccontextmanager
async def running(log: Changelog, tables: Any) -> AsyncIterator[None]:
    fetcher = LogFetcher(log.address, log.topic)
    await fetcher.start()
    copies = Destinations(
        address=log.address,
        topics=Topics(log.region),
        catalog=tables,
        epochs=log,
        log=fetcher,
    )
    copies.start()
    try:
        yield
    finally:
        await copies.stop()
        await fetcher.stop()


async def copied(log: Changelog, name: str = "users") -> list[str]:
    found = await read_topic(log.address, f"{log.region}.table.{name}")
    return [each.key["id"]["S"] for each in found]


async def reach(log: Changelog, expected: set[str]) -> None:
    async def there() -> bool:
        return expected <= set(await copied(log))

    await until(there, f"{expected} to be copied")


async def reach_status(tables: Tables, status: str) -> None:
    await until(lambda: tables.destination.status == status, f"the destination to be {status}")


async def test_what_counts_is_copied_and_nothing_else(log):
    await log.barrier("one")
    elsewhere = change("b", table="posts")
    elsewhere.table_id = "another"
    earlier = change("b")
    earlier.table_id = "the id of a table of this name that was deleted"
    await log.commit("one", change("a"), elsewhere, earlier, change("c"))
    await log.commit("zombie", change("void"))
    await log.barrier("two", shard=1)
    await log.commit("two", change("d"), shard=1)
    tables = Tables()
    async with running(log, tables):
        await reach_status(tables, "ACTIVE")
        await log.commit("one", change("e"))
        await reach(log, {"a", "c", "d", "e"})
        await tables.change(status="DISABLING", disabled_ms=NOW)
        await reach_status(tables, "DISABLED")
        await log.commit("one", change("later"))
    found = await read_topic(log.address, f"{log.region}.table.users")
    assert sorted(each.key["id"]["S"] for each in found) == ["a", "c", "d", "e"]
    assert {each.timestamp_ms for each in found} == {NOW}
    assert all(each.value["dynamodb"]["Keys"] == each.key for each in found)


async def test_a_view_that_is_built_anew_goes_on_in_the_same_topic(log):
    def row(key, table, table_id):
        found = change(key, table=table)
        found.table_id = table_id
        return found

    await log.barrier("one")
    tables = Tables()
    async with running(log, tables):
        await log.commit("one", change("old"))
        await reach(log, {"old"})
        await log.commit("one", row("built", "users~2", SECOND_ID))
        await log.commit("one", change("last"))
        tables.swap(SECOND_ID)
        await log.commit("one", row("new", "users", SECOND_ID))
        await reach(log, {"new"})
    # What was not copied yet when the node went down is of both tables.
    await log.commit("one", row("later", "users", SECOND_ID), change("straggler"))
    async with running(log, tables):
        await reach(log, {"later"})
        await tables.change(status="DISABLING", disabled_ms=NOW)
        await reach_status(tables, "DISABLED")
    assert set(await copied(log)) == {"old", "last", "new", "later", "straggler"}


async def test_only_the_period_in_which_it_is_on(log):
    await log.barrier("one")
    for number in range(3):
        found = change(str(number))
        found.created_ms = NOW + number - 1
        await log.commit("one", found)
    tables = Tables(status="DISABLING", disabled_ms=NOW)
    async with running(log, tables):
        await reach_status(tables, "DISABLED")
        assert await copied(log) == ["1"]


async def test_an_item_is_in_one_partition_in_order(log):
    await log.barrier("one")
    for number in range(20):
        await log.commit(
            "one", change("a", new={"n": {"N": str(number)}}), change(f"other{number}")
        )
    tables = Tables(status="DISABLING", disabled_ms=NOW)
    async with running(log, tables):
        await reach_status(tables, "DISABLED")
    found = await read_topic(log.address, f"{log.region}.table.users")
    assert len({each.partition for each in found}) == 2
    mine = [each for each in found if each.key["id"]["S"] == "a"]
    assert len({each.partition for each in mine}) == 1
    order = [int(each.value["dynamodb"]["NewImage"]["n"]["N"]) for each in mine]
    assert order == list(range(20))


async def test_it_goes_on_where_it_was_after_a_restart(log):
    await log.barrier("one")
    await log.commit("one", change("a"))
    tables = Tables()
    async with running(log, tables):
        await reach(log, {"a"})
    await log.commit("one", change("b"))
    await log.barrier("two")
    await log.commit("one", change("void"))
    await log.commit("two", change("c"))
    async with running(log, tables):
        await reach(log, {"b", "c"})
        await tables.change(status="DISABLING", disabled_ms=NOW)
        await reach_status(tables, "DISABLED")
    # It was stopped in good order: nothing comes twice.
    assert sorted(await copied(log)) == ["a", "b", "c"]


async def test_a_deleted_tables_last_changes_are_copied(log):
    await log.barrier("one")
    tables = Tables()
    async with running(log, tables):
        await reach_status(tables, "ACTIVE")
        await log.commit("one", change("a"))
        tables.delete()
        await reach(log, {"a"})


async def test_a_name_that_makes_no_topic(log):
    tables = Tables("t" * 250)
    async with running(log, tables):
        await reach_status(tables, "ENABLE_FAILED")
        assert "t" * 250 in str(tables.destination.reason)


async def test_the_precision_is_the_one_that_holds_now(log):
    await log.barrier("one")
    tables = Tables(precision="MICROSECOND", status="ACTIVE")
    async with running(log, tables):
        await log.commit("one", change("a"))
        await reach(log, {"a"})
    (found,) = await read_topic(log.address, f"{log.region}.table.users")
    assert found.value["dynamodb"]["ApproximateCreationDateTime"] == NOW * 1000
