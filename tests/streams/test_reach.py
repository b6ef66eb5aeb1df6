"""A node that is cut off from a broker that others reach leaves its shards to them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from streamtable.streams import reach
from streamtable.streams.reach import CutOff, Reach
from tests.support.waiting import until

Found = dict[int, str | None]


class Node:
    """What a node sees: its shards that wait, the brokers, and what others say that they reach."""

    def __init__(self) -> None:
        self.waiting = [3]
        self.brokers: Found = {1: None, 2: "broker 2 is away"}
        self.others: list[list[int] | None] = [[1, 2]]
        self.looks = 0
        self.failures: list[BaseException] = []
        self.reach = Reach(
            address="",
            waiting=lambda: self.waiting,
            ask_others=self.ask_others,
            fail=self.failures.append,
        )

    async def ask_others(self, _method: str) -> list[Any]:
        return self.others

    async def look(self, _address: str) -> Found:
        self.looks += 1
        return self.brokers


@pytest.fixture
async def node(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr(reach, "_LOOK_S", 0.001)
    monkeypatch.setattr(reach, "_WAITED_S", 0.01)
    monkeypatch.setattr(reach, "_SURE_S", 0.01)
    made = Node()
    monkeypatch.setattr(reach, "look_at_brokers", made.look)
    made.reach.start()
    yield made
    await made.reach.stop()


async def test_it_ends_where_others_reach_the_broker(node: Node) -> None:
    node.others = [None, [1, 2]]
    await until(lambda: bool(node.failures), "the node to end")
    [error] = node.failures
    assert isinstance(error, CutOff)
    assert str(error).startswith("broker 2 is away. Other nodes reach it")
    assert ": 3." in str(error)


@pytest.mark.parametrize(
    ("brokers", "others"),
    [
        ({1: None, 2: None}, [[1, 2]]),
        # They are told less, for it is lost, or don't reach it, or are away.
        ({1: None, 2: "away"}, [[1], [1]]),
        ({1: None, 2: "away"}, [None]),
        # The group notices by itself that it is gone.
        ({}, [[1, 2]]),
    ],
)
async def test_it_goes_on_where_no_other_node_is_better_off(
    node: Node, brokers: Found, others: list[list[int] | None]
) -> None:
    node.brokers, node.others = brokers, others
    looks = node.looks
    await until(lambda: node.looks > looks + 5, "it to look again")
    assert node.failures == []


async def test_it_goes_on_where_the_broker_is_back(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "_SURE_S", 0.05)

    async def look(brokers: Found) -> None:
        node.brokers, looks = brokers, node.looks
        await until(lambda: node.looks > looks + 2, "it to look")

    for _ in range(5):
        await look({1: None, 2: "away"})
        await look({1: None, 2: None})
    assert node.failures == []


async def test_it_does_not_look_where_all_shards_are_served(node: Node) -> None:
    node.waiting = []
    await asyncio.sleep(0.1)
    assert node.looks <= 1


async def test_it_tells_which_brokers_it_reaches(node: Node) -> None:
    assert await node.reach.calls["reached"](None) == [1]
