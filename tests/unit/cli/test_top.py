"""``spillway top``: what a pool's status becomes, and in which order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from spillway.cli import app, connecting, top
from spillway.cli.exit_codes import ExitCode
from spillway.cli.top_rows import Row, in_order, row_of
from tests.unit.controller.fakes import NAMESPACE, pool_object

RECORDED = Path(__file__).resolve().parents[1] / "recorded_pools"


def condition(kind: str, status: str, reason: str) -> dict[str, Any]:
    time = "2026-11-30T00:00:00Z"
    return {"type": kind, "status": status, "reason": reason, "lastTransitionTime": time}


BUSY: dict[str, Any] = {
    "replicas": {"serving": 3, "desired": 4, "warm": 1, "starting": 1},
    "demand": {"requestsPerSecond": 33, "queue": 7},
    "capacity": {"requestsPerSecond": 10, "concurrency": 40},
    "overflow": {"fraction": 0.1},
    "cost": {"gpuPerHour": 14, "apiPerHour": 6, "allGpuPerHour": 21, "allApiPerHour": 60},
    "budget": {"spentHour": 5, "spentDay": 60},
    "conditions": [
        condition("Ready", "False", "GpuShortage"),
        condition("ScalingLimited", "True", "MaxReplicas"),
    ],
}
BURST = {"providers": [{"name": "x"}], "budget": {"perHour": "10", "perDay": "100"}}


def rows(*names: str) -> list[Row]:
    return [row_of(pool_object(name)) for name in names]


def test_a_row_says_what_the_status_says() -> None:
    row = row_of(pool_object("chat", status=BUSY, burst=BURST))
    assert row == Row(
        NAMESPACE,
        "chat",
        requests_per_second=33,
        capacity=30,
        queue=7,
        serving=3,
        desired=4,
        warm=1,
        starting=1,
        overflow=0.1,
        usd_per_hour=20,
        saved_per_hour=1,
        budget_spent=0.6,
        limit="MaxReplicas",
        ready=False,
        trouble="GpuShortage",
    )
    assert row.utilization == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (pool_object("new"), "no status yet"),
        (pool_object("bad", replicas={"floor": 9, "max": 1}), "invalid: spec.replicas.floor"),
        (pool_object("odd", status={"replicas": 3}), "status.replicas can't be read"),
    ],
)
def test_a_pool_that_can_not_be_read_keeps_its_row(raw: dict[str, Any], says: str) -> None:
    row = row_of(raw)
    assert row.name == raw["metadata"]["name"]
    assert says in row.trouble
    assert row.utilization is None


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.json")), ids=lambda path: path.stem)
def test_pools_that_a_real_operator_wrote_have_a_row(path: Path) -> None:
    raw = json.loads(path.read_text(encoding="utf-8"))
    row = row_of(raw)
    assert row.serving == raw["status"]["replicas"]["serving"]
    assert row.usd_per_hour is not None


def test_the_most_come_first_and_the_unknown_last() -> None:
    named = [
        Row("b", "none"),
        Row("a", "cheap", usd_per_hour=1.0),
        Row("c", "dear", usd_per_hour=9.0),
    ]
    assert [row.name for row in in_order(named, "cost")] == ["dear", "cheap", "none"]
    assert [row.name for row in in_order(named, None)] == ["cheap", "none", "dear"]


def served(monkeypatch: pytest.MonkeyPatch, *raws: dict[str, Any]) -> None:
    found = [row_of(raw) for raw in raws]
    monkeypatch.setattr(top, "ask", lambda *_: list(found))


def test_the_table_has_every_pool_and_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    served(monkeypatch, pool_object("chat", status=BUSY), pool_object("code", status=BUSY))
    result = CliRunner().invoke(app, ["top", "-A", "--sort", "cost"], env={"COLUMNS": "40"})
    assert result.exit_code == ExitCode.OK
    heads, first, second, total = (line.split() for line in result.output.splitlines())
    assert heads[:4] == ["NAMESPACE", "POOL", "REQ/S", "CAPACITY"]
    assert first[:6] == [NAMESPACE, "chat", "33", "30", "110%", "7"]
    assert first[-4:] == ["-", "MaxReplicas", "False", "GpuShortage"]
    assert second[1] == "code"
    assert total == ["2", "pools", "66", "6/8", "2", "2", "0", "40.00", "2.00"]


def test_json_is_for_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    served(monkeypatch, pool_object("chat", status=BUSY))
    result = CliRunner().invoke(app, ["top", "-A", "--json"])
    (pool,) = json.loads(result.output)["pools"]
    assert (pool["name"], pool["usd_per_hour"], pool["ready"]) == ("chat", 20, False)


def test_no_pool_is_said_with_the_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    served(monkeypatch)
    assert "no InferencePool in namespace x" in CliRunner().invoke(app, ["top", "-n", "x"]).output


def test_watch_looks_again_and_ctrl_c_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([[], [row_of(pool_object("late"))]])

    def look(*_: object) -> list[Row]:
        try:
            return next(looks)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(top, "ask", look)
    monkeypatch.setattr("spillway.cli.top.time.sleep", lambda _: None)
    result = CliRunner().invoke(app, ["top", "-A", "--watch", "--json", "--interval", "0.5"])
    assert result.exit_code == ExitCode.OK
    assert [len(json.loads(line)["pools"]) for line in result.output.splitlines()] == [0, 1]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--sort", "age"], "--sort must be one of cost, load"),
        (["-A", "-n", "x"], "not both"),
        (["-A", "--kubeconfig", "/no/such"], "/no/such"),
    ],
)
def test_wrong_flags_are_code_2(flags: list[str], says: str) -> None:
    result = CliRunner().invoke(app, ["top", *flags])
    assert result.exit_code == ExitCode.USAGE
    assert says in result.output


def test_the_namespace_is_the_contexts_as_kubectl_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    config = {
        "current-context": "one",
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "serving"}},
            {"name": "two", "context": {"cluster": "c", "user": "u"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {}}],
    }
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    assert connecting.namespace_of(path, None) == "serving"
    assert connecting.namespace_of(path, "two") == "default"
    path.write_text("contexts: 3")
    assert connecting.namespace_of(path, None) == "default"
