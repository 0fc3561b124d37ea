"""Rules of Prometheus and boards of Grafana: they parse, fire, and name metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.delivery.group_sink import GroupSink
from stream.server.http.group_metrics import GroupCollector
from stream.telemetry.metrics import Metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS, GRAFANA = DEPLOY / "prometheus", DEPLOY / "grafana"
BOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
SUFFIX = re.compile(r"_(total|bucket|sum|count)$")


def promtool(*arguments: str | Path) -> str:
    """Run promtool; return its output. It must succeed."""
    found = shutil.which("promtool")
    assert found is not None, "promtool is needed for this test: apt-get install prometheus"
    done = subprocess.run(
        [found, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def board(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Yield a place and the expression there, of all boards and rules."""
    for path in BOARDS:
        for panel in board(path)["panels"]:
            for target in panel.get("targets", ()):
                yield f"{path.stem}: {panel['title']}", target["expr"]
    for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def families() -> set[str]:
    """Return the names of all metrics, without the suffixes of counters and histograms."""
    metrics = Metrics("test")
    metrics.registry.register(GroupCollector(GroupSink(1), ["*"]))
    return {SUFFIX.sub("", family.name) for family in metrics.registry.collect()}


def plain(expression: str) -> str:
    """Return an expression as Grafana sends it, with its variables replaced."""
    return expression.replace("$__rate_interval", "5m").replace("$", "")


@pytest.mark.parametrize(("place", "expression"), [*expressions()])
def test_every_metric_of_boards_and_rules_exists(place: str, expression: str) -> None:
    """A renamed metric leaves a panel empty and an alert silent, which nobody notices."""
    named = set(re.findall(r"\bemotide_\w+", expression))
    assert named or expression.startswith("up{"), place
    unknown = {name for name in named if SUFFIX.sub("", name) not in families()}
    assert not unknown, f"{place}: {unknown}"


def test_every_expression_parses(tmp_path: Path) -> None:
    rules = [
        {"record": f"r{number}", "expr": plain(expression)}
        for number, (_, expression) in enumerate(expressions())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", file)


def test_alerts_fire_when_they_should_and_not_before() -> None:
    promtool("check", "config", PROMETHEUS / "prometheus.yml")
    promtool("test", "rules", PROMETHEUS / "rules_test.yml")


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    tested = (PROMETHEUS / "rules_test.yml").read_text()
    [group] = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    for rule in group["rules"]:
        assert f"alertname: {rule['alert']}\n" in tested
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"].keys() == {"summary", "remedy"}


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: str(path.stem))
def test_boards_are_well_formed(path: Path) -> None:
    found = board(path)
    panels = found["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert found["uid"].startswith("emotide-")
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, f"{panel['title']} overlaps another panel"
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"
    variables = {variable["name"] for variable in found["templating"]["list"]}
    used = set(re.findall(r"\$(\w+)", json.dumps([p.get("targets") for p in panels])))
    assert used - {"__rate_interval"} <= variables


def test_the_operators_board_shows_every_metric() -> None:
    """A metric that no board shows is found by those who know its name already."""
    shown = " ".join(path.read_text() for path in BOARDS)
    elsewhere = {"emotide_model_loaded", "emotide_audio_bytes", "emotide_resumes"}
    elsewhere |= {"emotide_inference_busy_seconds", "emotide_loop_tasks"}
    assert {name for name in families() if name not in shown} <= elsewhere
