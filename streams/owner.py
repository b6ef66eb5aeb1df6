"""The writing end of one shard: terms, group commit, and what becomes of a lost answer.

The protocol is the design's. A barrier starts each term. One append is in flight; what arrives
meanwhile forms the next commit. A commit is answered only if its offset follows the last one
known, or what lies between is no barrier. An unknown outcome is settled by reading the log.
"""

import asyncio
import logging
import math
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final, Protocol

from streamtable.core.errors import InternalServerError, ServiceUnavailable, StreamtableError
from streamtable.core.images import Image
from streamtable.streams import records
from streamtable.streams.bounds import bounds_reaching
from streamtable.streams.commit import Commit, NotWritten
from streamtable.streams.epochs import BARRIER
from streamtable.streams.log import LogFenced, LogUnavailable
from streamtable.streams.overlay import Overlay
from streamtable.streams.records import Headers, LogRecord, SplitMark
from streamtable.streams.shard_log import ShardLog
from streamtable.streams.standstill import now
from streamtable.streams.traces import TRACE, Step, Tracer

__all__ = [
    "WAIT_S",
    "LogGap",
    "Moved",
    "Owner",
    "ShardState",
    "StateAheadOfLog",
    "StateUnavailable",
]

logger = logging.getLogger(__name__)

WAIT_S: Final = 10.0
"""How long a request waits for a shard that does not serve, seconds."""

_COMMIT_BYTES: Final = 1024 * 1024
_OVERLAY_BYTES: Final = 16 * 1024 * 1024
_RETRY_S: Final = 0.2
_TELL_S: Final = 2.0
# A node that lost a shard hears of it with its next heartbeat to the group.
_YIELD_S: Final = 3.5
# Half of the session that the group waits for before it gives a silent node's shards to others.
_SURE_S: Final = 5.0


class Moved(ServiceUnavailable):
    """The shard is another node's now: nothing was done here, ask that one."""


class LogGap(StreamtableError, LookupError):
    """The log no longer has records that the shard's state needs."""


class StateUnavailable(StreamtableError, OSError):
    """The shard's state can't be written right now, for example because the disk is full."""


class StateAheadOfLog(StreamtableError, RuntimeError):
    """The shard's state has applied more than the log holds: they do not belong together."""


class ShardState(Protocol):
    """A shard's rows, materialized from its log; a consumer provides it."""

    @property
    def applied(self) -> int:
        """Offset of the last record applied, -1 before the first."""

    @property
    def split(self) -> SplitMark | None:
        """The last split record applied, None before the first."""

    @property
    def removed_at(self) -> int:
        """The latest version's time at which an item was removed, 0 before the first."""

    def get(self, row_key: bytes) -> Image | None:
        """Return a row's image."""

    def get_many(self, row_keys: Sequence[bytes]) -> list[Image | None]:
        """Return the images of rows: a third of the work of asking for each."""

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, Image]]:
        """Yield the rows with `start <= key < end`, as they are now."""

    def collection_bytes(self, collection: bytes) -> int:
        """Size of the item collection of that key, as far as it is applied."""

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield what the commits noted about transactions and is needed at once, oldest first."""

    def decision(self, transaction: str) -> bool | None:
        """What was decided of a transaction here in the last day, as far as it is applied."""

    def indexed(self, source: int) -> int:
        """Offset of shard `source` through which global indexes are applied here, or -1."""

    async def until_writable(self) -> None:
        """Wait while it can take nothing more because too much of it waits for the disk."""

    def apply(self, found: Sequence[LogRecord], known: Overlay) -> list[LogRecord]:
        """Apply the records that follow `applied`, and the offset with them, all or nothing.

        Args:
            found: contiguous records, the first one at `applied + 1`.
            known: has the commits that this node wrote itself.

        Returns:
            The valid commits among them; the others are void or barriers.

        Raises:
            StateUnavailable: nothing was applied; it may be called again.
        """


def _measure_nothing(_changes: int, _seconds: float) -> None:
    pass


def _is_decided(_split: SplitMark) -> bool:
    return True


def _is_settled() -> bool:
    return True


def _always() -> float:
    return math.inf


class _CatchUp:
    """Tells now and then how far a shard's tables are behind its log while they catch up.

    Args:
        shard: the shard's number.
        applied: the offset that they have.
        end: the offset that they need.
    """

    def __init__(self, shard: int, applied: int, end: int) -> None:
        self._shard = shard
        self._first = applied
        self._end = end
        self._started = self._told = time.monotonic()

    def tell(self, applied: int) -> None:
        """Note how far they are."""
        now = time.monotonic()
        if now - self._told < _TELL_S:
            return
        self._told = now
        rate = max(1.0, (applied - self._first) / (now - self._started))
        logger.info(
            "shard %d catches up: offset %d of %d, %.0f records/s, %.0f s left",
            self._shard,
            applied,
            self._end,
            rate,
            (self._end - applied) / rate,
        )


class Owner:
    """Appends for one shard, as long as the shard is this node's.

    Args:
        number: the shard's number.
        log: its log.
        state: its materialized rows.
        node: this node's name, for the barrier's readers.
        one_broker: whether the log's end is always known where it is asked for. Among several, one
            that was cut off together with this node tells an end that is none any more.
        durable: called with each commit and its offset when it is durable and reads see it.
        started: called when a term has started, before anything is served.
        fail: told of an error after which the shard can't be served without a person's help.

    Attributes:
        overlay: writes that the state does not have yet.
        measure: told of each commit that is durable: its changes, seconds since it was sent.
        tracer: told of each commit that carries traced requests; None tells nobody.
        is_decided: asked at the start of a term about the last split record, whether it is known
            what became of it. If not, nothing is written until `release`.
        is_settled: asked whether the group is not about to give its shards to nodes anew.
        heard_at: asked when the last heartbeat was sent that the group has answered.
        epoch: this term's id.
        began: offset of this term's barrier, -1 before the first term.
    """

    def __init__(
        self,
        *,
        number: int,
        log: ShardLog,
        state: ShardState,
        node: str,
        one_broker: bool,
        durable: Callable[[Commit, int], None],
        started: Callable[[], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self.number = number
        self.state = state
        self.overlay = Overlay()
        self.measure: Callable[[int, float], None] = _measure_nothing
        self.tracer: Tracer | None = None
        self.is_decided: Callable[[SplitMark], bool] = _is_decided
        self.is_settled: Callable[[], bool] = _is_settled
        self.heard_at: Callable[[], float] = _always
        self.epoch = ""
        self.began = -1
        self._log = log
        self._node = node
        self._one_broker = one_broker
        # When the last record that is in the log as this owner's was sent.
        self._sure_at = -math.inf
        self._durable = durable
        self._started = started
        self._fail = fail
        self._open: deque[Commit] = deque()
        self._last = -1
        self._landed = -1
        self._barren = False
        self._appending: asyncio.Task[None] | None = None
        self._readable = False
        self._serving = asyncio.Event()
        self._gone = asyncio.Event()
        self._following = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._free = asyncio.Event()
        self._free.set()
        self._splits = 0
        self._wanted = False
        self._turn = asyncio.Lock()
        self._pending: Commit | None = None
        self._proof: asyncio.Task[bool] | None = None
        self._provers: list[asyncio.Future[None]] = []

    # Serving

    @property
    def wanted(self) -> bool:
        """Whether the group has given this node the shard, as far as it knows."""
        return self._wanted

    @property
    def serving(self) -> bool:
        """Whether the term has started, and no outcome is unknown."""
        return self._serving.is_set()

    @property
    def readable(self) -> bool:
        """Whether durable images may be read: also while an unknown outcome is settled."""
        return self._readable

    @property
    def open(self) -> bool:
        """Whether writes are taken."""
        return self._serving.is_set() and self._room.is_set() and self._free.is_set()

    @property
    def held(self) -> bool:
        """Whether writes wait for a split to be decided."""
        return not self._free.is_set()

    async def until_open(self, deadline: float) -> None:
        """Wait until writes are taken.

        Raises:
            Moved: the group has given the shard to another node, or it was split meanwhile.
            ServiceUnavailable: they are not at `deadline` (monotonic clock).
        """
        splits = self._splits
        while not self.open:
            opened = asyncio.ensure_future(self._opened())
            gone = asyncio.ensure_future(self._gone.wait())
            try:
                done, _ = await asyncio.wait(
                    (opened, gone),
                    timeout=max(0.0, deadline - time.monotonic()),
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                opened.cancel()
                gone.cancel()
            if self._gone.is_set() or self._splits != splits:
                raise self._moved()
            if not done:
                raise ServiceUnavailable(f"Shard {self.number} is not served right now. Try again.")
            # Those who were first may have closed it again: the overlay is full once more.

    def try_again(self, deadline: float) -> None:
        """Say whether a commit that was not written may be tried again.

        A disk that is full takes some commits and not others, so terms alone say nothing.

        Raises:
            ServiceUnavailable: the deadline (monotonic clock) has passed.
        """
        if time.monotonic() > deadline:
            raise ServiceUnavailable(f"Shard {self.number} takes no such write now. Try again.")

    async def _opened(self) -> None:
        while not self.open:
            await self._serving.wait()
            await self._room.wait()
            await self._free.wait()

    # Appending

    @property
    def last(self) -> int:
        """Offset of the last record that this owner knows to be in the log."""
        return self._last

    def commit(self) -> Commit:
        """The commit that the next changes join; it is appended as soon as the log is free.

        Whoever calls this joins its changes before it awaits anything.
        """
        if not self._open or self._open[-1].size_bytes >= _COMMIT_BYTES:
            self._open.append(Commit(asyncio.get_running_loop()))
        if self._appending is None:
            self._appending = asyncio.create_task(self._append_all())
        return self._open[-1]

    def offset_of(self, commit: Commit) -> int:
        """The offset that a commit will have that is not durable yet, if nobody else appends."""
        if commit is self._pending:
            return self._last + 1
        appending = 0 if self._pending is None else 1
        return self._last + 1 + appending + self._open.index(commit)

    async def _append_all(self) -> None:
        epoch = self.epoch
        while self._open and self.serving:
            commit = self._pending = self._open.popleft()
            value, headers = records.encoded_commit(
                self.epoch, commit.tables, commit.encoded, commit.entries
            )
            commit.encoded.clear()
            step = None if commit.traces is None else self._begin_step(commit, headers)
            sent, sure_at = time.perf_counter(), now()
            failed = lost = fenced = False
            try:
                offset = await self._log.append(value, headers)
                lost = offset != self._last + 1 and not await self._owned_until(offset)
                if step is not None:
                    step.end(offset=offset, void=lost)
            except Exception as error:  # noqa: BLE001 - whatever failed, the log has the answer
                logger.warning("shard %d: reading what became of a commit: %r", self.number, error)
                failed, fenced = True, isinstance(error, LogFenced)
                if step is not None:
                    step.end(error)
            if self._pending is not commit:
                return  # the group gave the shard away and back meanwhile: that term has settled it
            if lost:
                # A barrier lies before it: it is void, for ever.
                self._pending = None
                commit.not_written()
            if failed or lost:
                self._recover(lost=lost or fenced)
                return
            self.measure(len(commit.changes), time.perf_counter() - sent)
            self._pending = None
            self._last, self._landed = offset, -1
            self._sure_at = sure_at
            self._barren = False
            self.overlay.made_durable(offset, commit)
            self._durable(commit, offset)
            if offset <= self.state.applied:
                self.overlay.applied(offset)
            elif self.overlay.size_bytes > _OVERLAY_BYTES:
                self._room.clear()
            commit.written(offset)
            self._wake_provers()
            if self._open:
                # Who was told goes on first: what follows at once joins the next commit.
                await asyncio.sleep(0)
                if self.epoch != epoch:
                    return  # a term that began meanwhile appends by itself
        self._drop_open()
        self._end_appending()

    def _end_appending(self) -> None:
        """Let others append, unless they do already."""
        if self._appending is asyncio.current_task():
            self._appending = None

    def _begin_step(self, commit: Commit, headers: Headers) -> Step | None:
        """Tell that a traced commit is sent, and have its record say what follows from it."""
        assert commit.traces
        if self.tracer is None:
            headers.append((TRACE, commit.traces[0].encode()))
            return None
        known = {"shard": self.number, "changes": len(commit.changes)}
        step = self.tracer.begin("commit", commit.traces, known)
        headers.append((TRACE, step.trace.encode()))
        return step

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

    # Splits

    def hold(self) -> None:
        """Take no more writes until `release`; what is under way goes on to its end."""
        self._free.clear()

    async def split(self, attempt: str, catalog: int) -> int:
        """Append a split record, while the shard is held and nothing is under way.

        Args:
            attempt: id of the attempt to change the number of shards.
            catalog: who has read the catalog up to this offset knows of the attempt.

        Returns:
            The record's offset.

        Raises:
            ServiceUnavailable: it may be in the log or not; a new term finds out.
        """
        if self._appending is not None or not self.serving or not self.held:
            raise ServiceUnavailable(f"Shard {self.number} is not served right now.")
        epoch = self.epoch
        value, headers = records.split(epoch, attempt, catalog)
        failed: Exception | None = None
        offset, lost = -1, False
        try:
            offset = await self._log.append(value, headers)
            lost = offset != self._last + 1 and not await self._owned_until(offset)
        except Exception as error:  # noqa: BLE001 - whatever failed, the log has the answer
            failed = error
        if self.epoch != epoch:
            # The group gave the shard away and back meanwhile: the record may be void.
            raise self._moved()
        if failed is not None:
            self._recover(lost=isinstance(failed, LogFenced))
            raise ServiceUnavailable(f"Shard {self.number} can't be split: {failed!r}") from failed
        if lost:
            self._recover(lost=True)
            raise self._moved()
        self._last = offset
        return offset

    def release(self, *, split: bool) -> None:
        """Take writes again.

        Args:
            split: the shard was split. Who waits to write is told to look for the item's shard
                again.
        """
        if split:
            self._splits += 1
        self._free.set()

    # Proof of ownership

    async def prove(self) -> None:
        """Return when the log's end is known to be this owner's: one check for all who wait.

        A check that is under way may have looked before the caller's read began, so it proves
        nothing for the caller, who waits for the next one.

        Raises:
            Moved: the group has given the shard to another node.
            ServiceUnavailable: the brokers do not answer, or the shard was lost.
        """
        if self._proof is not None:
            await self._proven(self._proof)
        deadline = time.monotonic() + WAIT_S
        while True:
            if self._proof is None:
                self._proof = asyncio.create_task(self._check_end())
            if await self._proven(self._proof):
                return
            # The next term proves nothing by itself: its barrier may be older than the read.
            await self.until_open(deadline)

    async def _proven(self, proof: asyncio.Task[bool]) -> bool:
        try:
            return await asyncio.shield(proof)
        except asyncio.CancelledError:
            # Who steps down ends the check: nothing can be proven any more.
            if not proof.cancelled():
                raise
            raise self._moved() from None

    def _moved(self) -> Moved:
        return Moved(f"Shard {self.number} is not served by this node any more. Try again.")

    def _is_sure(self) -> bool:
        """Whether the log's end proves something.

        Where this node and a broker are cut off together, or stand still, others are given the
        shard, write to it by another broker, and this one goes on saying what the end was. That
        takes them a session's time from when the node was heard last. So what it says counts for
        half of that from the last record that enough brokers have taken.
        """
        return self._one_broker or (self.is_settled() and now() < self._sure_at + _SURE_S)

    async def _check_end(self) -> bool:
        """Say whether a term that is in force has everything up to the log's end."""
        try:
            if not self._is_sure():
                return not self.held and await self._append_nothing()
            end = await self._log.end()
            while self.serving and self._last + 1 < end:
                if self._appending is not None:
                    acknowledged = asyncio.get_running_loop().create_future()
                    self._provers.append(acknowledged)
                    await acknowledged
                elif await self._owned_until(end):
                    # Meanwhile more may have been appended.
                    self._last = max(self._last, end - 1)
                else:
                    self._recover(lost=True)
        except LogUnavailable as error:
            if self.serving and self._appending is None:
                # Without writes nobody else would find out that the shard can't be served.
                self._recover(lost=False)
            raise ServiceUnavailable(str(error)) from error
        finally:
            self._proof = None
        return self.serving

    async def _append_nothing(self) -> bool:
        """Join the next commit, whatever is in it; say whether it is in the log as this owner's."""
        try:
            await self.commit().outcome()
        except NotWritten:
            return False
        except InternalServerError:
            raise ServiceUnavailable(
                f"Shard {self.number} is not served right now. Try again."
            ) from None
        return self.serving

    def _wake_provers(self) -> None:
        for waiter in self._provers:
            waiter.set_result(None)
        self._provers.clear()

    # Terms

    async def take_over(self) -> None:
        """Become the shard's owner: read its log to the end, start a term, serve.

        A commit of the last term whose append is under way, or had no answer, is settled.

        Raises:
            LogGap: the log starts after what the state needs next.
            StateAheadOfLog: the log ends before what the state has applied.
            LogUnavailable: the log can't be written or read.
        """
        self._wanted = True
        self._gone.clear()
        async with self._turn:
            # It may have begun a term by itself meanwhile, and serve by now. Nothing is to be
            # appended beside the barrier: the broker may take one for the other.
            self._stop_serving()
            await self._start_term()

    async def _start_term(self) -> None:
        # 1. What the state lacks must still be there.
        applied = self.state.applied
        self._check_bounds(applied, *await bounds_reaching(applied, self._log.bounds))
        # 2. Fence older producers, then make every other writer's later commits void.
        await self._log.open()
        epoch = uuid.uuid4().hex
        value, headers = records.barrier(
            epoch, {"node": self._node, "since": int(time.time() * 1000)}
        )
        sure_at = now()
        start = await self._log.append(value, headers)
        # 3. Read up to the barrier: from here on the state is the log's.
        progress = _CatchUp(self.number, self.state.applied, start)
        async with aclosing(self._log.read(self.state.applied + 1)) as batches:
            async for batch in batches:
                await self.state.until_writable()
                self._apply([record for record in batch if record.offset <= start])
                if self.state.applied >= start:
                    break
                progress.tell(self.state.applied)
        # 4. The log says what became of the commit that had no answer: if it is not there by now,
        # it comes after the barrier, or never.
        pending, self._pending = self._pending, None
        if pending is not None:
            if self._landed >= 0:
                pending.written(self._landed)
            elif self._barren:
                # A barrier fits where a commit does not, for example on a disk that is full: nobody
                # is to wait term after term.
                pending.refused()
            else:
                pending.not_written()
            self._barren = self._landed < 0
        # 5. Commits that were never appended are evaluated again, on the state.
        dropped, self._open = self._open, deque()
        self.overlay.clear()
        self.epoch, self._last, self._landed = epoch, start, -1
        self.began, self._sure_at = start, sure_at
        for commit in dropped:
            commit.not_written()
        # 6. Serve, unless the group has given the shard away meanwhile.
        self._appending = None
        if self._gone.is_set():
            return
        if self.state.split is not None and not self.is_decided(self.state.split):
            self._free.clear()
        self._started()
        self._room.set()
        self._following.set()
        self._serving.set()
        self._readable = True

    def step_down(self) -> None:
        """Stop serving: another node has the shard, or this one stops.

        Whoever waits for the shard is told that it has moved. An append in flight is settled by
        its answer, or by what the log has before the next owner's barrier.
        """
        self._wanted = False
        self._gone.set()
        self._stop_serving()
        self._readable = False
        if self._proof is not None:
            # It asks over a connection that is about to be closed, and would wait for long.
            self._proof.cancel()

    async def close(self) -> None:
        """Stop serving, let the append in flight be settled, and let go of the log."""
        self.step_down()
        await self.settled()
        if self._appending is not None:
            self._appending.cancel()
        self._answer_waiting()
        await self._log.close()

    async def settled(self) -> None:
        """Return when nothing is in flight and unknown any more, or that could not be had in time.

        An append that fails is followed by a look at what the log has of it.
        """
        deadline = time.monotonic() + WAIT_S
        while (task := self._appending) is not None and not task.done():
            left = deadline - time.monotonic()
            if left <= 0:
                return
            await asyncio.wait([task], timeout=left)

    def _recover(self, *, lost: bool) -> None:
        """Stop serving and settle the unknown outcome in the background, until it is settled.

        Args:
            lost: another node has started a term.
        """
        self._stop_serving()
        self._appending = asyncio.create_task(self._retake(lost=lost))

    def _stop_serving(self) -> None:
        """Take nothing until a term starts."""
        self._serving.clear()
        self._following.clear()
        self._wake_provers()

    async def _retake(self, *, lost: bool) -> None:
        lost_at = time.monotonic()
        patient_until = lost_at + WAIT_S
        if lost:
            # Most likely the group has given the shard to another node, and says so soon. Only if
            # it does not, the other one was late, and the shard is still this node's.
            with suppress(TimeoutError):
                async with asyncio.timeout(_YIELD_S):
                    await self._gone.wait()
            # Whom the group does not answer it can't tell: the two would take it from each other.
            while self._wanted and self.heard_at() < lost_at:
                if time.monotonic() > patient_until:
                    self._answer_waiting()
                await asyncio.sleep(_RETRY_S)
        while self._wanted:
            try:
                async with self._turn:
                    if self._serving.is_set():
                        return  # the group gave the shard away and back meanwhile
                    await self._start_term()
            except (LogUnavailable, StateUnavailable) as error:
                logger.warning("shard %d is not served: %s; trying again", self.number, error)
                if time.monotonic() > patient_until:
                    self._answer_waiting()
                await asyncio.sleep(_RETRY_S)
            except Exception as error:  # noqa: BLE001 - nobody else would hear of it
                self._fail(error)
                return
            else:
                logger.info("shard %d is served again, epoch %s", self.number, self.epoch)
                return
        await self._settle_left()
        self._answer_waiting()
        self._end_appending()

    async def _settle_left(self) -> None:
        """Look up what became of the pending commit, now that another node has the shard.

        What is not in the log before that node's barrier never counts.
        """
        pending = self._pending
        if pending is None:
            return
        try:
            async with asyncio.timeout(WAIT_S), aclosing(self._log.read(self._last + 1)) as batches:
                async for batch in batches:
                    for record in batch:
                        if record.kind == BARRIER:
                            self._pending = None
                            pending.not_written()
                            return
                        if record.epoch == self.epoch:
                            self._pending = None
                            pending.written(record.offset)
                            return
        except (LogUnavailable, TimeoutError) as error:
            logger.warning("shard %d: the last commit stays unknown: %r", self.number, error)

    def _drop_open(self) -> None:
        while self._open:
            self._open.popleft().not_written()

    def _answer_waiting(self) -> None:
        """Let no request wait for longer: the log does not answer, or another node has the shard.

        What the pending commit is about is read at the start of the next term all the same.
        """
        if self._pending is not None:
            self._pending.unknown()
        self._drop_open()

    def _check_bounds(self, applied: int, first: int, end: int) -> None:
        """Check that log and state belong together.

        Args:
            applied: what the state had applied before the bounds were asked for; it may have
                followed the log further since.
            first: offset of the first record kept.
            end: offset of the next one to come.
        """
        needed = self.state.applied + 1
        if needed < first:
            raise LogGap(
                f"shard {self.number}'s log starts at offset {first}, its tables need {needed}: "
                "they were stopped for longer than the log is kept. Start on a copy of the data "
                "folder that is at least as new as the log's start."
            )
        if applied >= end:
            raise StateAheadOfLog(
                f"shard {self.number}'s log ends at offset {end}, its tables have applied "
                f"{applied}. Log and tables do not belong together: was one of them removed or "
                "restored alone?"
            )

    # Following the log

    async def follow(self, found: Sequence[LogRecord]) -> None:
        """Apply records of the log to the state, once the term has started.

        Raises:
            LogGap: records between the state and these are missing.
            StateUnavailable: they were not applied; it may be called again.
        """
        await self.state.until_writable()
        if not self._following.is_set():
            await self._following.wait()
        self._apply(found)

    def _apply(self, found: Sequence[LogRecord]) -> None:
        needed = self.state.applied + 1
        missing = [record for record in found if record.offset >= needed]
        if not missing:
            return
        if missing[0].offset != needed or missing[-1].offset != needed + len(missing) - 1:
            raise LogGap(
                f"shard {self.number}'s log went on with {len(missing)} records from offset "
                f"{missing[0].offset} to {missing[-1].offset}, its tables need {needed} and all "
                "that follow"
            )
        for record in self.state.apply(missing, self.overlay):
            # The append in flight may have landed before its answer, or without one.
            if record.offset > self._last and record.epoch == self.epoch:
                self._landed = record.offset
            self.overlay.applied(record.offset)
        if not self._room.is_set() and self.overlay.size_bytes <= _OVERLAY_BYTES:
            self._room.set()
