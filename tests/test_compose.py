"""compose.yaml, its load balancer and the Dockerfile, held against the node's own options.

Compose's library reads the files as `docker compose` does, HAProxy checks its own.
"""

import json
import re
import shlex
import subprocess
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import typer.main
import yaml

from streamtable.cli.main import app
from tests.support import s3
from tests.support.serving import serve_options, serve_settings
from tests.support.validators import accepted, compose

ROOT = Path(__file__).resolve().parent.parent
FILES = ["compose.yaml", "compose.single.yaml"]
KAFKAS = ["kafka-1", "kafka-2", "kafka-3"]
NODES = ["node-1", "node-2", "node-3"]


def services_of(name):
    return yaml.safe_load((ROOT / name).read_text())["services"]


@pytest.fixture
def services():
    return services_of("compose.yaml")


@pytest.fixture
def dockerfile():
    """The last instruction of each kind."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return dict(re.findall(r"^([A-Z]+) +(.+)$", text, re.MULTILINE))


@pytest.fixture
def env_file(tmp_path):
    """What `make .env` writes."""
    subprocess.run(
        ["make", "-s", "-f", ROOT / "Makefile", ".env"], cwd=tmp_path, check=True, timeout=60
    )
    return dict(line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines())


@pytest.mark.parametrize("name", FILES)
def test_compose_accepts_it(name, env_file):
    understood = json.loads(compose(ROOT / name, env_file))
    assert set(understood["services"]) == set(services_of(name))


def test_it_asks_for_the_passwords_that_make_writes(env_file):
    text = (ROOT / "compose.yaml").read_text()
    asked = set(re.findall(r"\$\{(\w+):\?make \.env\}", text))
    asked |= {secret["environment"] for secret in yaml.safe_load(text)["secrets"].values()}
    assert asked == set(env_file)
    assert len(set(env_file.values())) == len(env_file)
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("node", NODES)
def test_the_nodes_start_with_options_that_exist(services, node):
    arguments = shlex.split(services[node]["command"])
    settings, options = serve_settings(arguments), serve_options(arguments)
    assert settings.kafka == ",".join(f"{kafka}:9092" for kafka in KAFKAS)
    assert services[node]["volumes"] == [f"{node}:{settings.data}"]
    assert f"{settings.checkpoints}".startswith("s3://")
    assert options["advertise"] == f"{node}:8001"
    assert [options["peer_secret_file"]] == [
        f"/run/secrets/{name}" for name in services[node]["secrets"]
    ]


def test_the_nodes_are_told_the_same(services):
    def common(node):
        return json.dumps(services[node]).replace(node, "node")

    assert common("node-1") == common("node-2") == common("node-3")


def test_the_single_node_starts_with_options_that_exist():
    services = services_of("compose.single.yaml")
    settings = serve_settings(shlex.split(services["node"]["command"]))
    assert settings.kafka == "kafka:9092"
    advertised = services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert advertised == f"PLAINTEXT://{settings.kafka}"
    assert f"{settings.data}" in [volume.split(":")[1] for volume in services["node"]["volumes"]]


def test_the_worker_starts_with_options_that_exist(services):
    command, target, *options = shlex.split(services["worker"]["command"])
    group: Any = typer.main.get_command(app)
    worker = group.commands[command]
    known = {name for parameter in worker.params for name in parameter.opts}
    variables = {
        variable
        for parameter in worker.params
        for variable in ([parameter.envvar] if isinstance(parameter.envvar, str) else [])
    }
    assert set(options[::2]) <= known
    assert set(services["worker"]["environment"]) <= variables
    (folder,) = services["worker"]["volumes"]
    (place,) = re.findall(r"\$\{APP_FOLDER:-(.+?)\}", folder)
    (file,) = re.findall(r"\$\{APP:-/app/(.+?):app\}", target)
    assert (ROOT / place / file).exists()


@pytest.mark.parametrize("name", FILES)
def test_what_is_published_is_published_on_loopback_only(name):
    ports = [port for service in services_of(name).values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", FILES)
def test_kafka_keeps_what_the_log_needs(name):
    kafkas = [each for each in services_of(name).values() if "kafka" in each.get("image", "")]
    assert kafkas
    for kafka in kafkas:
        environment = kafka["environment"]
        assert environment["KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE"] == "false"
        assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
        assert all(isinstance(value, str) for value in environment.values())


def test_three_brokers_keep_three_copies(services):
    voters = ",".join(f"{number}@kafka-{number}:9093" for number in (1, 2, 3))
    for number, name in enumerate(KAFKAS, 1):
        environment = services[name]["environment"]
        assert environment["KAFKA_NODE_ID"] == str(number)
        assert environment["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{name}:9092"
        assert environment["KAFKA_CONTROLLER_QUORUM_VOTERS"] == voters
        copies = {key: value for key, value in environment.items() if "REPLICATION_FACTOR" in key}
        assert set(copies.values()) == {"3"}
        in_sync = {key: value for key, value in environment.items() if re.search("ISR|INSYNC", key)}
        assert set(in_sync.values()) == {"2"}
        assert len(in_sync) == len(copies) - 1  # a topic of offsets takes the broker's own
    assert len({services[name]["environment"]["CLUSTER_ID"] for name in KAFKAS}) == 1


def test_nodes_may_open_as_many_files_as_the_page_about_scaling_asks_for(services):
    page = (ROOT / "docs" / "scaling.md").read_text()
    (limit,) = re.findall(r"limit of open files to ([\d,]+)", page)
    for name in (*NODES, *KAFKAS):
        assert services[name]["ulimits"]["nofile"] == int(limit.replace(",", "")), name


@pytest.mark.parametrize("name", FILES)
def test_images_are_pinned(name):
    """An image without a tag, or `latest`, is another one tomorrow."""
    for service in services_of(name).values():
        if "image" in service:
            assert re.search(r":v?\d+\.\d+\.\d+(-\w+)?$", service["image"])


def test_the_images_are_of_the_versions_that_are_tested(services):
    def tested(tool):
        namespace = "{http://maven.apache.org/POM/4.0.0}"
        pom = ET.parse(ROOT / "tests" / "support" / tool / "pom.xml")
        dependency = pom.find(f".//{namespace}dependency/{namespace}version")
        assert dependency is not None
        return dependency.text

    assert services["kafka-1"]["image"].endswith(f":{tested('kafka')}")
    assert services["elasticsearch"]["image"].endswith(f":{tested('elastic')}")
    assert services["objects"]["image"].rpartition(":")[2] == s3.VERSION
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert services["node-1"]["image"] == f"streamtable:{project['version']}"


def test_everything_that_runs_is_watched_limited_and_started_again(services):
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert set(limits) == {"cpus", "memory"}, name
        if name != "bucket":  # it ends
            assert service["restart"] == "unless-stopped", name
            assert "healthcheck" in service or "build" in service, name


def test_each_volume_belongs_to_one_service(services):
    volumes = yaml.safe_load((ROOT / "compose.yaml").read_text())["volumes"]
    used = Counter(
        source
        for name, service in services.items()
        for source in (volume.split(":")[0] for volume in service.get("volumes", []))
        if re.fullmatch(r"[a-z0-9-]+", source) and name != "bucket"
    )
    assert used == dict.fromkeys(volumes, 1)


def test_files_that_are_mounted_are_there(services):
    mounted = [
        volume.split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    ]
    assert mounted
    assert all((ROOT / path).exists() for path in mounted)


def test_haproxy_accepts_its_configuration():
    accepted("haproxy", "-c", "-f", ROOT / "deploy" / "haproxy" / "haproxy.cfg", package="haproxy")


def test_haproxy_knows_all_nodes_and_asks_whether_they_are_ready(services):
    configuration = (ROOT / "deploy" / "haproxy" / "haproxy.cfg").read_text()
    servers = re.findall(r"^ *server (\S+) (\S+)$", configuration, re.MULTILINE)
    assert servers == [(name, f"{name}:8000") for name in services if name.startswith("node-")]
    assert "option httpchk GET /readyz" in configuration
    (port,) = services["balancer"]["ports"]
    assert f"bind :{port.rpartition(':')[2]}\n" in configuration
    # A write that may have reached a node must not be sent again by anybody but the client.
    assert re.findall(r"retry-on (.+)", configuration) == ["conn-failure"]


def test_the_image_runs_the_command_on_its_volume(dockerfile):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert json.loads(dockerfile["ENTRYPOINT"]) == [*project["scripts"]]
    settings = serve_settings(json.loads(dockerfile["CMD"]))
    assert f"{settings.data}" == dockerfile["VOLUME"]
    assert f"{settings.port}" == dockerfile["EXPOSE"]
    assert f"127.0.0.1:{settings.port}/readyz" in dockerfile["HEALTHCHECK"]


def test_the_image_has_the_extras(dockerfile):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    built = re.findall(r"\[([\w,]+)\]", (ROOT / "Dockerfile").read_text().partition("USER")[0])
    assert len(built) == 2
    for extras in built:
        assert set(extras.split(",")) == set(project["optional-dependencies"])


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
