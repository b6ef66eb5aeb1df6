"""Tables that get another name, in place of another table."""

import asyncio
from typing import Any

import pytest

from streamtable.core.documents import StreamDocument, ViewDocument
from streamtable.core.errors import ResourceNotFound
from streamtable.streams.catalog import Catalog, ChangedMeanwhile
from streamtable.streams.catalog_log import CatalogUnavailable
from streamtable.streams.layout import Layout
from tests.streams.test_catalog import address, catalog, table
from tests.support.failures import unexpected

__all__ = ["address", "catalog"]

STREAM = StreamDocument(label="one", view_type="KEYS_ONLY", enabled=1.0)
VIEW = ViewDocument(app="shop", name="users", kind="view", sources=("orders",), generation=2)
OLD = table(1, STREAM)
BUILT = table(2).model_copy(update={"name": "users~2", "hidden": True, "view": VIEW})
NEW = BUILT.model_copy(update={"name": "users", "hidden": False})


class Watcher:
    """Notes changes as (name, id) before and after."""

    def __init__(self, catalog):
        self.seen: list[Any] = []
        catalog.on_change(lambda *change: self.seen.append(tuple(map(self._said, change))))

    @staticmethod
    def _said(table):
        return None if table is None else (table.name, int(table.id[-1]))


@pytest.fixture
async def both(catalog):
    await catalog.create(OLD)
    await catalog.create(BUILT)
    return catalog


async def again(catalog, address):
    """Read the catalog as a node does that starts."""
    made = Catalog(address, "test.catalog", Layout(1), unexpected)
    await made.start()
    await made.stop()
    return made


def names(catalog):
    return [(each.name, int(each.id[-1])) for each in catalog.tables()]


async def test_whether_a_view_follows_is_known(both):
    assert both.feeds_view("orders")
    assert not both.feeds_view("users")
    await both.delete("users~2")
    assert not both.feeds_view("orders")


async def test_the_name_passes_to_the_other_table(both, address):
    watcher = Watcher(both)
    await both.rename(both.table("users~2"), NEW)
    for each in (both, await again(both, address)):
        assert names(each) == [("users", 2)]
        assert each.by_id(NEW.id).document == NEW
        assert each.by_id(OLD.id) is None
        [ended] = each.ended_tables()
        assert ended.id == OLD.id
    # The rows of the old one go, those of the new one stay.
    assert watcher.seen == [(("users", 1), None), (("users~2", 2), ("users", 2))]


async def test_a_name_that_nobody_had(catalog):
    await catalog.create(BUILT)
    watcher = Watcher(catalog)
    await catalog.rename(catalog.table("users~2"), NEW)
    assert names(catalog) == [("users", 2)]
    assert watcher.seen == [(("users~2", 2), ("users", 2))]


@pytest.mark.parametrize(
    ("records", "found"),
    [
        (0, [("users", 1), ("users~2", 2)]),
        (1, [("users", 1), ("users~2", 2)]),
        (2, [("users", 2), ("users~2", 2)]),
        (3, [("users", 2)]),
    ],
)
async def test_a_crash_leaves_the_old_or_the_new_table(both, address, monkeypatch, records, found):
    put = both._log.put
    done: list[Any] = []

    async def crash(name, document):
        if len(done) == records:
            raise CatalogUnavailable("the node is killed")
        done.append(name)
        await put(name, document)

    monkeypatch.setattr(both._log, "put", crash)
    if records < 3:
        with pytest.raises(CatalogUnavailable):
            await both.rename(both.table("users~2"), NEW)
    else:
        await both.rename(both.table("users~2"), NEW)
    after = await again(both, address)
    assert names(after) == found
    # One of both names counts, whichever was read last.
    assert after.by_id(BUILT.id).name == ("users~2" if records < 2 else "users")
    monkeypatch.setattr(both._log, "put", put)
    watcher = Watcher(both)
    if records == 2:
        await both.forget_name("users~2")
        assert watcher.seen == []
        assert names(both) == [("users", 2)]
        assert both.by_id(BUILT.id).name == "users"


async def test_the_old_name_read_last_does_not_count(both):
    await both.rename(both.table("users~2"), NEW)
    await both.create(BUILT)
    assert both.by_id(BUILT.id).name == "users"
    await both.delete("users")
    assert both.by_id(BUILT.id).name == "users~2"
    await both.delete("users~2")
    assert both.by_id(BUILT.id) is None


async def test_a_change_that_came_first_wins(both):
    built, old = both.table("users~2"), both.table("users")
    await both.update(BUILT.model_copy(update={"tags": {"a": "b"}}))
    with pytest.raises(ChangedMeanwhile):
        await both.rename(built, NEW)
    assert both.table("users") is old


async def test_of_two_renames_one_wins(both, address):
    other = Catalog(address, "test.catalog", Layout(1), unexpected)
    await other.start()
    results = await asyncio.gather(
        both.rename(both.table("users~2"), NEW),
        other.rename(other.table("users~2"), NEW),
        return_exceptions=True,
    )
    assert sorted(type(result) for result in results if result is not None) in (  # type: ignore[operator, type-var]
        [ChangedMeanwhile],
        [],
    )
    await other.stop()
    assert both.by_id(NEW.id).name == "users"
    with pytest.raises(ResourceNotFound):
        both.table("users~3")
