"""Argo CD's Lua, run in a Lua interpreter over statuses that a real operator has written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lupa
import pytest
import yaml

from spillway.api.names import MANAGER_OVERFLOW, MANAGER_STATUS
from tools.helm import render

ROOT = Path(__file__).resolve().parents[2]
LUA = ROOT / "manifests" / "argocd" / "lua"
#: Pools as the API server returned them at the end-to-end tests; tests/e2e/test_argocd.py records.
RECORDED = Path(__file__).parent / "recorded_pools"


def run(name: str, pool: dict[str, Any]) -> Any:
    """What a Lua file returns for a pool, as data."""
    lua = lupa.LuaRuntime(unpack_returned_tuples=True)
    lua.globals().obj = table(lua, pool)
    return plain(lua.execute((LUA / f"{name}.lua").read_text(encoding="utf-8")))


def table(lua: lupa.LuaRuntime, value: Any) -> Any:
    """Data as Argo CD hands it to Lua: arrays begin at 1."""
    if isinstance(value, dict):
        return lua.table_from({k: table(lua, v) for k, v in value.items()})
    if isinstance(value, list):
        return lua.table_from([table(lua, v) for v in value])
    return value


def plain(value: Any) -> Any:
    if lupa.lua_type(value) != "table":
        return value
    return {key: plain(inner) for key, inner in value.items()}


def recorded(name: str) -> dict[str, Any]:
    pool: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
    return pool


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("healthy", "Healthy"),
        ("progressing", "Progressing"),
        ("degraded", "Degraded"),
        ("suspended", "Suspended"),
    ],
)
def test_health_of_recorded_pools(name: str, status: str) -> None:
    health = run("health", recorded(name))
    assert health["status"] == status
    assert health["message"]


def test_a_pool_that_nobody_has_looked_at_is_on_its_way() -> None:
    pool = recorded("healthy")
    del pool["status"]
    assert run("health", pool)["status"] == "Progressing"


def test_an_answer_to_an_older_spec_is_no_answer() -> None:
    pool = recorded("healthy")
    pool["metadata"]["generation"] += 1
    assert run("health", pool)["status"] == "Progressing"


@pytest.mark.parametrize(
    ("action", "mode"), [("pause", "Paused"), ("resume", "Active"), ("advise", "Advise")]
)
def test_actions_change_the_mode_and_nothing_else(action: str, mode: str) -> None:
    pool = recorded("healthy")
    changed = run(action, pool)
    assert changed["spec"]["mode"] == mode
    buttons = run("discovery", {**pool, "spec": {**pool["spec"], "mode": mode}})
    assert [name for name, state in buttons.items() if state["disabled"]] == [action]
    assert changed["spec"]["modelName"] == pool["spec"]["modelName"]


def test_the_config_map_carries_what_is_tested() -> None:
    path = ROOT / "manifests" / "argocd" / "argocd-cm.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))["data"]
    health = data["resource.customizations.health.spillway.dev_InferencePool"]
    assert health == (LUA / "health.lua").read_text(encoding="utf-8")
    actions = yaml.safe_load(data["resource.customizations.actions.spillway.dev_InferencePool"])
    for definition in actions["definitions"]:
        text = (LUA / f"{definition['name']}.lua").read_text(encoding="utf-8")
        assert definition["action.lua"] == text


def manifest(name: str) -> dict[str, Any]:
    text = (ROOT / "manifests" / "argocd" / f"{name}.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def test_an_application_ignores_what_spillway_really_writes() -> None:
    ignored = {d["kind"]: d for d in manifest("application")["spec"]["ignoreDifferences"]}
    assert ignored["Deployment"]["jsonPointers"] == ["/spec/replicas"]
    assert ignored["StatefulSet"]["jsonPointers"] == ["/spec/replicas"]
    managers = set(ignored["InferencePool"]["managedFieldsManagers"])
    assert managers == {MANAGER_STATUS, MANAGER_OVERFLOW}


def test_the_operator_comes_in_an_earlier_wave() -> None:
    def wave(name: str) -> int:
        return int(manifest(name)["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"])

    assert wave("operator") < wave("application")


@pytest.mark.slow
def test_the_chart_takes_the_values_of_the_examples() -> None:
    for spec in (
        manifest("operator")["spec"],
        manifest("applicationset")["spec"]["template"]["spec"],
    ):
        source = spec["source"]
        assert (ROOT / source["path"] / "Chart.yaml").is_file()
        rendered = render(source["helm"]["valuesObject"], name=source["helm"]["releaseName"])
        crd = yaml.safe_load(rendered["crds.yaml"])
        options = crd["metadata"]["annotations"]["argocd.argoproj.io/sync-options"]
        assert "Delete=false" in options
