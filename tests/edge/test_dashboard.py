"""`config/dashboard.json`: its queries name what a scrape has, parse, and draw the alerts' own thresholds."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hookd.edge.api.services import Standing

from tests.edge.test_alerts import ALERTS, RULES
from tests.edge.test_metrics import busy, scrape
from tests.flow.harness import EPOCH, Reloaded

DASHBOARD = json.loads((ALERTS.parent / "dashboard.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# What Grafana puts in place of its variables.
VARIABLES = {"$__rate_interval": "5m", "$__interval": "1m", "$job": "hookd", "$instance": ".*"}
# Of the scrape, not of the daemon.
OF_PROMETHEUS = {"job", "instance"}


def queries() -> Iterator[str]:
    for panel in PANELS:
        yield from (target["expr"] for target in panel["targets"])
    yield from (annotation["expr"] for annotation in DASHBOARD["annotations"]["list"])


def filled_in(query: str) -> str:
    for variable, text in VARIABLES.items():
        query = query.replace(variable, text)
    assert "$" not in query, query
    return query


def threshold(panel: dict[str, Any]) -> float | None:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    return steps[1]["value"] if len(steps) > 1 else None


async def test_dashboard_queries_what_a_scrape_has(autojump_clock, nursery) -> None:
    """Every metric is in the scrape of a daemon to which everything happened, with every label that is used."""
    standing = Standing((), Reloaded(), {"api": EPOCH})
    series = await scrape(await busy(nursery, standing=lambda: standing))
    labels_of: dict[str, dict[str, set[str]]] = {"up": {}}
    for name, labels in series:
        of_name = labels_of.setdefault(name, {})
        for label, value in labels:
            of_name.setdefault(label, set()).add(value)
    seen = set()
    for query in map(filled_in, queries()):
        for name, selector in re.findall(r"\b((?:hookd|process)_\w+|up)\{(.*?)\}", query):
            seen.add(name)
            assert name in labels_of, query
            for label, values in re.findall(r'(\w+)=~?"(.*?)"', selector):
                if label not in OF_PROMETHEUS:
                    assert set(values.split("|")) <= labels_of[name][label], query
        bare = re.sub(r"\{.*?\}", "", query)
        assert set(re.findall(r"\b(?:hookd|process)_\w+", bare)) <= seen, query
    for panel in PANELS:
        for target in panel["targets"]:
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            names = re.findall(r"\b(?:hookd|process)_\w+|\bup\b", target["expr"])
            there = {label for name in names for label in labels_of.get(name, {})}
            assert shown <= there | OF_PROMETHEUS, target


def test_dashboard_shows_every_metric_that_an_alert_asks_for() -> None:
    """Whoever was paged sees since when."""
    rules = ALERTS.read_text(encoding="utf-8")
    named = set(re.findall(r"\bhookd_\w+", " ".join(queries())))
    assert set(re.findall(r"\bhookd_\w+", re.sub(r"(summary|description):.*|#.*", "", rules))) <= named


def test_each_alert_has_its_threshold_drawn() -> None:
    """Its panel names it, and draws a number of the rule; one that shows a single number is red from there."""
    rules = dict(re.findall(r"alert: (\w+)\n\s+expr: ((?:.|\n)*?)\n\s+(?:for|labels):", ALERTS.read_text("utf-8")))
    drawn = set()
    for panel in PANELS:
        for name in re.findall(r"Hookd\w+", panel["description"]):
            drawn.add(name)
            line = threshold(panel)
            assert line is not None, name
            if panel["type"] == "timeseries":
                assert panel["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"]["mode"] == "line"
                assert re.search(rf"(?<![\d.]){line:g}(?![\d.])", rules[name]), (name, line)
    assert drawn == set(RULES)


def test_each_panel_has_a_title_and_a_place_of_its_own() -> None:
    """Ids are unique, and no two panels overlap."""
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_can_read_every_query(tmp_path: Path) -> None:
    """As recording rules: Prometheus' own parser."""
    rules = [{"record": f"panel:query:{number}", "expr": filled_in(query)} for number, query in enumerate(queries())]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout
