"""One shard's part in transactions: evaluate, prepare, decide, resolve."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from streamtable.core.context import RequestContext
from streamtable.core.errors import (
    ApiError,
    ConditionalCheckFailed,
    DuplicateItem,
    ItemCollectionSizeLimitExceeded,
    TransactionConflict,
    TransactionInProgress,
    ValidationError,
)
from streamtable.core.tables import Table
from streamtable.streams.clock import HybridClock
from streamtable.streams.commit import Commit, NotWritten
from streamtable.streams.ledger import (
    Prepared,
    decide_entry,
    prepare_entry,
    resolve_entry,
    token_entry,
)
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
        self._deciding: dict[str, Commit] = {}
        self._resolving: dict[str, Commit] = {}
        self._using: set[str] = set()

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
        while True:
            await self._open()
            # Now, not earlier: a term may have started, with what the last one did not answer.
            if token is not None:
                self.check_token(token)
            if transaction is not None and self._ledger.decision(transaction) is not None:
                raise Refused({part.place: conflict() for part in parts})
            found = await self._evaluate(parts)
            if found is None:
                continue
            commit = self.shard.owner.commit()
            at = self._now_ms()
            if transaction is not None:
                commit.entries.append(decide_entry(transaction, at, commit=True))
                self._ledger.decisions[transaction] = True
                self._keep(self._deciding, transaction, commit)
            if token is not None:
                commit.entries.append(token_entry(*token, at))
                _when_written(commit, partial(self._ledger.use_token, *token, at))
            indexes = self._join(commit, found, context)
            try:
                offset = await commit.outcome()
            except NotWritten:
                continue
            return {
                place: Outcome(one.old, one.new, offset if index >= 0 else -1, max(index, 0))
                for (place, one), index in zip(found.items(), indexes, strict=True)
            }

    async def prepare(
        self, parts: Sequence[Part], transaction: str, coordinator: int, context: RequestContext
    ) -> dict[int, Outcome]:
        """Evaluate this shard's actions, lock their items, and promise to apply them.

        Raises:
            Refused: a condition failed or an item is held.
            ServiceUnavailable: the shard did not serve in time; nothing was written.
        """
        while True:
            await self._open()
            found = await self._evaluate(parts)
            if found is None:
                continue
            changed = [one for one in found.values() if one.new is not one.old]
            prepared = Prepared(
                transaction,
                coordinator,
                tuple(self.shard.change(one, context) for one in changed),
                tuple(one.write.row_key for one in found.values()),
            )
            commit = self.shard.owner.commit()
            commit.entries.append(prepare_entry(prepared, self._now_ms()))
            commit.size_bytes += sum(change_size(one) for one in changed)
            self._ledger.prepare(prepared)
            try:
                await commit.outcome()
            except NotWritten:
                continue
            return {place: Outcome(one.old, one.new, -1, 0) for place, one in found.items()}

    async def check(self, parts: Sequence[Part]) -> Reasons:
        """Say why this shard would refuse its actions, without writing anything."""
        await self._open()
        try:
            while await self._evaluate(parts) is None:
                await self._open()
        except Refused as refused:
            return refused.reasons
        return {}

    async def decision(self, transaction: str) -> bool:
        """Say whether a transaction happened; if that is open, decide that it does not."""
        while True:
            await self._open()
            decided = self._ledger.decision(transaction)
            if decided is None:
                decided = self._ledger.decisions[transaction] = False
                commit = self.shard.owner.commit()
                commit.entries.append(decide_entry(transaction, self._now_ms(), commit=False))
                self._keep(self._deciding, transaction, commit)
            pending = self._deciding.get(transaction)
            try:
                if pending is not None:
                    await pending.outcome()
            except NotWritten:
                self._drop(self._deciding, transaction, pending)
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

    async def resolve(self, transaction: str, *, commit: bool) -> int:
        """Apply what was prepared, or drop it, and let go of the items.

        Does nothing if nothing is prepared under that id: it may be called again.

        Returns:
            The offset of the record that has done it, or of a later one.
        """
        while True:
            await self._open()
            prepared = self._ledger.prepared.get(transaction)
            if prepared is None:
                return self.shard.owner.last
            record = self._resolving.get(transaction)
            if record is None:
                record = self.shard.owner.commit()
                record.entries.append(resolve_entry(transaction, self._now_ms(), commit=commit))
                if commit:
                    self._join_prepared(record, prepared)
                self._keep(self._resolving, transaction, record)
                _when_written(record, partial(self._ledger.release, transaction))
            try:
                return await record.outcome()
            except NotWritten:
                self._drop(self._resolving, transaction, record)
                continue

    @staticmethod
    def _drop(commits: dict[str, Commit], transaction: str, commit: Commit | None) -> None:
        """Find a commit no longer that has come to nothing."""
        if commits.get(transaction) is commit:
            commits.pop(transaction, None)

    @classmethod
    def _keep(cls, commits: dict[str, Commit], transaction: str, commit: Commit) -> None:
        """Find a commit under the transaction's id until it is settled, whoever waits for it."""

        def settled(outcome: asyncio.Future[int]) -> None:
            outcome.exception()  # others are told
            cls._drop(commits, transaction, commit)

        commits[transaction] = commit
        commit.outcome().add_done_callback(settled)

    async def _open(self) -> None:
        if not self.shard.owner.open:
            await self.shard.owner.until_open(time.monotonic() + WAIT_S)

    def _now_ms(self) -> int:
        return HybridClock.milliseconds(self.shard.clock.tick())

    async def _evaluate(self, parts: Sequence[Part]) -> dict[int, Evaluated] | None:
        """Evaluate all; None to be called again, as an image they rest on was not written.

        Raises:
            Refused: one can't be carried out, and every image that says so is durable.
        """
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
        slots = [self.shard.owner.overlay.slot(part.write.row_key) for part in parts]
        try:
            await self.shard.confirm(slots, self.shard.owner.epoch)
        except NotWritten:
            return None
        raise Refused(reasons)

    def _join(
        self, commit: Commit, found: dict[int, Evaluated], context: RequestContext
    ) -> list[int]:
        return [
            -1 if one.new is one.old else self.shard.join(commit, one, context)
            for one in found.values()
        ]

    def _join_prepared(self, commit: Commit, prepared: Prepared) -> None:
        for change in prepared.changes:
            table = self._find(change.table_id)
            if table is not None:
                _, row_key = table.keys.locate(table.prefix, change.keys)
                self.shard.join_prepared(commit, change, table, row_key)


def _when_written(commit: Commit, then: Callable[[], None]) -> None:
    """Call `then` when a commit is durable, before those who wait for it go on."""

    def settled(outcome: asyncio.Future[int]) -> None:
        if outcome.exception() is None:
            then()

    commit.outcome().add_done_callback(settled)


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
