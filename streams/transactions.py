"""Transactions over the shards: one commit on one shard, two phases over the logs on several.

Across shards every shard but the first action's *prepares*: it evaluates its actions, locks
their items and appends that. The first action's shard is the coordinator: one commit of its own
holds its changes and the *decision*. Then the others *resolve*: they append the prepared changes,
which become visible and enter the streams there. No decision means that nothing happened; a shard
that comes back with something prepared asks the coordinator, which decides against it if it has
not decided yet.
"""

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

from streamtable.core.context import RequestContext
from streamtable.core.errors import (
    IdempotentParameterMismatch,
    InternalServerError,
    TransactionCanceled,
    TransactionInProgress,
)
from streamtable.core.images import Image
from streamtable.core.tables import Table
from streamtable.streams.ledger import Ledger
from streamtable.streams.owner import WAIT_S
from streamtable.streams.participant import (
    Part,
    Participant,
    Refused,
    TokenFound,
    UsedToken,
    conflict,
)
from streamtable.streams.shard import Outcome, Write
from streamtable.streams.shards import Shards

__all__ = ["Read", "Transactions", "UsedToken"]

# A transaction that is under way ends in some milliseconds, unless a shard has trouble.
_HELD_S: Final = 0.2


class Read(NamedTuple):
    """One item to be read in a transaction."""

    hash: int
    row_key: bytes


class Transactions:
    """What TransactWriteItems, TransactGetItems and ExecuteTransaction run on.

    Args:
        shards: the region's shards.
        find: returns the table of an id, None for one that was deleted.
    """

    def __init__(self, shards: Shards, find: Callable[[str], Table | None]) -> None:
        self._shards = shards
        self._participants = [Participant(shard, find) for shard in shards]
        self._under_way: set[str] = set()
        self._tasks: set[asyncio.Task[int]] = set()
        for participant in self._participants:
            participant.shard.on_started = self._settle_of(participant)

    async def write(
        self, writes: Sequence[Write], token: UsedToken | None, context: RequestContext
    ) -> list[Outcome] | None:
        """Carry out all writes or none; durable on return.

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
            raise TransactionInProgress(
                "Transaction with given client request token is already in progress"
            )
        self._under_way.add(token.token)
        try:
            for participant in self._participants:
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
            groups.setdefault(write.hash % self._shards.count, []).append(Part(place, write))
        first, *others = groups
        coordinator = self._participants[first]
        try:
            if others:
                outcomes = await self._two_phases(groups, token, context)
            else:
                outcomes = await coordinator.commit(groups[first], None, token, context)
        except Refused as refused:
            reasons = [refused.reasons.get(place, {"Code": "None"}) for place in range(len(writes))]
            raise TransactionCanceled(reasons) from None
        return [outcomes[place] for place in range(len(writes))]

    async def _two_phases(
        self, groups: dict[int, list[Part]], token: UsedToken | None, context: RequestContext
    ) -> dict[int, Outcome]:
        first, *others = groups
        coordinator = self._participants[first]
        transaction = uuid.uuid4().hex
        outcomes: dict[int, Outcome] = {}
        # What the others are told. Once the coordinator was asked to commit, only it knows.
        decision: Callable[[], Coroutine[Any, Any, bool]] = _no
        try:
            # 1. Everyone else prepares.
            votes = await asyncio.gather(
                *(
                    self._participants[number].prepare(groups[number], transaction, first, context)
                    for number in others
                ),
                return_exceptions=True,
            )
            refused: dict[int, dict[str, Any]] = {}
            for vote in votes:
                if isinstance(vote, Refused):
                    refused |= vote.reasons
                elif isinstance(vote, BaseException):
                    raise vote
                else:
                    outcomes |= vote
            if refused:
                raise Refused(refused | await coordinator.check(groups[first]))  # noqa: TRY301 - `finally` undoes what was prepared
            # 2. The coordinator decides, and applies its own part.
            decision = partial(coordinator.decision, transaction)
            outcomes |= await coordinator.commit(groups[first], transaction, token, context)
        except (Refused, TokenFound):
            decision = _no
            raise
        finally:
            # 3. Everyone else resolves. What can't be resolved now is resolved when it can.
            tasks = [
                self._start(self._participants[number].finish(transaction, decision))
                for number in others
            ]
            _, waiting = await asyncio.wait(tasks, timeout=WAIT_S)
            resolved = not waiting and not any(t.cancelled() or t.exception() for t in tasks)
            if resolved:
                coordinator.forget(transaction)
        if waiting:
            raise InternalServerError(
                "The transaction was carried out, but not every shard shows it yet."
            )
        if resolved:
            for number, task in zip(others, tasks, strict=True):
                for place, _ in groups[number]:
                    done = outcomes[place]
                    if done.new is not done.old:
                        outcomes[place] = done._replace(offset=task.result())
        return outcomes

    async def read(self, reads: Sequence[Read]) -> list[Image | None]:
        """Read items as of one point in the order of all transactions.

        Raises:
            TransactionCanceled: a transaction that writes one of them is under way, and does not
                end in a moment.
            ServiceUnavailable: a shard does not serve.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_HELD_S):
                while holder := self._holding(reads):
                    await holder.released()
        for number in {read.hash % self._shards.count for read in reads}:
            await self._shards[number].ready(consistent=True)
        # From here on nothing is awaited: no commit becomes visible in between.
        held = [self._shards.of(read.hash).ledger.locks(read.row_key) for read in reads]
        if any(held):
            raise TransactionCanceled([conflict() if one else {"Code": "None"} for one in held])
        return [self._shards.of(read.hash).get(read.row_key) for read in reads]

    def _holding(self, reads: Sequence[Read]) -> Ledger | None:
        """The ledger of a shard on which one of the items is held."""
        for read in reads:
            ledger = self._shards.of(read.hash).ledger
            if ledger.locks(read.row_key):
                return ledger
        return None

    def _settle_of(self, participant: Participant) -> Callable[[], None]:
        """What a shard does when its term starts: settle what it finds prepared."""

        def settle() -> None:
            for prepared in participant.shard.ledger.prepared.values():
                coordinator = self._participants[prepared.coordinator]
                decision = partial(coordinator.decision, prepared.id)
                self._start(participant.finish(prepared.id, decision))

        return settle

    def _start(self, work: Coroutine[Any, Any, int]) -> asyncio.Task[int]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """Stop settling; what is open is settled at the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _no() -> bool:
    return False
