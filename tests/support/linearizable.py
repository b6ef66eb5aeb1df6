"""The checker of histories: porcupine, in a small program in Go."""

import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

__all__ = ["NEVER", "built_checker", "wrong"]

NEVER = 1e18
"""When an operation is answered that nobody knows the outcome of."""

_ROOT = Path(__file__).parents[2]
_SOURCE = _ROOT / "tests" / "simulation" / "checker"


def built_checker() -> str:
    """Return the program that says which histories no order of the operations explains."""
    built = _ROOT / ".cache" / "go" / "linearizable"
    if shutil.which("go") is None:
        pytest.skip("the checker of histories is built by Go, and there is no 'go' on the path")
    built.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["go", "build", "-o", str(built), "."], cwd=_SOURCE, check=True, timeout=300)
    return str(built)


def wrong(checker: str, found: Iterable[dict[str, Any]]) -> str:
    """Return the names of the histories that no order of the operations explains."""
    lines = "\n".join(json.dumps(each) for each in found)
    checked = subprocess.run(
        [checker], input=lines, capture_output=True, text=True, timeout=500, check=False
    )
    assert checked.returncode in {0, 1}, checked.stderr
    return checked.stdout
