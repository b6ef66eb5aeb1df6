"""A search index is what its table is, whoever is stopped or killed on the way."""

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from streamtable.consumers.search.documents import document_id, item_json
from tests.faults.conftest import ROUNDS
from tests.support.audit import read_all
from tests.support.commands import BIN, Background
from tests.support.elasticsearch import Elasticsearch
from tests.support.load import AsyncConnection, Load, create_table, key_of
from tests.support.reshard import page, resharded
from tests.support.server import Server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(240 + 90 * ROUNDS)]

TABLE = "searched"


class Searcher:
    """A worker with one search index, declared in a file, on one endpoint for ever."""

    def __init__(self, folder: Path, server: Server, elasticsearch: Elasticsearch, index: str):
        self.folder = folder
        self.server = server
        self.elasticsearch = elasticsearch
        self.index = index
        self._file = folder / "catalog.toml"
        self._file.write_text(
            f'[search.{index}]\ntable = "{TABLE}"\nindex = "{index}"\n'
            f"[search.{index}.settings]\nnumber_of_replicas = 0\n"
        )
        self._starts = 0
        self._running: Background | None = None

    def start(self) -> None:
        self._starts += 1
        self._running = Background(
            [str(BIN / "streamtable"), "worker", str(self._file),
             "--endpoint", self.server.endpoint, "--elasticsearch", self.elasticsearch.url],
            self.folder / f"worker-{self._starts}.log",
        )  # fmt: skip

    def kill(self) -> None:
        assert self._running is not None
        self._running.kill()

    def stop(self) -> int:
        assert self._running is not None
        return self._running.stop()

    def describe(self) -> Any:
        url = f"{self.server.endpoint}/_streamtable/consumers?consumer=catalog/{self.index}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)["consumers"][0]

    def rebuild(self) -> None:
        request = {"id": f"{self._starts}", "kind": "rebuild"}
        change = {"app": "catalog", "name": self.index, "action": "request", "request": request}
        asked = urllib.request.Request(
            f"{self.server.endpoint}/_streamtable/consumers/change",
            json.dumps(change).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(asked, timeout=60).close()

    async def expected(self, load: Load) -> dict[str, Any]:
        """Find out what the table is, and return what the index must be."""
        async with AsyncConnection(self.server.endpoint) as connection:
            items = await read_all(connection, TABLE)
        load.settle({key_of(item): item for item in items})
        found = {}
        for item in items:
            document = item_json(item, None)
            assert document is not None
            keys = {name: item[name] for name in ("owner", "n")}
            found[document_id(keys)] = json.loads(document)
        return found

    async def settle(self, load: Load) -> None:
        """Wait until the index is what the table is, exactly."""
        expected = await self.expected(load)
        assert expected

        def same() -> bool:
            return self.elasticsearch.documents(self.index) == expected

        await asyncio.to_thread(wait_until, same, f"{self.index} to be right", 90)


@pytest.fixture
def searcher(
    tmp_path: Path, new_server: Server, elasticsearch: Elasticsearch, index: str
) -> Iterator[Searcher]:
    made = Searcher(tmp_path, new_server.start(), elasticsearch, index)
    yield made
    elasticsearch.resume()
    made.kill()


@pytest.fixture
def index(table_name: str) -> str:
    return table_name


async def split(endpoint: str) -> None:
    """Make the number of shards larger."""
    page(endpoint, "reshard", {"shards": 8})
    await resharded(endpoint, 8)


def test_elasticsearch_is_paused_and_killed_under_load(searcher, elasticsearch, chance):
    async def run() -> None:
        async with AsyncConnection(searcher.server.endpoint) as connection:
            await create_table(connection, TABLE, indexes=False)
        load = Load(TABLE, 16, chance)
        await load.run(searcher.server.endpoint, 200, lambda: None)
        searcher.start()
        await searcher.settle(load)
        # What is written in the meantime waits in the log; the worker holds a part of it.
        await load.run(searcher.server.endpoint, 300, elasticsearch.pause)
        await load.run(searcher.server.endpoint, 300, partial(split, searcher.server.endpoint))
        await load.run(searcher.server.endpoint, 300, elasticsearch.resume)
        await load.run(searcher.server.endpoint, 300, elasticsearch.kill)
        await load.run(searcher.server.endpoint, 300, lambda: None)
        await asyncio.to_thread(
            wait_until, lambda: searcher.describe()["error"], "the worker to say what is wrong"
        )
        await asyncio.to_thread(elasticsearch.start)
        await searcher.settle(load)
        wait_until(lambda: searcher.describe()["error"] is None, "the error to be over")
        assert searcher.stop() == 0

    asyncio.run(run())


def test_the_worker_is_killed_while_it_follows_and_while_it_builds(searcher, chance):
    async def run() -> None:
        async with AsyncConnection(searcher.server.endpoint) as connection:
            await create_table(connection, TABLE, indexes=False)
        load = Load(TABLE, 16, chance)
        await load.run(searcher.server.endpoint, 300, lambda: None)
        searcher.start()
        await searcher.settle(load)
        for _ in range(ROUNDS):
            await load.run(searcher.server.endpoint, chance.randint(100, 500), searcher.rebuild)
            await load.run(searcher.server.endpoint, chance.randint(1, 200), searcher.kill)
            await load.run(searcher.server.endpoint, chance.randint(1, 200), lambda: None)
            searcher.start()
            await searcher.settle(load)
            wait_until(lambda: searcher.describe()["request"] is None, "the rebuild", 60)
            await searcher.settle(load)
        found = searcher.elasticsearch.call("GET", f"/_alias/{searcher.index}-building-*")
        assert found == {}

    asyncio.run(run())
