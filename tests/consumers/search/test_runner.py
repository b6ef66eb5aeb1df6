"""A search index follows a table: real node, real log, real Elasticsearch."""

from decimal import Decimal
from typing import Any

import pytest

from streamtable.consumers.search.spec import SearchSpec
from tests.consumers.search.conftest import Run
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
        report = indexing.runner.report()
        assert (report["state"], report["error"]) == ("running", None)
    assert [*elasticsearch.call("GET", f"/{index}/_alias")] == [f"{index}-000001"]
