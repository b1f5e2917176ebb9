"""The edge's configuration: from the chart's settings, and what must hold of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from spillway.cli import app
from spillway.edge.bootstrap import build
from spillway.edge.settings import EdgeSettings, read_settings
from tests.unit.chart_values import EVERYTHING
from tests.unit.test_chart import objects

if TYPE_CHECKING:
    from pathlib import Path

MINIMAL: dict[str, Any] = {
    "pool": {"namespace": "serving", "name": "llama"},
    "replicas": {"address": "llama-replicas.serving.svc"},
    "operator": {"address": "spillway-operator.spillway-system.svc"},
}


def routes(built: Any) -> list[dict[str, Any]]:
    """Every route of every listener."""
    managers = [
        listener["filter_chains"][0]["filters"][0]["typed_config"]
        for listener in built["static_resources"]["listeners"]
    ]
    hosts = [host for m in managers for host in m["route_config"]["virtual_hosts"]]
    return [route for host in hosts for route in host["routes"]]


def test_the_charts_settings_are_what_the_command_takes(tmp_path: Path) -> None:
    maps = [
        d
        for d in objects(EVERYTHING)
        if d["kind"] == "ConfigMap" and "edge.yaml" in d.get("data", {})
    ]
    assert len(maps) == 2
    for number, found in enumerate(maps):
        file, out = tmp_path / "edge.yaml", tmp_path / f"{number}.json"
        file.write_text(found["data"]["edge.yaml"], encoding="utf-8")
        arguments = ["edge", str(file), "--out", str(out), "--gateway", "edge-0"]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert json.loads(out.read_text(encoding="utf-8"))["static_resources"]["clusters"]
    settings = read_settings(maps[0]["data"]["edge.yaml"])
    assert settings.stays.keys_file == "/etc/spillway/keys/stays"
    assert settings.providers[0].key_file == "/etc/spillway/keys/providers/together"
    assert settings.gateways == 2


def test_long_answers_and_streams_are_not_cut_off() -> None:
    built = build(EdgeSettings.model_validate(MINIMAL), "edge-0")
    for route in routes(built):
        assert (route["route"]["timeout"], route["route"]["idle_timeout"]) == ("0s", "0s")


def test_a_pool_without_providers_has_an_edge_that_pays_nobody() -> None:
    built = build(EdgeSettings.model_validate(MINIMAL), "edge-0")
    names = [cluster["name"] for cluster in built["static_resources"]["clusters"]]
    assert not [name for name in names if name.startswith(("paid_", "provider_"))]


def test_administration_is_for_the_pod_alone() -> None:
    built = build(EdgeSettings.model_validate(MINIMAL), "edge-0")
    assert built["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"
    to_admin = [r for r in routes(built) if r["route"].get("cluster") == "admin"]
    assert [r["match"] for r in to_admin] == [{"path": "/metrics"}, {"path": "/ready"}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"listen": 0}, "listen"),
        ({"typo": 1}, "typo"),
        ({"listen": 9090}, "metricsPort"),
        ({"providers": [{"name": "a", "address": "a"}] * 2}, "unique"),
        ({"models": ['x"; os.exit() --']}, "models"),
        ({"stays": {"headers": [{"name": "X Y"}]}}, "stays.headers"),
    ],
)
def test_bad_settings_are_refused_with_their_field(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    file = tmp_path / "edge.yaml"
    file.write_text(yaml.safe_dump({**MINIMAL, **change}), encoding="utf-8")
    result = CliRunner().invoke(app, ["edge", str(file)])
    assert result.exit_code == 2
    assert said in result.output


def test_files_that_are_none_are_said(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["edge", str(tmp_path / "none.yaml")])
    assert result.exit_code == 2
    assert "none.yaml" in result.output.replace("\n", "")
    file = tmp_path / "edge.yaml"
    file.write_text("a: [", encoding="utf-8")
    assert CliRunner().invoke(app, ["edge", str(file)]).exit_code == 2
