"""What is told of each consumer, by what is known of it."""

from typing import Any

import pytest

from streamtable.control.outcomes import ConsumerOnShard, outcomes
from streamtable.core.change_filters.parsing import parse_filter
from streamtable.core.consumers import ConsumerDocument
from streamtable.core.positions import Position
from streamtable.where import new
from tests.support.changelog import change

INSERT = change("ada", new={"n": {"N": "5"}})
MODIFY = change("ada", old={"n": {"N": "5"}}, new={"n": {"N": "6"}})
AT = Position(1, 40, 2)
PLACE = (40, 2)
ERROR = {"type": "ValueError", "message": "no"}


def document(**changes: Any) -> ConsumerDocument:
    known: dict[str, Any] = {
        "kind": "trigger",
        "app": "shop",
        "name": "mail",
        "id": "1",
        "sources": ("users", "orders"),
        "start": {1: 10},
        "start_text": "LATEST",
        "created": 0,
    }
    return ConsumerDocument(**{**known, **changes})


def told(
    consumer: ConsumerDocument, following: int | None = 41, what: Any = INSERT, **known: Any
) -> dict[str, Any] | None:
    found = outcomes(ConsumerOnShard(consumer, following, **known))(AT, what)
    if found is not None:
        assert (found.pop("consumer"), found.pop("kind")) == ("shop/mail", consumer.kind)
    return found


@pytest.mark.parametrize(
    ("following", "outcome"),
    [(41, "done"), (40, "not there yet"), (11, "not there yet"), (None, "not there yet")],
)
def test_by_its_frontier(following: int | None, outcome: str) -> None:
    assert told(document(), following) == {"outcome": outcome}


def test_other_tables_are_not_its_own() -> None:
    assert told(document(sources=("orders",))) is None


def test_one_that_is_paused() -> None:
    assert told(document(paused=True), 40) == {"outcome": "not there yet", "paused": True}
    assert told(document(paused=True), 41) == {"outcome": "done"}


def test_one_that_goes_no_further() -> None:
    held_up = {"state": "stopped", "error": "KeyError: 'n'"}
    assert told(document(), 40, held_up=held_up) == {"outcome": "not there yet", **held_up}
    assert told(document(), 41, held_up=held_up) == {"outcome": "done"}


def test_filtered_by_event() -> None:
    consumer = document(definition={"on": ["INSERT"]})
    assert told(consumer) == {"outcome": "done"}
    assert told(consumer, what=MODIFY) == {"outcome": "filtered"}
    # Also before it is there: no one will call it.
    assert told(consumer, 11, what=MODIFY) == {"outcome": "filtered"}


def test_filtered_by_where() -> None:
    where = parse_filter(new.n > 5).to_json()
    consumer = document(definition={"on": ["INSERT", "MODIFY"], "where": where})
    assert told(consumer) == {"outcome": "filtered"}
    assert told(consumer, what=MODIFY) == {"outcome": "done"}


def test_before_its_start() -> None:
    assert told(document(start={1: 41})) == {"outcome": "before its start"}
    assert told(document(start={1: 40})) == {"outcome": "done"}


@pytest.mark.parametrize("kind", ["view", "search"])
def test_views_and_indexes_begin_with_the_rows_that_there_are(kind: str) -> None:
    # A join's `on` names attributes.
    consumer = document(kind=kind, start={1: 41}, definition={"on": ["user_id", "id"]})
    assert told(consumer) == {"outcome": "done"}
    assert told(document(kind=kind, generation=0, start={}), None) == {"outcome": "not there yet"}


def test_one_that_failed() -> None:
    retrying = {PLACE: {"attempts": 1, "next_ms": 7, "error": ERROR, "parked": False}}
    said = {"attempts": 1, "next_ms": 7, "error": ERROR}
    assert told(document(), 40, failing=retrying) == {"outcome": "retrying", **said}
    parked = {PLACE: {**retrying[PLACE], "parked": True}}
    assert told(document(), 41, failing=parked) == {"outcome": "parked", **said}
    assert told(document(), 41, failing={(40, 1): parked[PLACE]}) == {"outcome": "done"}


def test_one_that_waits_behind_it() -> None:
    waiting = {PLACE: {"attempts": 0, "next_ms": 0, "error": None, "parked": True}}
    assert told(document(), 41, failing=waiting) == {"outcome": "parked", "attempts": 0}


def test_one_that_was_given_up() -> None:
    letter = {"id": "shop/mail/1-40-2", "attempts": 3, "reason": "retries", "error": ERROR}
    assert told(document(), 41, dead={PLACE: letter}) == {"outcome": "dead letter", **letter}
