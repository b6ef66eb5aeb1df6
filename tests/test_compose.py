"""compose.yaml and Dockerfile: read as Docker reads them, and held against the node's options."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from streamtable.settings import NodeSettings

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def services():
    return yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


@pytest.fixture
def dockerfile():
    """The last instruction of each kind."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return dict(re.findall(r"^([A-Z]+) +(.+)$", text, re.MULTILINE))


def serve_settings(arguments):
    """What `streamtable serve` is told; a name that is no setting is refused."""
    command, *options = arguments
    assert command == "serve"
    given = {
        name.removeprefix("--").replace("-", "_"): value
        for name, value in zip(options[::2], options[1::2], strict=True)
    }
    return NodeSettings.model_validate(given)


def test_the_node_starts_with_options_that_exist(services):
    settings = serve_settings(shlex.split(services["node"]["command"]))
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


def test_the_image_runs_the_command_on_its_volume(dockerfile):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert json.loads(dockerfile["ENTRYPOINT"]) == [*project["scripts"]]
    settings = serve_settings(json.loads(dockerfile["CMD"]))
    assert f"{settings.data}" == dockerfile["VOLUME"]
    assert f"{settings.port}" == dockerfile["EXPOSE"]
    assert f"127.0.0.1:{settings.port}/" in dockerfile["HEALTHCHECK"]


def test_the_image_gets_what_it_is_built_from():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    kept = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    folders = set(project["tool"]["setuptools"]["package-dir"].values())
    files = {project["project"]["readme"], *project["project"]["license-files"]}
    assert {"pyproject.toml", *folders, *files} <= kept


def test_images_are_pinned(services):
    """An image without a tag, or `latest`, is another one tomorrow."""
    for service in services.values():
        if "image" in service:
            assert re.search(r":\d+\.\d+", service["image"])
