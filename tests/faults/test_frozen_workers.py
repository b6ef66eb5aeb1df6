"""A worker that was frozen for longer than its session counts nothing twice when it goes on."""

import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import boto3
import pytest

from tests.support.commands import Background
from tests.support.server import Server, client_settings
from tests.support.waiting import wait_until
from tests.support.worker import Worker, create_table, put

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(240)]

CODE = """
from streamtable import Window

@app.trigger(TABLE, tumbling_window_s=LENGTH_S)
def count(changes: list[Change], window: Window) -> None:
    names = [str(change.new["n"]) for change in changes]
    if not window.is_final:
        note("begun", os.getpid(), *names)
    while "1" in names and not (OUT.parent / "go").exists():
        time.sleep(0.05)
    window.state["seen"] = [*window.state.get("seen", []), *names]
    note("counted", os.getpid(), *window.state["seen"])
"""


@pytest.fixture
def frozen() -> Iterator[list[Background]]:
    """Workers to be let go on when the test ends."""
    found: list[Background] = []
    yield found
    for each in found:
        if each.process.poll() is None:
            each.process.send_signal(signal.SIGCONT)
            each.kill()


def test_a_frozen_worker_leaves_the_state_that_another_one_has_taken_over(
    new_server: Server, tmp_path: Path, frozen: list[Background]
) -> None:
    server = new_server.start()
    with closing(boto3.client(**client_settings(server.endpoint))) as client:
        create_table(client, "items")
        # A window that does not end while the test runs.
        length_s = next(each for each in range(900, 600, -1) if time.time() % each < each - 200)
        code = CODE.replace("LENGTH_S", str(length_s))
        worker = Worker(tmp_path, server.endpoint, "items", code)
        with worker.start() as first:
            put(client, "items", "a", n={"N": "1"})
            wait_until(lambda: f"begun {first.process.pid} 1" in worker.noted(), "the first call")
            first.process.send_signal(signal.SIGSTOP)
            frozen.append(first)
            (tmp_path / "go").touch()
            with worker.start() as second:
                pid = second.process.pid
                wait_until(lambda: f"counted {pid} 1" in worker.noted(), "it to be taken over", 60)
                put(client, "items", "a", n={"N": "2"})
                wait_until(lambda: f"counted {pid} 1 2" in worker.noted(), "it to go on")
                first.process.send_signal(signal.SIGCONT)
                # What it had in hand is done, and not counted.
                first.wait_for("is held by another worker now", 60)
                put(client, "items", "a", n={"N": "3"})
                wait_until(
                    lambda: any(line.endswith(" 1 2 3") for line in worker.noted()), "the third", 60
                )
