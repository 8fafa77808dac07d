"""The shipped alert rules and the dashboard use the metrics of the code, all of them and no others."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from holdwire.telemetry.metrics import METRICS, Instrument

FOLDER = Path(__file__).parents[2] / "docs" / "observability"
LABELS = {metric.name: {attribute.replace(".", "_") for attribute in metric.attributes} | {"le"} for metric in METRICS}
TOKEN = re.compile(r"\b(?:holdwire|http|server|error|network)_[a-z_]+\b")


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("observability_generate", FOLDER / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made() -> Any:
    return generator()


def series_of(made: Any) -> dict[str, str]:
    """Each series that a metric can give, with the metric's name."""
    found: dict[str, str] = {}
    for metric in METRICS:
        name = made.series(metric)
        ends = ("_bucket", "_count", "_sum") if metric.instrument is Instrument.HISTOGRAM else ("",)
        found |= {name + end: metric.name for end in ends}
    return found


def expressions(made: Any) -> list[str]:
    return [rule.expr for rule in made.rules()] + [expr for panel in made.panels() for expr, _ in panel.targets]


def test_the_files_are_what_the_generator_makes_of_the_code(made: Any) -> None:
    assert (FOLDER / "holdwire.rules.yml").read_text(encoding="utf-8") == made.rules_text()
    assert (FOLDER / "holdwire.dashboard.json").read_text(encoding="utf-8") == made.dashboard_text()


def test_every_expression_uses_series_that_exist_and_labels_that_they_have(made: Any) -> None:
    known = series_of(made)
    for expression in expressions(made):
        tokens = set(TOKEN.findall(expression))
        metrics = {known[token] for token in tokens & set(known)}
        assert metrics, expression
        for metric in metrics:
            assert tokens - set(known) <= LABELS[metric], expression


def test_every_metric_is_shown_or_watched(made: Any) -> None:
    known = series_of(made)
    used = {known[token] for text in expressions(made) for token in TOKEN.findall(text) if token in known}
    assert used == {metric.name for metric in METRICS}


def test_only_failed_requests_page_anybody(made: Any) -> None:
    paging = [rule.alert for rule in made.rules() if rule.severity == "page"]
    assert paging == ["HoldwireRequestsFailing"]


def test_the_dashboard_is_one_that_grafana_can_read(made: Any) -> None:
    dashboard = json.loads(made.dashboard_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) == len(made.panels())
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)
    assert {panel["type"] for panel in panels} == {"timeseries", "heatmap"}
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource", "server"]
