"""Operations reach Elasticsearch once each, whatever it answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from elasticsearch import AsyncElasticsearch

from streamtable.consumers.search.bulk import BulkLimits, BulkWriter, Operation, Rejection
from streamtable.consumers.search.client import open_elasticsearch
from streamtable.consumers.search.indexes import SearchIndexes
from streamtable.consumers.search.spec import SearchSpec
from tests.support.elastic_proxy import proxied
from tests.support.elasticsearch import Elasticsearch
from tests.support.waiting import until

LIMITS = BulkLimits(backoff_s=0.02, most_backoff_s=0.1, held_operations=50, operations=10)
MAPPING = {"properties": {"n": {"type": "long"}}}


class Writing:
    """A writer, with what has become of what it was given."""

    def __init__(self, client: AsyncElasticsearch, index: str, limits: BulkLimits = LIMITS) -> None:
        self.done: list[str] = []
        self.rejected: list[tuple[str, Rejection]] = []
        self.fail: list[BaseException] = []
        self.writer = BulkWriter(client, index, self._reject, limits)

    async def _reject(self, operation: Operation, rejection: Rejection) -> None:
        if self.fail:
            raise self.fail.pop()
        self.rejected.append((operation.subject, rejection))

    def operation(self, name: str, version: int, document: Any, shard: int = 0) -> Operation:
        json = None if document is None else orjson.dumps(document)
        return Operation(
            name, version, json, shard=shard, subject=name, done=lambda: self.done.append(name)
        )

    async def put(self, name: str, version: int, document: Any, shard: int = 0) -> None:
        await self.writer.put(self.operation(name, version, document, shard))


@pytest.fixture
async def alias(client: AsyncElasticsearch, index: str) -> str:
    """An index as the product makes it, behind its alias."""
    indexes = SearchIndexes(SearchSpec("a", "b", "t", index, mapping=MAPPING), client)
    await indexes.put_templates()
    building = await indexes.create()
    return building.alias


@asynccontextmanager
async def writing(
    client: AsyncElasticsearch, alias: str, limits: BulkLimits = LIMITS
) -> AsyncIterator[Writing]:
    made = Writing(client, alias, limits)
    made.writer.start()
    try:
        yield made
    finally:
        await made.writer.close()


async def test_the_newest_version_wins_in_any_order(
    client: AsyncElasticsearch, elasticsearch: Elasticsearch, alias: str
) -> None:
    async with writing(client, alias) as made:
        for version in (5, 3, 5, 4):
            await made.put("a", version, {"n": version})
            await made.writer.flush()
        for version, document in ((7, None), (6, {"n": 6}), (7, None), (5, None)):
            await made.put("b", version, document)
            await made.writer.flush()
        await made.put("never", 1, None)
        await made.writer.flush()
        assert len(made.done) == 9
        assert made.rejected == []
        assert (made.writer.held, made.writer.handled, made.writer.error) == (0, 9, None)
    assert elasticsearch.documents(alias) == {"a": {"n": 5}}


async def test_what_the_mapping_refuses_is_rejected_by_itself(
    client: AsyncElasticsearch, elasticsearch: Elasticsearch, alias: str
) -> None:
    async with writing(client, alias) as made:
        for number in range(30):
            await made.put(str(number), 1, {"n": "no number" if number % 10 == 4 else number})
        await made.writer.flush()
        assert sorted(name for name, _ in made.rejected) == ["14", "24", "4"]
        _, rejection = made.rejected[0]
        assert rejection.kind == "document_parsing_exception"
        assert "no number" in rejection.reason
        assert len(made.done) == 30
        assert made.writer.rejections == 3
    assert len(elasticsearch.documents(alias)) == 27


async def test_a_rejection_that_can_not_be_noted_is_tried_again(
    client: AsyncElasticsearch, alias: str
) -> None:
    async with writing(client, alias) as made:
        made.fail = [OSError("no broker"), OSError("no broker")]
        await made.put("a", 1, {"n": "x"})
        await made.writer.flush()
        assert [name for name, _ in made.rejected] == ["a"]
        assert made.done == ["a"]


async def test_a_request_that_is_too_much_is_taken_apart(
    client: AsyncElasticsearch, elasticsearch: Elasticsearch, alias: str
) -> None:
    async with proxied(elasticsearch.url) as proxy:
        # As http.max_content_length does it.
        proxy.refuse = lambda _, body: 413 if len(body) > 400 else None
        mine = open_elasticsearch(proxy.url)
        async with writing(mine, alias) as made:
            for number in range(9):
                await made.put(str(number), 1, {"n": number})
            await made.put("big", 1, {"text": "x" * 500})
            await made.writer.flush()
            assert [name for name, _ in made.rejected] == ["big"]
        await mine.close()
    assert len(elasticsearch.documents(alias)) == 9


@pytest.mark.parametrize("status", [429, 503, 401, 400])
async def test_an_outage_is_waited_out_with_bounded_memory(
    elasticsearch: Elasticsearch, alias: str, status: int
) -> None:
    async with proxied(elasticsearch.url) as proxy:
        proxy.refuse = lambda path, _: status if path.endswith("_bulk") else None
        mine = open_elasticsearch(proxy.url)
        async with writing(mine, alias) as made:

            async def put_all() -> None:
                for number in range(200):
                    await made.put(str(number), 1, {"n": number})

            putting = asyncio.create_task(put_all())
            await until(lambda: proxy.requests > 4, "attempts")
            assert made.writer.held == LIMITS.held_operations
            assert not putting.done()
            assert made.done == []
            assert str(status) in str(made.writer.error)
            proxy.refuse = lambda *_: None
            await putting
            await made.writer.flush()
            assert len(made.done) == 200
            assert made.writer.error is None
        await mine.close()
    assert len(elasticsearch.documents(alias)) == 200


async def test_what_was_too_much_at_the_time_is_sent_again_and_nothing_else(
    elasticsearch: Elasticsearch, alias: str
) -> None:
    def spoil(_path: str, answer: dict[str, Any]) -> None:
        if proxy.requests == 1:
            answer["errors"] = True
            for item in answer["items"][3:5]:
                (result,) = item.values()
                error = {"type": "es_rejected_execution_exception", "reason": "queue is full"}
                result |= {"status": 429, "error": error}

    async with proxied(elasticsearch.url) as proxy:
        proxy.spoil = spoil
        mine = open_elasticsearch(proxy.url)
        made = Writing(mine, alias)
        for number in range(9):
            await made.put(str(number), 1, {"n": number})
        made.writer.start()
        await made.writer.flush()
        assert made.done == ["0", "1", "2", "5", "6", "7", "8", "3", "4"]
        assert proxy.requests == 2
        assert proxy.bodies[1].count(b'"_id"') == 2
        await made.writer.close()
        await mine.close()


async def test_an_answer_that_got_lost_does_no_harm(
    elasticsearch: Elasticsearch, alias: str
) -> None:
    async with proxied(elasticsearch.url) as proxy:
        lost = iter([True, False, True])
        proxy.lose = lambda path: path.endswith("_bulk") and next(lost, False)
        mine = open_elasticsearch(proxy.url)
        async with writing(mine, alias) as made:
            for number in range(40):
                await made.put(str(number), 1, {"n": number})
            await made.writer.flush()
            assert sorted(made.done, key=int) == [str(number) for number in range(40)]
            assert made.rejected == []
        await mine.close()
    assert len(elasticsearch.documents(alias)) == 40


@pytest.mark.parametrize("document", [None, {"n": 1}])
async def test_no_index_is_made_where_the_alias_is_missing(
    client: AsyncElasticsearch, elasticsearch: Elasticsearch, index: str, document: Any
) -> None:
    indexes = SearchIndexes(SearchSpec("a", "b", "t", index, mapping=MAPPING), client)
    await indexes.put_templates()
    async with writing(client, index) as made:
        await made.put("a", 1, document)
        async with asyncio.timeout(60):
            await made.writer.missing.wait()
        assert made.done == []
    assert not (await client.indices.exists(index=index)).body


async def test_what_is_dropped_is_neither_sent_nor_done(
    elasticsearch: Elasticsearch, alias: str
) -> None:
    async with proxied(elasticsearch.url) as proxy:
        proxy.refuse = lambda *_: 503
        mine = open_elasticsearch(proxy.url)
        async with writing(mine, alias) as made:
            for number in range(30):
                await made.put(str(number), 1, {"n": number}, shard=number % 2)
            assert made.writer.held_by_shard() == {0: 15, 1: 15}
            await made.writer.drop(frozenset({1}), 5)
            assert made.writer.held_by_shard()[1] == 0
            proxy.refuse = lambda *_: None
            await made.writer.flush()
            assert sorted(map(int, made.done)) == [*range(0, 30, 2)]
        await mine.close()
    assert len(elasticsearch.documents(alias)) == 15
