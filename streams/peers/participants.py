"""Transactions over the shards of several nodes: a participant on another node."""

from collections.abc import Callable, Sequence
from typing import Any

from streamtable.core.context import RequestContext
from streamtable.core.operations.writes import Write
from streamtable.core.tables import Table
from streamtable.streams.participant import Part, Participant, Refused, TokenFound, UsedToken
from streamtable.streams.peers.calls import ShardCall, replan
from streamtable.streams.peers.failures import of_request
from streamtable.streams.peers.messages import (
    context_from_json,
    context_to_json,
    outcome_from_json,
    outcome_to_json,
)
from streamtable.streams.peers.remote import RemoteShard, write_to_json
from streamtable.streams.shard import Outcome, Shard

__all__ = ["RemoteParticipant", "participant_calls"]


class RemoteParticipant:
    """One shard of another node in transactions. What is said of `Participant` holds for it.

    Its methods raise Moved where nothing was done, see `RemoteShard`.

    Args:
        shard: the shard.
    """

    def __init__(self, shard: RemoteShard) -> None:
        self._shard = shard

    async def commit(
        self,
        parts: Sequence[Part],
        transaction: str | None,
        token: UsedToken | None,
        context: RequestContext,
    ) -> dict[int, Outcome]:
        """Evaluate the shard's actions and commit the transaction, all in one commit."""
        used = None if token is None else list(token)
        arguments = [_parts_to_json(parts), transaction, used, context_to_json(context)]
        return _read_vote(await self._shard.change("commit", arguments))

    async def prepare(
        self, parts: Sequence[Part], transaction: str, coordinator: int, context: RequestContext
    ) -> dict[int, Outcome]:
        """Evaluate the shard's actions, lock their items, and promise to apply them."""
        arguments = [_parts_to_json(parts), transaction, coordinator, context_to_json(context)]
        return _read_vote(await self._shard.change("prepare", arguments))

    async def check(self, parts: Sequence[Part]) -> dict[int, dict[str, Any]]:
        """Say why the shard would refuse its actions, without writing anything."""
        found = await self._shard.query("check", _parts_to_json(parts))
        return {int(place): reason for place, reason in found.items()}

    async def decision(self, transaction: str) -> bool:
        """Say whether a transaction happened; if that is open, decide that it does not."""
        happened: bool = await self._shard.query("decision", transaction)
        return happened

    async def resolve(self, transaction: str, *, commit: bool) -> int:
        """Apply what was prepared, or drop it, and let go of the items."""
        offset: int = await self._shard.query("resolve", [transaction, commit])
        return offset


def participant_calls(
    participant: Callable[[int], Participant], find: Callable[[str], Table]
) -> dict[str, ShardCall]:
    """Return what can be asked of a shard in transactions, by name.

    Args:
        participant: returns this node's shard of a number, as it takes part.
        find: returns the table of a name for a write, or raises ResourceNotFound.
    """

    async def commit(shard: Shard, arguments: Any) -> Any:
        parts, transaction, token, found = arguments
        used = None if token is None else UsedToken(*token)
        context = context_from_json(found)
        promised = participant(shard.number).commit(
            _read_parts(parts, find), transaction, used, context
        )
        try:
            outcomes = await of_request("commit", context.request_id, promised, Refused, TokenFound)
        except (Refused, TokenFound) as error:
            return _refusal(error)
        return _vote(outcomes)

    async def prepare(shard: Shard, arguments: Any) -> Any:
        parts, transaction, coordinator, found = arguments
        context = context_from_json(found)
        promised = participant(shard.number).prepare(
            _read_parts(parts, find), transaction, coordinator, context
        )
        try:
            outcomes = await of_request("prepare", context.request_id, promised, Refused)
        except Refused as error:
            return _refusal(error)
        return _vote(outcomes)

    async def check(shard: Shard, arguments: Any) -> Any:
        reasons = await participant(shard.number).check(_read_parts(arguments, find))
        return {str(place): reason for place, reason in reasons.items()}

    async def decision(shard: Shard, transaction: Any) -> bool:
        return await participant(shard.number).decision(transaction)

    async def resolve(shard: Shard, arguments: Any) -> int:
        transaction, happened = arguments
        return await participant(shard.number).resolve(transaction, commit=happened)

    async def forget(shard: Shard, transaction: Any) -> None:
        # A decision that every shard has heard.
        participant(shard.number).forget(transaction)

    return {
        "commit": commit,
        "prepare": prepare,
        "check": check,
        "decision": decision,
        "resolve": resolve,
        "forget": forget,
    }


def _parts_to_json(parts: Sequence[Part]) -> Any:
    found = []
    for place, write in parts:
        assert isinstance(write, Write)
        found.append([place, write_to_json(write)])
    return found


def _read_parts(found: Any, find: Callable[[str], Table]) -> list[Part]:
    return [Part(place, replan(write, find)) for place, write in found]


def _vote(outcomes: dict[int, Outcome]) -> Any:
    return {"outcomes": [[place, outcome_to_json(one)] for place, one in outcomes.items()]}


def _refusal(error: Refused | TokenFound) -> Any:
    if isinstance(error, TokenFound):
        return {"token": error.same}
    return {"refused": [[place, reason] for place, reason in error.reasons.items()]}


def _read_vote(found: Any) -> dict[int, Outcome]:
    if "refused" in found:
        raise Refused(dict(found["refused"]))
    if "token" in found:
        raise TokenFound(same=found["token"])
    return {place: outcome_from_json(one) for place, one in found["outcomes"]}
