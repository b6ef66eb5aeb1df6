"""Transactions over the shards: one commit on one shard, two phases over the logs on several.

Across shards the one with most of the actions is the coordinator. Every other *prepares*: it
evaluates its actions, locks their items and appends that. One commit of the coordinator's holds its
own changes and the *decision*. Then the others *resolve*: they show the prepared changes and append
them, which brings them into the streams. The answer does not wait for those appends, since what
they hold follows from what is durable. No decision means that nothing happened; a shard that comes
back with something prepared asks the coordinator, which decides against it if it has not decided
yet, and reads of what is prepared wait for that.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from streamtable.core.context import RequestContext
from streamtable.core.errors import (
    ApiError,
    IdempotentParameterMismatch,
    InternalServerError,
    ServiceUnavailable,
    StreamtableError,
    TransactionCanceled,
    TransactionInProgress,
)
from streamtable.core.images import Image
from streamtable.core.tables import Table
from streamtable.streams.begun import Begun
from streamtable.streams.commit import Commit, NotWritten
from streamtable.streams.layout import Layout
from streamtable.streams.owner import WAIT_S, Moved
from streamtable.streams.participant import (
    IN_PROGRESS,
    Part,
    Participant,
    Refused,
    TokenFound,
    UsedToken,
)
from streamtable.streams.peers.participants import RemoteParticipant
from streamtable.streams.peers.remote import RemoteShard
from streamtable.streams.routes import Routes
from streamtable.streams.shard import Outcome, Shard, Write
from streamtable.streams.snapshots import Read, Snapshots

__all__ = ["Transactions", "UsedToken"]

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

_RETRY_S: Final = 0.2
# What is prepared for once to twice as long is open for long.
_LOST_S: Final = 4.0


class Transactions:
    """What TransactWriteItems, TransactGetItems and ExecuteTransaction run on.

    Args:
        layout: the region's shards.
        find: returns the table of an id, None for one that was deleted.
        routes: find the shards' owners; None where this node owns all that join.
        feeds_view: says of a table's name whether a view follows from the table.
    """

    def __init__(
        self,
        layout: Layout,
        find: Callable[[str], Table | None],
        routes: Routes | None = None,
        feeds_view: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._layout = layout
        self._find = find
        self._routes = routes
        self._feeds_view = feeds_view
        self._snapshots = Snapshots(layout, self._own, routes)
        self._participants: dict[int, Participant] = {}
        self._under_way: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopped = False
        # Prepared transactions that were open when it looked last, and those being settled.
        self._open: set[str] = set()
        self._settling: set[str] = set()

    def start(self) -> None:
        """Look after transactions that stay prepared here, until `stop`."""
        self._start(self._look_after())

    async def _look_after(self) -> None:
        """Settle what is open for long: the node that carries the transaction out may be lost.

        Should it only be slow, the coordinator's decision holds for both.
        """
        while True:
            await asyncio.sleep(_LOST_S)
            found = {
                prepared.id: (number, prepared.coordinator)
                for number, participant in self._participants.items()
                if participant.shard.owner.serving
                for prepared in participant.shard.ledger.prepared.values()
            }
            for transaction in (self._open & found.keys()) - self._settling:
                number, coordinator = found[transaction]
                logger.info("transaction %s is open for long: asking what was decided", transaction)
                self._settling.add(transaction)
                decision = partial(self._decision, coordinator, transaction)
                task = self._start(self._finish(number, transaction, decision))
                task.add_done_callback(partial(self._settled, transaction))
            self._open = set(found)

    def _settled(self, transaction: str, _task: asyncio.Task[int]) -> None:
        self._settling.discard(transaction)

    def join(self, shard: Shard) -> None:
        """Have a shard of this node take part; call it before its term starts."""
        participant = self._participants[shard.number] = Participant(shard, self._find)
        shard.on_started = self._settle_of(participant)

    def leave(self, number: int) -> None:
        """Have a shard take part no longer: it is not this node's any more."""
        del self._participants[number]

    def participant(self, number: int) -> Participant:
        """A shard of this node, as it takes part."""
        return self._participants[number]

    async def write(
        self, writes: Sequence[Write], token: UsedToken | None, context: RequestContext
    ) -> list[Outcome] | None:
        """Carry out all writes or none; durable on return, and seen by reads.

        Args:
            writes: the actions, each on another item. One whose `evaluate` returns the old item
                is a check.
            token: the client's token; within ten minutes the same one does nothing again.
            context: who asks.

        Returns:
            The outcomes in order; None if the token says that it was carried out before.

        Raises:
            TransactionCanceled: with a reason for each action.
            IdempotentParameterMismatch: the token was used for another request.
            TransactionInProgress: the first request with the token has not ended.
            ServiceUnavailable: a shard does not serve; nothing was written.
            InternalServerError: it may have been carried out, or will be seen to be later.
        """
        if token is None:
            return await self._write(writes, None, context)
        if token.token in self._under_way:
            raise TransactionInProgress(IN_PROGRESS)
        self._under_way.add(token.token)
        try:
            for participant in self._participants.values():
                participant.check_token(token)
            return await self._write(writes, token, context)
        except TokenFound as found:
            if found.same:
                return None
            raise IdempotentParameterMismatch(
                "The request uses the same client token as a previous, but non-identical "
                "request. Do not reuse a client token with different requests, unless "
                "the requests are identical"
            ) from None
        finally:
            self._under_way.discard(token.token)

    async def _write(
        self, writes: Sequence[Write], token: UsedToken | None, context: RequestContext
    ) -> list[Outcome]:
        groups: dict[int, list[Part]] = {}
        for place, write in enumerate(writes):
            groups.setdefault(write.hash % self._layout.count, []).append(Part(place, write))
        # Most actions where nothing is prepared; the same request has the same coordinator, which
        # knows its token.
        first = max(groups, key=lambda number: len(groups[number]))
        try:
            if len(groups) > 1:
                outcomes = await self._two_phases(groups, first, token, context)
            else:
                outcomes = await self._reach(
                    first, lambda shard: shard.commit(groups[first], None, token, context)
                )
        except Refused as refused:
            reasons = [refused.reasons.get(place, {"Code": "None"}) for place in range(len(writes))]
            raise TransactionCanceled(reasons) from None
        return [outcomes[place] for place in range(len(writes))]

    async def _two_phases(
        self,
        groups: dict[int, list[Part]],
        first: int,
        token: UsedToken | None,
        context: RequestContext,
    ) -> dict[int, Outcome]:
        others = [number for number in groups if number != first]
        own = self._participants[first] if self._own(first) is not None else None
        phases = _Phases(uuid.uuid4().hex if own is None else own.new_id(), first, others)
        outcomes: dict[int, Outcome] = {}
        # What the others are told. Once the coordinator was asked to commit, only it knows.
        decide: _Decide = _no
        offsets: list[int] | None = None
        try:
            # 1. Everyone else prepares.
            votes = [
                self._prepare(number, groups[number], phases.id, first, context)
                for number in others
            ]
            refused: dict[int, dict[str, Any]] = {}
            failed: Exception | None = None
            for vote in votes:
                try:
                    outcomes |= await vote
                except Refused as against:
                    refused |= against.reasons
                except Exception as error:  # noqa: BLE001 - raised when everyone has voted
                    failed = error
            if failed is not None:
                raise failed
            if refused:
                more = await self._reach(first, lambda shard: shard.check(groups[first]))
                raise Refused(refused | more)  # noqa: TRY301 - `finally` undoes what was prepared
            # 2. The coordinator decides, and applies its own part.
            decide = partial(self._decision, first, phases.id)
            outcomes |= await self._reach(
                first, lambda shard: shard.commit(groups[first], phases.id, token, context)
            )
            # 3. Everyone else resolves.
            if (ends := self._resolve(phases, commit=True)) is not None:
                written = (write.table for number in others for _, write in groups[number])
                if any(map(self._is_waited_for, written)):
                    offsets = await self._ended(phases, ends)
                else:
                    offsets = self._end(phases, ends, decide)
        except (Refused, TokenFound):
            decide = _no
            if (ends := self._resolve(phases, commit=False)) is not None:
                offsets = self._end(phases, ends, decide)
            raise
        finally:
            if offsets is None:
                offsets = await self._resolve_later(phases, decide)
        if offsets is None:
            raise InternalServerError(
                "The transaction was carried out, but not every shard shows it yet."
            )
        for number, offset in zip(others, offsets, strict=True):
            for place, _ in groups[number]:
                done = outcomes[place]
                if done.new is not done.old:
                    outcomes[place] = done._replace(offset=offset)
        return outcomes

    def _is_waited_for(self, table: Table) -> bool:
        """Whether somebody may read what follows from a table, and wait for it by an offset."""
        return table.has_global_indexes or self._feeds_view(table.name)

    def _resolve(self, phases: "_Phases", *, commit: bool) -> "_Ends | None":
        """Have participants resolve at once; None where not all are this node's, and open."""
        for number in phases.others:
            shard = self._own(number)
            if shard is None or not shard.owner.open:
                return None
        return [
            (number, self._participants[number].resolution(phases.id, commit=commit))
            for number in phases.others
        ]

    async def _ended(self, phases: "_Phases", ends: "_Ends") -> list[int] | None:
        """Wait until all have resolved durably; return the offsets, None if one has to again."""
        offsets = []
        try:
            for number, end in ends:
                last = self._participants[number].shard.owner.last
                offsets.append(last if end is None else await end.outcome())
        except (NotWritten, ServiceUnavailable, InternalServerError):
            return None
        self._forget(phases)
        return offsets

    def _end(self, phases: "_Phases", ends: "_Ends", decide: "_Decide") -> list[int]:
        """Wait for nothing: return the offsets that are to be expected.

        One whose record is lost resolves again, in the background.
        """
        offsets = []
        left = set(phases.others)
        for number, end in ends:
            owner = self._participants[number].shard.owner
            if end is None:
                offsets.append(owner.last)
                left.discard(number)
            else:
                offsets.append(owner.offset_of(end))
                end.when_settled(partial(self._one_ended, phases, left, number, decide))
        if not left:
            self._forget(phases)
        return offsets

    def _one_ended(
        self,
        phases: "_Phases",
        left: set[int],
        number: int,
        decide: "_Decide",
        outcome: int | StreamtableError,
    ) -> None:
        if not isinstance(outcome, int):
            if not self._stopped:
                self._start(self._end_again(phases, left, number, decide))
            return
        left.discard(number)
        if not left:
            self._forget(phases)

    async def _end_again(
        self, phases: "_Phases", left: set[int], number: int, decide: "_Decide"
    ) -> None:
        offset = await self._finish(number, phases.id, decide)
        self._one_ended(phases, left, number, decide, offset)

    async def _resolve_later(self, phases: "_Phases", decide: "_Decide") -> list[int] | None:
        """Have participants resolve when they can, whoever waits for it; None if not soon."""
        tasks = [self._start(self._finish(number, phases.id, decide)) for number in phases.others]
        _, waiting = await asyncio.wait(tasks, timeout=WAIT_S)
        if waiting or any(task.cancelled() or task.exception() for task in tasks):
            return None
        self._forget(phases)
        return [task.result() for task in tasks]

    async def read(self, reads: Sequence[Read]) -> list[Image | None]:
        """Read items as of one point in the order of all transactions; see `Snapshots.read`."""
        return await self._snapshots.read(reads)

    # Reaching shards

    def _own(self, number: int) -> Shard | None:
        if self._routes is not None:
            return self._routes.own(number)
        return self._participants[number].shard

    async def _reach(
        self,
        number: int,
        act: Callable[[Participant | RemoteParticipant], Awaitable[ResultT]],
    ) -> ResultT:
        """Act on a shard where its owner is."""
        if self._routes is None:
            return await act(self._participants[number])

        async def reached(shard: Shard | RemoteShard) -> ResultT:
            if isinstance(shard, Shard):
                return await act(self._participants[number])
            return await act(RemoteParticipant(shard))

        return await self._routes.reach(number, reached)

    def _prepare(
        self,
        number: int,
        parts: Sequence[Part],
        transaction: str,
        coordinator: int,
        context: RequestContext,
    ) -> Awaitable[dict[int, Outcome]]:
        """Have a shard prepare; begun when this returns, in a task where it is another node's."""
        if self._routes is None:
            return self._participants[number].prepare(parts, transaction, coordinator, context)
        anywhere = partial(
            self._reach,
            number,
            lambda shard: shard.prepare(parts, transaction, coordinator, context),
        )
        if self._own(number) is None:
            return self._start(anywhere())
        begun = self._participants[number].prepare(parts, transaction, coordinator, context)

        async def prepared() -> dict[int, Outcome]:
            with suppress(Moved):
                return await begun
            return await anywhere()

        return Begun(prepared)

    async def _decision(self, coordinator: int, transaction: str) -> bool:
        return await self._reach(coordinator, lambda shard: shard.decision(transaction))

    async def _finish(self, number: int, transaction: str, decide: "_Decide") -> int:
        """Have a shard resolve by the decision, however long the shards take to answer.

        Args:
            number: the shard.
            transaction: its id.
            decide: asks the coordinator, a coroutine function.

        Returns:
            What `resolve` returns.
        """
        while True:
            try:
                act = partial(_resolve, transaction=transaction, commit=await decide())
                return await self._reach(number, act)
            except (ServiceUnavailable, InternalServerError) as error:
                logger.info("transaction %s waits: %s", transaction, error)
                await asyncio.sleep(_RETRY_S)

    def _forget(self, phases: "_Phases") -> None:
        """Have the coordinator forget its decision; if it does not hear, it keeps it in memory."""
        if self._own(phases.coordinator) is not None:
            self._participants[phases.coordinator].forget(phases.id)
        elif self._routes is not None:
            self._start(_tried(self._routes.ask(phases.coordinator, "forget", phases.id)))

    def _settle_of(self, participant: Participant) -> Callable[[], None]:
        """What a shard does when its term starts: settle what it finds prepared."""

        def settle() -> None:
            number = participant.shard.number
            for prepared in participant.shard.ledger.prepared.values():
                decision = partial(self._decision, prepared.coordinator, prepared.id)
                self._start(self._finish(number, prepared.id, decision))

        return settle

    def _start(self, work: Coroutine[Any, Any, ResultT]) -> asyncio.Task[ResultT]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """Stop settling; what is open is settled at the next start."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Phases(NamedTuple):
    """A transaction over several shards.

    Attributes:
        id: its id.
        coordinator: number of the shard that decides.
        others: numbers of those that prepare.
    """

    id: str
    coordinator: int
    others: list[int]


_Decide: TypeAlias = Callable[[], Coroutine[Any, Any, bool]]
"""Asks what was decided."""

_Ends: TypeAlias = list[tuple[int, Commit | None]]
"""The participants and the commits that resolve them; None where that is durable."""


async def _resolve(
    shard: Participant | RemoteParticipant, transaction: str, *, commit: bool
) -> int:
    return await shard.resolve(transaction, commit=commit)


async def _tried(work: Coroutine[Any, Any, Any]) -> None:
    """Do something that does not matter where it can't be done."""
    with suppress(ApiError):
        await work


async def _no() -> bool:
    return False
