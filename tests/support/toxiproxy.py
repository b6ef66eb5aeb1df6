"""Toxiproxy: TCP proxies that can be cut, so that processes can't reach each other.

`make tools` builds it into .cache/go/toxiproxy where Go is there.
"""

import json
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.support.waiting import wait_until

__all__ = ["Toxiproxy", "running"]

_PROGRAM = Path(__file__).parents[2] / ".cache" / "go" / "toxiproxy" / "server"


class Toxiproxy:
    """The process with its proxies."""

    def __init__(self) -> None:
        self._port = free_port()
        self._proxies = 0
        self._process = subprocess.Popen(
            [_PROGRAM, "-port", str(self._port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._answers, "Toxiproxy to answer")

    def _answers(self) -> bool:
        assert self._process.poll() is None, "Toxiproxy has ended"
        try:
            with socket.create_connection(("127.0.0.1", self._port), 1):
                return True
        except OSError:
            return False

    def forward(self, listen: str, upstream: str) -> str:
        """Pass connections to one address on to another one; return the proxy's name."""
        self._proxies += 1
        name = f"proxy-{self._proxies}"
        self._ask("POST", "/proxies", {"name": name, "listen": listen, "upstream": upstream})
        return name

    @contextmanager
    def silent(self, *names: str) -> Iterator[None]:
        """Let nothing through, without a word to either side, as a switch that is off does."""
        ways = ("upstream", "downstream")
        for name in names:
            for way in ways:
                toxic = {"name": way, "type": "timeout", "stream": way}
                self._ask("POST", f"/proxies/{name}/toxics", toxic | {"attributes": {"timeout": 0}})
        try:
            yield
        finally:
            for name in names:
                for way in ways:
                    self._ask("DELETE", f"/proxies/{name}/toxics/{way}")

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _ask(self, method: str, path: str, body: Any = None) -> None:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{path}", data=data, method=method
        )
        with urllib.request.urlopen(request, timeout=10):
            pass


def running() -> Iterator[Toxiproxy]:
    """Run it for a fixture; the test is skipped where it is not."""
    if not _PROGRAM.exists():
        pytest.skip("no Toxiproxy: `make tools` builds it where Go is there")
    proxy = Toxiproxy()
    try:
        yield proxy
    finally:
        proxy.stop()
