"""A trigger that writes down what it sees, and who compares that with the stream."""

import json
import os
from pathlib import Path
from typing import Any

from tests.support.commands import BIN, Background
from tests.support.load import key_of
from tests.support.waiting import until

__all__ = ["Witness"]

_CODE = """
import json, os
from streamtable import App, Change

app = App("witness")
out = open(os.environ["NOTES"], "a")

@app.trigger(os.environ["WATCHED"])
async def note(change: Change) -> None:
    position = change.position
    seen = [position.shard, position.offset, position.index, change.event_name,
            change.keys["owner"], change.keys["n"]]
    out.write(json.dumps(seen) + "\\n")
    out.flush()
"""


class Witness:
    """A worker whose trigger writes down what it sees.

    Args:
        folder: for its notes and its code.
        table: the table that the trigger follows.
    """

    def __init__(self, folder: Path, table: str) -> None:
        self.folder = folder
        self._table = table
        self.notes = folder / "notes"
        self.notes.touch()
        (folder / "witness.py").write_text(_CODE)
        self._starts = 0
        self._running: Background | None = None

    def start(self, endpoint: str) -> None:
        """Start the worker beside a node."""
        self._starts += 1
        self._running = Background(
            [str(BIN / "streamtable"), "worker", f"{self.folder}/witness.py:app",
             "--endpoint", endpoint],
            self.folder / f"worker-{self._starts}.log",
            env={**os.environ, "NOTES": str(self.notes), "WATCHED": self._table},
        )  # fmt: skip

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self._running is not None:
            self._running.kill()

    def seen(self) -> list[list[Any]]:
        """Everything noted so far, without what a kill has cut off."""
        found = []
        for line in self.notes.read_text().split("\n")[:-1]:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    async def check(self, shards: list[list[dict[str, Any]]]) -> None:
        """Wait until it has seen all of a stream: what is there, in order for each item.

        Args:
            shards: the stream's records, shard by shard.
        """
        expected = {
            (number, *divmod(int(record["dynamodb"]["SequenceNumber"]), 100_000)): record
            for number, records in enumerate(shards)
            for record in records
        }

        def caught_up() -> bool:
            return expected.keys() <= {tuple(each[:3]) for each in self.seen()}

        await until(caught_up, f"the trigger to see {len(expected)} changes", 120)
        seen = self.seen()
        assert {tuple(each[:3]) for each in seen} == expected.keys()
        for shard, offset, index, event, owner, n in seen:
            record = expected[shard, offset, index]
            assert record["eventName"] == event
            assert key_of(record["dynamodb"]["Keys"]) == (owner, n)
        for key, positions in _first_times(seen).items():
            assert positions == sorted(positions), f"{key} was seen out of order"


def _first_times(seen: list[list[Any]]) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """The positions of each item's changes, in the order in which they were first seen."""
    known: set[tuple[int, ...]] = set()
    order: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for shard, offset, index, _, owner, n in seen:
        if (shard, offset, index) not in known:
            known.add((shard, offset, index))
            order.setdefault((owner, n), []).append((offset, index))
    return order
