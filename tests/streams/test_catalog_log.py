from pathlib import Path

import pytest

from streamtable.streams import catalog_log
from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.catalog_log import CatalogLog, CatalogUnavailable
from streamtable.streams.topics import Topics
from tests.support.failures import unexpected


def unwatched(_name, _document):
    pass


async def test_a_catalog_that_no_broker_has(tmp_path: Path):
    broker = Broker(BrokerSettings(data=tmp_path, port=0))
    await broker.start()
    await broker.stop()
    # Nothing is left open, or the warning of it would fail this.
    with pytest.raises(CatalogUnavailable, match=r"the catalog test\.catalog can't be read"):
        await CatalogLog(broker.address, "test.catalog", unwatched, unexpected).start()


async def test_a_connection_that_breaks_at_the_start(tmp_path: Path, monkeypatch):
    broker = Broker(BrokerSettings(data=tmp_path, port=0))
    await broker.start()
    await Topics("test").create(broker.address, 1)

    async def broken(*_args, **_options):
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>")

    with monkeypatch.context() as patch:
        patch.setattr(catalog_log, "open_consumer", broken)
        with pytest.raises(CatalogUnavailable, match="closed=True"):
            await CatalogLog(broker.address, "test.catalog", unwatched, unexpected).start()
    log = CatalogLog(broker.address, "test.catalog", unwatched, unexpected)
    await log.start()
    await log.stop()
    await broker.stop()
