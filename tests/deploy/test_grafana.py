"""The dashboard for Grafana names metrics and labels that there are."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import vllm.v1.metrics.loggers
from prometheus_client import REGISTRY

from caesura.engine.metrics import COUNTERS, GAUGES, STEP_SECONDS
from caesura.session import supervisor
from caesura.session.store import table
from caesura.tools.metrics import tool_metrics

DASHBOARD = json.loads(
    (Path(__file__).parents[2] / "deploy" / "grafana" / "caesura.json").read_text("utf-8")
)
METRIC = re.compile(r"\b(?:caesura|vllm)[:_][a-z_]+")
GROUPED = re.compile(r"\bby \(([a-z_, ]+)\)")
LABELS_OF_SCRAPES = {"instance", "job", "le"}


def expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def labels_of_metrics() -> dict[str, set[str]]:
    """Labels by the names that a scrape has."""
    assert tool_metrics()
    assert supervisor
    assert table
    known = {f"caesura:{name}_total": set(labels) for name, (_, labels) in COUNTERS.items()}
    known |= {f"caesura:{name}": set() for name in GAUGES}
    known[f"caesura:{STEP_SECONDS}_bucket"] = {"part"}
    for collector in list(REGISTRY._collector_to_names):
        for name in REGISTRY._collector_to_names[collector]:
            known[name] = set(getattr(collector, "_labelnames", ()))
    source = Path(vllm.v1.metrics.loggers.__file__).read_text("utf-8")
    for kind, name in re.findall(r'_(gauge|counter|histogram)_cls\(\s*name="(vllm:\w+)"', source):
        suffix = {"gauge": "", "counter": "_total", "histogram": "_bucket"}[kind]
        known[f"{name}{suffix}"] = {"engine", "model_name"}
    return known


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_a_panel_names_metrics_and_labels_that_there_are(expression: str) -> None:
    known = labels_of_metrics()
    names = METRIC.findall(expression)
    assert names
    assert set(names) <= known.keys()
    grouped = {label for group in GROUPED.findall(expression) for label in group.split(", ")}
    assert grouped <= LABELS_OF_SCRAPES | set().union(*(known[name] for name in names))


def test_a_panel_has_a_place_and_a_description() -> None:
    panels = DASHBOARD["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["description"].endswith(".")
