"""A real Elasticsearch for the tests here, and search indexes that run in the test's own loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from elasticsearch import AsyncElasticsearch

from streamtable.consumers.search.bulk import BulkLimits, Rejection
from streamtable.consumers.search.client import open_elasticsearch
from streamtable.consumers.search.letters import Put
from streamtable.consumers.search.operations import Subject
from streamtable.consumers.search.runner import SearchRunner, SearchTools
from streamtable.consumers.search.spec import SearchSpec
from streamtable.core.consumers import ConsumerDocument
from streamtable.streams.follower import Source
from streamtable.triggers.endpoint import Endpoint
from tests.support.elasticsearch import Elasticsearch
from tests.support.waiting import until

__all__ = ["Indexing", "MemoryLetters"]

LIMITS = BulkLimits(backoff_s=0.05, most_backoff_s=0.5)


@pytest.fixture
async def client(elasticsearch: Elasticsearch) -> AsyncIterator[AsyncElasticsearch]:
    """A client of it, as the product makes it."""
    made = open_elasticsearch(elasticsearch.url)
    yield made
    await made.close()


@pytest.fixture
def index() -> str:
    """A name of an index that no other test uses."""
    return f"i-{uuid4().hex[:12]}"


@dataclass
class MemoryLetters:
    """Keeps what was refused, and hands it out again when told to."""

    refused: list[tuple[Subject, Rejection]] = field(default_factory=list)
    again: list[Subject] = field(default_factory=list)

    async def add(self, document: ConsumerDocument, subject: Subject, rejection: Rejection) -> None:
        self.refused.append((subject, rejection))

    async def redrive(self, document: ConsumerDocument, shards: frozenset[int], put: Put) -> None:
        for subject in [each for each in self.again if each.position.shard in shards]:
            self.again.remove(subject)
            await put(subject, lambda: None)

    async def close(self) -> None:
        pass


class _Node:
    """A node's endpoint that notes what is posted, and does not send it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.posted: list[Mapping[str, Any]] = []
        self.call = endpoint.call
        self.get = endpoint.get
        self.stream = endpoint.stream

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self.posted.append(body)
        return {}


class Indexing:
    """Runs one search index against a node and an Elasticsearch."""

    def __init__(
        self,
        spec: SearchSpec,
        node: _Node,
        runner: SearchRunner,
        letters: MemoryLetters,
        formerly: tuple[str, ...],
    ) -> None:
        self.spec = spec
        self.node = node
        self.runner = runner
        self.letters = letters
        self.document = ConsumerDocument(
            kind="search",
            app=spec.app,
            name=spec.name,
            id=uuid4().hex,
            sources=(spec.table,),
            start={},
            start_text="TRIM_HORIZON",
            created=0.0,
            formerly=formerly,
        )

    async def request(self, **request: Any) -> None:
        """Ask for a rebuild and wait until it is carried out."""
        found = {"id": uuid4().hex, "kind": "rebuild", **request}
        self.update(request=found)
        await until(
            lambda: found["id"] in [each["request_id"] for each in self.node.posted], "the rebuild"
        )
        self.update(request=None)

    def update(self, **changes: Any) -> None:
        """Give the runner a newer registration."""
        self.document = self.document.model_copy(update=changes)
        self.runner.update(self.document)


Run = Callable[..., Any]


@pytest.fixture
def run(server: Any, elasticsearch: Elasticsearch) -> Run:
    """Return what runs a search index for as long as a `with` takes."""

    @asynccontextmanager
    async def running_index(
        spec: SearchSpec,
        *,
        url: str | None = None,
        letters: MemoryLetters | None = None,
        formerly: tuple[str, ...] = (),
    ) -> AsyncIterator[Indexing]:
        client = open_elasticsearch(url or elasticsearch.url)
        async with Endpoint(server.endpoint) as endpoint:
            about = await endpoint.describe()
            letters = letters or MemoryLetters()
            node = _Node(endpoint)
            tools = SearchTools(
                client,
                node,
                Source(about.kafka, about.changelog, endpoint),
                about.region,
                about.shards,
                letters,
                limits=LIMITS,
                look_s=0.2,
            )
            runner = SearchRunner(spec, tools)
            indexing = Indexing(spec, node, runner, letters, formerly)
            task = asyncio.create_task(runner.run(indexing.document))
            try:
                yield indexing
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                await client.close()

    return running_index
