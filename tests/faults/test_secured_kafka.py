"""A node on an Apache Kafka that asks for certificates, a user and a password."""

import json
import subprocess
from collections.abc import Iterator

import boto3
import pytest

from tests.support.apache_kafka import ApacheKafka, Secured, running
from tests.support.commands import BIN
from tests.support.server import Server, client_settings

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Secured:
    return Secured(tmp_path_factory.mktemp("secured"))


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory, secured: Secured) -> Iterator[ApacheKafka]:
    yield from running(tmp_path_factory.mktemp("kafka"), secured)


def test_a_node_writes_reads_and_indexes(kafka, secured, tmp_path, monkeypatch):
    options = ["--kafka", kafka.address, "--kafka-config", str(secured.config)]
    node = Server(tmp_path / "data", *options).start()
    client = boto3.client(**client_settings(node.endpoint))
    try:
        client.create_table(
            TableName="users",
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"} for name in ("id", "city")
            ],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "by-city",
                    "KeySchema": [{"AttributeName": "city", "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        for name in "abc":
            item = {"id": {"S": name}, "city": {"S": "Ulm"}}
            client.put_item(TableName="users", Item=item)
        found = client.get_item(TableName="users", Key={"id": {"S": "a"}}, ConsistentRead=True)
        assert found["Item"]["city"] == {"S": "Ulm"}
        # Whoever reads the log itself is told by the variable.
        monkeypatch.setenv("STREAMTABLE_KAFKA_CONFIG", str(secured.config))
        told = subprocess.run(
            [BIN / "streamtable", "log", "stat", "--endpoint", node.endpoint, "--json"],
            check=True,
            capture_output=True,
            text=True,
        )
        assert json.loads(told.stdout)
    finally:
        client.close()
        assert node.stop() == 0, node.output()


def test_a_password_that_is_wrong(kafka, secured, tmp_path):
    config = secured.write_config("wrong.conf", password="guessed")
    ended = subprocess.run(
        [BIN / "streamtable", "serve", "--port", "0", "--data", tmp_path / "data",
         "--kafka", kafka.address, "--kafka-config", config],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "error: no Kafka broker answers" in ended.stderr
    assert "invalid credentials" in ended.stderr
    assert "guessed" not in ended.stderr
    assert "Traceback" not in ended.stderr
