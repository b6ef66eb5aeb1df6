"""A trigger sees each change at least once, in order for each item, whoever is killed."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import ROUNDS
from tests.support.audit import read_all, stream_records
from tests.support.commands import BIN, Background
from tests.support.load import AsyncConnection, Load, create_table, key_of
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(240 + 90 * ROUNDS)]

TABLE = "watched"
CODE = """
import json, os
from streamtable import App, Change

app = App("witness")
out = open(os.environ["NOTES"], "a")

@app.trigger("watched")
async def note(change: Change) -> None:
    position = change.position
    seen = [position.shard, position.offset, position.index, change.event_name,
            change.keys["owner"], change.keys["n"]]
    out.write(json.dumps(seen) + "\\n")
    out.flush()
"""


class Witness:
    """A worker whose trigger writes down what it sees, on one endpoint for ever."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = folder / "notes"
        self.notes.touch()
        (folder / "witness.py").write_text(CODE)
        self._starts = 0
        self._running: Background | None = None

    def start(self, endpoint: str) -> None:
        self._starts += 1
        self._running = Background(
            [str(BIN / "streamtable"), "worker", f"{self.folder}/witness.py:app",
             "--endpoint", endpoint],
            self.folder / f"worker-{self._starts}.log",
            env={**os.environ, "NOTES": str(self.notes)},
        )  # fmt: skip

    def kill(self) -> None:
        assert self._running is not None
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


def first_times(seen: list[list[Any]]) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """The positions of each item's changes, in the order in which they were first seen."""
    known: set[tuple[int, ...]] = set()
    order: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for shard, offset, index, _, owner, n in seen:
        if (shard, offset, index) not in known:
            known.add((shard, offset, index))
            order.setdefault((owner, n), []).append((offset, index))
    return order


def test_a_trigger_sees_each_change_whoever_is_killed(new_server, chance, tmp_path):
    witness = Witness(tmp_path)

    async def settle(load: Load) -> None:
        """Find out what was written; then wait until the trigger has seen all of it."""
        async with AsyncConnection(new_server.endpoint) as connection:
            load.settle({key_of(item): item for item in await read_all(connection, TABLE)})
            shards = await stream_records(connection, TABLE)
        expected = {
            (number, *divmod(int(record["dynamodb"]["SequenceNumber"]), 100_000)): record
            for number, records in enumerate(shards)
            for record in records
        }

        def caught_up() -> bool:
            return len({tuple(each[:3]) for each in witness.seen()}) >= len(expected)

        wait_until(caught_up, f"the trigger to see {len(expected)} changes", 120)
        seen = witness.seen()
        assert {tuple(each[:3]) for each in seen} == expected.keys()
        for shard, offset, index, event, owner, n in seen:
            record = expected[shard, offset, index]
            assert record["eventName"] == event
            assert key_of(record["dynamodb"]["Keys"]) == (owner, n)
        for key, positions in first_times(seen).items():
            assert positions == sorted(positions), f"{key} was seen out of order"

    async def run() -> None:
        async with AsyncConnection(new_server.start().endpoint) as connection:
            await create_table(connection, TABLE)
        load = Load(TABLE, 32, chance)
        for _ in range(ROUNDS):
            witness.start(new_server.endpoint)
            await load.run(new_server.endpoint, chance.randint(300, 1500), lambda: None)
            order = [new_server.kill, witness.kill]
            chance.shuffle(order)
            order[0]()
            order[1]()
            witness.start(new_server.start().endpoint)
            await load.run(new_server.endpoint, chance.randint(100, 600), witness.kill)
            witness.start(new_server.endpoint)
            await settle(load)
            witness.kill()
        print(f"{len(witness.seen())} deliveries")

    try:
        asyncio.run(run())
    finally:
        if witness._running is not None:
            witness.kill()
