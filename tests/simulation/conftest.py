"""What the simulations share: how many seeds, the simulated time, and the checker of histories."""

import json
import logging
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from streamtable.streams import owner, participant, shard
from tests.simulation.log import Faults
from tests.simulation.loop import SimulatedLoop, SimulatedTime

__all__ = ["faults", "run", "seeds", "wrong"]

SEEDS = int(os.environ.get("STREAMTABLE_SEEDS", "1000"))
FIRST = int(os.environ.get("STREAMTABLE_FIRST_SEED", "0"))
CHECKER = Path(__file__).parent / "checker"
ROOT = Path(__file__).parents[2]


class Runs(Protocol):
    """A simulation."""

    async def run(self) -> None:
        """Run it to its end."""


@pytest.fixture(scope="session")
def checker() -> str:
    """The program that says which histories no order of the operations explains."""
    built = ROOT / ".cache" / "go" / "linearizable"
    if shutil.which("go") is None:
        pytest.skip("the checker of histories is built by Go, and there is no 'go' on the path")
    built.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["go", "build", "-o", str(built), "."], cwd=CHECKER, check=True, timeout=300)
    return str(built)


@pytest.fixture(autouse=True)
def simulated_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the real code see the loop's time; what goes wrong on purpose is not logged."""
    for module in (owner, participant, shard):
        monkeypatch.setattr(module, "time", SimulatedTime)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def seeds(share: float = 1.0) -> Iterable[int]:
    """Which seeds are run: STREAMTABLE_SEED alone, or a share of STREAMTABLE_SEEDS."""
    if "STREAMTABLE_SEED" in os.environ:
        return [int(os.environ["STREAMTABLE_SEED"])]
    return range(FIRST, FIRST + int(SEEDS * share))


def faults(seed: int) -> Faults:
    """Without the broker's own fencing for every second seed: the barrier alone must do."""
    often = 0.1 if seed % 3 == 0 else 0.03
    return Faults(lost=often, hidden=often, late=often, fencing=seed % 2 == 0)


def run(simulation: Runs) -> None:
    """Run a simulation on a loop of its own."""
    loop = SimulatedLoop()
    try:
        loop.run_until_complete(simulation.run())
    finally:
        loop.close()


def wrong(checker: str, found: Iterable[dict[str, Any]]) -> str:
    """Return the names of the histories that no order of the operations explains."""
    lines = "\n".join(json.dumps(each) for each in found)
    checked = subprocess.run(
        [checker], input=lines, capture_output=True, text=True, timeout=500, check=False
    )
    assert checked.returncode in {0, 1}, checked.stderr
    return checked.stdout
