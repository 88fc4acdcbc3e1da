"""The chart, the composition and the proxy's configuration, as far as they can be checked unrun."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from support.cli.command_pages import options_of
from support.cli.vllm_flags import vllm_parser

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "helm" / "caesura"
TEMPLATES = sorted((CHART / "templates").iterdir())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
GIVEN: dict[str, Any] = {
    "model": "a/model",
    "database": {
        "address": "postgresql://caesura@db/caesura",
        "existingSecret": "postgres",
        "key": "password",
    },
}
VALUE = re.compile(r"\.Values((?:\.\w+)+)")
ACTION = re.compile(r"\{\{-?\s*(if|with|range|define|end|else)\b")
DATABASE = "--database"


def dotted(values: Mapping[str, object], before: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{before}.{name}"
        if isinstance(value, dict):
            yield from dotted(value, f"{before}.{name}")


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_a_template_takes_values_that_there_are_and_closes_what_it_opens(template: Path) -> None:
    text = template.read_text("utf-8")
    assert set(VALUE.findall(text)) <= set(dotted(VALUES))
    depth = 0
    for word in ACTION.findall(text):
        depth += {"end": -1, "else": 0}.get(word, 1)
        assert depth >= 0
    assert depth == 0
    assert text.count("{{") == text.count("}}")


def test_each_value_is_used() -> None:
    used = set(VALUE.findall("".join(path.read_text("utf-8") for path in TEMPLATES)))
    for name in dotted(VALUES):
        assert any(
            name == one or name.startswith(f"{one}.") or one.startswith(f"{name}.") for one in used
        ), name


def test_values_without_a_model_or_a_database_are_refused() -> None:
    schema = jsonschema_rs.validator_for(json.loads((CHART / "values.schema.json").read_text()))
    assert schema.is_valid(VALUES | GIVEN)
    for name in GIVEN:
        assert not schema.is_valid(VALUES | GIVEN | {name: VALUES[name]})
    assert not schema.is_valid(VALUES | GIVEN | {"replicas": 0})
    with_password = {"database": GIVEN["database"] | {"address": "postgresql://a:secret@db/a"}}
    assert not schema.is_valid(VALUES | GIVEN | with_password)


def test_a_pod_lives_longer_than_it_drains() -> None:
    text = (CHART / "templates" / "deployment.yaml").read_text("utf-8")
    assert "terminationGracePeriodSeconds: {{ add .Values.drainSeconds 10 }}" in text
    assert "--shutdown-timeout={{ .Values.drainSeconds }}" in text


def test_two_replicas_stand_behind_the_proxy_and_share_a_database() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]
    replicas = [name for name in services if name.startswith("replica")]
    proxy = yaml.safe_load((DEPLOY / "envoy.yaml").read_text("utf-8"))["static_resources"]
    (cluster,) = proxy["clusters"]
    endpoints = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    addresses = [one["endpoint"]["address"]["socket_address"] for one in endpoints]
    assert [address["address"] for address in addresses] == replicas
    for name, address in zip(replicas, addresses, strict=True):
        service = services[name]
        assert f"--port={address['port_value']}" in service["command"]
        assert any(f"{DATABASE}=postgresql://" in one for one in service["command"])
        assert service["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    (check,) = cluster["health_checks"]
    assert check["http_health_check"]["path"] == "/ready"
    listener = proxy["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    (route,) = listener["route_config"]["virtual_hosts"][0]["routes"]
    assert route["route"]["cluster"] == cluster["name"]
    by_path = route["route"]["hash_policy"][1]["header"]["regex_rewrite"]
    session = re.fullmatch(by_path["pattern"]["regex"], "/v1/sessions/abc/events?after=3")
    assert session is not None
    assert session[1] == "abc"


def test_the_image_has_the_version_of_vllm_that_is_tested() -> None:
    extras = re.search(
        r'gpu = \["vllm==([\d.]+)"\]', (DEPLOY.parent / "pyproject.toml").read_text()
    )
    assert extras is not None
    assert f":v{extras[1]}\n" in (DEPLOY / "Containerfile").read_text("utf-8")


@pytest.mark.parametrize("file", ["helm/caesura/templates/deployment.yaml", "compose.yaml"])
def test_the_server_is_started_with_options_that_it_has(file: str) -> None:
    known = {name for action in vllm_parser()._actions for name in action.option_strings}
    known |= {name for argument in options_of("serve") for name in argument.names}
    flags = set(re.findall(r"- (--[a-z-]+)=", (DEPLOY / file).read_text("utf-8")))
    assert {DATABASE, "--host-memory"} <= flags <= known | {DATABASE}
