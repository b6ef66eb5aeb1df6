import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from streamtable.core.documents import KeyElement, StreamDocument, TableDocument
from streamtable.core.errors import ResourceNotFound
from streamtable.streams import catalog as catalog_module
from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.catalog import Catalog
from streamtable.streams.layout import Layout
from streamtable.streams.topics import Topics
from tests.support.failures import unexpected


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    broker = Broker(BrokerSettings(data=tmp_path / "broker", port=0))
    await broker.start()
    await Topics("test").create(broker.address, 1)
    yield broker.address
    await broker.stop()


@pytest.fixture
async def catalog(address: str) -> AsyncIterator[Catalog]:
    made = Catalog(address, "test.catalog", Layout(1), unexpected)
    await made.start()
    yield made
    await made.stop()


def table(number, *streams):
    return TableDocument(
        name="users",
        id=f"00000000-0000-0000-0000-{number:012}",
        region="test",
        account="000000000000",
        created=0,
        attributes={"id": "S"},
        keys=(KeyElement(name="id", kind="HASH"),),
        streams=streams,
    )


def stream(disabled=None):
    return StreamDocument(label="one", view_type="KEYS_ONLY", enabled=1.0, disabled=disabled)


class TestEndedTables:
    async def test_a_deleted_table_leaves_its_streams(self, catalog, address):
        before = time.time()
        await catalog.create(table(1, stream()))
        assert catalog.ended_tables() == []
        await catalog.delete("users")
        with pytest.raises(ResourceNotFound):
            catalog.table("users")
        [ended] = catalog.ended_tables()
        assert ended.arn == table(1).arn
        [period] = ended.streams
        assert period.disabled is not None
        assert before <= period.disabled <= time.time()
        other = Catalog(address, "test.catalog", Layout(1), unexpected)
        await other.start()
        assert other.ended_tables() == [ended]
        await other.stop()

    async def test_a_table_without_streams_leaves_nothing(self, catalog):
        await catalog.create(table(1))
        await catalog.delete("users")
        assert catalog.ended_tables() == []

    async def test_each_table_of_a_name_is_kept_for_itself(self, catalog):
        for number in (1, 2):
            await catalog.create(table(number, stream()))
            await catalog.delete("users")
        assert [ended.id for ended in catalog.ended_tables()] == [table(1).id, table(2).id]

    async def test_what_can_not_be_read_any_more_goes(self, catalog, monkeypatch):
        await catalog.create(table(1, stream()))
        await catalog.delete("users")
        await catalog.create(table(2, stream()))
        later = time.time() + 24 * 3600
        monkeypatch.setattr(catalog_module, "time", SimpleNamespace(time=lambda: later))
        await catalog.delete("users")
        assert [ended.id for ended in catalog.ended_tables()] == [table(2).id]
