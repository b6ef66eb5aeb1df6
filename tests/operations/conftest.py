from typing import Any

import orjson
import pytest

from streamtable.consumers.checkpoints.objects import Objects
from streamtable.core.shapes import validate
from streamtable.operations import handlers
from streamtable.settings import NodeSettings
from tests.fakes import CONTEXT, FakeCatalog, FakeShards, FakeTransactions


class Service:
    """The operations on fakes, called as the gateway calls them."""

    def __init__(
        self, table_delay_ms: int = 0, shards: int = 4, objects: Objects | None = None
    ) -> None:
        self.shards = FakeShards(shards)
        self.catalog = FakeCatalog(self.shards)
        self.transactions = FakeTransactions(self.shards)
        settings = NodeSettings(table_delay_ms=table_delay_ms)
        catalog: Any = self.catalog
        shards_: Any = self.shards
        transactions: Any = self.transactions
        self.handlers = handlers(catalog, shards_, transactions, settings, objects=objects)

    async def __call__(self, operation: str, **body: Any) -> dict[str, Any]:
        body = orjson.loads(orjson.dumps(body))
        validate(operation, body)
        answer = await self.handlers[operation](body, CONTEXT)
        found: dict[str, Any] = orjson.loads(
            answer if isinstance(answer, bytes) else orjson.dumps(answer)
        )
        return found

    async def table(self, name: str = "users", **changes: Any) -> None:
        body: dict[str, Any] = {
            "TableName": name,
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "BillingMode": "PAY_PER_REQUEST",
            **changes,
        }
        await self("CreateTable", **body)

    async def sorted_table(self, name: str = "posts", kind: str = "N") -> None:
        await self.table(
            name,
            AttributeDefinitions=[
                {"AttributeName": "id", "AttributeType": "S"},
                {"AttributeName": "seq", "AttributeType": kind},
            ],
            KeySchema=[
                {"AttributeName": "id", "KeyType": "HASH"},
                {"AttributeName": "seq", "KeyType": "RANGE"},
            ],
        )


@pytest.fixture
async def service() -> Service:
    return Service()
