"""kill -9 under load: no answered write is lost, no unanswered one is there by halves."""

import http.client
import os
import random
import threading
import time
from contextlib import closing
from functools import partial
from itertools import count
from typing import Any

import pytest

from tests.faults.conftest import ROUNDS
from tests.support.requests import Connection
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.slow]

WRITERS = 64
TABLE = "written"


class Writer(threading.Thread):
    """Puts new items and counts in an item of its own, until the server is gone.

    Attributes:
        answered: keys of the items whose PutItem was answered.
        attempted: the one key whose PutItem was sent last.
        counted: ADDs that were answered, over all rounds.
    """

    def __init__(self, name: str, endpoint: str, counted: int, total: "Total") -> None:
        super().__init__(name=name, daemon=True)
        self.endpoint = endpoint
        self.counted = counted
        self.total = total
        self.answered: list[str] = []
        self.attempted = ""
        self.unexpected: object = None

    def run(self) -> None:
        try:
            with closing(Connection(self.endpoint)) as connection:
                for n in count():
                    self.attempted = f"{self.name}-{n}"
                    item = {"id": {"S": self.attempted}, "payload": {"S": self.attempted * 20}}
                    connection.ok("PutItem", TableName=TABLE, Item=item)
                    self.answered.append(self.attempted)
                    connection.ok(
                        "UpdateItem",
                        TableName=TABLE,
                        Key={"id": {"S": counter(self.name)}},
                        UpdateExpression="ADD n :one",
                        ExpressionAttributeValues={":one": {"N": "1"}},
                    )
                    self.counted += 1
                    self.total.add(2)
        except (OSError, http.client.HTTPException):
            pass  # the kill
        except Exception as error:  # noqa: BLE001 - the test fails with it below
            self.unexpected = error


class Total:
    """Answered writes of all writers."""

    def __init__(self) -> None:
        self.value = 0
        self._lock = threading.Lock()

    def add(self, n: int) -> None:
        with self._lock:
            self.value += n

    def reached(self, target: int) -> bool:
        return self.value >= target


def counter(writer: str) -> str:
    return "counter-" + writer.split("-")[1]


def stored(endpoint: str) -> dict[str, dict[str, Any]]:
    """Return every item by key, with strongly consistent reads."""
    items: dict[str, dict[str, Any]] = {}
    with closing(Connection(endpoint)) as connection:
        page: dict[str, Any] = {}
        while page.get("LastEvaluatedKey") or not page:
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]} if page else {}
            page = connection.ok("Scan", TableName=TABLE, ConsistentRead=True, **start)
            items.update({item["id"]["S"]: item for item in page["Items"]})
    return items


def create(endpoint: str) -> None:
    with closing(Connection(endpoint)) as connection:
        connection.ok(
            "CreateTable",
            TableName=TABLE,
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )

        def active() -> bool:
            described = connection.ok("DescribeTable", TableName=TABLE)
            return bool(described["Table"]["TableStatus"] == "ACTIVE")

        wait_until(active, "the table to be ACTIVE")


def test_every_answered_write_survives_kill_9(new_server):
    seed = int(os.environ.get("STREAMTABLE_SEED", time.time_ns() % 1_000_000))
    print(f"STREAMTABLE_SEED={seed}")
    chance = random.Random(seed)
    create(new_server.start().endpoint)
    answered: set[str] = set()
    attempted: set[str] = set()
    counted = [0] * WRITERS

    for number in range(ROUNDS):
        total, target = Total(), chance.randint(500, 4000)
        writers = [
            Writer(f"r{number}-{n}", new_server.endpoint, counted[n], total) for n in range(WRITERS)
        ]
        for writer in writers:
            writer.start()
        wait_until(
            partial(total.reached, target),
            f"{target} answered writes in round {number}, seed {seed}",
            timeout_s=120,
        )
        new_server.kill()
        for writer in writers:
            writer.join(30)
            assert not writer.is_alive(), writer.name
            assert writer.unexpected is None, writer.unexpected
            answered.update(writer.answered)
            attempted.add(writer.attempted)

        new_server.start()
        items = stored(new_server.endpoint)
        lost = answered - items.keys()
        assert not lost, f"{len(lost)} of {len(answered)} answered writes lost, seed {seed}"
        puts = {key: item for key, item in items.items() if not key.startswith("counter-")}
        assert puts.keys() <= answered | attempted, f"seed {seed}"
        for key, item in puts.items():
            assert item["payload"]["S"] == key * 20, f"seed {seed}"
        for n, writer in enumerate(writers):
            value = int(items.get(counter(writer.name), {"n": {"N": "0"}})["n"]["N"])
            # The last ADD before the kill may have been answered or not.
            assert writer.counted <= value <= writer.counted + 1, f"{writer.name}, seed {seed}"
            counted[n] = value


def test_a_stopped_server_comes_back_with_everything(new_server):
    create(new_server.start().endpoint)
    with closing(Connection(new_server.endpoint)) as connection:
        for n in range(50):
            connection.ok("PutItem", TableName=TABLE, Item={"id": {"S": str(n)}})
    assert new_server.stop() == 0, new_server.output()
    new_server.start()
    assert stored(new_server.endpoint).keys() == {str(n) for n in range(50)}
