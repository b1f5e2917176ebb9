"""``spillway backtest`` on what a real Prometheus recorded of a pool, and on exports of it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
import yaml
from typer.testing import CliRunner

from spillway.cli import app
from spillway.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2e.rig.rig import Rig
    from tests.e2e.scenario import Scenario

RATE = 6.0
#: Rates are of a minute; then that many seconds whose minutes hold nothing but the load.
WINDOW_SECONDS, SPAN_SECONDS = 60, 70
QUICK = ("--step", "5s", "--compare", "hpa,keda-rate", "--jobs", "1", "--json")


def backtest(*args: str | Path) -> dict[str, Any]:
    """The command's one JSON object."""
    done = CliRunner().invoke(app, ["backtest", *map(str, args)])
    assert done.exit_code == ExitCode.OK, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def remark(found: dict[str, Any], kind: str) -> str:
    """What it says it could not see, of one kind; empty where it saw that."""
    texts = [text for text in found["remarks"] if text.startswith(f"{kind}:")]
    return " ".join(texts)


def exported(rig: Rig, promql: str, *, begin: float, end: float) -> str:
    """The HTTP API's own answer to a range query, as anyone may save it."""
    answer = requests.get(
        f"{rig.prometheus.url}/api/v1/query_range",
        params={"query": promql, "start": f"{begin}", "end": f"{end}", "step": "5"},
        timeout=10,
    )
    assert answer.status_code == 200, answer.text
    return answer.text


@pytest.mark.timeout(420)
def test_a_recorded_pool_is_replayed_and_what_was_not_seen_is_said(
    scenario: Callable[..., Scenario], rig: Rig, tmp_path: Path
) -> None:
    pool = scenario()
    pool.deploy()
    pool.wait_roles(serving=2)
    pool.rate(RATE)
    begun = time.time()
    time.sleep(WINDOW_SECONDS + SPAN_SECONDS + 5)
    manifest, saved = tmp_path / "pool.yaml", tmp_path / "saved.json"
    manifest.write_text(yaml.safe_dump(pool.manifest()), encoding="utf-8")
    asking = ("--pool", manifest, "--prometheus-url", rig.prometheus.url, *QUICK)

    # The gateway counted all that arrived.
    seen = backtest(*asking, "--since", f"{SPAN_SECONDS}s")
    assert seen["trace"]["meanRequestsPerSecond"] == pytest.approx(RATE, rel=0.25)
    names = {(entry["name"], entry["burst"]) for entry in seen["entries"]}
    rivals = {(name, burst) for name in ("hpa-util", "keda-rate") for burst in (True, False)}
    assert names == {("spillway", True), *rivals}
    assert seen["optimum"]["usd"] > 0
    assert remark(seen, "LowerBound") == remark(seen, "Missing") == ""
    assert "counters give their means over time" in remark(seen, "Lengths")
    assert "replica-hours" in remark(seen, "What ran")

    # Of the engines alone only what they finished is known; it is the same load.
    bound = backtest(*asking, "--since", f"{SPAN_SECONDS}s", "--match", "job=vllm")
    assert "no gateway counter was found" in remark(bound, "LowerBound")
    assert bound["trace"]["meanRequestsPerSecond"] == pytest.approx(RATE, rel=0.25)

    # Before the pool was there nothing was recorded, and that is said.
    longer = backtest(*asking, "--since", f"{round(time.time() - begun) + 120}s", "--save", saved)
    assert "asked for nothing was recorded in" in remark(longer, "Missing")
    assert "at its begin" in remark(longer, "Missing")

    # What was saved gives the same result, with nobody to ask.
    again = backtest(saved, "--pool", manifest, *QUICK)
    assert again["entries"] == longer["entries"]

    # So does the API's own answer, which says nothing of lengths or replicas.
    promql = (
        f'sum(rate(spillway_gateway_requests_total{{namespace="{pool.namespace}"}}'
        f"[{WINDOW_SECONDS}s]))"
    )
    export = tmp_path / "export.json"
    last = time.time()
    export.write_text(exported(rig, promql, begin=last - SPAN_SECONDS, end=last), encoding="utf-8")
    alone = backtest(export, "--pool", manifest, *QUICK)
    assert alone["trace"]["meanRequestsPerSecond"] == pytest.approx(RATE, rel=0.25)
    assert "no token counters were found" in remark(alone, "Lengths")
    assert "none were counted" in remark(alone, "Replicas")
