import asyncio

import pytest

from streamtable.consumers.tables import epochs
from streamtable.consumers.tables.epochs import StoreEpochs
from streamtable.streams.log import LogUnavailable


class Store:
    applied = 4

    def epoch_before(self, offset):
        return ("one", 0) if 0 < offset <= self.applied + 1 else None


async def test_what_was_applied_is_known():
    source = StoreEpochs({0: Store()})
    assert await source.epoch(0, 5) == ("one", 0)
    assert await source.epoch(0, 0) == (None, None)


async def test_it_waits_for_the_store():
    store = Store()
    asked = asyncio.create_task(StoreEpochs({0: store}).epoch(0, 9))
    await asyncio.sleep(0)
    assert not asked.done()
    store.applied = 8
    assert await asked == ("one", 0)


async def test_it_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(epochs, "_WAIT_S", 0.01)
    with pytest.raises(LogUnavailable, match="up to offset 9"):
        await StoreEpochs({0: Store()}).epoch(0, 9)
