"""The protocol of owners and epochs, run with the real code on thousands of seeds.

Every history that clients saw must be linearizable, item by item; porcupine, a known checker, says
so. Each seed is a whole run that can be had again: STREAMTABLE_SEED=1234 runs that one alone,
STREAMTABLE_SEEDS says how many are run otherwise.
"""

import json
import logging
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streamtable.streams import owner, shard
from streamtable.streams.epochs import EpochFilter
from streamtable.streams.owner import Owner
from streamtable.streams.shard import Shard
from tests.simulation.cluster import KEYS, NEVER, Simulation
from tests.simulation.log import Faults
from tests.simulation.loop import SimulatedLoop, SimulatedTime

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]

SEEDS = int(os.environ.get("STREAMTABLE_SEEDS", "1000"))
FIRST = int(os.environ.get("STREAMTABLE_FIRST_SEED", "0"))
CHECKER = Path(__file__).parent / "checker"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checker() -> str:
    built = ROOT / ".cache" / "go" / "linearizable"
    if shutil.which("go") is None:
        pytest.skip("the checker of histories is built by Go, and there is no 'go' on the path")
    built.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["go", "build", "-o", str(built), "."], cwd=CHECKER, check=True, timeout=300)
    return str(built)


@pytest.fixture(autouse=True)
def simulated_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (owner, shard):
        monkeypatch.setattr(module, "time", SimulatedTime)
    # What goes wrong on purpose is not told thousands of times.
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def faults(seed: int) -> Faults:
    """Without the broker's own fencing for every second seed: the barrier alone must do."""
    often = 0.1 if seed % 3 == 0 else 0.03
    return Faults(lost=often, hidden=often, late=often, fencing=seed % 2 == 0)


def run(seed: int) -> Simulation:
    loop = SimulatedLoop()
    try:
        simulation = Simulation(seed, faults(seed))
        loop.run_until_complete(simulation.run())
        return simulation
    finally:
        loop.close()


def histories(simulation: Simulation) -> Iterator[dict[str, Any]]:
    for key in KEYS:
        operations = [each.to_json() for each in simulation.history if each.key == key]
        yield {"name": f"seed {simulation.seed}, item {key}", "operations": operations}


def wrong(checker: str, found: Iterable[dict[str, Any]]) -> str:
    """Return the names of the histories that no order of the operations explains."""
    lines = "\n".join(json.dumps(each) for each in found)
    checked = subprocess.run(
        [checker], input=lines, capture_output=True, text=True, timeout=500, check=False
    )
    assert checked.returncode in {0, 1}, checked.stderr
    return checked.stdout


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
    seeds: Iterable[int] = range(FIRST, FIRST + SEEDS)
    if "STREAMTABLE_SEED" in os.environ:
        seeds = [int(os.environ["STREAMTABLE_SEED"])]
    found: list[dict[str, Any]] = []
    answered = 0
    for seed in seeds:
        simulation = run(seed)
        assert simulation.failure is None, f"seed {seed}: {simulation.failure!r}"
        found += histories(simulation)
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
    assert answered > 5 * len(found) // len(KEYS), "the clients hardly got anything done"
    assert wrong(checker, found) == ""


def test_a_seed_is_the_same_run_again() -> None:
    first, second = run(7), run(7)
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
    assert wrong(checker, (each for seed in range(1, 400, 2) for each in histories(run(seed))))
