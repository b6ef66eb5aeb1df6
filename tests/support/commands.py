"""Programs that tests start: where they are and what they print."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.support.waiting import wait_until

__all__ = ["BIN", "Background", "aws_environment", "error_line", "require", "run"]

BIN = Path(sys.executable).parent


def require(name: str, why: str) -> str:
    """Return the path of a program, beside this Python or on PATH; skip the test without it."""
    path = shutil.which(name, path=f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}")
    if path is None:
        pytest.skip(f"no {name} here: {why}")
    return path


def aws_environment(endpoint: str) -> dict[str, str]:
    """Return an environment in which AWS's clients talk to `endpoint` and read no files."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return kept | {
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "local",
        "AWS_REGION": "local",
        "AWS_ENDPOINT_URL_DYNAMODB": endpoint,
        "AWS_ENDPOINT_URL_DYNAMODB_STREAMS": endpoint,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_PAGER": "",
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
    }


def run(*arguments: str, cwd: Path | None = None, **environment: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of `streamtable ARGUMENTS`."""
    done = subprocess.run(
        [str(BIN / "streamtable"), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stdout, done.stderr


def error_line(*arguments: str, cwd: Path | None = None) -> str:
    """Return the one line that a command that fails prints."""
    code, out, err = run(*arguments, cwd=cwd)
    assert (code, out) == (1, "")
    assert err.startswith("error: "), err
    assert err.count("\n") == 1, err
    return err


class Background:
    """A program that runs beside a test, with all its output in a file. A context manager."""

    def __init__(
        self,
        command: list[str],
        output: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.command = command
        self.output = output
        with output.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own, so that a shell's children end with it.
                start_new_session=True,
            )

    def text(self) -> str:
        """Return everything printed so far."""
        return self.output.read_text(errors="replace")

    def wait_for(self, pattern: str, timeout_s: float = 60) -> re.Match[str]:
        """Return what the program printed that matches `pattern`, as soon as it has.

        Raises:
            RuntimeError: it ended before; the message has its output.
        """

        def printed() -> re.Match[str] | None:
            found = re.search(pattern, self.text())
            if found is None and self.process.poll() is not None:
                message = f"{self.command} ended with {self.process.returncode}:\n{self.text()}"
                raise RuntimeError(message)
            return found

        what = f"{pattern!r} from {self.command}, output in {self.output}"
        return wait_until(printed, what, timeout_s)

    def kill(self) -> None:
        """End it at once, as a power cut does."""
        self._signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """End it in good order and return its exit code."""
        self._signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def _signal(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
