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

_TOO_LONG = " (too long to tell)"
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


def wrong(checker: str, found: Iterable[dict[str, Any]], *, untold: int = 0) -> str:
    """Return the names of the histories that no order of the operations explains.

    Such a history is printed, whole.

    Args:
        checker: the program.
        found: the histories.
        untold: of so many it need not be told within the checker's time: that grows with each
            operation that nobody knows the outcome of, without a bound.
    """
    lines = {each["name"]: json.dumps(each) for each in found}
    checked = subprocess.run(
        [checker],
        input="\n".join(lines.values()),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert checked.returncode in {0, 1}, checked.stderr
    names = checked.stdout.splitlines()
    too_long = [name for name in names if name.endswith(_TOO_LONG)]
    if len(too_long) <= untold:
        names = [name for name in names if name not in too_long]
    for name in names:
        print(lines[name.removesuffix(_TOO_LONG)])
    return "\n".join(names)
