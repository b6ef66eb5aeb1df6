"""What is known of consumers: from where they stand, what they keep, and what they gave up."""

from collections.abc import Iterable, Mapping
from typing import Any

from streamtable.control.knowledge import Knowledge
from streamtable.core.consumers import ConsumerDocument


def document(name: str, *sources: str, **changes: Any) -> ConsumerDocument:
    return ConsumerDocument(
        kind="trigger",
        app="shop",
        name=name,
        id="1",
        sources=sources,
        start={0: 0, 1: 0},
        start_text="TRIM_HORIZON",
        created=0,
        **changes,
    )


class Positions:
    """Every consumer's next offset on shard 1 is 5, and has one failing change there."""

    async def describe(self, consumers: Iterable[ConsumerDocument]) -> list[dict[str, Any]]:
        failing = [
            {"position": [1, 3, 0], "attempts": 2, "next_ms": 9, "error": "no"},
            {"position": [0, 3, 0], "attempts": 7, "next_ms": 9, "error": "no"},
        ]
        return [{"shards": {"1": {"next": 5}}, "failing": failing} for _ in consumers]


class State(dict[str, dict[str, dict[str, Any]]]):
    async def load(self, owner: str) -> dict[str, dict[str, Any]]:
        return self.get(owner, {})


async def none(_query: Mapping[str, str]) -> dict[str, Any]:
    return {"letters": []}


def letter(consumer: str, shard: int, offset: int, app: str = "shop") -> dict[str, Any]:
    return {"app": app, "consumer": consumer, "position": [shard, offset, 0], "attempts": 3}


async def test_what_is_known_of_each() -> None:
    mail = document("mail", "users", formerly=("post",))
    state = State()
    parked = {"position": [1, 2, 4], "attempts": 0, "next_ms": None, "error": None}
    state[mail.owner(1)] = {"parked/2.4": parked, "window/7": {"sum": 1}}
    state[mail.owner(0)] = {"parked/1.0": {"position": [0, 1, 0]}}
    letters = [
        letter("mail", 1, 1),
        letter("post", 1, 0),
        letter("mail", 0, 1),
        letter("mail", 1, 1, app="other"),
        letter("audit", 1, 4),
    ]

    async def dead_letters(_query: Mapping[str, str]) -> dict[str, Any]:
        return {"letters": letters}

    knowledge = Knowledge(
        consumers=lambda: [mail, document("audit", "orders", "users"), document("bill", "orders")],
        positions=Positions(),
        state=state,
        dead_letters=dead_letters,
    )
    audit, found = await knowledge.of("users", 1)
    assert (audit.document.name, found.document.name) == ("audit", "mail")
    assert found.next == 5
    assert found.failing[3, 0]["attempts"] == 2
    assert not found.failing[3, 0].get("parked")
    assert found.failing[2, 4] == {**parked, "parked": True}
    assert set(found.failing) == {(3, 0), (2, 4)}
    assert set(found.dead) == {(1, 0), (0, 0)}
    assert set(audit.dead) == {(4, 0)}
    [unbegun] = [each for each in await knowledge.of("users", 0) if each.document is mail]
    assert unbegun.next is None
    assert set(unbegun.failing) == {(3, 0), (1, 0)}


async def test_a_change_that_a_worker_tries_and_that_is_parked_too() -> None:
    mail = document("mail", "users")
    state = State({mail.owner(1): {"parked/3.0": {"position": [1, 3, 0], "attempts": 1}}})
    knowledge = Knowledge(
        consumers=lambda: [mail], positions=Positions(), state=state, dead_letters=none
    )
    [found] = await knowledge.of("users", 1)
    assert found.failing[3, 0]["attempts"] == 2
    assert found.failing[3, 0]["parked"] is True


async def test_why_a_consumer_goes_no_further() -> None:
    class Held(Positions):
        async def describe(self, consumers: Iterable[ConsumerDocument]) -> list[dict[str, Any]]:
            found: dict[str, Any] = {"shards": {}, "failing": []}
            return [
                {**found, "state": "running", "error": None},
                {**found, "state": "no worker", "error": None},
                {**found, "state": "stopped", "error": "KeyError: 'n'"},
            ]

    knowledge = Knowledge(
        consumers=lambda: [document(name, "users") for name in "abc"],
        positions=Held(),
        state=State(),
        dead_letters=none,
    )
    assert [each.held_up for each in await knowledge.of("users", 1)] == [
        {},
        {"state": "no worker"},
        {"state": "stopped", "error": "KeyError: 'n'"},
    ]


async def test_a_table_without_consumers_asks_nobody() -> None:
    nobody: Any = None
    knowledge = Knowledge(consumers=list, positions=nobody, state=nobody, dead_letters=nobody)
    assert await knowledge.of("users", 1) == []
