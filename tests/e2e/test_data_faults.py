"""Samples that are missing, wrong or in contradiction: nothing scales down, and it says why."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import requests

from spillway.api.reasons import Reason
from spillway.api.timestamps import parse_time
from tests.e2e.scenario import MODEL
from tests.e2e.watching import watch_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.e2e.faults import Faults
    from tests.e2e.rig.operator_process import OperatorProcess
    from tests.e2e.rig.prometheus import Prometheus
    from tests.e2e.rig.rig import Rig
    from tests.e2e.scenario import Scenario

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.long]

#: An answer takes three seconds, and a replica is full at five requests a second.
SLOW = {"profile": {"overrides": {"base_seconds": 0.03, "max_num_seqs": 16}}}
#: The classic rule with short periods: a test moves it by what DCGM says.
PERIOD_SECONDS = 3.0
CLASSIC: Mapping[str, Any] = {
    "policy": "Utilization",
    "utilization": {"scaleUpAfter": "3s", "scaleDownAfter": "3s"},
    "replicas": {"floor": 2, "max": 4},
    "burst": None,
}
BUSY, BETWEEN, IDLE = 95, 50, 5


@pytest.fixture(scope="module")
def operator(rig: Rig) -> Iterator[OperatorProcess]:
    """An operator that soon gives up on Prometheus, and on samples."""
    yield rig.start_operator(prometheus_timeout_seconds=2.0, max_sample_age_seconds=6.0)
    rig.stop_operators()


@pytest.fixture
def prometheus(rig: Rig) -> Iterator[Prometheus]:
    """Prometheus, to be broken; it is mended after the test."""
    yield rig.prometheus
    rig.prometheus.resume()
    if not rig.prometheus.alive:
        rig.prometheus.start()


def gpus_say(pool: Scenario, percent: float, **fault: Any) -> None:
    """Have DCGM report this utilisation for every GPU of the pool."""
    pool.rig.emulator.set_fault(pool.key, gpu_utilization=percent, **fault)


def four_where_two_would_do(scenario: Callable[..., Scenario], **changes: Any) -> Scenario:
    """A pool that has just doubled; as soon as its GPUs idle, two of its replicas go."""
    pool = scenario(**({"spec": CLASSIC, "emulator": SLOW} | changes))
    pool.start()
    gpus_say(pool, BUSY)
    pool.wait_roles(serving=4)
    gpus_say(pool, BETWEEN)
    return pool


def stays_at_four(pool: Scenario, seconds: float = 3 * PERIOD_SECONDS) -> None:
    """Show that nothing goes for longer than the rule would take."""
    looks = watch_for(pool, seconds)
    assert {(seen.replicas, seen.serving) for seen in looks} == {(4, 4)}


def goes_to_two(pool: Scenario) -> None:
    """Show that the rule works again."""
    pool.wait_roles(serving=2, draining=0, timeout=90)
    pool.wait("two are left", pool.scale, lambda replicas: replicas == 2)
    assert pool.traffic()["lost_total"] == 0


def decisions(operator: OperatorProcess, pool: Scenario) -> list[tuple[int, str, float]]:
    """Decisions that changed something: replicas, reason and time."""
    return [
        (line["desired"], line["reason"], parse_time(line["timestamp"]))
        for line in operator.log_lines(event="decision", pool=pool.key)
    ]


def limits(pool: Scenario) -> list[str]:
    """Reasons of the last decision."""
    reasons: list[str] = pool.status()["lastDecision"]["reasons"]
    return reasons


# What DCGM says, and what the queue says


def test_the_classic_rule_doubles_and_removes_one_at_a_time_to_the_floor(
    scenario: Callable[..., Scenario], operator: OperatorProcess
) -> None:
    pool = scenario(spec={**CLASSIC, "replicas": {"floor": 2, "max": 8}})
    pool.start()
    gpus_say(pool, BETWEEN)
    watch_for(pool, 2 * PERIOD_SECONDS)
    assert decisions(operator, pool) == [], "between the thresholds nothing is done"
    gpus_say(pool, BUSY)
    began = pool.rig.emulator.state()["time"]
    pool.wait_roles(serving=4)
    gpus_say(pool, IDLE)
    goes_to_two(pool)
    watch_for(pool, 2 * PERIOD_SECONDS)
    made = decisions(operator, pool)
    assert made[0][:2] == (4, Reason.UTILIZATION_HIGH.value)
    assert made[0][2] - began >= PERIOD_SECONDS
    down = [(n, at) for n, reason, at in made if reason == Reason.UTILIZATION_LOW.value]
    assert [n for n, _ in down] == list(range(down[0][0], 1, -1)), "one by one, to the floor"
    assert all(b - a >= PERIOD_SECONDS for (_, a), (_, b) in pairwise(down))


def test_busy_gpus_with_an_empty_queue_are_no_reason_for_the_cost_policy(
    scenario: Callable[..., Scenario], operator: OperatorProcess
) -> None:
    pool = scenario()
    pool.start()
    pool.rate(3)
    gpus_say(pool, BUSY)
    looks = watch_for(pool, 12)
    assert {seen.replicas for seen in looks} == {2}
    assert max(seen.fraction for seen in looks) == 0
    assert decisions(operator, pool) == []


def test_idle_gpus_before_a_long_queue_are_a_hung_engine_and_nothing_goes(
    scenario: Callable[..., Scenario],
) -> None:
    pool = four_where_two_would_do(scenario)
    pool.rate(16)
    pool.wait("every engine works", lambda: pool.traffic()["running"] > 32)
    pool.rig.emulator.set_fault(pool.key, hung=True)
    pool.wait("a long queue", lambda: pool.traffic()["waiting"] > 40)
    pool.rate(0)
    pool.wait_condition("MetricsAvailable", "True", Reason.HUNG_ENGINE.value)
    assert all(pod["gpu_utilization"] == 0 for pod in pool.traffic()["pods"].values())
    stays_at_four(pool)
    pool.wait("the decision says so", lambda: Reason.HUNG_ENGINE.value in limits(pool))
    pool.rig.emulator.set_fault(pool.key)
    pool.wait_condition("MetricsAvailable", "True", Reason.METRICS_PRESENT.value)
    goes_to_two(pool)


# Wrong and old names, several engines in a pod


def test_a_wrong_model_name_is_told_with_the_names_that_were_seen(
    scenario: Callable[..., Scenario],
) -> None:
    pool = four_where_two_would_do(scenario)
    rename = pool.rig.cluster.api.patch
    wrong = {"spec": {"modelName": "meta-llama/Llama-3.1-70B"}}
    rename("InferencePool", pool.name, pool.namespace, wrong)
    gpus_say(pool, IDLE)
    pool.wait_condition("MetricsAvailable", "False", Reason.METRICS_MISSING.value)
    # At first it may be the pods' own pages that tell.
    message = pool.wait(
        "the query is named",
        lambda: pool.condition("MetricsAvailable")["message"],
        lambda text: "vllm:num_requests_running" in text,
    )
    assert "meta-llama/Llama-3.1-70B" in message
    assert MODEL in message
    stays_at_four(pool)
    assert Reason.NO_DATA.value in limits(pool)
    rename("InferencePool", pool.name, pool.namespace, {"spec": {"modelName": MODEL}})
    pool.wait_condition("MetricsAvailable", "True")
    goes_to_two(pool)


@pytest.mark.parametrize("old_names", [False, True])
def test_all_engines_of_a_pod_count_by_old_names_and_new(
    scenario: Callable[..., Scenario],
    old_names: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    pool = scenario(
        emulator={**SLOW, "data_parallel_size": 2, "old_metric_names": old_names},
        spec={"demand": {"source": "Engine"}, "burst": None, "replicas": {"floor": 2, "max": 2}},
    )
    pool.start()
    pool.rate(6)
    pool.wait(
        "the demand is seen whole",
        lambda: pool.status().get("demand") or {},
        lambda demand: (
            demand.get("source") == "Engine" and 4 < demand.get("requestsPerSecond", 0) < 8
        ),
    )
    pool.rig.emulator.set_fault(pool.key, hung=True)
    pool.rate(40)
    pool.wait("all four engines queue", lambda: pool.traffic()["waiting"] > 40)
    pool.rate(0)
    waiting = pool.traffic()["waiting"]
    queue = f'spillway_queue_requests{{namespace="{pool.namespace}",pool="{pool.name}"}}'
    pool.wait("the queue is seen whole", lambda: metric(pool, queue), lambda n: n == waiting)
    assert pool.condition("MetricsAvailable")["status"] == "True"


def metric(pool: Scenario, series: str) -> float | None:
    """A series of the operator's own metrics."""
    (operator,) = pool.rig.operators.values()
    lines = requests.get(f"{operator.url}/metrics", timeout=5).text.splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(series)), None)


# Prometheus dies


@pytest.mark.parametrize("how", ["killed", "paused"])
def test_without_prometheus_it_goes_on_by_the_pods_own_pages(
    scenario: Callable[..., Scenario], prometheus: Prometheus, how: str
) -> None:
    pool = scenario(emulator=SLOW, spec={"burst": None})
    pool.start()
    pool.rate(6)
    pool.wait("traffic flows", lambda: pool.traffic()["finished_local_total"] > 30)
    (prometheus.kill if how == "killed" else prometheus.pause)()
    pool.rate(20)
    pool.wait("replicas are added", pool.scale, lambda replicas: replicas > 2, timeout=120)
    assert pool.condition("MetricsAvailable")["status"] == "True", "the pods' pages suffice"
    # What gateways said last counts until it is too old.
    pool.wait("the pods tell", lambda: pool.status()["demand"]["source"], lambda s: s == "Engine")
    assert pool.traffic()["lost_total"] == 0


@pytest.mark.parametrize("how", ["killed", "paused"])
def test_with_no_samples_at_all_it_holds_says_so_and_recovers_by_itself(
    scenario: Callable[..., Scenario], prometheus: Prometheus, faults: Faults, how: str
) -> None:
    pool = four_where_two_would_do(scenario)
    pool.rig.emulator.set_fault(pool.key, gpu_utilization=IDLE, metrics="error")
    (prometheus.kill if how == "killed" else prometheus.pause)()
    condition = pool.wait_condition(
        "MetricsAvailable", "False", Reason.METRICS_MISSING.value, timeout=60
    )
    assert "vllm:num_requests_running" in condition["message"]
    words = {"killed": "cannot reach Prometheus", "paused": "did not answer in time"}
    assert words[how] in condition["message"]
    stays_at_four(pool, seconds=4 * PERIOD_SECONDS)
    assert Reason.NO_DATA.value in limits(pool)
    assert pool.condition("Ready")["status"] == "True", "the floor still serves"
    gpus_say(pool, IDLE)
    if how == "killed":
        prometheus.start()
    else:
        prometheus.resume()
    mended = time.time()
    pool.wait_condition("MetricsAvailable", "True", timeout=60)
    held = "4 replicas stay, MetricsAvailable says why"
    faults.survived(f"Prometheus {how}, and no pod's page", held, time.time() - mended)
    goes_to_two(pool)


def test_samples_that_are_no_numbers_are_no_samples(scenario: Callable[..., Scenario]) -> None:
    pool = four_where_two_would_do(scenario)
    gpus_say(pool, IDLE, nan=True)
    pool.wait_condition("MetricsAvailable", "False", Reason.METRICS_MISSING.value, timeout=60)
    stays_at_four(pool)
    gpus_say(pool, IDLE)
    pool.wait_condition("MetricsAvailable", "True", timeout=60)
    goes_to_two(pool)
