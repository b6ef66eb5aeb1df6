import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from streamtable.core.documents import IndexDocument, KeyElement, Projection
from streamtable.core.errors import (
    ConditionalCheckFailed,
    IdempotentParameterMismatch,
    InternalServerError,
    ServiceUnavailable,
    TransactionCanceled,
    TransactionConflict,
    TransactionInProgress,
)
from streamtable.core.images import Image
from streamtable.core.tables import Table
from streamtable.streams import transactions
from streamtable.streams.epochs import BARRIER
from streamtable.streams.layout import Layout
from streamtable.streams.participant import Part, Participant, Refused
from streamtable.streams.records import LogRecord
from streamtable.streams.shard import Outcome, Shard
from streamtable.streams.snapshots import Read
from streamtable.streams.transactions import Transactions, UsedToken
from tests.streams.shards import (
    CONTEXT,
    TABLE,
    DeleteWrite,
    MemoryLog,
    PutWrite,
    follow,
    make_shard,
    until,
)

SHARDS = 3
BY_N = IndexDocument(
    name="by_n",
    id="00000000-0000-0000-0000-000000000008",
    scope="GLOBAL",
    keys=(KeyElement(name="n", kind="HASH"),),
    projection=Projection(kind="ALL"),
)


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

    def __init__(self, path: Path, logs: list[MemoryLog], table: Table = TABLE) -> None:
        self.logs = logs
        self.shards = [make_shard(path / str(n), log, table=table) for n, log in enumerate(logs)]
        self.views: set[str] = set()
        self.transactions = Transactions(
            Layout(len(logs)), {table.id: table}.get, feeds_view=self.views.__contains__
        )
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

    def ended(self) -> bool:
        """Whether nothing of any transaction is on its way to the logs any more."""
        return self.settled() and not any(
            shard.ledger.decisions or shard.owner._appending for shard in self.shards
        )

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
    await until(node.ended)
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
    await until(node.ended)
    before = [len(log.records) for log in node.logs]
    await node.transactions.write([Check(A, 1)], None, CONTEXT)
    await node.transactions.write([PutWrite(C, 1), Check(A, 1), Check(B, 2)], None, CONTEXT)
    assert node.number(C) == 1
    await until(node.ended)
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


@pytest.mark.parametrize("writes", [[Add(A, 1)], [Add(A, 1), Add(B, 1)], [Add(B, 1), Add(A, 1)]])
async def test_a_log_that_takes_other_commits_only_is_not_tried_for_ever(
    node: Node, monkeypatch: pytest.MonkeyPatch, writes: list[PutWrite]
) -> None:
    monkeypatch.setattr("streamtable.streams.participant.WAIT_S", 0.1)
    monkeypatch.setattr("streamtable.streams.transactions.WAIT_S", 0.1)
    monkeypatch.setattr("streamtable.streams.shard.WAIT_S", 0.1)
    owner, log = node.shards[0].owner, node.logs[0]
    started = owner._started

    def other_commits_are_taken() -> None:
        owner._barren = False
        started()

    monkeypatch.setattr(owner, "_started", other_commits_are_taken)
    log.full = True
    async with asyncio.timeout(20):
        with pytest.raises(ServiceUnavailable):
            await node.transactions.write(writes, None, CONTEXT)
        with pytest.raises(ServiceUnavailable):
            await node.shards[0].write(PutWrite(A2, 1), CONTEXT)
        log.full = False
        await until(node.settled)
    assert [node.number(key) for key in (A, B)] == [0, 0]


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


async def test_the_shard_with_most_actions_decides(node: Node) -> None:
    writes = [PutWrite(B, 1), PutWrite(A, 2), PutWrite(A2, 3)]
    await node.transactions.write(writes, None, CONTEXT)
    await until(node.ended)

    def phases(number: int) -> list[str]:
        return [note["phase"] for record in node.logs[number].records for note in notes_of(record)]

    assert (phases(0), phases(1)) == (["decide"], ["prepare", "resolve"])
    assert [node.number(key) for key in (B, A, A2)] == [1, 2, 3]


async def test_decisions_are_forgotten_when_all_have_heard_them(node: Node) -> None:
    await node.transactions.write([PutWrite(A, 1), PutWrite(B, 2)], None, CONTEXT)
    await until(node.ended)
    node.logs[1].lose = 2
    await node.transactions.write([PutWrite(A, 3), PutWrite(B, 4)], None, CONTEXT)
    await until(node.ended)
    assert (node.number(A), node.number(B)) == (3, 4)


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


def read(node: Node, key: str) -> Coroutine[Any, Any, Image | None]:
    write = PutWrite(key, 0)
    return node.shards[write.hash % SHARDS].read(write.row_key, consistent=True)


async def rows(shard: Shard) -> dict[str, str]:
    """All rows of a shard, as a Scan reads them."""
    chunks = shard.chunks(TABLE.prefix, TABLE.end, consistent=True)
    return {
        image.item["id"]["S"]: image.item["n"]["N"]
        async for chunk in chunks
        for _, image in chunk.rows
    }


async def hold_ends(node: Node, *writes: PutWrite) -> asyncio.Task[list[Outcome] | None]:
    """Begin a transaction on A's and B's shards, and let B's log take no end of it."""
    held = node.logs[1]
    before = len(held.records)
    task = asyncio.create_task(node.transactions.write(writes, None, CONTEXT))
    await until(lambda: len(held.records) > before)
    held.gate.clear()
    return task


class TestAnswersBeforeTheEnds:
    """The answer comes when the decision is durable; the participants' logs follow."""

    async def test_reads_see_what_was_answered(self, node: Node) -> None:
        await node.transactions.write([PutWrite(A, 1), PutWrite(B, 1)], None, CONTEXT)
        await until(node.ended)
        outcomes = await (await hold_ends(node, PutWrite(A, 5), PutWrite(B, 6)))
        assert outcomes is not None
        assert node.number(B) == 6
        image = await read(node, B)
        assert image is not None
        assert image.item["n"] == {"N": "6"}
        found = await node.shards[1].read_many([PutWrite(B, 0).row_key], consistent=True)
        assert found == [image]
        assert await rows(node.shards[1]) == {B: "6"}
        reads = [Read(write.hash, write.row_key) for write in (PutWrite(A, 0), PutWrite(B, 0))]
        both = await node.transactions.read(reads)
        assert [one and one.item["n"]["N"] for one in both] == ["5", "6"]
        # And where the change will be in the log was told.
        held = node.logs[1]
        assert outcomes[1].offset == len(held.records)
        held.gate.set()
        await until(node.ended)
        [change] = held.records[outcomes[1].offset].changes()
        assert change.new is not None
        assert change.new.item["n"] == {"N": "6"}

    async def test_a_removed_item_is_gone(self, node: Node) -> None:
        await node.transactions.write([PutWrite(A, 1), PutWrite(B, 1)], None, CONTEXT)
        await until(node.ended)
        before = await node.shards[1].look([PutWrite(B, 0).row_key])
        await (await hold_ends(node, PutWrite(A, 5), DeleteWrite(B)))
        assert await read(node, B) is None
        assert await rows(node.shards[1]) == {}
        after = await node.shards[1].look([PutWrite(B, 0).row_key])
        # Who looked before it was there, and looks again, sees that it came and went.
        assert after.removals > before.removals
        node.logs[1].gate.set()
        await until(node.ended)
        assert await read(node, B) is None

    async def test_who_goes_on_with_the_items_is_not_refused(self, node: Node) -> None:
        await (await hold_ends(node, PutWrite(A, 1), PutWrite(B, 1)))
        following = asyncio.create_task(
            node.transactions.write([Add(A, 1), Add(B, 1)], None, CONTEXT)
        )
        await until(lambda: node.shards[1].ledger.locking)
        node.logs[1].gate.set()
        assert await following is not None
        await until(node.ended)
        assert (node.number(A), node.number(B)) == (2, 2)

    async def test_what_follows_shares_the_fate_of_the_end(self, node: Node) -> None:
        await (await hold_ends(node, PutWrite(A, 1), PutWrite(B, 1)))
        written = asyncio.create_task(node.shards[1].write(Add(B, 10), CONTEXT))
        failing = asyncio.create_task(node.shards[1].write(PutWrite(B, 0, expect=1), CONTEXT))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not written.done()
        assert not failing.done()
        node.logs[1].gate.set()
        await written
        with pytest.raises(ConditionalCheckFailed):
            await failing
        assert node.number(B) == 11

    async def test_who_was_refused_may_try_again_at_once(self, node: Node) -> None:
        with pytest.raises(TransactionCanceled) as caught:
            await (await hold_ends(node, PutWrite(A, 1, expect=9), PutWrite(B, 1)))
        codes = [reason["Code"] for reason in caught.value.reasons]
        assert codes == ["ConditionalCheckFailed", "None"]
        again = asyncio.create_task(
            node.transactions.write([PutWrite(A, 1), PutWrite(B, 2)], None, CONTEXT)
        )
        await until(lambda: node.shards[1].ledger.locking)
        node.logs[1].gate.set()
        await again
        assert (node.number(A), node.number(B)) == (1, 2)

    @pytest.mark.parametrize("trouble", ["lose", "hide"])
    async def test_an_end_that_is_lost_is_made_up_for(self, node: Node, trouble: str) -> None:
        await (await hold_ends(node, PutWrite(A, 1), PutWrite(B, 2)))
        setattr(node.logs[1], trouble, 1)
        follow_up = asyncio.create_task(node.shards[1].write(Add(B, 1), CONTEXT))
        await asyncio.sleep(0)
        node.logs[1].gate.set()
        seen = set()
        while not node.ended():
            image = await read(node, B)
            seen.add(None if image is None else image.item["n"]["N"])
            await asyncio.sleep(0)
        with suppress(TransactionConflict):
            await follow_up
        assert seen <= {"2", "3"}
        [notes] = [
            [note["commit"] for note in notes_of(record) if note["phase"] == "resolve"]
            for record in node.logs[1].records
            if any(note["phase"] == "resolve" for note in notes_of(record))
        ]
        assert notes == [True]

    @pytest.mark.parametrize("asked", ["row", "rows", "all"])
    async def test_a_shard_that_starts_again_asks_before_it_is_read(
        self, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
    ) -> None:
        await (await hold_ends(node, PutWrite(A, 1), PutWrite(B, 2)))
        await node.stop()
        node.logs[1].gate.set()
        again = Node(tmp_path, node.logs)
        shard, row_key = again.shards[1], PutWrite(B, 0).row_key
        await shard.take_over()

        async def number() -> Any:
            if asked == "all":
                return (await rows(shard)).get(B)
            if asked == "row":
                image = await shard.read(row_key, consistent=True)
            else:
                [image] = await shard.read_many([row_key], consistent=True)
            return image and image.item["n"]["N"]

        # The coordinator does not serve: nobody can say what was decided.
        monkeypatch.setattr("streamtable.streams.shard.WAIT_S", 0.01)
        with pytest.raises(ServiceUnavailable):
            await number()
        monkeypatch.undo()
        reading = asyncio.create_task(number())
        # Other rows are not in doubt.
        [other] = keys_on(1, 2)[1:]
        assert await read(again, other) is None
        assert not reading.done()
        await again.shards[0].take_over()
        assert await reading == "2"

    @pytest.mark.parametrize("asked", ["write", "writes", "transaction", "part"])
    async def test_a_shard_that_starts_again_asks_before_its_items_are_written(
        self, node: Node, tmp_path: Path, asked: str
    ) -> None:
        await (await hold_ends(node, PutWrite(A, 1), PutWrite(B, 2)))
        await node.stop()
        node.logs[1].gate.set()
        again = Node(tmp_path, node.logs)
        shard, write = again.shards[1], Add(B, 10)
        other = Add(keys_on(1, 2)[1], 1)
        await shard.take_over()

        async def written() -> Any:
            match asked:
                case "write":
                    return await shard.write(write, CONTEXT)
                case "writes":
                    return await shard.write_many([other, write], CONTEXT)
                case "transaction":
                    return await again.transactions.write([other, write], None, CONTEXT)
                case _:
                    parts = [Part(0, other), Part(1, write)]
                    await again.transactions.participant(1).prepare(parts, "t", 2, CONTEXT)
                    return await again.transactions.participant(1).resolve("t", commit=True)

        # The coordinator does not serve: nobody can say what was decided.
        writing = asyncio.create_task(written())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not writing.done()
        await again.shards[0].take_over()
        await writing
        assert again.number(B) == 12

    async def test_who_reads_eventually_does_not_wait_for_other_nodes(self, tmp_path: Path) -> None:
        log = MemoryLog()
        shard = make_shard(tmp_path / "one", log, exclusive=False)
        await shard.take_over()
        write = PutWrite(B, 1)
        await Participant(shard, {TABLE.id: TABLE}.get).prepare([Part(0, write)], "t", 0, CONTEXT)
        shard.owner.step_down()
        again = make_shard(tmp_path / "two", log, exclusive=False)
        await again.take_over()
        assert again.ledger.doubts(write.row_key)
        assert await again.read(write.row_key, consistent=False) is None

    @pytest.mark.parametrize("follows", ["view", "index"])
    async def test_what_is_waited_for_by_its_offset_is_in_the_log(
        self, tmp_path: Path, follows: str
    ) -> None:
        """Views and global indexes follow the log: a read of them may name where the write is."""
        changes = {"indexes": (BY_N,), "attributes": {"id": "S", "n": "N"}}
        table = Table(TABLE.document.model_copy(update=changes))
        table = table if follows == "index" else TABLE
        node = Node(tmp_path, [MemoryLog() for _ in range(SHARDS)], table)
        if follows == "view":
            node.views.add(table.name)
        await node.start()
        task = await hold_ends(node, PutWrite(A, 1, table=table), PutWrite(B, 2, table=table))
        await until(lambda: not node.shards[1].ledger.locking)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        node.logs[1].gate.set()
        outcomes = await task
        assert outcomes is not None
        assert [change.keys["id"]["S"] for change in node.logs[1].records[2].changes()] == [B]
        assert outcomes[1].offset == 2


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
