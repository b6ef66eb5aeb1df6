"""compose.yaml: read as Docker reads it, and held against the node's own options."""

import shlex
from pathlib import Path

import pytest
import yaml

from streamtable.settings import NodeSettings

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def services():
    return yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


def test_the_node_starts_with_options_that_exist(services):
    command, *options = shlex.split(services["node"]["command"])
    assert command == "serve"
    given = {
        name.removeprefix("--").replace("-", "_"): value
        for name, value in zip(options[::2], options[1::2], strict=True)
    }
    settings = NodeSettings.model_validate(given)
    assert settings.kafka == "kafka:9092"
    advertised = services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert advertised == f"PLAINTEXT://{settings.kafka}"
    assert f"{settings.data}" in [volume.split(":")[1] for volume in services["node"]["volumes"]]


def test_the_endpoint_is_published_on_loopback_only(services):
    assert all(port.startswith("127.0.0.1:") for port in services["node"]["ports"])
    assert "ports" not in services["kafka"]


def test_kafka_keeps_what_the_log_needs(services):
    environment = services["kafka"]["environment"]
    assert environment["KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE"] == "false"
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert all(isinstance(value, str) for value in environment.values())
