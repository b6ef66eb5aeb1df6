import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from streamtable.consumers.tables import epochs
from streamtable.consumers.tables.epochs import StoreEpochs, epoch_calls
from streamtable.streams.log import LogUnavailable


class Store:
    applied = 4

    def epoch_before(self, offset):
        return ("one", 0) if 0 < offset <= self.applied + 1 else None


async def nobody(shard, method, arguments):
    raise AssertionError


async def test_what_was_applied_is_known():
    source = StoreEpochs({0: Store()}, nobody)
    assert await source.epoch(0, 5) == ("one", 0)
    assert await source.epoch(0, 0) == (None, None)


async def test_it_waits_for_the_store():
    store = Store()
    asked = asyncio.create_task(StoreEpochs({0: store}, nobody).epoch(0, 9))
    await asyncio.sleep(0)
    assert not asked.done()
    store.applied = 8
    assert await asked == ("one", 0)


async def test_it_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(epochs, "_WAIT_S", 0.01)
    with pytest.raises(LogUnavailable, match="up to offset 9"):
        await StoreEpochs({0: Store()}, nobody).epoch(0, 9)


async def test_the_owner_of_a_shard_that_is_not_here_is_asked():
    stores = {1: Store()}
    calls = epoch_calls(stores)

    async def ask(number, method, arguments):
        shard: Any = SimpleNamespace(number=number)
        return await calls[method](shard, arguments)

    source = StoreEpochs({}, ask)
    assert await source.epoch(1, 5) == ("one", 0)
    assert await source.epoch(1, 0) == (None, None)
