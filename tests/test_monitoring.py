"""The monitoring files: what the dashboard asks for exists, and the tools take the files."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from tune.monitor.metrics import METRICS, PREFIX, RUN, STATES

FOLDER = Path(__file__).resolve().parents[1] / "cluster" / "monitoring"
DASHBOARD = json.loads((FOLDER / "grafana/dashboards/clip-search.json").read_text())
PANELS = DASHBOARD["panels"]
OURS = {f"ray_{PREFIX}{metric.name}": {RUN, *metric.tags} for metric in METRICS}
RAYS_LABELS = {"instance", "GpuIndex"}  # Prometheus's own, and one of Ray's reporter
NAME = re.compile(r"\bray_\w+")
LABELS = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"|by \(([^)]*)\)")


def queries(panel: dict[str, Any]) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def labels_in(text: str) -> set[str]:
    """Labels that a query selects or groups by."""
    found = set()
    for selected, grouped in LABELS.findall(text):
        found |= {selected} if selected else {label.strip() for label in grouped.split(",")}
    return found


@cache
def rays_reporter() -> str:
    """The source of what exports Ray's own metrics of nodes."""
    spec = find_spec("ray")
    assert spec
    assert spec.origin
    return (Path(spec.origin).parent / "dashboard/modules/reporter/reporter_agent.py").read_text()


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_a_panel_asks_for_metrics_and_labels_that_are_exported(panel: dict[str, Any]) -> None:
    for query in queries(panel):
        names = set(NAME.findall(query))
        assert names
        for name in names - set(OURS):
            assert f'"{name.removeprefix("ray_")}"' in rays_reporter()
        ours = [OURS[name] for name in names & set(OURS)]
        assert labels_in(query) <= (set.intersection(*ours) if ours else RAYS_LABELS)
        assert set(re.findall(r"{{(\w+)}}", panel["targets"][0]["legendFormat"])) <= labels_in(
            query
        )


def test_the_queries_name_states_that_trials_can_have() -> None:
    asked = {
        state
        for panel in PANELS
        for query in queries(panel)
        for states in re.findall(r'state=~?"([^"]*)"', query)
        for state in states.split("|")
    }
    assert asked
    assert asked <= set(STATES)


def test_every_metric_of_ours_has_a_panel() -> None:
    asked = {name for panel in PANELS for query in queries(panel) for name in NAME.findall(query)}
    assert set(OURS) <= asked


def test_the_dashboard_is_laid_out_without_overlaps_and_says_what_it_shows() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        assert panel["description"]
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24  # Grafana's columns
        taken |= cells
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(PANELS))) <= variables


def test_every_panel_is_in_the_document() -> None:
    text = " ".join((FOLDER.parents[1] / "docs" / "watching.md").read_text().split())
    assert [panel["title"] for panel in PANELS if panel["title"] not in text] == []


def test_grafana_listens_on_loopback_and_nobody_can_edit() -> None:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(FOLDER / "grafana/grafana.ini")
    assert settings["server"]["http_addr"] == "127.0.0.1"
    assert settings["auth.anonymous"]["org_role"] == "Viewer"
    assert settings.getboolean("security", "disable_initial_admin_creation")
    (source,) = yaml.safe_load(
        (FOLDER / "grafana/provisioning/datasources/prometheus.yml").read_text()
    )["datasources"]
    assert source["url"].startswith("http://127.0.0.1:")
    providers = yaml.safe_load(
        (FOLDER / "grafana/provisioning/dashboards/dashboards.yml").read_text()
    )["providers"]
    assert providers[0]["options"]["path"] == "$MONITORING/grafana/dashboards"


def test_prometheus_reads_rays_own_list_of_nodes() -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (discovery,) = job["file_sd_configs"]
    assert [Path(file).name for file in discovery["files"]] == [PROMETHEUS_SERVICE_DISCOVERY_FILE]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here")
def test_prometheus_takes_its_file() -> None:
    check = ["promtool", "check", "config", str(FOLDER / "prometheus.yml")]
    result = subprocess.run(check, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here")
@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_prometheus_takes_a_panels_queries(panel: dict[str, Any], tmp_path: Path) -> None:
    rules = [
        {"record": "job:panel:value", "expr": query.replace("$run", ".+")}
        for query in queries(panel)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panel", "rules": rules}]}))
    check = ["promtool", "check", "rules", str(file)]
    result = subprocess.run(check, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
