"""A search index follows a table: real node, real log, real Elasticsearch."""

import asyncio
import dataclasses
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from streamtable.consumers.search import runner
from streamtable.consumers.search.bulk import Rejection
from streamtable.consumers.search.spec import SearchSpec
from streamtable.streams.follower import Follower, LostRecords
from tests.consumers.search.conftest import MemoryLetters, Run
from tests.support.elastic_proxy import proxied
from tests.support.elasticsearch import Elasticsearch
from tests.support.waiting import until


@pytest.fixture
def table(resource: Any, table_name: str) -> Any:
    return resource.create_table(
        TableName=table_name,
        AttributeDefinitions=[
            {"AttributeName": "owner", "AttributeType": "S"},
            {"AttributeName": "n", "AttributeType": "N"},
        ],
        KeySchema=[
            {"AttributeName": "owner", "KeyType": "HASH"},
            {"AttributeName": "n", "KeyType": "RANGE"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )


def put(table: Any, owner: str, n: int, **attributes: Any) -> None:
    table.put_item(Item={"owner": owner, "n": n, **attributes})


def spec_of(table: Any, index: str, **arguments: Any) -> SearchSpec:
    settings = {"number_of_replicas": 0}
    return SearchSpec(f"app-{index}", "items", table.name, index, settings=settings, **arguments)


async def test_rows_from_before_and_changes_from_then_on(
    run: Run, elasticsearch: Elasticsearch, table: Any, index: str
) -> None:
    for n in range(20):
        put(table, "before", n, price=Decimal("1.5"), tags={"a"})
    async with run(spec_of(table, index)) as indexing:
        await until(lambda: len(elasticsearch.documents(index)) == 20, "the rows")
        found = elasticsearch.documents(index)
        assert found["before|3"] == {"owner": "before", "n": 3, "price": 1.5, "tags": ["a"]}
        put(table, "after", 1, big=10**30)
        table.delete_item(Key={"owner": "before", "n": 3})
        put(table, "before", 4, price=2)
        await until(lambda: "after|1" in elasticsearch.documents(index), "the insert")
        await until(lambda: "before|3" not in elasticsearch.documents(index), "the removal")
        await until(
            lambda: elasticsearch.documents(index)["before|4"].get("price") == 2, "the change"
        )
        assert elasticsearch.documents(index)["after|1"]["big"] == 1e30
        await until(lambda: indexing.runner.report()["state"] == "running", "the end of the build")
        assert indexing.runner.report()["error"] is None
    assert [*elasticsearch.call("GET", f"/{index}/_alias")] == [f"{index}-000001"]


async def test_what_is_refused_is_a_dead_letter_and_the_rest_goes_on(
    run: Run, elasticsearch: Elasticsearch, table: Any, index: str
) -> None:
    mapping = {"properties": {"price": {"type": "long"}}}
    put(table, "row", 1, price="cheap")

    def make(item: Any) -> Any:
        if item["owner"]["S"] == "none":
            return None
        return {"price": item["price"].get("N") or item["price"]["S"]}

    async with run(spec_of(table, index, mapping=mapping, make=make)) as indexing:
        letters = indexing.letters
        await until(lambda: len(letters.refused) == 1, "the row's refusal")
        put(table, "good", 1, price=5)
        put(table, "bad", 1, price="expensive")
        put(table, "odd", 1)
        put(table, "none", 1, price=1)
        put(table, "good", 2, price=6)
        await until(lambda: len(elasticsearch.documents(index)) == 2, "the good ones")

        def refusals() -> dict[str, Rejection]:
            return {each.keys["owner"]["S"]: why for each, why in letters.refused}

        await until(lambda: len(refusals()) == 3, "the refusals")
        refused = refusals()
        assert refused.keys() == {"row", "bad", "odd"}
        assert refused["bad"].kind == "document_parsing_exception"
        assert refused["odd"].kind == "KeyError"
        assert "KeyError" in refused["odd"].trace
        assert elasticsearch.documents(index) == {
            "good|1": {"price": "5"},
            "good|2": {"price": "6"},
        }


async def test_a_redriven_letter_is_indexed_after_the_mapping_was_mended(
    run: Run, elasticsearch: Elasticsearch, table: Any, index: str
) -> None:
    owner, n = {"type": "keyword"}, {"type": "long"}
    strict = {"dynamic": "strict", "properties": {"owner": owner}}
    wide = {"dynamic": "strict", "properties": {"owner": owner, "n": n}}
    letters = MemoryLetters()
    async with run(spec_of(table, index, mapping=strict), letters=letters):
        put(table, "a", 1)
        await until(lambda: letters.refused, "the refusal")
        await until(lambda: elasticsearch.call("GET", f"/{index}*/_alias"), "the index")
    async with run(spec_of(table, index, mapping=wide), letters=letters) as indexing:
        # Looking after the index begins with what the declared mapping has more.
        await until(lambda: "n" in properties(elasticsearch, index), "the wider mapping")
        letters.again = [letters.refused[0][0]]
        indexing.update(redrives=1)
        await until(lambda: "a|1" in elasticsearch.documents(index), "the letter")


def properties(elasticsearch: Elasticsearch, index: str) -> Any:
    found = elasticsearch.call("GET", f"/{index}*/_mapping")
    return {name for about in found.values() for name in about["mappings"]["properties"]}


def plain(table: Any) -> dict[str, Any]:
    found = table.scan(ConsistentRead=True)["Items"]
    return {
        f"{item['owner']}|{item['n']}": {
            name: int(value) if isinstance(value, Decimal) else value
            for name, value in item.items()
        }
        for item in found
    }


async def test_a_rebuild_under_writes_is_complete_and_swaps_at_once(
    run: Run, elasticsearch: Elasticsearch, table: Any, index: str
) -> None:
    with table.batch_writer() as batch:
        for n in range(300):
            batch.put_item(Item={"owner": "o", "n": n, "round": 0})
    stop = threading.Event()
    counts: list[int] = []

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            if number % 5:
                put(table, "o", number % 400, round=number)
            else:
                table.delete_item(Key={"owner": "o", "n": (number * 7) % 400})

    def read() -> None:
        while not stop.is_set():
            counts.append(elasticsearch.call("GET", f"/{index}/_count")["count"])

    async with run(spec_of(table, index)) as indexing:
        await until(lambda: len(elasticsearch.documents(index)) == 300, "the rows")
        with ThreadPoolExecutor(2) as threads:
            tasks = [threads.submit(write), threads.submit(read)]
            try:
                await until(lambda: counts, "the first search")
                await indexing.request()
                await indexing.request(keep=True)
            finally:
                stop.set()
            for task in tasks:
                task.result()
        assert [*elasticsearch.call("GET", f"/{index}/_alias")] == [f"{index}-000003"]
        await until(lambda: elasticsearch.documents(index) == plain(table), "the last changes")
        # Kept as it was, and not fed any more.
        assert elasticsearch.documents(f"{index}-000002")
        await until(lambda: not elasticsearch.documents(f"{index}-000001"), "the removal")
        assert elasticsearch.call("GET", f"/_alias/{index}-building-*") == {}
        settings = elasticsearch.call("GET", f"/{index}/_settings?flat_settings=true")
        found = settings[f"{index}-000003"]["settings"]
        assert found["index.gc_deletes"] == "1h"
        assert found["index.number_of_replicas"] == "0"
        assert "index.refresh_interval" not in found
    # Whoever searched meanwhile always had a whole index before him.
    assert min(counts) > 150


async def test_an_index_that_somebody_removed_is_built_again(
    run: Run, elasticsearch: Elasticsearch, table: Any, index: str
) -> None:
    put(table, "a", 1)
    async with run(spec_of(table, index)):
        await until(lambda: elasticsearch.documents(index), "the row")
        elasticsearch.call("DELETE", f"/{index}-000001")
        put(table, "b", 1)
        await until(lambda: len(elasticsearch.documents(index)) == 2, "the new index")
    assert [*elasticsearch.call("GET", f"/{index}/_alias")] == [f"{index}-000001"]


async def test_a_build_tells_its_own_progress_from_the_first(
    run: Run, elasticsearch: Elasticsearch, table: Any, index: str
) -> None:
    put(table, "a", 1)
    async with run(spec_of(table, index)) as indexing:
        await until(lambda: elasticsearch.documents(index), "the row")
        call, asked, go_on = indexing.node.call, asyncio.Event(), asyncio.Event()

        async def held(operation: str, body: Mapping[str, Any]) -> Any:
            """Keep a build waiting with its first question, the one about its table."""
            if indexing.runner.report()["progress"] is not None:
                asked.set()
                await go_on.wait()
            return await call(operation, body)

        indexing.node.call = held
        building = asyncio.create_task(indexing.request())
        await until(asked.is_set, "the build")
        progress = indexing.runner.report()["progress"]
        assert (progress["phase"], progress["done"], progress["total"]) == ("rows", 0, None)
        go_on.set()
        await building


async def test_a_build_that_was_cut_off_is_begun_anew(
    run: Run, elasticsearch: Elasticsearch, table: Any, index: str
) -> None:
    for n in range(50):
        put(table, "o", n)
    async with proxied(elasticsearch.url) as proxy:
        proxy.refuse = lambda path, _: 503 if path.endswith("_bulk") else None
        async with run(spec_of(table, index), url=proxy.url) as indexing:

            def stuck() -> dict[str, Any] | None:
                """Return the report once every row is handed over and none gets through."""
                report: dict[str, Any] = dict(indexing.runner.report())
                progress = report["progress"] or {"phase": "", "done": 0}
                at_the_log = (progress["phase"], progress["done"]) == ("log", 50)
                return report if at_the_log and "error" in progress else None

            report = await until(stuck, "every row to be handed over, and the error")
            progress = report["progress"]
            assert report["state"] == "building"
            assert (progress["total"], progress["rejected"]) == (None, 0)
            assert "503" in progress["error"]
    assert len(elasticsearch.call("GET", f"/_alias/{index}-building-*")) == 1
    assert elasticsearch.documents(index) == {}
    async with run(spec_of(table, index)):
        await until(lambda: len(elasticsearch.documents(index)) == 50, "the rows")
    assert elasticsearch.call("GET", f"/_alias/{index}-building-*") == {}


async def test_a_swap_without_an_answer_is_looked_up_and_its_tail_read(
    run: Run, elasticsearch: Elasticsearch, table: Any, index: str
) -> None:
    put(table, "a", 1)
    async with proxied(elasticsearch.url) as proxy:
        lost = iter([True])
        proxy.lose = lambda path: path == "/_aliases" and next(lost, False)
        async with run(spec_of(table, index), url=proxy.url) as indexing:
            await until(lambda: elasticsearch.documents(index), "the row")
            await until(lambda: indexing.runner.report()["progress"] is None, "the end")
            put(table, "b", 1)
            await until(lambda: len(elasticsearch.documents(index)) == 2, "the change")
            await indexing.request()
    (about,) = elasticsearch.call("GET", f"/{index}").values()
    assert "tail" not in about["mappings"]["_meta"]["streamtable"]


async def test_a_table_that_was_made_again_has_an_index_of_its_own(
    run: Run, elasticsearch: Elasticsearch, resource: Any, table: Any, index: str
) -> None:
    put(table, "old", 1)
    async with run(spec_of(table, index)):
        await until(lambda: elasticsearch.documents(index), "the row")
        schema = {
            "KeySchema": table.key_schema,
            "AttributeDefinitions": table.attribute_definitions,
        }
        table.delete()
        resource.create_table(TableName=table.name, BillingMode="PAY_PER_REQUEST", **schema)
        put(table, "new", 1)
        await until(lambda: [*elasticsearch.documents(index)] == ["new|1"], "the new table's item")


async def test_an_index_of_somebody_else_is_left_alone(
    run: Run, elasticsearch: Elasticsearch, table: Any, index: str
) -> None:
    put(table, "a", 1)
    elasticsearch.call("PUT", f"/{index}")
    async with run(spec_of(table, index)) as indexing:
        said = f"Elasticsearch has an index named {index!r}"
        await until(lambda: said in (indexing.runner.report()["error"] or ""), "the error")
        assert indexing.runner.report()["state"] == "waiting"
        elasticsearch.call("DELETE", f"/{index}")
        await until(lambda: elasticsearch.documents(index), "the row")
    other = dataclasses.replace(spec_of(table, index), name="others")
    async with run(other) as indexing:
        said = f"belongs to the search index app-{index}/items"
        await until(lambda: said in (indexing.runner.report()["error"] or ""), "the error")
    renamed = dataclasses.replace(spec_of(table, index), name="renamed")
    async with run(renamed, formerly=("items",)) as indexing:
        put(table, "b", 1)
        await until(lambda: len(elasticsearch.documents(index)) == 2, "the change")


async def test_what_the_log_has_lost_is_taken_from_the_rows(
    run: Run,
    elasticsearch: Elasticsearch,
    table: Any,
    index: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(table, "a", 1)
    async with run(spec_of(table, index)):
        await until(lambda: elasticsearch.documents(index), "the row")
    # As if no worker had run for a day, and what was written then is not in the log any more.
    elasticsearch.call("DELETE", f"/{index}/_doc/a%7C1")
    skipped = []

    class Losing(Follower):
        async def run(self) -> None:
            skipped.append(self._skip_lost)
            if not self._skip_lost:
                raise LostRecords("shard 0 starts at offset 9, 9 records are gone")
            await super().run()

    monkeypatch.setattr(runner, "Follower", Losing)
    async with run(spec_of(table, index)):
        await until(lambda: "a|1" in elasticsearch.documents(index), "the row")
        put(table, "b", 1)
        await until(lambda: "b|1" in elasticsearch.documents(index), "the change")
    assert skipped == [False, True]
    assert [*elasticsearch.call("GET", f"/{index}/_alias")] == [f"{index}-000002"]


async def test_a_declaration_that_only_a_rebuild_brings_in_is_told_of(
    run: Run, elasticsearch: Elasticsearch, table: Any, index: str, caplog: Any
) -> None:
    put(table, "a", 1)
    one = spec_of(table, index, mapping={"properties": {"n": {"type": "long"}}}, fingerprint="1")
    async with run(one):
        await until(lambda: elasticsearch.documents(index), "the row")
    async with run(dataclasses.replace(one, fingerprint="2")):
        await until(lambda: "was built with other settings, or by other code" in caplog.text, "it")
    other = {"properties": {"n": {"type": "keyword"}}}
    async with run(dataclasses.replace(one, mapping=other)) as indexing:
        await until(lambda: "can't take the declared mapping" in caplog.text, "the warning")
        await indexing.request()
        found = elasticsearch.call("GET", f"/{index}/_mapping")[f"{index}-000002"]
        assert found["mappings"]["properties"]["n"] == {"type": "keyword"}
