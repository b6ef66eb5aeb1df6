"""What Prometheus is told: which nodes it asks, and the alarms of docs/operations.md."""

import re
from pathlib import Path

import pytest
import yaml

from tests.support.metrics import metrics_in, produced
from tests.support.validators import accepted

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "deploy" / "prometheus"
PAGE = (ROOT / "docs" / "operations.md").read_text()


@pytest.fixture(scope="module")
def rules():
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return group["rules"]


def test_promtool_accepts_the_configuration_and_the_alarms():
    told = accepted("promtool", "check", "config", FOLDER / "prometheus.yml", package="prometheus")
    assert "alerts.yml" in told


def test_the_alarms_go_off_when_they_should():
    accepted(
        "promtool", "test", "rules", Path(__file__).with_name("alarms.yml"), package="prometheus"
    )


def test_each_alarm_is_tried(rules):
    trials = yaml.safe_load(Path(__file__).with_name("alarms.yml").read_text())["tests"]
    tried = set(re.findall(r'alertname="(\w+)"', str(trials)))
    assert tried == {rule["alert"] for rule in rules}


def test_the_page_and_the_rules_have_the_same_alarms(rules):
    documented = [
        (name, expression, wait or None, severity, f"{told}")
        for name, expression, wait, severity, told in re.findall(
            r"^\| (\w+) \| `(.+?)` \| ?(\w*) ?\| (page|ticket) \| (.+) \|$", PAGE, re.MULTILINE
        )
    ]
    assert documented == [
        (
            rule["alert"],
            rule["expr"],
            rule.get("for"),
            rule["labels"]["severity"],
            f"{rule['annotations']['summary']}: {rule['annotations']['description']}",
        )
        for rule in rules
    ]


def test_the_alarms_look_at_metrics_that_exist(rules):
    for rule in rules:
        used = metrics_in(rule["expr"])
        assert used, rule["alert"]
        assert used <= produced() | {"up"}, rule["alert"]


def test_what_the_page_says_of_kubernetes_asks_the_nodes_for_these_alarms(rules, tmp_path):
    page = (ROOT / "docs" / "deployment.md").read_text()
    (text,) = re.findall(r" *```yaml\n( *scrape_configs:.+?)```", page, re.DOTALL)
    (job,) = yaml.safe_load(text)["scrape_configs"]
    assert set(re.findall(r'job="(\w+)"', f"{rules}")) == {job["job_name"]}
    keep, _ = job["relabel_configs"]
    nodes = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "nodes.yaml").read_text())
    (container,) = nodes["spec"]["template"]["spec"]["containers"]
    assert keep["regex"] in [port["name"] for port in container["ports"]]
    # Debian's promtool knows nothing of Kubernetes.
    (where,) = job.pop("kubernetes_sd_configs")
    assert where["role"] == "pod"
    path = tmp_path / "prometheus.yml"
    path.write_text(yaml.safe_dump({"scrape_configs": [job]}))
    accepted("promtool", "check", "config", path, package="prometheus")


def test_the_nodes_of_the_stack_are_asked():
    jobs = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs}
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert targets["streamtable"] == [
        f"{name}:8000" for name in services if name.startswith("node-")
    ]
