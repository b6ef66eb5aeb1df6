"""What a search index's sink passes over: changes of a table that another one has replaced."""

from typing import Any

import pytest

from streamtable.consumers.search import present
from streamtable.consumers.search.present import PresentTable
from streamtable.consumers.search.sink import SearchSink
from streamtable.consumers.search.spec import SearchSpec
from streamtable.core.changes import Change, encode_changes
from streamtable.core.images import Image
from streamtable.streams.records import COMMIT, LogRecord
from streamtable.triggers.endpoint import NodeError

MADE_MS = 1_700_000_000_000


class Node:
    """Tells which table there is."""

    def __init__(self) -> None:
        self.table_id: str | None = "one"
        self.made_ms = MADE_MS
        self.asked = 0
        self.away = 0

    async def call(self, operation: str, body: Any) -> Any:
        assert (operation, body) == ("DescribeTable", {"TableName": "orders"})
        self.asked += 1
        if self.away:
            self.away -= 1
            raise NodeError(500, "InternalServerError", "away", {})
        if self.table_id is None:
            raise NodeError(400, "ResourceNotFoundException", "no table", {})
        return {"Table": {"TableId": self.table_id, "CreationDateTime": self.made_ms / 1000}}


class Writer:
    """Keeps what it takes."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def start(self) -> None:
        pass

    async def put(self, operation: Any) -> None:
        self.ids.append(operation.subject.keys["id"]["S"])
        operation.done()


def change_of(table_id: str, name: str, at_ms: int) -> Change:
    key = {"id": {"S": name}}
    json = f'{{"id":{{"S":"{name}"}}}}'.encode()
    image = Image(json, 10, at_ms << 16, "local", key)
    return Change(
        table="orders",
        table_id=table_id,
        keys=key,
        old=None,
        new=image,
        time=at_ms << 16,
        region="local",
        created_ms=at_ms,
        request_id="r",
        principal="p",
        service=None,
    )


class Following:
    """A sink, with what came of it."""

    def __init__(self, node: Any) -> None:
        self.writer = Writer()
        self.done = 0
        writer: Any = self.writer
        table = PresentTable(node, "orders")
        spec = SearchSpec("shop", "items", "orders", "orders")
        self.sink = SearchSink(spec, table, writer, lambda shards: None)

    async def take(self, *changes: Change) -> list[str]:
        """Take a commit; return the documents that it brought."""
        self.writer.ids.clear()
        value = encode_changes(b",".join(change.encode() for change in changes), [])
        record = LogRecord(0, 1, 0, COMMIT, "e", frozenset({"orders"}), value)
        await self.sink.take(record, self._count)
        return [*self.writer.ids]

    def _count(self) -> None:
        self.done += 1


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.setattr(present, "_RETRY_S", 0.0)
    return Node()


async def test_changes_of_a_table_that_was_replaced_are_passed_over(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    following = Following(node)
    assert await following.take(change_of("one", "a", MADE_MS + 1)) == ["a"]
    node.table_id, node.made_ms = "two", MADE_MS + 10
    monkeypatch.setattr(present, "_BELIEVED_S", 0.0)
    following = Following(node)
    old, new = change_of("one", "b", MADE_MS + 2), change_of("two", "c", MADE_MS + 11)
    assert await following.take(old, new) == ["c"]
    assert following.done == 1


async def test_a_node_that_is_behind_or_away_loses_no_change(node: Node) -> None:
    node.away = 2
    following = Following(node)
    assert await following.take(change_of("two", "a", MADE_MS + 20)) == ["a"]
    node.table_id = None
    assert await following.take(change_of("three", "b", MADE_MS + 30)) == ["b"]


async def test_the_node_is_not_asked_for_each_change(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(present, "_BELIEVED_S", 60.0)
    following = Following(node)
    changes = [change_of("one", str(n), MADE_MS + 1) for n in range(100)]
    assert len(await following.take(*changes)) == 100
    assert node.asked == 1
