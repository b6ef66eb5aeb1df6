"""The protocol of owners and epochs, run with the real code on thousands of seeds.

Every history that clients saw must be linearizable, item by item; porcupine, a known checker, says
so. Each seed is a whole run that can be had again: STREAMTABLE_SEED=1234 runs that one alone,
STREAMTABLE_SEEDS says how many are run otherwise.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from streamtable.streams.epochs import EpochFilter
from streamtable.streams.owner import Owner
from streamtable.streams.shard import Shard
from tests.simulation.cluster import KEYS, Simulation
from tests.simulation.conftest import MANY, UNTOLD, faults, run, seeds
from tests.support.linearizable import NEVER, wrong

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]


def simulate(seed: int) -> Simulation:
    simulation = Simulation(seed, faults(seed))
    run(simulation)
    return simulation


def histories(simulation: Simulation) -> Iterator[dict[str, Any]]:
    for key in KEYS:
        operations = [each.to_json() for each in simulation.history if each.key == key]
        yield {"name": f"seed {simulation.seed}, item {key}", "operations": operations}


def valid_values(simulation: Simulation) -> list[int]:
    """What the log's valid commits write, in their order."""
    rule = EpochFilter()
    return [
        int(change.new.item["n"]["N"])
        for record in simulation.partition.records
        if rule.admit(record.kind, record.epoch, record.offset)
        for change in record.changes()
        if change.new is not None
    ]


def test_histories_are_linearizable(checker: str) -> None:
    found: list[dict[str, Any]] = []
    answered = moved = 0
    for seed in seeds():
        simulation = simulate(seed)
        assert simulation.failure is None, f"seed {seed}: {simulation.failure!r}"
        assert not simulation.partition.overlapping, f"seed {seed}: two appends at once"
        found += histories(simulation)
        moved += simulation.moved
        # Each answered write is in the log, once; none is there twice.
        values = valid_values(simulation)
        assert len(values) == len(set(values)), f"seed {seed}: a write is there twice"
        for each in simulation.history:
            wrote = each.kind == "put" or (each.kind == "cput" and each.done)
            if wrote and each.answered < NEVER:
                answered += 1
                assert each.value in values, f"seed {seed}: {each} is lost"
        # Whatever each node materialized is what the log says.
        for node in simulation.nodes:
            rows = {image.item["n"]["N"] for image in node.state.rows.values()}
            assert rows <= {str(value) for value in values}, f"seed {seed}, {node.number}"
    runs = len(found) // len(KEYS)
    if runs >= MANY:
        assert moved >= runs // 4, "the shard hardly moved"
        assert answered > 5 * runs, "the clients hardly got anything done"
    assert wrong(checker, found, untold=int(UNTOLD * runs)) == ""


def test_a_seed_is_the_same_run_again() -> None:
    first, second = simulate(7), simulate(7)
    assert first.history == second.history
    assert len(first.partition.records) == len(second.partition.records)


async def _believe(*_: Any) -> None:
    pass


async def _never_lost(*_: Any) -> bool:
    return True


@pytest.mark.parametrize(
    ("what", "name", "instead"),
    [
        (Owner, "prove", _believe),
        (Shard, "confirm", _believe),
        (Owner, "_owned_until", _never_lost),
    ],
)
def test_the_checker_finds_a_broken_protocol(
    checker: str, monkeypatch: pytest.MonkeyPatch, what: type, name: str, instead: Any
) -> None:
    monkeypatch.setattr(what, name, instead)
    assert wrong(checker, (each for seed in range(1, 400, 2) for each in histories(simulate(seed))))
