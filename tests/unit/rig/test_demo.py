"""What the demo makes of what it sees; the demo itself runs in tests/e2e/test_demo.py."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from tests.e2e.rig import demo_summary, demo_table
from tests.e2e.rig.demo_scenario import Scenario
from tests.e2e.rig.demo_watch import Watch, count, step_of
from tests.e2e.rig.recording import Recording, Step, StepKind

from .test_page import moment

BEGAN = 1_795_253_700.0  # 2026-11-21T09:35:00Z
SCENARIO = Scenario.load(7)


def pod(role: str | None, *, ready: bool, deleted: bool = False) -> dict[str, Any]:
    metadata: dict[str, Any] = {"labels": {"spillway.dev/role": role} if role else {}}
    if deleted:
        metadata["deletionTimestamp"] = "2026-11-21T09:35:00Z"
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {"metadata": metadata, "status": {"conditions": conditions}}


def test_pods_count_by_what_they_do() -> None:
    found = count(
        [
            pod("serving", ready=True),
            pod(None, ready=True),
            pod("serving", ready=False),
            pod("warm", ready=True),
            pod("warm", ready=False),
            pod("draining", ready=False),
            pod("serving", ready=True, deleted=True),
        ]
    )
    assert found == {"serving": 2, "warm": 1, "starting": 2, "draining": 1}


def line(**fields: Any) -> dict[str, Any]:
    """A line of the operator's log, ten seconds after the begin."""
    return {
        "pool": "serving/llama-8b",
        "level": "info",
        "timestamp": "2026-11-21T09:35:10.000000Z",
        **fields,
    }


def test_the_operators_log_tells_what_it_did() -> None:
    decision = line(
        event="decision", decision="d1", desired=4, reason="Demand", limits=["Persistence"],
        what="Replicas go from 2 to 4.",
    )  # fmt: skip
    assert step_of(decision, "serving/llama-8b", BEGAN) == Step(
        10.0,
        StepKind.DECISION,
        ("Demand", "Persistence"),
        "Replicas go from 2 to 4.",
        desired=4,
        decision="d1",
    )
    role = line(
        event="role", pod="p", before="warm", role="serving", reason="Promoted", decision="d1"
    )
    found = step_of(role, "serving/llama-8b", BEGAN)
    assert found is not None
    assert (found.pod, found.message) == ("p", "p: warm to serving")
    overflow = line(event="overflow", fraction=0.42, reason="Shortage")
    found = step_of(overflow, "serving/llama-8b", BEGAN)
    assert found is not None
    assert found.message == "42% of the requests expected to leave"


@pytest.mark.parametrize(
    "fields",
    [
        {"event": "leadership changed"},
        {},
        {"event": "decision", "level": "debug"},
        {"event": "decision", "pool": "other/pool"},
    ],
)
def test_what_does_not_concern_the_pool_is_no_step(fields: dict[str, Any]) -> None:
    assert step_of(line(**fields), "serving/llama-8b", BEGAN) is None


def promoted(pod_name: str, at: float, decision: str = "d1") -> list[Step]:
    return [
        Step(at, StepKind.DECISION, ("Demand",), "up", desired=3, decision=decision),
        Step(at + 0.02, StepKind.ROLE, ("Promoted",), "m", pod=pod_name, decision=decision),
    ]


def event(kind: str, at: float, pod_name: str = "p") -> dict[str, Any]:
    return {"kind": kind, "pod": pod_name, "time": BEGAN + at}


def test_a_promotion_is_measured_from_its_decision_to_the_emulators_word() -> None:
    seen = [
        event("pod_ready", -20),
        event("pod_serving", 10.3),
        event("pod_first_request", 10.5),
        event("pod_first_request", 99.0),
    ]
    [found] = demo_summary.promotions(promoted("p", 10.0), seen, BEGAN)
    assert found.serving_seconds == pytest.approx(0.3)
    assert found.first_request_seconds == pytest.approx(0.5)


def test_a_pod_that_still_loads_its_model_was_not_warm() -> None:
    seen = [event("pod_ready", 25), event("pod_serving", 25.1)]
    assert list(demo_summary.promotions(promoted("p", 10.0), seen, BEGAN)) == []


def state(**changes: Any) -> dict[str, Any]:
    """What is counted: a hundred requests, all in time."""
    shares = {"requests": 100, "ttft": 1.0, "tpot": 1.0, "both": 1.0}
    return {
        "arrivals_total": 100,
        "answered_total": 95,
        "answered_by_replica": {"gone": 60, "p": 35},
        "answered_by_provider": {"together": 0},
        "in_flight": 5,
        "lost_total": 0,
        "cost_usd_total": 0.0,
        "prompt_tokens_total": 0,
        "completion_tokens_total": 0,
        "attainment": {"overall": shares},
        **changes,
    }


def watched(last: dict[str, Any], steps: list[Step]) -> Watch:
    """A watch of six minutes whose rig is gone."""
    watch = object.__new__(Watch)
    watch.began, watch.events = BEGAN, []
    watch.recording = Recording(
        "t",
        SCENARIO.phases,
        [moment(float(at), gpu_per_hour=10.0, arrivals_per_second=20.0) for at in range(361)],
        steps,
    )
    watch.first, watch.last = state(), last
    watch._gauges = {"replica_capacity_requests_per_second": 6.0}
    return watch


def test_the_summary_speaks_of_the_recorded_time_alone() -> None:
    late = {"requests": 300, "ttft": 1.0, "tpot": 250 / 300, "both": 250 / 300}
    last = state(
        arrivals_total=310,
        answered_total=300,
        answered_by_replica={"gone": 60, "p": 125, "q": 60},
        answered_by_provider={"together": 55},
        lost_total=2,
        cost_usd_total=0.5,
        prompt_tokens_total=10_000_000,
        completion_tokens_total=5_000_000,
        attainment={"overall": late},
    )
    asked = [3, 4, 2]
    steps = [Step(i, StepKind.DECISION, ("R",), "m", desired=n) for i, n in enumerate(asked)]
    found = demo_summary.summarize(watched(last, steps), SCENARIO, interrupted=True)
    requests, usd = found.requests, found.usd
    # Of the 205 that ended, five had been sent before.
    assert (requests.arrived, requests.answered, requests.lost) == (210, 200, 2)
    assert (requests.own_gpus, requests.paid_api) == (150, 55)
    assert requests.paid_share == pytest.approx(55 / 205)
    assert found.answered_by.replicas == {"gone": 0, "p": 90, "q": 60}
    assert ("provider together", "55") in demo_summary.who_answered(found)
    # 200 ended in the recorded time, 150 of them in time.
    assert found.attainment.both == pytest.approx(0.75)
    assert found.attainment.ttft == pytest.approx(1.0)
    # A tenth of an hour at $10 an hour.
    assert (usd.gpus, usd.api, usd.total) == pytest.approx((1.0, 0.5, 1.5))
    # 20 a second at 6 each are four replicas of $3.50 for a tenth of an hour.
    assert usd.all_gpus_replicas == 4
    assert usd.all_gpus == pytest.approx(1.4)
    # 15 million tokens at $0.18.
    assert usd.all_api == pytest.approx(2.7)
    assert (found.scale_ups, found.scale_downs) == (2, 1)
    assert found.interrupted


def test_a_summary_before_the_first_answer_says_so() -> None:
    watch = watched(state(), [])
    watch._gauges = {}
    found = demo_summary.summarize(watch, SCENARIO, interrupted=True)
    assert found.attainment.both is None
    assert found.usd.all_gpus is None
    assert found.requests.paid_share is None
    text = dict(demo_summary.lines(found, SCENARIO))
    assert text["time per token within 60 ms"] == "no answer yet"
    assert text["warm promotions"] == "none"
    assert demo_summary.tiles(found, SCENARIO)
    assert demo_summary.peak_fleet(found, SCENARIO) is None


def test_a_sparkline_shows_little_as_little() -> None:
    assert demo_table.sparkline([]) == ""
    assert demo_table.sparkline([0.0, 0.0]) == "▁▁"
    assert demo_table.sparkline([0.0, 4.0, 8.0]) == "▁▅█"
    assert demo_table.sparkline([1.0, 1.0], least=100.0) == "▁▁"
    assert len(demo_table.sparkline([float(i) for i in range(120)])) == 40


def test_the_live_view_says_where_one_is_and_why() -> None:
    recording = Recording("title", SCENARIO.phases, [moment(30.0)])
    recording.steps = promoted("p", 10.0)
    console = Console(file=StringIO(), width=120)
    console.print(demo_table.view(recording, SCENARIO.seconds))
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    for words in ("2 serving, 1 warm", "$12.00/h", "Demand at 0:10", "Promoted", "6:30 to go"):
        assert words in text
    assert "2 serving, 1 warm" in demo_table.line(recording)
    assert "steady" in demo_table.line(recording)
