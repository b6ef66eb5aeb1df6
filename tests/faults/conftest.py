"""What the tests of faults share: how many rounds, and chance that can be had again."""

import os
import random
import time
from typing import Final

import pytest

__all__ = ["ROUNDS", "chance"]

ROUNDS: Final = int(os.environ.get("STREAMTABLE_FAULT_ROUNDS", "2"))
"""How often each test brings its fault about; STREAMTABLE_FAULT_ROUNDS for more."""


@pytest.fixture
def chance() -> random.Random:
    """Chance from STREAMTABLE_SEED; the seed is printed, so that a failure can be run again."""
    seed = int(os.environ.get("STREAMTABLE_SEED", time.time_ns() % 1_000_000))
    print(f"STREAMTABLE_SEED={seed}")
    return random.Random(seed)
