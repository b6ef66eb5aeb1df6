"""`streamtable log why`: what it asks the node, and what it prints."""

import json
from typing import Any

import orjson
import pytest

from streamtable.cli import why
from streamtable.cli.output import Failure
from streamtable.core.changes import change_to_json
from streamtable.triggers.endpoint import NodeError
from tests.support.changelog import change
from tests.support.commands import error_line, run

ERROR = {"type": "ValueError", "message": "no boss\nat all"}


class Node:
    """Answers page by page, and keeps what it was asked."""

    def __init__(self, *pages: dict[str, Any] | NodeError) -> None:
        self.pages = list(pages)
        self.asked: list[dict[str, str]] = []

    async def get(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        assert path == "/_streamtable/why"
        self.asked.append(query)
        page = self.pages.pop(0)
        if isinstance(page, NodeError):
            raise page
        return page


async def explained(node: Any) -> list[Any]:
    return [each async for each in why.explain(node, "users", "id=ada", 7)]


async def test_it_asks_on_until_the_end() -> None:
    node = Node(
        {"shard": 1, "from": 5, "next": 9, "end": 20, "then": 3, "changes": ["a", "b"]},
        {"shard": 1, "from": 9, "next": 20, "end": 20, "then": 3, "changes": ["c"]},
        {"shard": 3, "from": 0, "next": 2, "end": 2, "then": None, "changes": ["d"]},
    )
    assert await explained(node) == ["a", "b", "c", "d"]
    asked = {"table": "users", "key": "id=ada", "since_ms": "7"}
    assert node.asked == [
        asked,
        {**asked, "shard": "1", "from": "9"},
        # In a split it went there.
        {**asked, "shard": "3"},
    ]


async def test_a_page_that_does_not_move_on_is_the_last() -> None:
    assert await explained(
        Node({"shard": 1, "from": 5, "next": 5, "end": 20, "then": None, "changes": ["a"]})
    ) == ["a"]


async def test_what_the_node_refuses() -> None:
    with pytest.raises(Failure, match="there is no table users"):
        await explained(Node(NodeError(400, "ResourceNotFound", "there is no table users", {})))


def printed(capsys: pytest.CaptureFixture[str], *consumers: dict[str, Any]) -> list[str]:
    """The lines after the difference."""
    json_form = json.loads(
        orjson.dumps(change_to_json(change("ada", old={"n": {"N": "1"}}, new={})))
    )
    found = {"shard": 1, "offset": 40, "index": 2, **json_form, "consumers": list(consumers)}
    why.print_text(found)
    head, difference, *lines = capsys.readouterr().out.splitlines()
    assert "1/40.2  users  MODIFY  id=" in head
    assert difference == "    - n: 1"
    return [line.strip() for line in lines]


def test_who_and_what_became_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    trigger = {"consumer": "shop/mail", "kind": "trigger"}
    assert printed(
        capsys,
        {**trigger, "outcome": "done"},
        {"consumer": "shop/by_status", "kind": "view", "outcome": "not there yet"},
        {**trigger, "outcome": "not there yet", "paused": True},
        {**trigger, "outcome": "not there yet", "state": "no worker"},
        {**trigger, "outcome": "not there yet", "state": "stopped", "error": "KeyError: 'n'"},
        {**trigger, "outcome": "retrying", "attempts": 1, "error": "ValueError: no"},
        {**trigger, "outcome": "dead letter", "attempts": 3, "error": ERROR, "id": "shop/mail/1"},
    ) == [
        "by someone, request REQUEST",
        "shop/mail       trigger  done",
        "shop/by_status  view     not there yet",
        "shop/mail       trigger  not there yet, it is paused",
        "shop/mail       trigger  not there yet, no worker runs it",
        "shop/mail       trigger  not there yet, it has stopped: KeyError: 'n'",
        "shop/mail       trigger  retrying, 1 attempt: ValueError: no",
        "shop/mail       trigger  dead letter, 3 attempts: ValueError: no boss (shop/mail/1)",
    ]


class TestCommand:
    def test_text(self, table: str, endpoint: str) -> None:
        code, out, err = run("log", "why", table, "id=a", "--endpoint", endpoint)
        assert (code, err) == (0, "")
        lines = out.splitlines()
        heads = [line for line in lines if not line.startswith(" ")]
        assert [head.split()[-2] for head in heads] == ["INSERT", "MODIFY", "REMOVE"]
        assert "    ~ n: 1 -> 2" in lines
        assert sum(line.startswith("    by local, request ") for line in lines) == 3

    def test_json(self, table: str, endpoint: str) -> None:
        code, out, _ = run("log", "why", table, '{"id": "a"}', "--json", "--endpoint", endpoint)
        assert code == 0
        found = [json.loads(line) for line in out.splitlines()]
        assert [each["eventName"] for each in found] == ["INSERT", "MODIFY", "REMOVE"]
        assert all(each["consumers"] == [] for each in found)
        assert all(each["table"] == table for each in found)

    def test_nothing_found(self, table: str, endpoint: str) -> None:
        code, out, err = run("log", "why", table, "id=b", "--since", "1h", "--endpoint", endpoint)
        assert (code, out) == (0, "")
        assert "no change of this item" in err

    def test_mistakes(self, table: str, endpoint: str) -> None:
        where = ("--endpoint", endpoint)
        assert "there is no table nothing" in error_line("log", "why", "nothing", "id=a", *where)
        assert "write id=... (id is S)" in error_line("log", "why", table, "a", *where)
        code, _, err = run("log", "why", table, "id=a", "--since", "yesterday", *where)
        assert code == 2
        assert "'yesterday'" in err
