"""A node whose tables' disk was lost: from a checkpoint, and the log from there."""

import random
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.faults.conftest import ROUNDS
from tests.support import s3
from tests.support.commands import BIN, Background
from tests.support.ports import free_port
from tests.support.server import Server, client_settings
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]

TABLE = "accounts"
KEYS = 200


@pytest.fixture(params=["folder", "s3"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    if request.param == "folder":
        yield str(tmp_path / "elsewhere")
        return
    reason = s3.missing()
    if reason is not None:
        pytest.skip(reason)
    with s3.running(tmp_path / "s3", free_port()) as url:
        for name, value in {**s3.CREDENTIALS, "AWS_ENDPOINT_URL_S3": url}.items():
            monkeypatch.setenv(name, value)
        yield "s3://checkpoints/tables"


def create(client: Any) -> None:
    client.create_table(
        TableName=TABLE,
        AttributeDefinitions=[
            {"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "owner", "AttributeType": "S"},
        ],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by_owner",
                "KeySchema": [{"AttributeName": "owner", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )


class Writer(threading.Thread):
    """Puts and deletes random items, each key by this thread alone.

    Attributes:
        answered: what each key is after the last answered write, None for a deleted item.
        unknown: by key what an unanswered write would have made of it.
    """

    def __init__(self, endpoint: str, number: int, seed: int, known: dict[str, Any]) -> None:
        super().__init__()
        self.answered = known
        self.unknown: dict[str, Any] = {}
        self.stop = threading.Event()
        self._number = number
        self._chance = random.Random(seed)
        self._client = boto3.client(**client_settings(endpoint))

    def run(self) -> None:
        count = 0
        while not self.stop.is_set():
            count += 1
            key = f"{self._number}-{self._chance.randrange(KEYS)}"
            item: Any = None
            if self._chance.random() < 0.8:
                owner = f"owner-{self._chance.randrange(5)}"
                item = {"id": {"S": key}, "owner": {"S": owner}, "n": {"N": str(count)}}
            try:
                if item is None:
                    self._client.delete_item(TableName=TABLE, Key={"id": {"S": key}})
                else:
                    self._client.put_item(TableName=TABLE, Item=item)
            except (BotoCoreError, ClientError):
                self.unknown[key] = item
                return
            self.answered[key] = item


def rows(client: Any, **arguments: Any) -> dict[str, Any]:
    pages = client.get_paginator("scan").paginate(TableName=TABLE, **arguments)
    return {item["id"]["S"]: item for page in pages for item in page["Items"]}


def equals_index(client: Any, found: dict[str, Any]) -> bool:
    return rows(client, IndexName="by_owner") == found


def test_a_lost_disk_is_loaded_from_a_checkpoint(
    tmp_path: Path, place: str, chance: random.Random
) -> None:
    server = Server(
        tmp_path / "data", "--checkpoints", place, "--checkpoint-interval-s", "0.5"
    ).start()
    client = boto3.client(**client_settings(server.endpoint))
    create(client)
    known: list[dict[str, Any]] = [{}, {}, {}]
    try:
        for _ in range(ROUNDS):
            writers = [
                Writer(server.endpoint, number, chance.randrange(2**32), known[number])
                for number in range(3)
            ]
            for writer in writers:
                writer.start()
            # At least one checkpoint is taken while they write.
            command = [str(BIN / "streamtable"), "checkpoints", "take"]
            take = Background(
                [*command, "--endpoint", server.endpoint], tmp_path / f"take-{chance.random()}.log"
            )
            take.process.wait(60)
            assert take.process.returncode == 0, take.text()
            threading.Event().wait(chance.uniform(0.2, 1.5))
            server.kill()
            for writer in writers:
                writer.stop.set()
                writer.join()
            shutil.rmtree(tmp_path / "data" / "shards")
            server.start()
            assert "loading the checkpoint at offset" in server.output()
            client = boto3.client(**client_settings(server.endpoint))
            found = rows(client, ConsistentRead=True)
            for number, writer in enumerate(writers):
                expected = dict(writer.answered)
                for key, item in writer.unknown.items():
                    # It was written or it was not; from here on it is what it is.
                    assert found.get(key) in (item, expected.get(key))
                    expected[key] = found.get(key)
                mine = {key: item for key, item in found.items() if key.startswith(f"{number}-")}
                assert mine == {key: item for key, item in expected.items() if item is not None}
                known[number] = expected
            wait_until(partial(equals_index, client, found), "the index to have what the table has")
    finally:
        server.kill()
