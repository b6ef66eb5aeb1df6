"""Validators of files that other programs read: the programs' own, where they are installed."""

import subprocess
from pathlib import Path

from tests.support.commands import require

__all__ = ["accepted", "compose"]

_ROOT = Path(__file__).parents[2]
_COMPOSE = _ROOT / ".cache" / "go" / "compose"
_BUILD_S = 300


def accepted(program: str, *arguments: object, package: str) -> str:
    """Return what a program prints when it accepts what it reads; fail if it does not.

    Args:
        program: its name; where it is not installed, the test is skipped.
        arguments: what it is told.
        package: the Debian package that brings it.
    """
    return _run(require(program, f"Debian's package {package} has it"), *arguments)


def compose(path: Path, environment: dict[str, str]) -> str:
    """Return a compose file as JSON, as Docker Compose understands it, by its own library."""
    go = require("go", "it builds what reads compose files")
    _COMPOSE.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [go, "build", "-o", str(_COMPOSE), "."],
        cwd=Path(__file__).parent / "compose",
        check=True,
        timeout=_BUILD_S,
    )
    return _run(str(_COMPOSE), path, environment=environment)


def _run(program: str, *arguments: object, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
