"""Decisions of transactions: looked up by their id, forgotten after a day, never all in memory."""

from pathlib import Path

import pytest

from streamtable.consumers.tables.memory import StoreMemory
from streamtable.consumers.tables.store import ShardStore
from streamtable.streams import records
from streamtable.streams.ledger import DECISION_MS, Ledger, decide_entry, token_entry
from streamtable.streams.overlay import Overlay
from streamtable.streams.records import LogRecord

START_MS = 1_700_000_000_000


class Log:
    """Gives a store the records of one term."""

    def __init__(self, path: Path) -> None:
        self.store = ShardStore(path, StoreMemory(1024 * 1024, 1024 * 1024), {}.get)  # type: ignore[arg-type]
        self._add(*records.barrier("e", {}))

    def note(self, *entries) -> None:
        self._add(*records.commit("e", [], list(entries)))

    def _add(self, value, headers) -> None:
        record = LogRecord.read(0, self.store.applied + 1, 0, headers, value)
        self.store.apply([record], Overlay())


@pytest.fixture
def log(tmp_path: Path):
    made = Log(tmp_path)
    yield made
    made.store.close()


def test_a_decision_is_looked_up_by_its_id(log):
    log.note(decide_entry("a", START_MS, commit=True), decide_entry("b", START_MS, commit=False))
    assert log.store.decision("a") is True
    assert log.store.decision("b") is False
    assert log.store.decision("c") is None


def test_a_day_s_decisions_stay_out_of_memory(log):
    for first in range(0, 5000, 500):
        log.note(
            *(
                decide_entry(str(n), START_MS + n, commit=n % 2 == 0)
                for n in range(first, first + 500)
            )
        )
    log.note(token_entry("token", "digest", START_MS + 5000))
    # What is read at a take-over is what is needed at once.
    assert [entry["phase"] for entry in log.store.entries()] == ["token"]
    ledger = Ledger(log.store.decision)
    ledger.load(log.store.entries())
    assert ledger.decisions == {}
    assert [ledger.decision(str(n)) for n in (0, 1, 4998, 4999, 5000)] == [
        *(True, False, True, False, None)
    ]


def test_what_this_term_decided_comes_before_what_the_store_has(log):
    ledger = Ledger(log.store.decision)
    ledger.decisions["a"] = False
    assert ledger.decision("a") is False
    assert ledger.decision("b") is None


def test_a_decision_is_forgotten_after_a_day(log):
    log.note(decide_entry("old", START_MS, commit=True))
    log.note(decide_entry("kept", START_MS + 2, commit=True))
    log.note(decide_entry("new", START_MS + 1 + DECISION_MS, commit=True))
    found = {name: log.store.decision(name) for name in ("old", "kept", "new")}
    assert found == {"old": None, "kept": True, "new": True}
    # Nor is anything else left of it.
    assert not [key for key in log.store.keys(b"\x00", b"\x01") if key.endswith(b"old")]
