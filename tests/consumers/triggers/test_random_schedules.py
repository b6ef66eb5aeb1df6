"""Whatever fails and whenever it stops: order for each item, and nothing lost or done early."""

import asyncio
import random
from collections import defaultdict
from typing import Any

import pytest

from streamtable.consumers.dead_letters import DeadLetter
from streamtable.consumers.triggers.deliveries import Answer, Delivery
from streamtable.consumers.triggers.entries import parked_id
from streamtable.core.positions import Position
from tests.consumers.triggers.fakes import Runtime, label, quiet

ITEMS = "abcdefgh"
STEPS = 80


class Audit:
    """Looks at every call, every answer and every acknowledgement."""

    def __init__(self, made: Runtime, chance: random.Random) -> None:
        self.made = made
        self.chance = chance
        self.failing = 0.3
        self.written: dict[str, int] = defaultdict(int)
        self.last: dict[str, int] = defaultdict(int)
        self.handled: set[Position] = set()
        self.running: set[str] = set()
        self.faults: list[str] = []
        self.behind: dict[str, list[Delivery]] = {}
        made.function.act = self.act
        made.on_done = self.check_done
        self._add_letter = made.letters.add
        made.letters.add = self.add_letter  # type: ignore[method-assign]

    async def add_letter(self, letter: DeadLetter) -> None:
        await self._add_letter(letter)
        change = (await self.made.letters.read(0, len(self.made.letters.letters) - 1)).content()
        assert change is not None
        name = label(change)
        if int(name[1:]) > self.last[name[0]] + 1:
            self.faults.append(f"{name} is given up before {name[0]}{self.last[name[0]] + 1}")
        self.last[name[0]] = int(name[1:])
        # It was the last thing that those of its batch waited for.
        for delivery in self.behind.pop(name, []):
            self.note(delivery)

    def note(self, delivery: Delivery) -> None:
        name = label(delivery.change)
        self.last[name[0]] = int(name[1:])
        self.handled.add(delivery.position)

    def act(self, batch: Any) -> Any:
        return self._act(batch)

    async def _act(self, batch: Any) -> Answer | None:
        seen: dict[str, int] = {}
        for delivery in batch:
            name = label(delivery.change)
            item, value = name[0], int(name[1:])
            before = seen.get(item, self.last[item])
            if value > before + 1:
                self.faults.append(f"{name} came before {item}{before + 1}")
            if item in self.running:
                self.faults.append(f"two calls at a time for {item}")
            seen[item] = value
        self.running |= seen.keys()
        try:
            for _ in range(self.chance.randrange(4)):
                await quiet_briefly()
            fate = self.chance.random()
            if fate < self.failing / 3:
                raise ValueError(fate)
            failed = {}
            if fate < self.failing:
                count = self.chance.randint(1, len(batch))
                failed = dict.fromkeys(
                    self.chance.sample(range(len(batch)), count), ValueError(fate)
                )
            checkpoint = None
            if failed and self.chance.random() < 0.3:
                checkpoint, failed = min(failed), {}
            stuck: dict[str, list[Delivery]] = {}
            for index, delivery in enumerate(batch):
                name = label(delivery.change)
                gone = checkpoint is not None and index >= checkpoint
                if index in failed or gone:
                    stuck[name[0]] = self.behind[name] = []
                elif name[0] in stuck:
                    stuck[name[0]].append(delivery)
                else:
                    self.note(delivery)
            return Answer(failed=failed, checkpoint=checkpoint)
        finally:
            self.running -= seen.keys()

    def check_done(self, shard: int, offset: int) -> None:
        rows = self.made.state.rows.get(f"trigger/shop/welcome/1/{shard}", {})
        given_up = {letter.position for letter in self.made.letters.letters}
        for index, _ in enumerate(self.made.log.shards[shard][offset].changes()):
            position = Position(shard, offset, index)
            assert (
                position in self.handled or position in given_up or parked_id(position) in rows
            ), f"{position} is done and nowhere"

    async def write(self) -> None:
        shard = self.chance.randrange(2)
        names = []
        for _ in range(self.chance.randint(1, 4)):
            item = self.chance.choice(ITEMS[shard::2])
            self.written[item] += 1
            names.append(f"{item}{self.written[item]}")
        await self.made.write(*names, shard=shard)


async def quiet_briefly() -> None:

    await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(20))
async def test_order_and_completeness_under_random_failures(seed: int) -> None:
    chance = random.Random(seed)
    made = Runtime(
        shards=2,
        batch_size=chance.choice([1, 1, 3, 10]),
        parallelism=chance.choice([1, 2, 4]),
        batch_window_s=chance.choice([0.0, 0.0, 0.5]),
        bisect=chance.random() < 0.7,
        retries=chance.choice([None, None, 1]),
        tumbling_window_s=chance.choice([None, None, None, 5.0]),
    )
    audit = Audit(made, chance)
    made.state.fails = lambda: (
        chance.choice(["before", "after"]) if chance.random() < 0.05 else None
    )
    await made.start()
    for _ in range(STEPS):
        step = chance.random()
        if step < 0.55:
            await audit.write()
        elif step < 0.9:
            await made.clock.advance(chance.choice([0.1, 0.3, 1, 5]))
        else:
            await (made.stop() if step < 0.95 else made.crash())
            audit.running.clear()
            await made.clock.advance(chance.choice([0, 1]))
            await made.start()
    audit.failing = 0
    made.state.fails = lambda: None
    for _ in range(60):
        await made.clock.advance(10)
    assert audit.faults == []
    assert dict(audit.last) == dict(audit.written)
    assert [made.frontier(shard) for shard in range(2)] == [len(log) for log in made.log.shards]
    assert {id_ for id_ in made.state.ids() if id_ != "window"} == set()
    await made.stop()
    await quiet()
