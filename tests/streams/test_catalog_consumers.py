"""The registrations of consumers in the catalog."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamtable.core.consumers import ConsumerDocument
from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.catalog import Catalog, ConsumerChangedMeanwhile
from streamtable.streams.layout import Layout
from streamtable.streams.topics import Topics
from tests.support.failures import unexpected


@pytest.fixture
async def catalogs(tmp_path: Path) -> AsyncIterator[list[Catalog]]:
    broker = Broker(BrokerSettings(data=tmp_path / "broker", port=0))
    await broker.start()
    await Topics("test").create(broker.address, 1)
    made = [Catalog(broker.address, "test.catalog", Layout(1), unexpected) for _ in range(2)]
    for catalog in made:
        await catalog.start()
    yield made
    for catalog in made:
        await catalog.stop()
    await broker.stop()


def consumer(**changed):
    given = {
        "kind": "trigger",
        "app": "shop",
        "name": "welcome",
        "id": "1",
        "sources": ("users",),
        "start": {0: 5, 1: 7},
        "start_text": "LATEST",
        "created": 1.0,
    }
    return ConsumerDocument.model_validate(given | changed)


async def test_a_consumer_is_there_for_every_node_after_a_restart_too(catalogs):
    one, other = catalogs
    await one.put_consumer(consumer(definition={"on": ["INSERT"]}))
    await other.put_consumer(consumer(name="audit", kind="search", sources=("a", "b")))
    await one.put_consumer(consumer(paused=True))
    assert other.consumer("shop", "audit") == consumer(
        name="audit", kind="search", sources=("a", "b")
    )
    await other.stop()
    await other.start()
    assert other.consumer("shop", "welcome") == consumer(paused=True)
    assert [each.key for each in other.consumers()] == ["shop/audit", "shop/welcome"]
    assert other.consumer("shop", "other") is None
    await other.remove_consumer("shop", "welcome")
    await other.remove_consumer("shop", "welcome")
    assert [each.key for each in other.consumers()] == ["shop/audit"]
    assert other.consumer("shop", "welcome") is None


async def test_of_two_changes_at_once_one_is_refused(catalogs):
    results = await asyncio.gather(
        *(catalog.put_consumer(consumer(id=str(n))) for n, catalog in enumerate(catalogs)),
        return_exceptions=True,
    )
    [winner] = [n for n, result in enumerate(results) if result is None]
    [loser] = [result for result in results if result is not None]
    assert isinstance(loser, ConsumerChangedMeanwhile)
    for catalog in catalogs:
        assert catalog.consumer("shop", "welcome") == consumer(id=str(winner))


async def test_no_generation_of_a_name_is_used_twice(catalogs):
    catalog = catalogs[0]
    assert catalog.next_generation("shop", "welcome") == 1
    await catalog.put_consumer(consumer(generation=4))
    await catalog.remove_consumer("shop", "welcome")
    assert catalog.next_generation("shop", "welcome") == 5
    await catalog.put_consumer(consumer(name="hello", formerly=("welcome",), generation=7))
    assert catalog.next_generation("shop", "welcome") == 8
    assert catalog.next_generation("shop", "hello") == 1
    assert catalog.next_generation("mail", "welcome") == 1


def test_names_of_a_generation():
    document = consumer(generation=3)
    assert document.key == "shop/welcome"
    assert document.group("eu") == "eu.trigger.shop.welcome.3"
    assert document.owner(2) == "trigger/shop/welcome/3/2"
    renamed = consumer(name="hello", formerly=("welcome", "hi"), generation=3)
    assert renamed.key == "shop/hello"
    assert renamed.group("eu") == "eu.trigger.shop.welcome.3"
    assert renamed.owner(2) == "trigger/shop/welcome/3/2"
