"""deploy/kubernetes: valid by Kubernetes' own schemas, and in step with the node and its image."""

import re
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer.main
import yaml

from streamtable.cli.main import app
from tests.support.serving import serve_settings
from tests.support.validators import accepted

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "deploy" / "kubernetes"
PAGE = (ROOT / "docs" / "deployment.md").read_text()
VERSIONS = ["1.33", "1.37"]


def read(name):
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


KUSTOMIZATION = read("kustomization.yaml")[0]
OBJECTS = [found for name in KUSTOMIZATION["resources"] for found in read(name)]
SHOWN = [
    yaml.safe_load(text)
    for text in re.findall(r"```yaml\n(.+?)```", PAGE, re.DOTALL)
    if "apiVersion" in text
]


@pytest.fixture
def of_kind():
    def find(kind, name="streamtable"):
        (found,) = [
            each for each in OBJECTS if each["kind"] == kind and each["metadata"]["name"] == name
        ]
        return found

    return find


@pytest.fixture
def pod(of_kind):
    return of_kind("StatefulSet")["spec"]["template"]


@pytest.fixture
def node(pod):
    (container,) = pod["spec"]["containers"]
    return container


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "document", OBJECTS + SHOWN, ids=lambda each: f"{each['kind']}/{each['metadata']['name']}"
)
def test_kubernetes_would_accept_it(document, version):
    kubernetes_validate.validate(document, version, strict=True)


def test_every_file_is_applied():
    files = {path.name for path in FOLDER.glob("*.yaml")}
    assert files == {*KUSTOMIZATION["resources"], "kustomization.yaml"}


def test_kustomize_builds_what_the_files_say():
    text = accepted("kubectl", "kustomize", FOLDER, package="kubernetes-client")
    built = list(yaml.safe_load_all(text))
    assert {(each["kind"], each["metadata"]["name"]) for each in built} == {
        (each["kind"], each["metadata"]["name"]) for each in OBJECTS
    }
    (image,) = re.findall(r"image: (\S+)", yaml.safe_dump_all(built))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert image == f"streamtable:{project['version']}"


def test_the_node_starts_with_options_that_exist(node, of_kind):
    values = dict(of_kind("ConfigMap")["data"])
    values |= {variable["name"]: "streamtable-0" for variable in node["env"]}
    settings = serve_settings(
        [re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], text) for text in node["args"]]
    )
    assert f"{settings.checkpoints}".startswith("s3://")
    assert f"{settings.data}" in [mount["mountPath"] for mount in node["volumeMounts"]]
    assert settings.port in [port["containerPort"] for port in node["ports"]]


def test_nodes_find_each_other(of_kind, node):
    peers = of_kind("Service", "streamtable-peers")
    arguments = node["args"]
    (port,) = peers["spec"]["ports"]
    assert arguments[arguments.index("--advertise") + 1] == (
        f"$(POD).{peers['metadata']['name']}.$(NAMESPACE).svc:{port['port']}"
    )
    assert of_kind("StatefulSet")["spec"]["serviceName"] == peers["metadata"]["name"]
    assert peers["spec"]["clusterIP"] == "None"
    assert peers["spec"]["publishNotReadyAddresses"] is True


def test_everything_selects_the_nodes(of_kind, pod):
    labels = pod["metadata"]["labels"]
    for found in (of_kind("Service"), of_kind("Service", "streamtable-peers")):
        assert found["spec"]["selector"] == labels
    for found in (of_kind("StatefulSet"), of_kind("PodDisruptionBudget")):
        assert found["spec"]["selector"]["matchLabels"] == labels
    assert of_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    apart = pod["spec"]["affinity"]["podAntiAffinity"]
    for rule in (
        *pod["spec"]["topologySpreadConstraints"],
        *apart["requiredDuringSchedulingIgnoredDuringExecution"],
    ):
        assert rule["labelSelector"]["matchLabels"] == labels


def test_ports_are_called_by_names_that_there_are(of_kind, node):
    ports = {port["name"]: port["containerPort"] for port in node["ports"]}
    for name in ("streamtable", "streamtable-peers"):
        for port in of_kind("Service", name)["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    probes = [node[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    assert [(probe["path"], probe["port"]) for probe in probes] == [
        ("/healthz", "dynamodb"),
        ("/healthz", "dynamodb"),
        ("/readyz", "dynamodb"),
    ]
    allowed = [rule["ports"][0]["port"] for rule in of_kind("NetworkPolicy")["spec"]["ingress"]]
    assert allowed == [*ports.values()]


def test_a_node_drains_before_it_ends(node, pod):
    shell, option, script = node["lifecycle"]["preStop"]["exec"]["command"]
    assert (shell, option) == ("sh", "-c")
    program, command = script.partition(";")[0].split()
    group: Any = typer.main.get_command(app)
    assert program == "streamtable"
    assert command in group.commands
    assert pod["spec"]["terminationGracePeriodSeconds"] >= 60


def test_it_runs_as_the_images_user(pod, node):
    user = pod["spec"]["securityContext"]
    (number,) = re.findall(r"^USER (\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert {user["runAsUser"], user["runAsGroup"], user["fsGroup"]} == {int(number)}
    assert user["runAsNonRoot"] is True
    assert node["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_page_says_how_each_secret_is_made(pod, node):
    wanted = {
        volume["secret"]["secretName"] for volume in pod["spec"]["volumes"] if "secret" in volume
    }
    wanted |= {source["secretRef"]["name"] for source in node["envFrom"] if "secretRef" in source}
    made = re.findall(r"create secret generic (\S+) .*", PAGE)
    assert wanted == set(made)
    (mount,) = [each for each in node["volumeMounts"] if each["name"] == "secret"]
    file = node["args"][node["args"].index("--peer-secret-file") + 1]
    key = file.removeprefix(f"{mount['mountPath']}/")
    assert f"create secret generic streamtable --from-literal={key}=" in PAGE
