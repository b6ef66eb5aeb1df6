"""A node that dies while a backup is made or read, and one whose disk is lost."""

import json
import random
import shutil
import threading
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.faults.conftest import ROUNDS
from tests.support.commands import run
from tests.support.server import Server, client_settings
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]

ITEMS = 3000
# Most kills hit the work in its middle; some come before it has begun, or after its end.
LATEST_S = 0.4


class Node:
    """A node that is killed and comes back."""

    def __init__(self, data: Path, place: Path, chance: random.Random) -> None:
        self.server = Server(data, "--checkpoints", str(place)).start()
        self._chance = chance
        self._connect()

    def _connect(self) -> None:
        self.client = boto3.client(**client_settings(self.server.endpoint))
        self.resource = boto3.resource(**client_settings(self.server.endpoint))

    def die_soon(self) -> None:
        threading.Event().wait(self._chance.uniform(0, LATEST_S))
        self.die()

    def die(self, *, lost: bool = False) -> None:
        self.server.kill()
        if lost:
            shutil.rmtree(self.server.data)
        self.server.start()
        self._connect()

    def create(self) -> None:
        self.client.create_table(
            TableName="users",
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"} for name in ("id", "owner")
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
        with self.resource.Table("users").batch_writer() as batch:
            for number in range(ITEMS):
                owner = f"owner-{number % 11}"
                batch.put_item(Item={"id": f"{number}", "owner": owner, "text": "x" * 300})

    def rows(self, table: str, **arguments: Any) -> dict[str, Any]:
        pages = self.client.get_paginator("scan").paginate(TableName=table, **arguments)
        return {item["id"]["S"]: item for page in pages for item in page["Items"]}

    def written(self, table: str) -> list[str]:
        """The keys of all changes of a table."""
        options = ["--no-follow", "--json", "--table", table, "--endpoint", self.server.endpoint]
        code, out, err = run("log", "tail", *options)
        assert code == 0, err
        return [json.loads(line)["dynamodb"]["Keys"]["id"]["S"] for line in out.splitlines()]

    def wait_for_backup(self, arn: str) -> None:
        def available() -> bool:
            found = self.client.describe_backup(BackupArn=arn)["BackupDescription"]
            assert found["BackupDetails"]["BackupStatus"] in ("CREATING", "AVAILABLE")
            return bool(found["BackupDetails"]["BackupStatus"] == "AVAILABLE")

        wait_until(available, f"{arn} to be available")

    def wait_for_table(self, name: str) -> None:
        def active() -> bool:
            found = self.client.describe_table(TableName=name)["Table"]
            restoring = found["RestoreSummary"]["RestoreInProgress"]
            assert restoring == (found["TableStatus"] == "CREATING")
            return not restoring

        wait_until(active, f"{name} to be restored")


def test_a_node_dies_while_it_backs_up_and_restores(tmp_path: Path, chance: random.Random) -> None:
    node = Node(tmp_path / "data", tmp_path / "kept", chance)
    try:
        node.create()
        expected = node.rows("users")
        assert len(expected) == ITEMS
        for number in range(ROUNDS):
            answer = node.client.create_backup(TableName="users", BackupName="daily")
            arn = answer["BackupDetails"]["BackupArn"]
            # Once while the backup is made, the next time while it is read.
            if number % 2 == 0:
                node.die_soon()
            node.wait_for_backup(arn)
            name = f"copy-{number}"
            node.client.restore_table_from_backup(TargetTableName=name, BackupArn=arn)
            if number % 2 == 1:
                node.die_soon()
            node.wait_for_table(name)
            assert node.rows(name, ConsistentRead=True) == expected
            assert node.rows(name, IndexName="by_owner") == expected
            # In the log each item is once.
            assert sorted(node.written(name)) == sorted(expected)
        # The disk with the log and the tables is lost; who comes next finds the backups.
        node.die(lost=True)
        wait_until(
            lambda: len(node.client.list_backups()["BackupSummaries"]) == ROUNDS,
            "the backups to be found",
        )
        node.client.restore_table_from_backup(TargetTableName="users", BackupArn=arn)
        node.wait_for_table("users")
        assert node.rows("users", ConsistentRead=True) == expected
    finally:
        node.server.kill()
