"""The owner of one shard: it evaluates writes, appends them, and answers when they are durable."""

import asyncio
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any, Final, NamedTuple, Protocol

from streamtable.core.changes import Change
from streamtable.core.context import RequestContext
from streamtable.core.errors import ApiError, ServiceUnavailable, StreamtableError
from streamtable.core.images import Image
from streamtable.core.values import dump_item
from streamtable.streams import records
from streamtable.streams.clock import HybridClock
from streamtable.streams.commit import Commit, NotWritten
from streamtable.streams.epochs import BARRIER
from streamtable.streams.log import LogUnavailable, ShardLog
from streamtable.streams.overlay import Overlay, Slot, merge
from streamtable.streams.records import LogRecord

__all__ = ["LogGap", "Outcome", "Shard", "ShardState", "StateAheadOfLog", "Write"]

logger = logging.getLogger(__name__)

_COMMIT_BYTES: Final = 1024 * 1024
_OVERLAY_BYTES: Final = 128 * 1024 * 1024
_WAIT_S: Final = 10.0
_RETRY_S: Final = 1.0


class LogGap(StreamtableError, LookupError):
    """The log no longer has records that the shard's state needs."""


class StateAheadOfLog(StreamtableError, RuntimeError):
    """The shard's state has applied more than the log holds: they do not belong together."""


class Write(Protocol):
    """One item's mutation, planned and ready to be evaluated."""

    @property
    def table(self) -> Any:  # noqa: ANN401 - the catalog's Table, of which only names are read
        """The table, with `name` and `id`."""

    @property
    def key(self) -> dict[str, Any]:
        """The item's key attributes in wire form, the partition key first."""

    @property
    def row_key(self) -> bytes:
        """The item's key in the state."""

    @property
    def needs_old(self) -> bool:
        """Whether `evaluate` looks at the old item."""

    def evaluate(self, old: dict[str, Any] | None) -> tuple[dict[str, Any] | None, int]:
        """Return the new item and its size; (None, 0) removes it, `old` itself changes nothing.

        Pure: it may be called again on another old item.

        Raises:
            ApiError: the condition failed, or the update does not fit the item.
        """


class ShardState(Protocol):
    """A shard's rows, materialized from its log; a consumer provides it."""

    @property
    def applied(self) -> int:
        """Offset of the last record applied, -1 before the first."""

    def get(self, row_key: bytes) -> Image | None:
        """Return a row's image."""

    def scan(self, start: bytes, end: bytes, *, reverse: bool) -> Iterator[tuple[bytes, Image]]:
        """Yield the rows with `start <= key < end`, as they are now."""

    def apply(self, found: Sequence[LogRecord], known: Overlay) -> list[LogRecord]:
        """Apply the records that follow `applied`, and the offset with them, all or nothing.

        Args:
            found: contiguous records, the first one at `applied + 1`.
            known: has the rows of commits that this node wrote itself.

        Returns:
            The valid commits among them; the others are void or barriers.
        """


class Outcome(NamedTuple):
    """What a write did.

    Attributes:
        old: the image before.
        new: the image after; the very object `old` where nothing changed.
        offset: offset of its commit, -1 where nothing changed.
        index: its place in the commit.
    """

    old: Image | None
    new: Image | None
    offset: int
    index: int


class Shard:
    """One shard of the tables, owned by this node.

    The protocol is the design's: a barrier starts each term; one append is in flight; what
    arrives meanwhile forms the next commit; an unknown outcome is settled by reading the log.

    Args:
        number: the shard's number, the partition of the change log.
        log: its log.
        state: its materialized rows.
        clock: gives versions their times.
        region: this deployment's region.
        node: this node's name, for the barrier's readers.
        exclusive: whether no other node can own the shard (the embedded broker): then strongly
            consistent reads need no proof of ownership.
        fail: told of an error after which the shard can't be served without a person's help.
    """

    def __init__(  # noqa: PLR0913 - assembled in one place, by name
        self,
        *,
        number: int,
        log: ShardLog,
        state: ShardState,
        clock: HybridClock,
        region: str,
        node: str,
        exclusive: bool,
        fail: Callable[[StreamtableError], None],
    ) -> None:
        self.number = number
        self.state = state
        self.epoch = ""
        self._log = log
        self._clock = clock
        self._region = region
        self._node = node
        self._exclusive = exclusive
        self._fail = fail
        self._overlay = Overlay()
        self._open: deque[Commit] = deque()
        self._last = -1
        self._landed = -1
        self._appending: asyncio.Task[None] | None = None
        self._serving = asyncio.Event()
        self._following = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._proof: asyncio.Task[None] | None = None
        self._provers: list[asyncio.Future[None]] = []

    # Writing

    async def write(self, write: Write, context: RequestContext) -> Outcome:
        """Carry out one write; when this returns it is durable.

        Raises:
            ApiError: the condition was false, or the update does not fit; nothing was written.
            ServiceUnavailable: the shard did not serve within the time limit; nothing was written.
        """
        deadline = time.monotonic() + _WAIT_S
        while True:
            while not (self._serving.is_set() and self._room.is_set()):
                await self._until_open(deadline)
            slot = self._overlay.slot(write.row_key)
            try:
                return await self._attempt(write, slot, context)
            except NotWritten:
                continue

    async def write_many(self, writes: Sequence[Write], context: RequestContext) -> list[Outcome]:
        """Carry out unconditional writes of different items, all in as few commits as possible.

        Raises:
            ServiceUnavailable: the shard did not serve within the time limit; some of the writes
                may have been carried out.
        """
        deadline = time.monotonic() + _WAIT_S
        while not (self._serving.is_set() and self._room.is_set()):
            await self._until_open(deadline)
        joined = []
        for write in writes:
            slot = self._overlay.slot(write.row_key)
            old = self.state.get(write.row_key) if slot is None else slot.latest
            new = self._evaluate(write, old)
            if new is old:
                commit = slot.commit if slot is not None and slot.in_flight else None
                joined.append((write, old, new, commit, -1))
            else:
                joined.append((write, old, new, *self._join(write, slot, old, new, context)))
        commits = {id(commit): commit for _, _, _, commit, _ in joined if commit is not None}
        offsets: dict[int, int | None] = {}
        for key, commit in commits.items():
            commits[key] = commit.outcome()
        for key, outcome in commits.items():
            try:
                offsets[key] = await outcome
            except NotWritten:
                offsets[key] = None
        outcomes = []
        for write, old, new, commit, index in joined:
            offset = -1 if commit is None else offsets[id(commit)]
            if offset is None:
                outcomes.append(await self.write(write, context))
            else:
                outcomes.append(Outcome(old, new, -1 if index < 0 else offset, max(index, 0)))
        return outcomes

    async def _attempt(
        self, write: Write, slot: Slot | None, context: RequestContext
    ) -> Outcome:
        """Evaluate a write and wait for its outcome; raises NotWritten to be called again.

        An answer that rests on an image in flight is given only when that image is durable.
        """
        old = self.state.get(write.row_key) if slot is None else slot.latest
        try:
            new = self._evaluate(write, old)
        except ApiError:
            await self._settled(slot)
            raise
        if new is old:
            await self._settled(slot)
            return Outcome(old, old, -1, 0)
        commit, index = self._join(write, slot, old, new, context)
        return Outcome(old, new, await commit.outcome(), index)

    def _evaluate(self, write: Write, old: Image | None) -> Image | None:
        old_item = old.item if old is not None and write.needs_old else None
        item, size_bytes = write.evaluate(old_item)
        if item is None:
            return None
        if old is None:
            return Image(dump_item(item), size_bytes, self._clock.tick(), self._region, item)
        if item is old_item:
            return old
        json = dump_item(item)
        if size_bytes == old.size_bytes and len(json) == len(old.json) and item == old.item:
            return old
        return Image(json, size_bytes, self._clock.tick(old.time), self._region, item)

    def _join(
        self,
        write: Write,
        slot: Slot | None,
        old: Image | None,
        new: Image | None,
        context: RequestContext,
    ) -> tuple[Commit, int]:
        """Put a change into the open commit, and its image where the next write sees it."""
        if slot is None:
            slot = self._overlay.open_slot(write.row_key, old)
        at = self._clock.tick(0 if old is None else old.time) if new is None else new.time
        change = Change(
            table=write.table.name,
            table_id=write.table.id,
            keys=write.key,
            old=old,
            new=new,
            time=at,
            region=self._region,
            created_ms=HybridClock.milliseconds(at),
            request_id=context.request_id,
            principal=context.principal,
        )
        if not self._open or self._open[-1].size_bytes >= _COMMIT_BYTES:
            self._open.append(Commit(asyncio.get_running_loop()))
        commit = self._open[-1]
        index = commit.add(change, write.row_key)
        slot.latest = new
        slot.in_flight += 1
        slot.commit = commit
        if self._appending is None:
            self._appending = asyncio.create_task(self._append_all())
        return commit, index

    @staticmethod
    async def _settled(slot: Slot | None) -> None:
        """Wait until the image that an answer rests on is durable; raises NotWritten."""
        if slot is not None and slot.in_flight:
            assert isinstance(slot.commit, Commit)
            await slot.commit.outcome()

    async def _append_all(self) -> None:
        """Append the open commits, one at a time."""
        while self._open:
            commit = self._open.popleft()
            value, headers = records.commit(self.epoch, commit.changes)
            try:
                offset = await self._log.append(value, headers)
                owned = offset == self._last + 1 or await self._owned_until(offset)
            except Exception as error:  # noqa: BLE001 - whatever failed, the log has the answer
                logger.warning("shard %d: reading what became of a commit: %r", self.number, error)
                owned = False
            if not owned:
                self._recover(commit)
                return
            self._last, self._landed = offset, -1
            self._overlay.made_durable(offset, commit.rows)
            if offset <= self.state.applied:
                self._overlay.applied(offset)
            elif self._overlay.size_bytes > _OVERLAY_BYTES:
                self._room.clear()
            commit.written(offset)
            self._wake_provers()
        self._appending = None

    async def _owned_until(self, offset: int) -> bool:
        """Whether no other owner's barrier lies between the last known offset and `offset`."""
        async with aclosing(self._log.read(self._last + 1)) as batches:
            async for batch in batches:
                for record in batch:
                    if record.offset >= offset:
                        return True
                    if record.kind == BARRIER:
                        return False
                if batch and batch[-1].offset + 1 >= offset:
                    return True
        raise AssertionError

    # Reading

    async def read(self, row_key: bytes, *, consistent: bool) -> Image | None:
        """Return a row's durable image; with `consistent`, of every write answered before."""
        if consistent and not self._exclusive:
            await self.ready(consistent=True)
        elif not self._serving.is_set():
            await self._until_open(time.monotonic() + _WAIT_S)
        return self.get(row_key)

    async def ready(self, *, consistent: bool) -> None:
        """Wait until `get` and `scan` may be called; with `consistent`, prove ownership.

        Raises:
            ServiceUnavailable: the shard did not serve within the time limit.
        """
        if not self._serving.is_set():
            await self._until_open(time.monotonic() + _WAIT_S)
        if consistent and not self._exclusive:
            await self._prove()

    def get(self, row_key: bytes) -> Image | None:
        """Return a row's durable image."""
        slot = self._overlay.slot(row_key)
        return self.state.get(row_key) if slot is None else slot.durable

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, Image]]:
        """Yield the durable rows with `start <= key < end`, as they are at the first one."""
        stored = self.state.scan(start, end, reverse=reverse)
        if not self._overlay:
            return stored
        overlaid = self._overlay.between(start, end)
        if not overlaid:
            return stored
        if reverse:
            overlaid.reverse()
        return merge(stored, overlaid, reverse=reverse)

    async def _prove(self) -> None:
        """Return when the log's end is known to be this owner's: one check for all who wait.

        A check that is under way may have looked before the caller's read began, so it proves
        nothing for the caller, who waits for the next one.
        """
        if self._proof is not None:
            await asyncio.shield(self._proof)
        if self._proof is None:
            self._proof = asyncio.create_task(self._check_end())
        await asyncio.shield(self._proof)
        if not self._serving.is_set():
            await self._until_open(time.monotonic() + _WAIT_S)

    async def _check_end(self) -> None:
        try:
            _, end = await self._log.bounds()
            while self._serving.is_set() and self._last + 1 < end:
                if self._appending is not None:
                    acknowledged = asyncio.get_running_loop().create_future()
                    self._provers.append(acknowledged)
                    await acknowledged
                elif await self._owned_until(end):
                    self._last = end - 1
                else:
                    self._recover(None)
        except LogUnavailable as error:
            raise ServiceUnavailable(str(error)) from error
        finally:
            self._proof = None

    def _wake_provers(self) -> None:
        for waiter in self._provers:
            waiter.set_result(None)
        self._provers.clear()

    # Terms

    async def take_over(self, pending: Commit | None = None) -> None:
        """Become the shard's owner: read its log to the end, start a term, serve.

        Args:
            pending: a commit of the last term whose append had no answer.

        Raises:
            LogGap: the log starts after what the state needs next.
            StateAheadOfLog: the log ends before what the state has applied.
            LogUnavailable: the log can't be written.
        """
        # 1. What the state lacks must still be there.
        first, end = await self._log.bounds()
        self._check_bounds(first, end)
        # 2. Fence older producers, then make every other writer's later commits void.
        await self._log.open()
        epoch = uuid.uuid4().hex
        value, headers = records.barrier(
            epoch, {"node": self._node, "since": int(time.time() * 1000)}
        )
        start = await self._log.append(value, headers)
        # 3. Read up to the barrier: from here on the state is the log's.
        async with aclosing(self._log.read(self.state.applied + 1)) as batches:
            async for batch in batches:
                self._apply([record for record in batch if record.offset <= start])
                if self.state.applied >= start:
                    break
        # 4. The log says what became of the commit that had no answer.
        if pending is not None:
            if self._landed >= 0:
                pending.written(self._landed)
            else:
                pending.not_written()
        # 5. Commits that were never appended are evaluated again, on the state.
        dropped, self._open = self._open, deque()
        self._overlay.clear()
        self.epoch, self._last, self._landed = epoch, start, -1
        for commit in dropped:
            commit.not_written()
        # 6. Serve.
        self._appending = None
        self._room.set()
        self._following.set()
        self._serving.set()

    def step_down(self) -> None:
        """Stop serving: another node has the shard, or this one stops."""
        self._serving.clear()

    async def close(self) -> None:
        """Stop serving, let the append in flight finish, and let go of the log."""
        self.step_down()
        if self._appending is not None:
            await asyncio.wait([self._appending], timeout=_WAIT_S)
        await self._log.close()

    def _recover(self, pending: Commit | None) -> None:
        """Stop serving and settle the unknown outcome in the background, until it is settled."""
        self._serving.clear()
        self._following.clear()
        self._wake_provers()
        self._appending = asyncio.create_task(self._retake(pending))

    async def _retake(self, pending: Commit | None) -> None:
        while True:
            try:
                await self.take_over(pending)
            except LogUnavailable as error:
                logger.warning("shard %d is not served: %s; trying again", self.number, error)
                await asyncio.sleep(_RETRY_S)
            except StreamtableError as error:
                self._fail(error)
                return
            else:
                logger.info("shard %d is served again, epoch %s", self.number, self.epoch)
                return

    def _check_bounds(self, first: int, end: int) -> None:
        needed = self.state.applied + 1
        if needed < first:
            msg = (
                f"shard {self.number}'s log starts at offset {first}, its tables need {needed}: "
                "they were stopped for longer than the log is kept. Restore them from a "
                "checkpoint or a copy of the data folder."
            )
            raise LogGap(msg)
        if needed > end:
            msg = (
                f"shard {self.number}'s log ends at offset {end}, its tables have applied "
                f"{self.state.applied}. Log and tables do not belong together: was one of them "
                "removed or restored alone?"
            )
            raise StateAheadOfLog(msg)

    # Following the log

    async def follow(self, found: Sequence[LogRecord]) -> None:
        """Apply records of the log to the state, once the term has started.

        Raises:
            LogGap: records between the state and these are missing.
        """
        if not self._following.is_set():
            await self._following.wait()
        self._apply(found)

    def _apply(self, found: Sequence[LogRecord]) -> None:
        needed = self.state.applied + 1
        missing = [record for record in found if record.offset >= needed]
        if not missing:
            return
        if missing[0].offset != needed:
            msg = (
                f"shard {self.number}'s log went on at offset {missing[0].offset}, its tables "
                f"need {needed}"
            )
            raise LogGap(msg)
        for record in self.state.apply(missing, self._overlay):
            # The append in flight may have landed before its answer, or without one.
            if record.offset > self._last and record.epoch == self.epoch:
                self._landed = record.offset
            self._overlay.applied(record.offset)
        if not self._room.is_set() and self._overlay.size_bytes < _OVERLAY_BYTES // 2:
            self._room.set()

    async def _until_open(self, deadline: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._serving.wait()
                await self._room.wait()
        except TimeoutError:
            msg = f"Shard {self.number} is not served right now. Try again."
            raise ServiceUnavailable(msg) from None

