"""What the tests of the write path share: a log in memory that can fail, and plain writes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from streamtable.consumers.tables.memory import StoreMemory
from streamtable.consumers.tables.store import ShardStore
from streamtable.core.context import RequestContext
from streamtable.core.documents import KeyElement, TableDocument
from streamtable.core.errors import ConditionalCheckFailed
from streamtable.core.tables import Table
from streamtable.core.values import item_size
from streamtable.streams import records
from streamtable.streams.clock import HybridClock
from streamtable.streams.epochs import BARRIER
from streamtable.streams.log import LogUnavailable
from streamtable.streams.records import Headers, LogRecord
from streamtable.streams.shard import Shard

TABLE = Table(
    TableDocument(
        name="users",
        id="00000000-0000-0000-0000-000000000007",
        region="test",
        account="000000000000",
        created=0,
        attributes={"id": "S"},
        keys=(KeyElement(name="id", kind="HASH"),),
    )
)
CONTEXT = RequestContext("request-1", "tester", "127.0.0.1")


class MemoryLog:
    """A shard's log in a list. Stands where `ShardLog` stands.

    Attributes:
        records: what is in the log.
        gate: appends wait for it, so that a test decides when one ends.
        lose: how many of the next appends fail without a record.
        hide: how many of the next appends fail although their record is in the log.
        full: whether it takes no commits; barriers are small, and there is room for them.
        before: called before each record is stored, to let someone else write first.
        sending: how many appends are under way.
        overlapping: how many began while another one was under way.
    """

    def __init__(self) -> None:
        self.records: list[LogRecord] = []
        self.first = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.lose = 0
        self.hide = 0
        self.full = False
        self.opened = 0
        self.before: list[Any] = []
        self.sending = 0
        self.overlapping = 0

    def store(self, value: bytes, headers: Headers) -> int:
        offset = len(self.records)
        self.records.append(LogRecord.read(0, offset, 0, headers, value))
        return offset

    async def open(self) -> None:
        self.opened += 1

    async def close(self) -> None:
        pass

    async def append(self, value: bytes, headers: Headers) -> int:
        self.overlapping += self.sending > 0
        self.sending += 1
        try:
            await self.gate.wait()
        finally:
            self.sending -= 1
        if self.lose:
            self.lose -= 1
            raise LogUnavailable("lost")
        if self.full and ("kind", BARRIER.encode()) not in headers:
            raise LogUnavailable("full")
        if self.before:
            self.before.pop(0)()
        offset = self.store(value, headers)
        if self.hide:
            self.hide -= 1
            raise LogUnavailable("no answer")
        return offset

    async def bounds(self) -> tuple[int, int]:
        return self.first, len(self.records)

    async def end(self) -> int:
        return len(self.records)

    async def read(self, start: int) -> AsyncIterator[list[LogRecord]]:
        while True:
            batch = self.records[start : start + 3]
            start += len(batch)
            yield batch
            await asyncio.sleep(0)

    def foreign_barrier(self, epoch: str = "other") -> None:
        self.store(*records.barrier(epoch, {}))

    def foreign_commit(self, epoch: str = "other") -> None:
        self.store(*records.commit(epoch, [], []))


class PutWrite:
    """Puts `{"id": key, "n": value}`; with `expect`, only if n has that value now."""

    service: str | None = None

    def __init__(
        self, key: str, value: int, expect: int | None = None, table: Table = TABLE
    ) -> None:
        self.table = table
        self._item = {"id": {"S": key}, "n": {"N": str(value)}}
        self.key = table.keys.extract(self._item)
        self.hash, self.row_key = table.keys.locate(table.prefix, self.key)
        self.needs_old = expect is not None
        self._expect = expect

    def evaluate(self, old: dict[str, Any] | None) -> tuple[dict[str, Any] | None, int]:
        if self._expect is not None and (old is None or old["n"] != {"N": str(self._expect)}):
            raise ConditionalCheckFailed
        return self._item, item_size(self._item)


class DeleteWrite(PutWrite):
    """Deletes the item of a key."""

    def __init__(self, key: str, value: int = 0, table: Table = TABLE) -> None:
        super().__init__(key, value, table=table)

    def evaluate(self, old: dict[str, Any] | None) -> tuple[dict[str, Any] | None, int]:
        return None, 0


def make_shard(
    path: Path,
    log: MemoryLog,
    *,
    exclusive: bool = True,
    one_broker: bool = True,
    table: Table = TABLE,
) -> Shard:
    """A shard on `log` with a store of its own below `path`; `take_over` starts it."""

    def fail(error: BaseException) -> None:
        raise error

    return Shard(
        number=0,
        log=log,  # type: ignore[arg-type]
        state=ShardStore(path, StoreMemory(1024 * 1024, 1024 * 1024), {table.id: table}.get),
        clock=HybridClock(lambda: 1_700_000_000_000),
        region="test",
        node="node-1",
        exclusive=exclusive,
        one_broker=one_broker,
        fail=fail,
    )


async def follow(shard: Shard, log: MemoryLog) -> None:
    """Materialize what the log has, as the agent does."""
    await shard.owner.follow(log.records[shard.state.applied + 1 :])


async def until(condition: Any) -> None:
    """Let the loop run until `condition()`; fails after a minute."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the condition is the test's own
            await asyncio.sleep(0)
