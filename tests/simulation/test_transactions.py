"""Transactions over several shards, run with the real code on many seeds while the node dies.

What clients saw must be strictly serializable: the checker takes each transaction as one operation
on all items. See test_owners.py for how a seed is run again.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from streamtable.streams.ledger import Ledger
from streamtable.streams.participant import Participant
from tests.simulation.bank import Bank
from tests.simulation.conftest import MANY, UNTOLD, faults, run, seeds
from tests.support.linearizable import NEVER, wrong

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]


def simulate(seed: int) -> Bank:
    bank = Bank(seed, faults(seed))
    run(bank)
    return bank


def history(bank: Bank) -> dict[str, Any]:
    return {"name": f"seed {bank.seed}", "operations": [each.to_json() for each in bank.history]}


def test_histories_are_serializable(checker: str) -> None:
    found = []
    seen = written = 0
    for seed in seeds(0.5):
        bank = simulate(seed)
        assert bank.failure is None, f"seed {seed}: {bank.failure!r}"
        assert bank.settled(), f"seed {seed}: something is prepared and never decided"
        assert not bank.stale, f"seed {seed}: a read missed what was answered"
        found.append(history(bank))
        seen += sum(len(each.saw) > 1 for each in bank.history)
        written += sum(
            len(each.writes) > 1 and each.done and each.answered < NEVER for each in bank.history
        )
    if len(found) >= MANY:
        assert seen > 3 * len(found), "the clients hardly read anything"
        assert written > 3 * len(found), "the clients hardly got anything written"
    assert wrong(checker, found, untold=int(UNTOLD * len(found))) == ""


def _no(_self: Ledger, _row_key: bytes) -> bool:
    return False


async def _commits(_self: Participant, _transaction: str) -> bool:
    return True


@pytest.mark.parametrize(
    ("what", "name", "instead"), [(Ledger, "locks", _no), (Participant, "decision", _commits)]
)
def test_the_checker_finds_a_broken_protocol(
    checker: str, monkeypatch: pytest.MonkeyPatch, what: type, name: str, instead: Any
) -> None:
    monkeypatch.setattr(what, name, instead)

    def broken() -> Iterator[dict[str, Any]]:
        return (history(simulate(seed)) for seed in range(150))

    assert wrong(checker, broken())


def test_reads_that_ask_nobody_miss_what_was_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shard finds prepared when it starts may be answered: reads have to wait for it."""
    monkeypatch.setattr(Ledger, "doubts", _no)
    assert any(simulate(seed).stale for seed in range(150))
