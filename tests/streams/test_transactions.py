import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from streamtable.core.errors import (
    ConditionalCheckFailed,
    IdempotentParameterMismatch,
    InternalServerError,
    TransactionCanceled,
    TransactionConflict,
    TransactionInProgress,
)
from streamtable.streams import transactions
from streamtable.streams.epochs import BARRIER
from streamtable.streams.layout import Layout
from streamtable.streams.participant import Part, Refused
from streamtable.streams.records import LogRecord
from streamtable.streams.transactions import Read, Transactions, UsedToken
from tests.streams.shards import CONTEXT, TABLE, MemoryLog, PutWrite, follow, make_shard, until

SHARDS = 3


class Add(PutWrite):
    """Adds to the item's number, refused below zero; a missing item counts as 0."""

    def __init__(self, key: str, amount: int) -> None:
        super().__init__(key, 0)
        self.needs_old = True
        self.amount = amount

    def evaluate(self, old: dict[str, Any] | None) -> tuple[dict[str, Any] | None, int]:
        value = (0 if old is None else int(old["n"]["N"])) + self.amount
        if value < 0:
            raise ConditionalCheckFailed
        return {**self.key, "n": {"N": str(value)}}, 10


class Check(PutWrite):
    """Requires a number and changes nothing."""

    def __init__(self, key: str, expect: int) -> None:
        super().__init__(key, 0, expect)

    def evaluate(self, old: dict[str, Any] | None) -> tuple[dict[str, Any] | None, int]:
        super().evaluate(old)
        return old, 0


class Node:
    """A node on logs that outlive it."""

    def __init__(self, path: Path, logs: list[MemoryLog]) -> None:
        self.logs = logs
        self.shards = [make_shard(path / str(n), log) for n, log in enumerate(logs)]
        self.transactions = Transactions(Layout(len(logs)), {TABLE.id: TABLE}.get)
        for number, shard in enumerate(self.shards):
            shard.number = shard.owner.number = number
            self.transactions.join(shard)

    async def start(self) -> None:
        await asyncio.gather(*(shard.take_over() for shard in self.shards))

    async def stop(self) -> None:
        """Die: nothing that is under way goes on."""
        await self.transactions.stop()
        for shard in self.shards:
            shard.owner.step_down()
            if shard.owner._appending is not None:
                shard.owner._appending.cancel()
            shard.state.close()  # type: ignore[attr-defined]

    def number(self, key: str) -> int:
        write = PutWrite(key, 0)
        image = self.shards[write.hash % len(self.shards)].get(write.row_key)
        return 0 if image is None else int(image.item["n"]["N"])

    def settled(self) -> bool:
        return not any(shard.ledger.locking for shard in self.shards)

    async def follow(self) -> None:
        for shard, log in zip(self.shards, self.logs, strict=True):
            if shard.owner.serving:
                await follow(shard, log)


@pytest.fixture
async def node(tmp_path: Path) -> Node:
    node = Node(tmp_path, [MemoryLog() for _ in range(SHARDS)])
    await node.start()
    return node


def keys_on(shard: int, count: int) -> list[str]:
    found = (f"k{n}" for n in range(10_000) if PutWrite(f"k{n}", 0).hash % SHARDS == shard)
    return [next(found) for _ in range(count)]


def notes_of(record: LogRecord) -> list[dict[str, Any]]:
    """What a commit notes about transactions."""
    return [] if record.kind == BARRIER else record.contents()[1]


A, A2 = keys_on(0, 2)
[B] = keys_on(1, 1)
[C] = keys_on(2, 1)


async def test_one_shard_is_one_commit(node: Node) -> None:
    outcomes = await node.transactions.write([PutWrite(A, 1), PutWrite(A2, 2)], None, CONTEXT)
    assert outcomes is not None
    assert [(one.offset, one.place) for one in outcomes] == [(1, 0), (1, 1)]
    assert (node.number(A), node.number(A2)) == (1, 2)


async def test_several_shards_commit_together(node: Node) -> None:
    await node.transactions.write([PutWrite(A, 1), PutWrite(B, 2), PutWrite(C, 3)], None, CONTEXT)
    assert [node.number(key) for key in (A, B, C)] == [1, 2, 3]
    assert not any(shard.ledger.locking for shard in node.shards)
    await node.follow()
    assert [node.number(key) for key in (A, B, C)] == [1, 2, 3]
    commits = [record for log in node.logs for record in log.records if record.kind != BARRIER]
    noted = [entry for record in commits for entry in record.contents()[1]]
    [transaction] = {entry["id"] for entry in noted}
    assert not [entry for shard in node.shards for entry in shard.state.entries()]
    decided = [shard.state.decision(transaction) for shard in node.shards]
    assert sorted(decided, key=str) == [None, None, True]


@pytest.mark.parametrize("failing", [A, B, C])
async def test_one_failed_condition_cancels_all(node: Node, failing: str) -> None:
    writes = [PutWrite(key, 1, expect=9 if key == failing else None) for key in (A, B, C)]
    with pytest.raises(TransactionCanceled) as caught:
        await node.transactions.write(writes, None, CONTEXT)
    codes = [reason["Code"] for reason in caught.value.reasons]
    assert codes == ["ConditionalCheckFailed" if k == failing else "None" for k in (A, B, C)]
    assert [node.number(key) for key in (A, B, C)] == [0, 0, 0]
    assert not any(shard.ledger.locking for shard in node.shards)


async def test_every_reason_is_told(node: Node) -> None:
    writes = [PutWrite(key, 1, expect=9) for key in (A, B)]
    with pytest.raises(TransactionCanceled) as caught:
        await node.transactions.write(writes, None, CONTEXT)
    assert [reason["Code"] for reason in caught.value.reasons] == ["ConditionalCheckFailed"] * 2


async def test_checks_change_nothing(node: Node) -> None:
    await node.transactions.write([PutWrite(A, 1), PutWrite(B, 2)], None, CONTEXT)
    before = [len(log.records) for log in node.logs]
    await node.transactions.write([Check(A, 1)], None, CONTEXT)
    await node.transactions.write([PutWrite(C, 1), Check(A, 1), Check(B, 2)], None, CONTEXT)
    assert node.number(C) == 1
    added = [r for log, n in zip(node.logs, before, strict=True) for r in log.records[n:]]
    changed = [change.keys["id"]["S"] for record in added for change in record.changes()]
    assert changed == [C]
    with pytest.raises(TransactionCanceled):
        await node.transactions.write([PutWrite(C, 5), Check(B, 7)], None, CONTEXT)
    assert node.number(C) == 1


async def test_an_item_that_is_held_refuses_others(node: Node) -> None:
    node.logs[0].gate.clear()
    under_way = asyncio.create_task(
        node.transactions.write([PutWrite(A, 1), PutWrite(B, 2)], None, CONTEXT)
    )
    await until(lambda: node.shards[1].ledger.locking and len(node.logs[1].records) == 2)
    write = PutWrite(B, 5)
    with pytest.raises(TransactionConflict):
        await node.shards[write.hash % SHARDS].write(write, CONTEXT)
    with pytest.raises(TransactionCanceled) as caught:
        await node.transactions.write([PutWrite(C, 1), PutWrite(B, 7)], None, CONTEXT)
    assert [reason["Code"] for reason in caught.value.reasons] == ["None", "TransactionConflict"]
    with pytest.raises(TransactionCanceled):
        await node.transactions.read([Read(write.hash, write.row_key)])
    assert node.number(B) == 0
    node.logs[0].gate.set()
    await under_way
    assert (node.number(A), node.number(B), node.number(C)) == (1, 2, 0)


async def test_a_token_does_nothing_again(node: Node, tmp_path: Path) -> None:
    token = UsedToken("token-1", "digest-1")
    assert await node.transactions.write([Add(A, 1), Add(B, 1)], token, CONTEXT) is not None
    assert await node.transactions.write([Add(A, 1), Add(B, 1)], token, CONTEXT) is None
    with pytest.raises(IdempotentParameterMismatch):
        await node.transactions.write([Add(C, 1)], UsedToken("token-1", "other"), CONTEXT)
    assert (node.number(A), node.number(B)) == (1, 1)
    await node.stop()
    again = Node(tmp_path, node.logs)
    await again.start()
    assert await again.transactions.write([Add(A, 1), Add(B, 1)], token, CONTEXT) is None
    assert (again.number(A), again.number(B)) == (1, 1)


async def test_a_token_under_way_is_refused(node: Node) -> None:
    token = UsedToken("token-1", "digest-1")
    node.logs[0].gate.clear()
    first = asyncio.create_task(node.transactions.write([Add(A, 1)], token, CONTEXT))
    await asyncio.sleep(0)
    with pytest.raises(TransactionInProgress):
        await node.transactions.write([Add(A, 1)], token, CONTEXT)
    node.logs[0].gate.set()
    await first


async def test_a_token_of_an_unanswered_transaction_does_nothing_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamtable.streams.owner.WAIT_S", 0.0)
    token = UsedToken("token-1", "digest-1")
    log = node.logs[0]
    # The commit lands without an answer, and for a while nothing else does.
    log.hide = 1
    log.before.append(lambda: setattr(log, "lose", 1_000_000))
    with pytest.raises(InternalServerError):
        await node.transactions.write([Add(A, 1)], token, CONTEXT)
    again = asyncio.create_task(node.transactions.write([Add(A, 1)], token, CONTEXT))
    await asyncio.sleep(0)
    log.lose = 0
    assert await again is None
    assert node.number(A) == 1


async def test_a_client_that_leaves_does_not_part_what_belongs_together(node: Node) -> None:
    # The decision is on its way when the client leaves, and its append is lost.
    coordinator, other = node.logs[0], node.logs[1]
    coordinator.gate.clear()
    coordinator.lose = 1
    task = asyncio.create_task(
        node.transactions.write([PutWrite(A, 1), PutWrite(B, 2)], None, CONTEXT)
    )
    await until(lambda: len(other.records) == 2 and node.shards[0].owner._appending is not None)
    task.cancel()
    await until(lambda: node.transactions._tasks)
    coordinator.gate.set()
    await until(lambda: node.settled() and not node.transactions._tasks)
    assert (node.number(A), node.number(B)) == (0, 0)


async def test_a_client_that_leaves_early_leaves_nothing_locked(node: Node) -> None:
    other = node.logs[1]
    task = asyncio.create_task(
        node.transactions.write([PutWrite(A, 1), PutWrite(B, 2)], None, CONTEXT)
    )
    await until(lambda: len(other.records) == 2)
    other.gate.clear()
    await until(lambda: len(node.logs[0].records) == 2)
    task.cancel()
    await asyncio.sleep(0)
    other.gate.set()
    await until(lambda: node.settled() and not node.transactions._tasks)
    assert (node.number(A), node.number(B)) == (1, 2)


async def test_decisions_are_forgotten_when_all_have_heard_them(node: Node) -> None:
    await node.transactions.write([PutWrite(A, 1), PutWrite(B, 2)], None, CONTEXT)
    assert not any(shard.ledger.decisions for shard in node.shards)


@pytest.mark.parametrize("step", ["prepared", "decided"])
async def test_a_death_between_the_steps_leaves_all_or_nothing(
    node: Node, tmp_path: Path, step: str
) -> None:
    # The coordinator is A's shard. It can't append the decision, or B's can't append its end.
    if step == "prepared":
        node.logs[0].gate.clear()
    task = asyncio.create_task(
        node.transactions.write([PutWrite(A, 1), PutWrite(B, 2)], None, CONTEXT)
    )
    await until(lambda: len(node.logs[1].records) == 2)
    if step == "decided":
        node.logs[1].gate.clear()
        await until(lambda: len(node.logs[0].records) == 2)
    task.cancel()
    await node.stop()
    for log in node.logs:
        log.gate.set()
    again = Node(tmp_path, node.logs)
    await again.start()
    await until(lambda: not any(shard.ledger.locking for shard in again.shards))
    expected = (0, 0) if step == "prepared" else (1, 2)
    assert (again.number(A), again.number(B)) == expected


@pytest.mark.timeout(60)
@pytest.mark.parametrize("noted", ["resolve", "decide"])
async def test_what_was_lost_a_moment_ago_is_not_waited_for(node: Node, noted: str) -> None:
    """A record may be known to be lost, and not be forgotten yet, when the next one asks."""
    participant, log = node.transactions._participants[1], node.logs[1]
    if noted == "resolve":
        await participant.prepare([Part(0, PutWrite(B, 1))], "t", 0, CONTEXT)
    before = len(log.records)

    def ask() -> asyncio.Future[int]:
        if noted == "resolve":
            return asyncio.ensure_future(participant.resolve("t", commit=False))
        return asyncio.ensure_future(participant.decision("t"))

    log.lose = 1
    asking = [ask()]
    while not asking[0].done():
        # In each turn of the loop, so in that one too.
        asking.append(ask())
        await asyncio.sleep(0)
    answers = await asyncio.gather(*asking)
    assert log.opened == 2
    notes = [note for record in log.records[before:] for note in notes_of(record)]
    assert [(note["phase"], note["commit"]) for note in notes] == [(noted, False)]
    assert not node.shards[1].ledger.locking
    assert noted == "resolve" or not any(answers)


async def test_what_is_prepared_for_a_node_that_is_lost_is_dropped(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "_LOST_S", 0.02)
    # Shard 1 has prepared, and whoever asked it to is gone: nobody tells it what was decided.
    part = Part(0, PutWrite(B, 2))
    await node.transactions.participant(1).prepare([part], "lost", 0, CONTEXT)
    assert node.shards[1].ledger.locking
    node.transactions.start()
    async with asyncio.timeout(10):
        while not node.settled():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
    assert node.number(B) == 0
    # The coordinator has decided against it, for good.
    with pytest.raises(Refused):
        await node.transactions.participant(0).commit(
            [Part(0, PutWrite(A, 1))], "lost", None, CONTEXT
        )
    await node.stop()


@pytest.mark.parametrize("seed", range(8))
async def test_money_is_neither_made_nor_lost(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    logs = [MemoryLog() for _ in range(SHARDS)]
    accounts = [key for shard in range(SHARDS) for key in keys_on(shard, 3)]
    node = Node(tmp_path / "0", logs)
    await node.start()
    for key in accounts:
        write = PutWrite(key, 100)
        await node.shards[write.hash % SHARDS].write(write, CONTEXT)
    answered: list[str] = []

    async def transfers(name: str) -> None:
        for count in range(30):
            giver, taker = chance.sample(accounts, 2)
            amount = chance.randint(1, 40)
            marker = f"{name}-{count}"
            writes = [Add(giver, -amount), Add(taker, amount), Add(marker, 1)]
            chance.shuffle(writes)
            token = UsedToken(marker, marker)
            try:
                await node.transactions.write(writes, token, CONTEXT)
            except TransactionCanceled:
                continue
            answered.append(marker)

    for life in range(1, 4):
        tasks = [asyncio.create_task(transfers(f"{life}-{n}")) for n in range(6)]
        for _ in range(chance.randint(20, 120)):
            log = chance.choice(logs)
            if chance.random() < 0.1:
                log.lose = 1
            if chance.random() < 0.1:
                log.hide = 1
            if chance.random() < 0.3:
                await node.follow()
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await node.stop()
        # Now and then with an empty disk: everything comes from the log.
        node = Node(tmp_path / (str(life) if chance.random() < 0.5 else "0"), logs)
        for log in logs:
            log.lose = log.hide = 0
        await node.start()
        await until(node.settled)
        assert sum(node.number(key) for key in accounts) == 100 * len(accounts)
        assert all(node.number(key) >= 0 for key in accounts)
        assert [node.number(marker) for marker in answered] == [1] * len(answered)
    assert answered
    assert any(record.kind == BARRIER for record in logs[0].records)
