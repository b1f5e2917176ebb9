"""Replicas follow the load: up before the queue, down without a lost request."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from spillway.api.names import Role
from spillway.api.reasons import ConditionType, Reason
from spillway.api.timestamps import parse_time
from tests.e2e.scenario import CAPACITY_PER_SECOND, drain_deadline
from tests.e2e.watching import happened, look, watch, watch_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.e2e.rig.operator_process import OperatorProcess
    from tests.e2e.scenario import Scenario
    from tests.e2e.watching import Look

pytestmark = pytest.mark.usefixtures("operator")

#: An answer takes three seconds, and a replica is full at five requests a second.
SLOW = {"profile": {"overrides": {"base_seconds": 0.03, "max_num_seqs": 16}}}
#: The classic rule with short periods: a test moves it by what DCGM says.
CLASSIC: Mapping[str, Any] = {
    "policy": "Utilization",
    "utilization": {"scaleUpAfter": "2s", "scaleDownAfter": "2s"},
    "replicas": {"floor": 2, "max": 4},
    "burst": None,
}
BUSY, IDLE = 95, 5
#: Larger replicas, for a load that Poisson's noise moves less; full at 20 requests a second.
LARGE_PER_SECOND = 3 * CAPACITY_PER_SECOND
LARGE_ENGINE = {"profile": {"overrides": {"base_seconds": 0.03, "max_num_seqs": 64}}}
LARGE: Mapping[str, Any] = {
    "variants": [
        {
            "name": "main",
            "targetRef": {"kind": "Deployment", "name": "llama"},
            "price": {"perAcceleratorHour": "3.50"},
            "capacity": {"requestsPerSecond": f"{LARGE_PER_SECOND:g}", "concurrency": 48},
        }
    ],
    "replicas": {"floor": 1, "max": 4},
}
#: So many waiting requests a replica count as a queue (the default of utilization.queuePerReplica);
#: one or two wait for the engine's next step at any load.
QUEUE = 4


def lasting_queue(looks: Sequence[Look]) -> int:
    """The longest queue of three looks in a row: what one look alone sees is gone at the next."""
    waiting = [seen.waiting for seen in looks]
    return max(map(min, zip(waiting, waiting[1:], waiting[2:], strict=False)), default=0)


def gpus_say(pool: Scenario, percent: float) -> None:
    """Have DCGM report this utilisation for every GPU of the pool."""
    pool.rig.emulator.set_fault(pool.key, gpu_utilization=percent)


def doubled(pool: Scenario) -> None:
    """Have the classic rule go from two replicas to four."""
    gpus_say(pool, BUSY)
    pool.wait_roles(serving=4)


def test_a_pool_becomes_ready_and_says_so(
    scenario: Callable[..., Scenario], operator: OperatorProcess
) -> None:
    pool = scenario()
    pool.apply()
    condition = pool.wait_condition("Ready", "False", Reason.TARGET_NOT_FOUND.value)
    assert condition["message"] == f"Deployment {pool.key} does not exist"
    pool.deploy()
    pool.wait_ready()
    status = pool.wait(
        "metrics are there",
        pool.status,
        lambda seen: (
            seen["lastDecision"]["reasons"][-1] != Reason.NO_DATA.value
            and seen["replicas"]["serving"] == seen["replicas"]["desired"] == 2
        ),
    )
    assert status["observedGeneration"] == pool.pool()["metadata"]["generation"]
    kinds = {condition["type"] for condition in status["conditions"]}
    without_a_route = set(ConditionType) - {
        ConditionType.ROUTE_READY,
        ConditionType.GATEWAY_REPORTING,
    }
    assert kinds == {kind.value for kind in without_a_route}
    assert all(c["reason"] in set(Reason) and c["lastTransitionTime"] for c in status["conditions"])
    assert pool.condition("MetricsAvailable")["status"] == "True"
    assert status["capacity"]["source"] == "Declared"
    assert status["cost"]["gpuPerHour"] == 7.0
    assert status["lastDecision"]["id"]
    pool.wait_event(Reason.RECONCILED)
    columns, row = pool.rig.cluster.kubectl("-n", pool.namespace, "get", "spool").splitlines()
    assert columns.split() == [
        "NAME", "MODEL", "FLOOR", "SERVING", "WARM", "DESIRED", "OVERFLOW", "$/H", "READY", "AGE",
    ]  # fmt: skip
    assert row.split()[2:-1] == ["2", "2", "0", "2", "0%", "7.00", "True"]
    for path in ("healthz", "readyz"):
        assert requests.get(f"{operator.url}/{path}", timeout=5).text == "ok"


def test_nothing_of_the_operators_own_is_left_on_the_objects_of_an_idle_pool(
    scenario: Callable[..., Scenario],
) -> None:
    pool = scenario()
    pool.start()
    # The release window passes first: after it, another limit has the last word.
    watch_for(pool, 8)
    before = pool.pool()
    assert "finalizers" not in before["metadata"]
    assert set(before["metadata"]["annotations"]) == {"spillway.dev/overflow"}
    deployment = pool.rig.cluster.api.get("Deployment", pool.name, pool.namespace)
    assert not any("spillway" in key for key in deployment["metadata"].get("annotations", {}))
    watch_for(pool, 4)
    now = pool.pool()["metadata"]["resourceVersion"]
    assert now == before["metadata"]["resourceVersion"], "a pool at rest is not written to"


def test_metrics_are_named_explained_and_bounded(
    scenario: Callable[..., Scenario], operator: OperatorProcess, namespace: str
) -> None:
    def families() -> dict[str, Any]:
        page = requests.get(f"{operator.url}/metrics", timeout=5).text
        return {family.name: family for family in text_string_to_metric_families(page)}

    def of_pool() -> set[tuple[str, ...]]:
        return {
            (sample.name, *sorted(sample.labels.values()))
            for family in families().values()
            for sample in family.samples
            if sample.labels.get("namespace") == namespace
        }

    pool = scenario()
    pool.start()
    found = families()
    assert all(name.startswith("spillway_") and f.documentation for name, f in found.items())
    units = {"seconds", "usd", "ratio", "requests", "second", "hour", "replicas"}
    assert units <= {part for name in found for part in name.split("_")}
    pool.rate(6)
    pool.wait("the load is seen", lambda: pool.status()["demand"]["requestsPerSecond"] > 3)
    pool.wait("it is a metric", lambda: any(s[0].startswith("spillway_demand") for s in of_pool()))
    before = of_pool()
    assert len(before) < 60
    watch_for(pool, 3)
    assert of_pool() <= before, "more ticks make no more series"
    pool.rig.cluster.api.delete("InferencePool", pool.name, namespace)
    pool.wait("a deleted pool's series are gone", of_pool, lambda seen: not seen)


def test_equal_events_are_counted_and_not_repeated(scenario: Callable[..., Scenario]) -> None:
    pool = scenario()
    pool.start()
    for _ in range(3):
        pool.rig.cluster.api.patch(
            "Deployment", pool.name, pool.namespace, {"spec": {"replicas": 3}}, subresource="scale"
        )
        pool.wait("it is corrected", pool.scale, lambda replicas: replicas == 2)
    events = pool.wait(
        "the event is counted",
        lambda: pool.events(Reason.FOREIGN_SCALE),
        lambda found: any((e.get("series") or {}).get("count", 1) > 1 for e in found),
    )
    assert len(events) == 1


def test_replicas_rise_before_the_queue_and_overflow_covers_the_gap(
    scenario: Callable[..., Scenario], measured: dict[str, float]
) -> None:
    # One replica is nearly full; then comes more than it can ever serve, and less than two can.
    nearly_full, too_much = 0.75 * LARGE_PER_SECOND, 1.75 * LARGE_PER_SECOND
    pool = scenario(replicas=1, emulator=LARGE_ENGINE, spec=LARGE)
    pool.deploy()
    pool.wait("a replica is there", lambda: pool.pods(ready=True))
    pool.rate(nearly_full)
    pool.wait("traffic flows", lambda: pool.traffic()["finished_local_total"] > 30)
    pool.apply()
    pool.wait_ready()
    watch_for(pool, 3)
    began = time.time()
    pool.rig.emulator.set_rate(pool.key, profile=[(0, nearly_full), (40, too_much)])
    looks = watch(pool, "replicas rise", lambda seen: seen.replicas >= 2, timeout=150)
    measured["replicas rise after a ramp of 40 s begins, by"] = looks[-1].at - began
    assert lasting_queue(looks) < QUEUE, "the queue has not risen before"
    looks += watch(
        pool,
        "the new replica serves and overflow is over",
        lambda seen: seen.serving >= 2 and seen.fraction == 0,
        timeout=90,
    )
    assert max(seen.fraction for seen in looks) > 0, "overflow carried what was too much"
    traffic = pool.traffic()
    assert traffic["cloud_total"] > 0
    assert traffic["lost_total"] == traffic["refused_total"] == 0
    assert traffic["attainment"]["overall"]["both"] > 0.95


def test_drained_replicas_go_without_a_lost_request_and_never_below_the_floor(
    scenario: Callable[..., Scenario],
) -> None:
    pool = scenario(emulator=SLOW, spec=CLASSIC)
    pool.start()
    doubled(pool)
    pool.rate(6)
    pool.wait("every replica works", lambda: len(happened(pool, "pod_first_request")) >= 4)
    gpus_say(pool, IDLE)
    looks = watch(pool, "two replicas are left", lambda seen: seen.pods == 2, timeout=90)
    looks += watch_for(pool, 6)
    assert min(seen.serving for seen in looks) == 2
    assert min(seen.replicas for seen in looks) == 2
    assert max(seen.draining for seen in looks) >= 1
    gone = happened(pool, "pod_deleted")
    assert [event["in_flight"] for event in gone] == [0, 0], "they had finished"
    left = {event["pod"]: event for event in happened(pool, "pod_not_serving")}
    assert any(left[event["pod"]]["in_flight"] > 0 for event in gone), "and had work when they left"
    assert pool.traffic()["lost_total"] == pool.traffic()["refused_total"] == 0
    pool.wait_event(Reason.DRAINING)
    pool.wait_event(Reason.DRAINED)


def test_a_replica_that_does_not_finish_goes_at_its_deadline(
    scenario: Callable[..., Scenario], measured: dict[str, float]
) -> None:
    endless = {"mix": "chat", "overrides": {"output_mean": 4000, "output_sigma": 0.0}}
    pool = scenario(
        emulator={**SLOW, "workload": endless},
        spec={**CLASSIC, "scaling": {"drainTimeout": "8s"}},
    )
    pool.start()
    doubled(pool)
    pool.rate(2)
    pool.wait("every replica works", lambda: len(happened(pool, "pod_first_request")) >= 4)
    gpus_say(pool, IDLE)
    (first, *_) = pool.wait("one drains", lambda: pool.pods(Role.DRAINING))
    text = drain_deadline(first)
    assert text is not None
    watch(pool, "two replicas are left", lambda seen: seen.pods == 2, timeout=90)
    deleted = {e["pod"]: e for e in happened(pool, "pod_deleted")}[first["metadata"]["name"]]
    late = deleted["time"] - parse_time(text)
    measured["a replica that does not finish goes after its deadline by"] = late
    # Deadlines have whole seconds.
    assert late > -1.0
    assert deleted["in_flight"] > 0
    pool.wait_event(Reason.DRAIN_DEADLINE)


def test_returning_demand_undrains_before_it_starts_pods(
    scenario: Callable[..., Scenario],
) -> None:
    endless = {"mix": "chat", "overrides": {"output_mean": 4000, "output_sigma": 0.0}}
    pool = scenario(emulator={**SLOW, "workload": endless}, spec=CLASSIC)
    pool.start()
    doubled(pool)
    names = {pod["metadata"]["name"] for pod in pool.pods()}
    pool.rate(2)
    pool.wait("every replica works", lambda: len(happened(pool, "pod_first_request")) >= 4)
    gpus_say(pool, IDLE)
    pool.wait("two drain", lambda: len(pool.pods(Role.DRAINING)) == 2)
    gpus_say(pool, BUSY)
    looks = watch(pool, "all four serve again", lambda seen: seen.serving == 4)
    assert {pod["metadata"]["name"] for pod in pool.pods()} == names, "the same pods"
    assert max(seen.replicas for seen in looks) == 4, "and no other was asked for meanwhile"
    assert all(drain_deadline(pod) is None for pod in pool.pods())
    pool.wait_event(Reason.UNDRAINED)
    assert look(pool).draining == 0
