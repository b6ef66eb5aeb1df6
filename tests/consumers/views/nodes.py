"""A node for tests of views: it keeps views' rows and tokens in memory, and can fail."""

import random
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Any

import orjson

from streamtable.core.errors import StreamtableError, ValidationError
from streamtable.core.keys import KeySchema
from streamtable.core.values import Item
from streamtable.core.views.aggregates import parse_contribution, regroup
from streamtable.streams.records import LogRecord

__all__ = ["FakeNode", "FakeView", "Refusal", "record", "row"]

Place = tuple[int, int]


class Refusal(StreamtableError):
    """What the node answers with."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _Values:
    """One group's values, as `regroup` takes them."""

    def __init__(self, rows: dict[bytes, Item]) -> None:
        self.rows = rows

    def get(self, key: bytes) -> Item | None:
        return self.rows.get(key)

    def put(self, key: bytes, row: Item | None) -> None:
        if row is None:
            self.rows.pop(key, None)
        else:
            self.rows[key] = row

    def scan(self, start: bytes, end: bytes, *, reverse: bool) -> Iterator[Item]:
        for key in sorted(self.rows, reverse=reverse):
            if start <= key < end:
                yield self.rows[key]


class FakeView:
    """A view's table."""

    def __init__(self, keys: KeySchema, measures: Mapping[str, Any] | None = None) -> None:
        self.keys = keys
        self.measures = {name: each.definition() for name, each in (measures or {}).items()}
        self.rows: dict[bytes, Item] = {}
        self.values: dict[bytes, dict[bytes, Item]] = {}
        self.tokens: dict[tuple[int, int], Place] = {}

    def items(self) -> list[Item]:
        """Every row, in the order of the keys."""
        return [self.rows[key] for key in sorted(self.rows)]

    def apply(self, operation: dict[str, Any]) -> None:
        """Carry out one operation."""
        if "put" in operation:
            item = operation["put"]
            self.rows[self._key(item)] = item
        elif "delete" in operation:
            self.rows.pop(self._key(operation["delete"]), None)
        else:
            raw = operation["aggregate"]
            key = self._key(raw["group"])
            after = regroup(
                self.measures,
                raw["group"],
                self.rows.get(key),
                parse_contribution(raw, self.measures),
                _Values(self.values.setdefault(key, {})),
            )
            if after is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = after

    def _key(self, item: Item) -> bytes:
        return self.keys.locate(b"", item)[1]


class FakeNode:
    """What `Node` describes, with views in memory.

    Attributes:
        views: by table id.
        chance: with it, a part of the ingests fail: some before they are done, some after.
        refuse: says whether an operation is refused.
        ingests: how many were asked for.
        away: no node answers.
    """

    def __init__(self, shards: int = 4, chance: random.Random | None = None) -> None:
        self.shards = shards
        self.chance = chance
        self.views: dict[str, FakeView] = {}
        self.refuse: Callable[[dict[str, Any]], bool] = lambda _operation: False
        self.ingests = 0
        self.away = False
        self.offset = 0
        self.operations: list[dict[str, Any]] = []

    async def call(self, operation: str, body: Mapping[str, Any]) -> dict[str, Any]:
        assert operation == "Query", operation
        view = self.views[body["TableName"]]
        wanted = body["ExpressionAttributeValues"][":join"]
        return {"Items": [row for row in view.items() if row["join"] == wanted]}

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        self._answer()
        assert path.endswith("/views/tokens")
        assert query is not None
        tokens = self.views[query["view"]].tokens
        source = int(query["source"])
        return {
            "tokens": {
                str(target): list(place) for (of, target), place in tokens.items() if of == source
            }
        }

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        assert path.endswith("/views/ingest")
        self.ingests += 1
        body = orjson.loads(orjson.dumps(body))
        self._answer()
        view = self.views.get(body["view"])
        if view is None:
            raise Refusal("ResourceNotFoundException")
        operations = [orjson.loads(text) for text in body["operations"]]
        if any(self.refuse(operation) for operation in operations):
            raise ValidationError("refused")
        pair = (body["source"], body["target"])
        token = view.tokens.get(pair)
        after = None if body["after"] is None else tuple(body["after"])
        if token != after:
            return {"applied": False, "token": None if token is None else list(token)}
        assert token is None or tuple(body["through"]) > token
        for operation in operations:
            view.apply(operation)
        self.operations += operations
        view.tokens[pair] = tuple(body["through"])
        self._answer()
        self.offset += 1
        return {"applied": True, "position": [body["target"], self.offset]}

    async def stream(
        self, path: str, query: Mapping[str, str] | None = None
    ) -> AsyncGenerator[dict[str, Any]]:
        raise NotImplementedError(path, query)
        yield {}  # type: ignore[unreachable]

    def _answer(self) -> None:
        if self.away or (self.chance is not None and self.chance.random() < 0.15):
            raise ConnectionError("no answer")


def row(**values: Any) -> Item:
    """Return an item of strings and numbers in wire form."""
    return {
        name: {"N": str(value)} if isinstance(value, int) else {"S": value}
        for name, value in values.items()
    }


def record(
    offset: int, *changes: tuple[Item | None, Item | None], shard: int = 0, table: str = "orders"
) -> LogRecord:
    """Return a commit with changes from old images to new ones; the table's key is `id`."""
    listed = []
    for old, new in changes:
        images: dict[str, Any] = {"Keys": {"id": (new or old or {})["id"]}}
        if old is not None:
            images["OldImage"] = old
        if new is not None:
            images["NewImage"] = new
        event = "INSERT" if old is None else "REMOVE" if new is None else "MODIFY"
        listed.append(
            {"table": table, "tableId": f"id of {table}", "eventName": event, "dynamodb": images}
        )
    value = orjson.dumps({"changes": listed})
    return LogRecord(shard, offset, 0, "commit", "e", frozenset({table}), value)
