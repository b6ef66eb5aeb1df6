"""A shard that is split while nodes contend for it, on many seeds: no write goes between.

What was written before a split record is in the parent's log before it. What comes after it was
written when the catalog had named the new number, so that its item's shard was known.
"""

from typing import Any

import pytest

from streamtable.consumers.reshard import driver, member
from streamtable.consumers.reshard.member import ReshardMember
from streamtable.streams.epochs import SPLIT, EpochFilter
from tests.simulation.conftest import MANY, UNTOLD, faults, run, seeds
from tests.simulation.loop import SimulatedTime
from tests.simulation.splits import Splits
from tests.simulation.test_owners import histories
from tests.support.linearizable import wrong

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have splits take about as long as what the nodes are put through."""
    for module in (driver, member):
        monkeypatch.setattr(module, "time", SimulatedTime)
    for name, value in {
        "_LOOK_S": 0.01,
        "_SOON_S": 0.002,
        "_SWAP_S": 0.4,
        "_RETRY_S": 0.02,
    }.items():
        monkeypatch.setattr(driver, name, value)
    for name, value in {"_LOOK_S": 0.002, "_SOON_S": 0.01, "_DRAIN_S": 0.2}.items():
        monkeypatch.setattr(member, name, value)


def simulate(seed: int) -> Splits:
    simulation = Splits(seed, faults(seed))
    run(simulation)
    return simulation


def astray(simulation: Splits) -> list[str]:
    """What was written behind a split record before the catalog had the split."""
    rule = EpochFilter()
    found = []
    decided: dict[int, float] = {}
    for document, at in simulation.documents:
        for split in document.splits:
            decided.setdefault(split.ends[0], at)
    records = simulation.partition.records
    for record, at in zip(records, simulation.partition.times, strict=True):
        if rule.admit(record.kind, record.epoch, record.offset):
            found += [
                f"seed {simulation.seed}: {record.offset} is behind {end}"
                for end, when in decided.items()
                if end < record.offset and at < when
            ]
        elif record.offset in decided:
            assert record.kind == SPLIT
            assert record.epoch == rule.epoch, f"seed {simulation.seed}: a void split"
    return found


def test_nothing_is_written_between_a_split_and_its_decision(checker: str) -> None:
    found: list[dict[str, Any]] = []
    splits = attempts = runs = 0
    for seed in seeds(0.2):
        simulation = simulate(seed)
        assert simulation.failure is None, f"seed {seed}: {simulation.failure!r}"
        assert astray(simulation) == []
        found += histories(simulation)
        splits += len(simulation.documents[-1][0].splits) if simulation.documents else 0
        attempts += sum(
            each.reshard is not None and each.reshard.phase == "swapping"
            for each, _ in simulation.documents
        )
        runs += 1
    if runs >= MANY:
        assert runs < splits < attempts
    assert wrong(checker, found, untold=int(UNTOLD * runs)) == ""


def test_who_does_not_wait_for_the_decision_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReshardMember, "is_decided", lambda *_: True)
    assert any(astray(simulate(seed)) for seed in range(400))
