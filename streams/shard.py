"""One shard of the tables on its owner: writes are evaluated here, reads answered."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from streamtable.core.changes import Change
from streamtable.core.context import RequestContext
from streamtable.core.errors import (
    ApiError,
    ItemCollectionSizeLimitExceeded,
    ServiceUnavailable,
    TransactionConflict,
)
from streamtable.core.images import Image
from streamtable.core.index_rows import IndexRow, index_rows
from streamtable.core.item_collections import collection_change, collection_key
from streamtable.core.limits import ITEM_COLLECTION_BYTES
from streamtable.core.tables import GLOBAL_ROW, Table
from streamtable.core.values import Item, dump_item
from streamtable.streams.begun import Begun
from streamtable.streams.clock import HybridClock
from streamtable.streams.commit import Commit, NotWritten
from streamtable.streams.ledger import Ledger
from streamtable.streams.overlay import IndexOverlay, Slot, merge
from streamtable.streams.owner import WAIT_S, Owner, ShardState
from streamtable.streams.shard_log import ShardLog

__all__ = [
    "Chunk",
    "Evaluated",
    "FetchedChunk",
    "Joined",
    "Look",
    "Outcome",
    "Row",
    "Shard",
    "Write",
    "WriteCheck",
]

_COLLECTION_FULL: Final = "Item collection size limit of 10 gigabytes exceeded"
_LOCKED: Final = "Transaction is ongoing for the item"
# In place of its index in a commit: the write is to be evaluated once more, by itself.
_AGAIN: Final = -2


class Row(Protocol):
    """Which item a change is of."""

    @property
    def table(self) -> Table:
        """The table, as it was when the request was checked."""

    @property
    def key(self) -> dict[str, Any]:
        """The item's key attributes in wire form, the partition key first."""

    @property
    def row_key(self) -> bytes:
        """The item's key in the state."""

    @property
    def service(self) -> str | None:
        """The AWS service on whose behalf the item goes, None for a client's write."""


class Write(Row, Protocol):
    """One item's mutation, planned and ready to be evaluated."""

    @property
    def hash(self) -> int:
        """The hash of the partition key."""

    @property
    def needs_old(self) -> bool:
        """Whether `evaluate` looks at the old item."""

    def evaluate(self, old: dict[str, Any] | None) -> tuple[dict[str, Any] | bytes | None, int]:
        """Return the new item and its size; (None, 0) removes it, `old` itself changes nothing.

        An item that is as the request has it may be its JSON. Pure: it may be called again on
        another old item.

        Raises:
            ApiError: the condition failed, or the update does not fit the item.
        """


WriteCheck: TypeAlias = Callable[[Row, Image | None, Image | None], None]
"""Takes a write's item and the images before and after; raises ApiError to refuse the write.

It may be called again for the same write.
"""


class Outcome(NamedTuple):
    """What a write did.

    Attributes:
        old: the image before.
        new: the image after; the very object `old` where nothing changed.
        offset: offset of its commit, -1 where nothing changed.
        place: its place in the commit.
    """

    old: Image | None
    new: Image | None
    offset: int
    place: int


class Joined(NamedTuple):
    """A write that has joined a commit, or that changes nothing.

    Attributes:
        commit: the commit; what becomes of it becomes of the write. None where nothing changes.
        old: the image before.
        new: the image after; the very object `old` where nothing changes.
    """

    commit: Commit | None
    old: Image | None
    new: Image | None


class Evaluated(NamedTuple):
    """A write evaluated on the newest image, durable or in flight; nothing is changed yet."""

    write: Row
    slot: Slot | None
    old: Image | None
    new: Image | None


class Chunk(NamedTuple):
    """Rows in order, and whether more of the range follow after them."""

    rows: Iterator[tuple[bytes, Image]]
    more: bool


class FetchedChunk(NamedTuple):
    """Rows of a local index, each with the item that it is of; otherwise as `Chunk`."""

    rows: Iterator[tuple[bytes, Image, Image]]
    more: bool


class Look(NamedTuple):
    """What a shard's rows were at one time.

    Attributes:
        epoch: the term.
        removals: how many rows had been removed in it.
        locked: for each row, whether a transaction holds it.
        images: the durable image of each row.
    """

    epoch: str
    removals: int
    locked: list[bool]
    images: list[Image | None]


class _ManyWrites:
    """Writes that join their commits together: what `Shard.write_many` does."""

    def __init__(self, shard: "Shard", writes: Sequence[Write], context: RequestContext) -> None:
        self._shard = shard
        self._writes = writes
        self._context = context
        self._joined: list[tuple[Evaluated, Commit | None, int]] = []
        self._refused: ApiError | None = None
        self._deadline = time.monotonic() + WAIT_S
        self._epoch = ""
        self._commits: list[Commit] = []
        self._all_joined = True
        if shard.owner.open:
            self._join()

    def _join(self) -> None:
        shard, ledger = self._shard, self._shard.ledger
        self._epoch = shard.owner.epoch
        newest = shard.newest([write.row_key for write in self._writes])
        for write, (slot, old) in zip(self._writes, newest, strict=True):
            if ledger.locking and ledger.locks(write.row_key):
                if not ledger.doubts(write.row_key):
                    self._refused = TransactionConflict(_LOCKED)
                    return
                self._later(write)
                continue
            try:
                found = shard.evaluate_on(write, slot, old)
            except ApiError:
                self._later(write)
                continue
            if found.new is not found.old:
                commit = shard.owner.commit()
                if not self._commits or self._commits[-1] is not commit:
                    self._commits.append(commit)
                self._joined.append((found, commit, shard.join(commit, found, self._context)))
            else:
                waited = slot.commit if slot is not None and slot.in_flight else None
                if waited is not None and waited not in self._commits:
                    self._commits.append(waited)
                self._joined.append((found, waited, -1))
                self._all_joined = False

    def _later(self, write: Write) -> None:
        """Have a write carried out by itself, when the others are done."""
        self._joined.append((Evaluated(write, None, None, None), None, _AGAIN))
        self._all_joined = False

    async def outcomes(self) -> list[Outcome]:
        """Wait for what became of the writes."""
        shard = self._shard
        if not self._epoch:
            await shard.owner.until_open(self._deadline)
            self._join()
        if self._refused is not None:
            raise self._refused
        joined = self._joined
        offsets: dict[int, int | None] = {}
        for commit in self._commits:
            try:
                offsets[id(commit)] = await commit.outcome()
            except NotWritten:
                offsets[id(commit)] = None
        current = True
        if not self._all_joined:
            try:
                await shard.confirm([], self._epoch)
            except NotWritten:
                current = False
        outcomes = []
        for write, (found, joint, index) in zip(self._writes, joined, strict=True):
            offset = -1 if joint is None else offsets[id(joint)]
            if index < 0 and not current:
                offset = None
            if offset is None or index == _AGAIN:
                # Each for itself, but not each for as long as a request may wait.
                shard.owner.try_again(self._deadline)
                outcomes.append(await shard.write_until(self._deadline, write, self._context))
            elif index < 0:
                outcomes.append(Outcome(found.old, found.old, -1, 0))
            else:
                outcomes.append(Outcome(found.old, found.new, offset, index))
        return outcomes


class Shard:
    """One shard; what it answers is durable.

    Args:
        number: the shard's number, the partition of the change log.
        log: its log.
        state: its materialized rows.
        clock: gives versions their times.
        region: this deployment's region.
        node: this node's name, for the barrier's readers.
        exclusive: whether no other node can own the shard (the embedded broker): then strongly
            consistent reads need no proof of ownership.
        one_broker: whether the log is on one broker, see `Owner`.
        fail: told of an error after which the shard can't be served without a person's help.

    Attributes:
        owner: the writing end of the log.
        ledger: the transactions' locks and decisions.
        index_rows: rows of global indexes on this shard that the state does not have yet.
        on_index_row: called with this shard's number, a durable commit's offset and each row of a
            global index that it makes.
        on_started: called when a term has started.
        check: asked about each write that changes its item, before anything is appended.
    """

    def __init__(
        self,
        *,
        number: int,
        log: ShardLog,
        state: ShardState,
        clock: HybridClock,
        region: str,
        node: str,
        exclusive: bool,
        one_broker: bool,
        fail: Callable[[BaseException], None],
    ) -> None:
        self.number = number
        self.state = state
        self.ledger = Ledger(state.decision)
        self.index_rows = IndexOverlay()
        self.on_index_row: Callable[[int, int, IndexRow], None] | None = None
        self.on_started: Callable[[], None] | None = None
        self.check: WriteCheck | None = None
        self.owner = Owner(
            number=number,
            log=log,
            state=state,
            node=node,
            one_broker=one_broker,
            durable=self._show_index_rows,
            started=self._start_term,
            fail=fail,
        )
        self.clock = clock
        self._overlay = self.owner.overlay
        self._region = region
        self._exclusive = exclusive

    # Writing

    def begin(self, write: Write, context: RequestContext) -> Joined | None:
        """Have one write join a commit, if nothing has to be waited for before.

        Returns:
            None where something has: `write` is to carry it out, nothing was done. So is it where
            the commit's outcome is NotWritten.

        Raises:
            ApiError: as `write` does.
        """
        if not self.owner.open or (self.ledger.locking and self.ledger.locks(write.row_key)):
            return None
        slot = self._overlay.slot(write.row_key)
        old = self.state.get(write.row_key) if slot is None else slot.latest
        # Whether an answer that comes without an append is known to rest on the newest image.
        sure = self._exclusive and (slot is None or not slot.in_flight)
        try:
            new = self._new_image(write, old)
        except ApiError:
            if sure:
                raise
            return None
        if new is old:
            return Joined(None, old, old) if sure else None
        commit = self.owner.commit()
        self.join(commit, Evaluated(write, slot, old, new), context)
        return Joined(commit, old, new)

    async def write(self, write: Write, context: RequestContext) -> Outcome:
        """Carry out one write; when this returns it is durable.

        Raises:
            ApiError: the condition was false, or the update does not fit; nothing was written.
            TransactionConflict: a transaction holds the item.
            ServiceUnavailable: the shard did not serve within the time limit; nothing was written.
        """
        return await self.write_until(time.monotonic() + WAIT_S, write, context)

    async def write_until(self, deadline: float, write: Write, context: RequestContext) -> Outcome:
        """As `write`; `deadline` (monotonic clock) ends the time limit."""
        while True:
            if not self.owner.open:
                await self.owner.until_open(deadline)
            if self.ledger.locking and self.ledger.locks(write.row_key):
                if not self.ledger.doubts(write.row_key):
                    raise TransactionConflict(_LOCKED)
                await self.resolved([write.row_key])
                continue
            try:
                return await self._attempt(write, context)
            except NotWritten:
                self.owner.try_again(deadline)

    async def _attempt(self, write: Write, context: RequestContext) -> Outcome:
        """Evaluate a write and wait for its outcome; raises NotWritten to be called again.

        An answer that comes without an append is a read: it is given only when the image that it
        rests on is durable, and known to be the newest.
        """
        slot = self._overlay.slot(write.row_key)
        old = self.state.get(write.row_key) if slot is None else slot.latest
        try:
            new = self._new_image(write, old)
        except ApiError:
            await self.confirm([slot], self.owner.epoch)
            raise
        if new is old:
            await self.confirm([slot], self.owner.epoch)
            return Outcome(old, old, -1, 0)
        commit = self.owner.commit()
        index = self.join(commit, Evaluated(write, slot, old, new), context)
        return Outcome(old, new, await commit.outcome(), index)

    def write_many(
        self, writes: Sequence[Write], context: RequestContext
    ) -> Awaitable[list[Outcome]]:
        """Carry out unconditional writes of different items, in as few commits as possible.

        Where the shard is open they have joined their commits when this returns; what it returns
        is awaited for the outcomes.

        Raises:
            ApiError: one of them is refused; the others are tried before that is told.
            ServiceUnavailable: the shard did not serve within the time limit; some of the writes
                may have been carried out.
            TransactionConflict: likewise, a transaction holds one of the items.
        """
        return Begun(_ManyWrites(self, writes, context).outcomes)

    def evaluate(self, write: Write) -> Evaluated:
        """Evaluate a write on the newest image; raises what `Write.evaluate` raises."""
        slot = self._overlay.slot(write.row_key)
        old = self.state.get(write.row_key) if slot is None else slot.latest
        return self.evaluate_on(write, slot, old)

    def evaluate_on(self, write: Write, slot: Slot | None, old: Image | None) -> Evaluated:
        """As `evaluate`, on what `newest` has found."""
        return Evaluated(write, slot, old, self._new_image(write, old))

    def newest(self, row_keys: Sequence[bytes]) -> list[tuple[Slot | None, Image | None]]:
        """Return what the overlay knows of rows, and the images that a write is evaluated on."""
        slots = [self._overlay.slot(row_key) for row_key in row_keys]
        missing = [row_key for row_key, slot in zip(row_keys, slots, strict=True) if slot is None]
        stored = iter(self.state.get_many(missing) if missing else ())
        return [(slot, next(stored) if slot is None else slot.latest) for slot in slots]

    def _new_image(self, write: Write, old: Image | None) -> Image | None:
        """Evaluate a write; the very object `old` where it changes nothing."""
        new = self._evaluated(write, old)
        if write.table.has_collections and new is not None and new is not old:
            self._check_collection(write, old, new)
        if self.check is not None and new is not old:
            self.check(write, old, new)
        return new

    def _evaluated(self, write: Write, old: Image | None) -> Image | None:
        old_item = old.item if old is not None and write.needs_old else None
        new, size_bytes = write.evaluate(old_item)
        if new is None:
            return None
        if isinstance(new, bytes):
            json, item = new, None
        elif new is old_item:
            return old
        else:
            json, item = dump_item(new), new
        if old is None:
            return Image(json, size_bytes, self.clock.tick(), self._region, item)
        image = Image(json, size_bytes, self.clock.tick(old.time), self._region, item)
        if size_bytes == old.size_bytes and len(json) == len(old.json) and image.item == old.item:
            return old
        return image

    def new_image(
        self, json: bytes, size_bytes: int, old: Image | None, item: Item | None
    ) -> Image:
        """Return the next version of a row; `item` is kept with it."""
        at = self.clock.tick(0 if old is None else old.time)
        return Image(json, size_bytes, at, self._region, item)

    async def measure_collection(self, write: Write) -> int:
        """As `collection_bytes`; a shard of another node has to be asked."""
        return self.collection_bytes(write)

    def collection_bytes(self, write: Write) -> int:
        """Size of the item collection of a write's item, as far as it is materialized."""
        return self.state.collection_bytes(collection_key(write.table, write.key))

    def _check_collection(self, write: Write, old: Image | None, new: Image) -> None:
        growth = collection_change(write.table, old, new)
        if growth > 0 and self.collection_bytes(write) + growth > ITEM_COLLECTION_BYTES:
            raise ItemCollectionSizeLimitExceeded(_COLLECTION_FULL)

    def join(self, commit: Commit, found: Evaluated, context: RequestContext) -> int:
        """Put an evaluated write into a commit and return its index there.

        From now on the next write sees its image. Nothing may have been awaited since it was
        evaluated.
        """
        write = found.write
        change = self.change(found, context)
        self._lay_over(commit, change, write.table, write.row_key, found.slot)
        return commit.add(change)

    def change(self, found: Evaluated, context: RequestContext) -> Change:
        """The change that an evaluated write makes."""
        write, _, old, new = found
        return self.change_of(write.table, write.key, old, new, context, service=write.service)

    def change_of(
        self,
        table: Table,
        key: Item,
        old: Image | None,
        new: Image | None,
        context: RequestContext,
        *,
        service: str | None = None,
    ) -> Change:
        """The change that leads from one image of an item to another, or (None) removes it."""
        at = self.clock.tick(0 if old is None else old.time) if new is None else new.time
        return Change(
            table=table.name,
            table_id=table.id,
            keys=key,
            old=old,
            new=new,
            time=at,
            region=self._region,
            created_ms=HybridClock.milliseconds(at),
            request_id=context.request_id,
            principal=context.principal,
            service=service,
            trace=context.trace,
        )

    def join_prepared(
        self,
        commit: Commit,
        change: Change,
        table: Table,
        row_key: bytes,
        encoded: bytes | None = None,
    ) -> None:
        """Put a change into a commit that was made before, and may be encoded already."""
        self._lay_over(commit, change, table, row_key, self._overlay.slot(row_key))
        commit.add(change, encoded)

    def _lay_over(
        self, commit: Commit, change: Change, table: Table, row_key: bytes, slot: Slot | None
    ) -> None:
        """Show the next write the rows of a change."""
        if slot is None:
            slot = self._overlay.open_slot(row_key, change.old)
        commit.lay(row_key, slot, change.new)
        if table.indexes:
            old = None if change.old is None else change.old.item
            for row in index_rows(table, old, change.new):
                if row.index.is_global:
                    commit.index_rows.append(row)
                else:
                    self._lay_over_index(commit, row)

    def _lay_over_index(self, commit: Commit, row: IndexRow) -> None:
        slot = self._overlay.slot(row.row_key)
        if slot is None:
            slot = self._overlay.open_slot(row.row_key, self.state.get(row.row_key))
        commit.lay(row.row_key, slot, row.image)

    async def confirm(self, slots: Iterable[Slot | None], epoch: str) -> None:
        """Wait until images that an answer rests on are durable, and proven to be the newest.

        Args:
            slots: what the overlay knows of their rows.
            epoch: the term in which they were looked at.

        Raises:
            NotWritten: look at them again.
            ServiceUnavailable: the shard was lost, or the brokers do not answer.
        """
        for slot in slots:
            if slot is not None and slot.in_flight:
                assert slot.commit is not None
                await slot.commit.outcome()
        if not self._exclusive:
            await self.owner.prove()
            if self.owner.epoch != epoch:
                raise NotWritten

    # Reading

    def at_hand(self, *, consistent: bool) -> "Shard | None":
        """This shard, if what `read` returns may be had from `get` without waiting."""
        if not self.owner.readable or (consistent and not self._exclusive) or self.ledger.doubtful:
            return None
        return self

    async def read(self, row_key: bytes, *, consistent: bool) -> Image | None:
        """Return a row's durable image; with `consistent`, of every write answered before.

        Raises:
            ServiceUnavailable: the shard did not serve within the time limit.
        """
        if not self.owner.readable or (consistent and not self._exclusive):
            await self.ready(consistent=consistent)
        if self.ledger.doubtful:
            await self.resolved([row_key], consistent=consistent)
        return self.get(row_key)

    async def read_many(self, row_keys: Sequence[bytes], *, consistent: bool) -> list[Image | None]:
        """Return the durable images of rows, all as they are at one time; see `read`."""
        await self.ready(consistent=consistent)
        if self.ledger.doubtful:
            await self.resolved(row_keys, consistent=consistent)
        return [self.get(row_key) for row_key in row_keys]

    async def chunks(
        self,
        start: bytes,
        end: bytes,
        *,
        reverse: bool = False,
        consistent: bool = False,
        limit: int | None = None,  # noqa: ARG002 - for shards of other nodes
    ) -> AsyncIterator[Chunk]:
        """Yield the durable rows with `start <= key < end`, in order, in parts.

        Args:
            start: the first row key.
            end: the one after the last.
            reverse: from the last one down.
            consistent: every write answered before is seen.
            limit: no more rows are needed; what is yielded may be more.

        Raises:
            ServiceUnavailable: the shard did not serve within the time limit.
        """
        await self.ready(consistent=consistent)
        if self.ledger.doubtful:
            await self.resolved(None, consistent=consistent)
        yield Chunk(self.scan(start, end, reverse=reverse), more=False)

    async def fetched_chunks(
        self,
        table: Table,
        start: bytes,
        end: bytes,
        *,
        reverse: bool = False,
        consistent: bool = False,
        limit: int | None = None,  # noqa: ARG002 - as for `chunks`
    ) -> AsyncIterator[FetchedChunk]:
        """As `chunks`, for rows of a local index of a table, each with the item that it is of."""
        await self.ready(consistent=consistent)
        if self.ledger.doubtful:
            await self.resolved(None, consistent=consistent)
        yield FetchedChunk(self.fetch(table, self.scan(start, end, reverse=reverse)), more=False)

    def fetch(
        self, table: Table, rows: Iterable[tuple[bytes, Image]]
    ) -> Iterator[tuple[bytes, Image, Image]]:
        """Yield rows of a local index with their items, which are on the same shard."""
        for row_key, image in rows:
            _, item_row = table.keys.locate(table.prefix, image.item)
            whole = self.get(item_row)
            if whole is not None:
                yield row_key, image, whole

    async def look(self, row_keys: Sequence[bytes]) -> Look:
        """Look at rows of which a transaction wants to know whether they change meanwhile.

        Raises:
            ServiceUnavailable: the shard did not serve within the time limit.
        """
        await self.ready(consistent=True)
        return Look(
            self.owner.epoch,
            self._overlay.removals,
            [self.ledger.locks(row_key) for row_key in row_keys],
            [self.get(row_key) for row_key in row_keys],
        )

    async def ready(self, *, consistent: bool) -> None:
        """Wait until `get` and `scan` may be called; with `consistent`, prove ownership.

        Raises:
            ServiceUnavailable: the shard did not serve within the time limit.
        """
        if not self.owner.readable:
            await self.owner.until_open(time.monotonic() + WAIT_S)
        if consistent and not self._exclusive:
            await self.owner.prove()

    async def resolved(self, row_keys: Sequence[bytes] | None, *, consistent: bool = True) -> None:
        """Wait until rows show all transactions that clients may have the answer of.

        One is answered when its decision is durable and this node's shards show it. A shard that
        starts again may find it prepared, and has to ask what was decided.

        Args:
            row_keys: the rows; None for all.
            consistent: whether it matters where another node may have to be asked.

        Raises:
            ServiceUnavailable: it is not known within the time limit.
        """
        if not (consistent or self._exclusive):
            return
        ledger = self.ledger
        try:
            async with asyncio.timeout(WAIT_S):
                while ledger.doubtful and (row_keys is None or any(map(ledger.doubts, row_keys))):
                    await ledger.released()
        except TimeoutError:
            raise ServiceUnavailable(
                f"Shard {self.number} waits for what became of a transaction. Try again."
            ) from None

    def get(self, row_key: bytes) -> Image | None:
        """Return a row's durable image."""
        slot = self._overlay.slot(row_key)
        return self.state.get(row_key) if slot is None else slot.durable

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, Image]]:
        """Yield the durable rows with `start <= key < end`, as they are at the call."""
        overlay = self.index_rows if start[0] == GLOBAL_ROW else self._overlay
        overlaid = overlay.between(start, end)
        stored = self.state.scan(start, end, reverse=reverse)
        if not overlaid:
            return stored
        if reverse:
            overlaid.reverse()
        return merge(stored, overlaid, reverse=reverse)

    def slot(self, row_key: bytes) -> Slot | None:
        """What the overlay knows of a row."""
        return self._overlay.slot(row_key)

    def latest(self, row_key: bytes) -> Image | None:
        """Return the image that the next write of a row is evaluated on, durable or not."""
        slot = self._overlay.slot(row_key)
        return self.state.get(row_key) if slot is None else slot.latest

    def scan_latest(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, Image]]:
        """Yield the rows of items with `start <= key < end`, durable or not."""
        overlaid = self._overlay.latest_between(start, end)
        if reverse:
            overlaid.reverse()
        return merge(self.state.scan(start, end, reverse=reverse), overlaid, reverse=reverse)

    # Terms

    async def take_over(self) -> None:
        """Become the shard's owner; see `Owner.take_over`."""
        await self.owner.take_over()

    async def close(self) -> None:
        """Stop serving and let go of the log."""
        await self.owner.close()

    def _start_term(self) -> None:
        # An item that is there has its version; of one that was removed nothing else tells.
        self.clock.tell(self.state.removed_at)
        self.ledger.load(self.state.entries())
        if self.on_started is not None:
            self.on_started()

    def _show_index_rows(self, commit: Commit, offset: int) -> None:
        if commit.index_rows and self.on_index_row is not None:
            for row in commit.index_rows:
                self.on_index_row(self.number, offset, row)
