"""`streamtable serve` as a process of its own, as users run it."""

import json
import os
import urllib.request
from pathlib import Path
from typing import Any, Self

from botocore.config import Config

from tests.support.commands import BIN, Background
from tests.support.waiting import wait_until

__all__ = ["Server", "client_settings"]

# What follows the port has been printed too, so the port is whole.
READY = r"(http://127\.0\.0\.1:\d+)\D"


def client_settings(endpoint: str) -> dict[str, Any]:
    """Return the arguments of a boto3 client or resource that does not retry."""
    return {
        "service_name": "dynamodb",
        "endpoint_url": endpoint,
        "region_name": "local",
        "aws_access_key_id": "local",
        "aws_secret_access_key": "local",
        "config": Config(retries={"total_max_attempts": 1}, read_timeout=60),
    }


class Server:
    """A node on the embedded broker, on ports that were free.

    Attributes:
        endpoint: the URL that it printed when it was ready.
        environment: what its next start has in its environment beside this process's.
    """

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        self.options = options
        self.endpoint = ""
        self.environment: dict[str, str] = {}
        self._starts = 0
        self._running: Background | None = None

    def start(self) -> Self:
        """Start it and wait until it answers."""
        self._starts += 1
        log = self.data.with_name(f"{self.data.name}-{self._starts}.log")
        ports = ["--port", "0", "--broker-port", "0"]
        command = [str(BIN / "streamtable"), "serve", *ports, "--data", str(self.data)]
        environment = {**os.environ, **self.environment}
        running = Background([*command, *self.options], log, env=environment)
        self._running = running
        try:
            self.endpoint = running.wait_for(READY, 60).group(1)
            wait_until(self._answers, f"{self.endpoint} to answer")
        except BaseException:
            running.kill()
            raise
        return self

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def node(self) -> dict[str, Any]:
        """Return what the node says about itself."""
        with urllib.request.urlopen(f"{self.endpoint}/_streamtable/node", timeout=60) as answer:
            description: dict[str, Any] = json.load(answer)
        return description

    @property
    def broker(self) -> str:
        """The address of its broker, host:port."""
        return str(self.node()["kafka"])

    def output(self) -> str:
        """Return what it has printed since its last start."""
        assert self._running is not None
        return self._running.text()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._running is not None
        return self._running.process.pid

    def ended(self, limit_s: float = 30) -> int:
        """Wait until it ends by itself, and return the exit code."""
        assert self._running is not None
        return self._running.process.wait(limit_s)

    def kill(self) -> None:
        """End it at once: kill -9."""
        assert self._running is not None
        self._running.kill()

    def stop(self) -> int:
        """End it in good order and return the exit code."""
        assert self._running is not None
        return self._running.stop()
