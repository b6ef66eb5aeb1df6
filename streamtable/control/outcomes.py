"""What each consumer made of a change, as far as the node can tell."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from streamtable.core.change_filters.parsing import filter_from_json
from streamtable.core.changes import Change
from streamtable.core.consumers import ConsumerDocument
from streamtable.core.positions import Position

__all__ = [
    "BEFORE",
    "DEAD",
    "DONE",
    "FILTERED",
    "NOT_YET",
    "PARKED",
    "RETRYING",
    "ConsumerOnShard",
    "Place",
    "outcomes",
]

DONE: Final = "done"
FILTERED: Final = "filtered"
RETRYING: Final = "retrying"
PARKED: Final = "parked"
DEAD: Final = "dead letter"
NOT_YET: Final = "not there yet"
BEFORE: Final = "before its start"

Place: TypeAlias = tuple[int, int]
"""Offset and index of a change on a shard."""


@dataclass(frozen=True, slots=True)
class ConsumerOnShard:
    """What is known of a consumer on one shard.

    Attributes:
        document: its registration.
        next: the first offset that is not done; None where it has not begun.
        failing: changes that failed and are tried again: `attempts`, `next_ms`, `error`; `parked`
            is whether they are kept in the state table, and not in a worker's memory only.
        dead: changes that were given up: the dead letters.
        held_up: where it goes no further for now: the `state` that it is in, and an `error`.
    """

    document: ConsumerDocument
    next: int | None
    failing: Mapping[Place, Mapping[str, Any]] = field(default_factory=dict)
    dead: Mapping[Place, Mapping[str, Any]] = field(default_factory=dict)
    held_up: Mapping[str, Any] = field(default_factory=dict)


def outcomes(consumer: ConsumerOnShard) -> Callable[[Position, Change], dict[str, Any] | None]:
    """Return a function that says what a consumer made of a change on that shard.

    It returns None for a change of a table that the consumer does not follow; otherwise
    `consumer`, `kind` and `outcome`, and what is known besides: `attempts`, `next_ms`, `error`,
    `paused`, `state`.
    """
    document = consumer.document
    wants = _wants(document)
    named = {"consumer": document.key, "kind": document.kind}

    def judge(position: Position, change: Change) -> dict[str, Any] | None:
        if change.table not in document.sources:
            return None
        place = (position.offset, position.index)
        if not wants(change):
            return {**named, "outcome": FILTERED}
        letter = consumer.dead.get(place)
        if letter is not None:
            return {**named, "outcome": DEAD, **_told(letter, "id", "attempts", "reason", "error")}
        failing = consumer.failing.get(place)
        if failing is not None:
            outcome = PARKED if failing.get("parked") else RETRYING
            return {**named, "outcome": outcome, **_told(failing, "attempts", "next_ms", "error")}
        start = document.start.get(position.shard)
        if start is not None and position.offset < start:
            # Views and indexes begin with the rows that there are, triggers with a change.
            return {**named, "outcome": BEFORE if document.kind == "trigger" else DONE}
        if start is None or consumer.next is None or position.offset >= consumer.next:
            paused = {"paused": True} if document.paused else {}
            return {**named, "outcome": NOT_YET, **paused, **consumer.held_up}
        return {**named, "outcome": DONE}

    return judge


def _wants(document: ConsumerDocument) -> Callable[[Change], bool]:
    """Return a function that says whether a consumer takes a change of its table."""
    if document.kind != "trigger":
        return lambda _: True
    events = document.definition.get("on")
    described = document.definition.get("where")
    where = None if described is None else filter_from_json(described)

    def wants(change: Change) -> bool:
        if events is not None and change.event_name not in events:
            return False
        return where is None or where.matches(change)

    return wants


def _told(found: Mapping[str, Any], *names: str) -> dict[str, Any]:
    told = {name: found[name] for name in names if found.get(name) is not None}
    if not told.get("next_ms"):
        told.pop("next_ms", None)
    return told
