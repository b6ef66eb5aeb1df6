"""One shard's part in transactions: evaluate, prepare, decide, resolve."""

import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, Final, NamedTuple

from streamtable.core.context import RequestContext
from streamtable.core.errors import (
    ApiError,
    ConditionalCheckFailed,
    DuplicateItem,
    ItemCollectionSizeLimitExceeded,
    StreamtableError,
    TransactionConflict,
    TransactionInProgress,
    ValidationError,
)
from streamtable.core.tables import Table
from streamtable.streams.begun import Begun
from streamtable.streams.clock import HybridClock
from streamtable.streams.commit import Commit, NotWritten
from streamtable.streams.ledger import (
    Prepared,
    decide_entry,
    prepare_entry,
    resolve_entry,
    token_entry,
)
from streamtable.streams.overlay import Slot
from streamtable.streams.owner import WAIT_S
from streamtable.streams.shard import Evaluated, Outcome, Shard, Write

__all__ = [
    "IN_PROGRESS",
    "Part",
    "Participant",
    "Refused",
    "TokenFound",
    "UsedToken",
    "conflict",
]

IN_PROGRESS: Final = "Transaction with given client request token is already in progress"
_CODES: Final = {
    ConditionalCheckFailed: "ConditionalCheckFailed",
    DuplicateItem: "DuplicateItem",
    ItemCollectionSizeLimitExceeded: "ItemCollectionSizeLimitExceeded",
    TransactionConflict: "TransactionConflict",
    ValidationError: "ValidationError",
}

Reasons = dict[int, dict[str, Any]]


class Part(NamedTuple):
    """One action of a transaction and its place in the request."""

    place: int
    write: Write


class UsedToken(NamedTuple):
    """A client token that goes with a transaction, and the digest of its request."""

    token: str
    digest: str


class Refused(Exception):
    """A shard votes against a transaction; nothing of it was written there.

    Attributes:
        reasons: by the action's place, one of DynamoDB's cancellation reasons.
    """

    def __init__(self, reasons: Reasons) -> None:
        super().__init__()
        self.reasons = reasons


class TokenFound(Exception):
    """A client token was used before; nothing was written.

    Attributes:
        same: whether it was for the same request.
    """

    def __init__(self, *, same: bool) -> None:
        super().__init__()
        self.same = same


class _Refusal(NamedTuple):
    """Why a shard votes against a transaction, and what it has looked at.

    Attributes:
        reasons: by the action's place.
        slots: what the overlay knows of the rows that the reasons rest on.
        epoch: the term in which they were looked at.
    """

    reasons: Reasons
    slots: list[Slot | None]
    epoch: str


class _Vote(NamedTuple):
    """A vote for a transaction: the commit that promises it, and the outcomes if it happens."""

    commit: Commit
    outcomes: dict[int, Outcome]


class Participant:
    """One shard in transactions. Everything it returns from is durable.

    Args:
        shard: the shard.
        find: returns the table of an id, None for one that was deleted.
    """

    def __init__(self, shard: Shard, find: Callable[[str], Table | None]) -> None:
        self.shard = shard
        self._find = find
        self._ledger = shard.ledger
        self._numbers = count(1)
        self._deciding: dict[str, Commit] = {}
        self._resolving: dict[str, Commit] = {}
        self._using: set[str] = set()

    def new_id(self) -> str:
        """Return the id of a new transaction that this shard coordinates.

        It begins with the shard's epoch: nobody else has decided about it for as long as that
        is in force.
        """
        return f"{self.shard.owner.epoch or uuid.uuid4().hex}-{next(self._numbers)}"

    def _decided(self, transaction: str) -> bool | None:
        """What was decided here; a transaction of this term is not looked up in the store."""
        epoch = self.shard.owner.epoch
        if epoch and transaction.startswith(epoch):
            return self._ledger.decisions.get(transaction)
        return self._ledger.decision(transaction)

    async def commit(
        self,
        parts: Sequence[Part],
        transaction: str | None,
        token: UsedToken | None,
        context: RequestContext,
    ) -> dict[int, Outcome]:
        """Evaluate this shard's actions and commit the transaction, all in one commit.

        Args:
            parts: the actions on this shard.
            transaction: the id under which other shards have prepared; None if there are none.
            token: remembered with the commit.
            context: who asks.

        Returns:
            The outcomes by place.

        Raises:
            Refused: a condition failed or an item is held, or (all places the same) another
                node already decided that the transaction does not happen.
            TokenFound: the token was used before.
            TransactionInProgress: another request with the token has not ended.
            ServiceUnavailable: the shard did not serve in time; nothing was written.
            InternalServerError: the log does not say whether it was written.
        """
        if token is None:
            return await self._commit(parts, transaction, None, context)
        if token.token in self._using:
            raise TransactionInProgress(IN_PROGRESS)
        self._using.add(token.token)
        try:
            return await self._commit(parts, transaction, token, context)
        finally:
            self._using.discard(token.token)

    async def _commit(
        self,
        parts: Sequence[Part],
        transaction: str | None,
        token: UsedToken | None,
        context: RequestContext,
    ) -> dict[int, Outcome]:
        deadline = time.monotonic() + WAIT_S
        while True:
            await self._open(deadline, parts)
            # Now, not earlier: a term may have started, with what the last one did not answer.
            if token is not None:
                self.check_token(token)
            if transaction is not None and self._decided(transaction) is not None:
                raise Refused({part.place: conflict() for part in parts})
            found = self._evaluate(parts)
            if isinstance(found, _Refusal):
                await self._refuse(found)
                continue
            commit = self.shard.owner.commit()
            at = self._now_ms()
            if transaction is not None:
                commit.entries.append(decide_entry(transaction, at, commit=True))
                self._ledger.decisions[transaction] = True
                self._deciding[transaction] = commit
                commit.when_settled(partial(self._settle_decision, transaction))
            if token is not None:
                commit.entries.append(token_entry(*token, at))
                commit.when_settled(partial(self._used_token, token, at))
            indexes = self._join(commit, found, context)
            try:
                offset = await commit.outcome()
            except NotWritten:
                self.shard.owner.try_again(deadline)
                continue
            return {
                place: Outcome(one.old, one.new, offset if index >= 0 else -1, max(index, 0))
                for (place, one), index in zip(found.items(), indexes, strict=True)
            }

    def prepare(
        self, parts: Sequence[Part], transaction: str, coordinator: int, context: RequestContext
    ) -> Awaitable[dict[int, Outcome]]:
        """Evaluate this shard's actions, lock their items, and promise to apply them.

        Where the shard is open that is begun when this returns, and awaited for the outcomes.

        Raises:
            Refused: a condition failed or an item is held.
            ServiceUnavailable: the shard did not serve in time; nothing was written.
        """
        vote = partial(self._vote, parts, transaction, coordinator, context)
        begun = vote() if self._is_open(parts) else None
        return Begun(partial(self._prepared, begun, vote, parts))

    async def _prepared(
        self,
        vote: _Vote | _Refusal | None,
        again: Callable[[], _Vote | _Refusal],
        parts: Sequence[Part],
    ) -> dict[int, Outcome]:
        deadline = time.monotonic() + WAIT_S
        while True:
            if vote is None:
                await self._open(deadline, parts)
                vote = again()
            if isinstance(vote, _Refusal):
                await self._refuse(vote)
            else:
                try:
                    await vote.commit.outcome()
                except NotWritten:
                    self.shard.owner.try_again(deadline)
                else:
                    return vote.outcomes
            vote = None

    def _vote(
        self, parts: Sequence[Part], transaction: str, coordinator: int, context: RequestContext
    ) -> _Vote | _Refusal:
        found = self._evaluate(parts)
        if isinstance(found, _Refusal):
            return found
        changed = [one for one in found.values() if one.new is not one.old]
        checked = [one for one in found.values() if one.new is one.old]
        prepared = Prepared(
            transaction,
            coordinator,
            tuple(self.shard.change(one, context) for one in changed),
            tuple(one.write.row_key for one in (*changed, *checked)),
        )
        commit = self.shard.owner.commit()
        commit.entries.append(prepare_entry(prepared, self._now_ms()))
        commit.size_bytes += sum(change_size(one) for one in changed)
        self._ledger.prepare(prepared)
        return _Vote(
            commit, {place: Outcome(one.old, one.new, -1, 0) for place, one in found.items()}
        )

    async def check(self, parts: Sequence[Part]) -> Reasons:
        """Say why this shard would refuse its actions, without writing anything."""
        deadline = time.monotonic() + WAIT_S
        while True:
            await self._open(deadline, parts)
            found = self._evaluate(parts)
            if not isinstance(found, _Refusal):
                return {}
            try:
                await self._refuse(found)
            except Refused as refused:
                return refused.reasons

    async def decision(self, transaction: str) -> bool:
        """Say whether a transaction happened; if that is open, decide that it does not."""
        deadline = time.monotonic() + WAIT_S
        while True:
            await self._open(deadline)
            decided = self._ledger.decision(transaction)
            if decided is None:
                decided = self._ledger.decisions[transaction] = False
                commit = self.shard.owner.commit()
                commit.entries.append(decide_entry(transaction, self._now_ms(), commit=False))
                self._deciding[transaction] = commit
                commit.when_settled(partial(self._settle_decision, transaction))
            pending = self._deciding.get(transaction)
            try:
                if pending is not None:
                    await pending.outcome()
            except NotWritten:
                self.shard.owner.try_again(deadline)
                continue
            return decided

    def forget(self, transaction: str) -> None:
        """Forget a decision that every shard has heard; the store and the log still have it."""
        self._ledger.decisions.pop(transaction, None)

    def check_token(self, token: UsedToken) -> None:
        """Look whether a client token was used on this shard; raises TokenFound if so."""
        used = self._ledger.token(token.token, self._now_ms())
        if used is not None:
            raise TokenFound(same=used.digest == token.digest)

    def resolve(self, transaction: str, *, commit: bool) -> Awaitable[int]:
        """Apply what was prepared, or drop it, and let go of the items.

        Where the shard is open that is begun when this returns. Does nothing if nothing is
        prepared under that id: it may be called again.

        Returns:
            The offset of the record that has done it, or of a later one, when it is durable.
        """
        again = partial(self.resolution, transaction, commit=commit)
        return Begun(partial(self._resolved, again() if self.shard.owner.open else None, again))

    async def _resolved(self, record: Commit | None, again: Callable[[], Commit | None]) -> int:
        deadline = time.monotonic() + WAIT_S
        while True:
            if record is None:
                await self._open(deadline)
                record = again()
                if record is None:
                    return self.shard.owner.last
            try:
                return await record.outcome()
            except NotWritten:
                self.shard.owner.try_again(deadline)
            record = None

    def resolution(self, transaction: str, *, commit: bool) -> Commit | None:
        """Begin what `resolve` does, on a shard that is open; what it says is durable already.

        Reads see what is applied when this returns, and writes and other transactions go on from
        there: the record is only late. Should it be lost, the shard finds the transaction prepared
        when it starts again, and reads wait until it is resolved.

        Returns:
            The commit that does it; None where nothing is prepared and nothing on its way.
        """
        record = self._resolving.get(transaction)
        if record is not None:
            return record
        prepared = self._ledger.prepared.get(transaction)
        if prepared is None:
            return None
        record = self._resolving[transaction] = self.shard.owner.commit()
        record.entries.append(resolve_entry(transaction, self._now_ms(), commit=commit))
        record.when_settled(partial(self._settle, transaction))
        if commit:
            self._join_prepared(record, prepared)
        self._ledger.release(transaction)
        return record

    def _settle(self, transaction: str, _outcome: int | StreamtableError) -> None:
        del self._resolving[transaction]

    def _settle_decision(self, transaction: str, _outcome: int | StreamtableError) -> None:
        del self._deciding[transaction]

    def _used_token(self, token: UsedToken, at: int, outcome: int | StreamtableError) -> None:
        if isinstance(outcome, int):
            self._ledger.use_token(*token, at)

    def _is_open(self, parts: Sequence[Part]) -> bool:
        """Whether actions can be evaluated: the shard is open, and knows how their items are."""
        ledger = self._ledger
        return self.shard.owner.open and not (
            ledger.doubtful and any(ledger.doubts(part.write.row_key) for part in parts)
        )

    async def _open(self, deadline: float, parts: Sequence[Part] = ()) -> None:
        while not self._is_open(parts):
            await self.shard.owner.until_open(deadline)
            await self.shard.resolved([part.write.row_key for part in parts])

    def _now_ms(self) -> int:
        return HybridClock.milliseconds(self.shard.clock.tick())

    def _evaluate(self, parts: Sequence[Part]) -> dict[int, Evaluated] | _Refusal:
        found: dict[int, Evaluated] = {}
        reasons: Reasons = {}
        for place, write in parts:
            if self._ledger.locks(write.row_key):
                reasons[place] = conflict()
                continue
            try:
                found[place] = self.shard.evaluate(write)
            except ApiError as error:
                reasons[place] = _reason(error)
        if not reasons:
            return found
        slots = [self.shard.slot(part.write.row_key) for part in parts]
        return _Refusal(reasons, slots, self.shard.owner.epoch)

    async def _refuse(self, refusal: _Refusal) -> None:
        """Refuse, or return to be asked again: an image that it rests on was not written.

        Raises:
            Refused: every image that it rests on is durable.
        """
        try:
            await self.shard.confirm(refusal.slots, refusal.epoch)
        except NotWritten:
            return
        raise Refused(refusal.reasons)

    def _join(
        self, commit: Commit, found: dict[int, Evaluated], context: RequestContext
    ) -> list[int]:
        return [
            -1 if one.new is one.old else self.shard.join(commit, one, context)
            for one in found.values()
        ]

    def _join_prepared(self, commit: Commit, prepared: Prepared) -> None:
        first = len(commit.rows)
        # The rows of what is changed are locked first, then those that were only looked at.
        for change, row_key in zip(prepared.changes, prepared.locked, strict=False):
            table = self._find(change.table_id)
            if table is not None:
                self.shard.join_prepared(commit, change, table, row_key)
        self.shard.owner.overlay.show(commit, first)


def conflict() -> dict[str, Any]:
    """The cancellation reason of an item that another transaction holds."""
    return {
        "Code": "TransactionConflict",
        "Message": "Transaction is ongoing for the item",
    }


def change_size(found: Evaluated) -> int:
    """Size of both images, bytes."""
    old, new = found.old, found.new
    return (0 if old is None else old.size_bytes) + (0 if new is None else new.size_bytes)


def _reason(error: ApiError) -> dict[str, Any]:
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), None)
    if code is None:
        raise error
    return {"Code": code, "Message": error.message, **error.members}
