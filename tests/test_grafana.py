"""Grafana's dashboard: what it asks for is there, and Prometheus understands the questions."""

import json
from pathlib import Path

import pytest
import yaml

from tests.support.metrics import metrics_in, produced
from tests.support.validators import accepted

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "deploy" / "grafana"


@pytest.fixture(scope="module")
def dashboard():
    return json.loads((FOLDER / "dashboards" / "streamtable.json").read_text())


@pytest.fixture(scope="module")
def expressions(dashboard):
    return [target["expr"] for panel in panels(dashboard) for target in panel["targets"]]


def panels(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def test_it_shows_metrics_that_exist(expressions):
    for expression in expressions:
        used = metrics_in(expression)
        assert used, expression
        assert used <= produced(), expression


def test_it_shows_every_metric(expressions):
    shown = {name for expression in expressions for name in metrics_in(expression)}
    own = {name for name in produced() if name.startswith("streamtable_")}
    # The sum of seconds says nothing that the quantiles do not.
    assert own - shown <= {"streamtable_request_seconds_sum"} | {
        f"streamtable_append_seconds_{part}" for part in ("sum", "count")
    }


def test_prometheus_understands_its_questions(expressions, tmp_path):
    asked = [
        {
            "record": f"dashboard:{number}",
            "expr": expression.replace("$__rate_interval", "1m").replace("$instance", ".*"),
        }
        for number, expression in enumerate(expressions)
    ]
    rules = tmp_path / "rules.yml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": asked}]}))
    accepted("promtool", "check", "rules", "--lint=none", rules, package="prometheus")


def test_panels_have_names_and_places_of_their_own(dashboard):
    everything = dashboard["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    assert len({panel["title"] for panel in everything}) == len(everything)
    taken: set[tuple[int, int]] = set()
    for panel in everything:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert all(x < 24 for x, _ in cells)
        assert not cells & taken, panel["title"]
        taken |= cells


def test_grafana_is_told_where_all_of_it_is(dashboard):
    (source,) = yaml.safe_load(
        (FOLDER / "provisioning" / "datasources" / "prometheus.yml").read_text()
    )["datasources"]
    (provider,) = yaml.safe_load(
        (FOLDER / "provisioning" / "dashboards" / "streamtable.yml").read_text()
    )["providers"]
    grafana = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["grafana"]
    mounted = dict(reversed(volume.split(":")[:2]) for volume in grafana["volumes"])
    folder = provider["options"]["path"]
    assert mounted[folder] == "./deploy/grafana/dashboards"
    assert mounted["/etc/grafana/provisioning"] == "./deploy/grafana/provisioning"
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folder}/streamtable.json"
    asked, nodes = dashboard["templating"]["list"]
    assert asked["current"]["value"] == source["uid"]
    assert nodes["datasource"] == {"type": source["type"], "uid": f"${{{asked['name']}}}"}
    for panel in panels(dashboard):
        assert panel["datasource"] == nodes["datasource"]
