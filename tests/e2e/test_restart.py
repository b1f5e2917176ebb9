"""The operator dies in the middle of things: nothing is lost, nothing goes down, nothing is spent.

Periods and leases are the rig's short ones; every assertion about a time scales with them.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from spillway.api.names import Role
from spillway.core.periods import Period
from tests.e2e.rig.audit import writes
from tests.e2e.rig.operator_process import FAST
from tests.e2e.scenario import CAPACITY_PER_SECOND, drain_deadline

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.rig.operator_process import OperatorProcess
    from tests.e2e.rig.rig import Rig
    from tests.e2e.scenario import Scenario

#: Twice what two replicas take.
SPIKE = 4 * CAPACITY_PER_SECOND
#: The classic rule with short periods: a test moves replicas by what DCGM says.
CLASSIC = {"policy": "Utilization", "utilization": {"scaleUpAfter": "2s", "scaleDownAfter": "2s"}}
LEASE_SECONDS = FAST["overflow_lease_seconds"]
#: How often the emulator's router asks for the value.
POLL_SECONDS = 1.0


def burst(pool: Scenario) -> dict[str, Any]:
    """Send the spike, and return the live value that the router holds when it bursts."""
    pool.rate(SPIKE)
    value: dict[str, Any] = pool.wait(
        "a share of the requests bursts",
        lambda: pool.traffic()["overflow"],
        lambda value: value and value["live"] and value["fraction"] > 0.2,
    )
    return value


def asked_for(rig: Rig, pool: Scenario, since: float) -> list[int]:
    """Every number of replicas that was written since."""
    found = writes(rig.cluster, namespace=pool.namespace, resource="deployments/scale", since=since)
    return [int(write.body["spec"]["replicas"]) for write in found]


def gauges(operator: OperatorProcess, pool: Scenario) -> dict[str, float]:
    """What an operator says of a pool's lead time and desired replicas."""
    wanted = {"spillway_lead_time_seconds", "spillway_desired_replicas"}
    page = requests.get(f"{operator.url}/metrics", timeout=5).text
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name in wanted and sample.labels.get("namespace") == pool.namespace
    }


def test_a_value_outlives_a_killed_operator_by_half_a_lease_and_then_all_stays_local(
    operators: Rig, scenario: Callable[..., Scenario], measured: dict[str, float]
) -> None:
    operator = operators.start_operator()
    pool = scenario(spec={"replicas": {"floor": 2, "max": 2}})
    pool.start()
    burst(pool)
    operator.kill()
    killed = time.time()
    pool.wait(
        "the value has expired",
        lambda: pool.traffic()["overflow"]["live"],
        lambda live: not live,
        timeout=2 * LEASE_SECONDS,
    )
    expired = datetime.fromisoformat(pool.traffic()["overflow"]["until"]).timestamp()
    measured["an overflow value outlives its operator by"] = expired - killed
    # Half of the lease is certain, as it is renewed at half; the router's copy may be a poll old.
    assert LEASE_SECONDS / 2 - POLL_SECONDS <= expired - killed <= LEASE_SECONDS

    gone = pool.traffic()
    later = pool.wait(
        "requests still arrive",
        pool.traffic,
        lambda seen: seen["arrivals_total"] > gone["arrivals_total"] + 2 * SPIKE,
    )
    assert later["cloud_total"] == gone["cloud_total"]
    assert later["local_total"] > gone["local_total"]
    assert pool.scale() == 2
    assert len(pool.pods(Role.SERVING, ready=True)) == 2


def test_an_operator_that_comes_back_in_a_burst_goes_on_where_it_was(
    operators: Rig, scenario: Callable[..., Scenario], measured: dict[str, float]
) -> None:
    operator = operators.start_operator()
    pool = scenario(spec={**CLASSIC, "replicas": {"floor": 2, "max": 3}})
    pool.start()
    operators.emulator.set_fault(pool.key, gpu_utilization=95)
    pool.wait_roles(serving=3)
    burst(pool)
    before = pool.wait(
        "lead time, overflow and the third replica are in the status",
        pool.status,
        lambda s: (
            s["leadTime"].get("recentSeconds")
            and s["overflow"]["fraction"] > 0
            and s["replicas"]["desired"] == 3
        ),
    )
    held = pool.traffic()["overflow"]
    ledger = pool.ledger()
    assert ledger is not None

    operator.kill()
    killed = time.time()
    operator.start()
    fresh = pool.wait(
        "the router has a value of the new process",
        lambda: pool.traffic()["overflow"],
        lambda seen: seen["live"] and seen["epoch"] > held["epoch"],
        timeout=45,
    )
    measured["SIGKILL and restart until the new process sets overflow"] = time.time() - killed

    assert fresh["fraction"] > 0.1
    assert fresh["version"] >= held["version"]
    restored = pool.ledger()
    assert restored is not None
    assert restored.next_id >= ledger.next_id
    assert restored.committed(Period.MONTH) >= ledger.spent[Period.MONTH].usd
    # What the old process had measured and asked for is what the new one goes by.
    figures = pool.wait(
        "the new process has decided", lambda: gauges(operator, pool), lambda seen: len(seen) == 2
    )
    assert figures["spillway_desired_replicas"] == 3
    lead = before["leadTime"]["p95Seconds"]
    assert figures["spillway_lead_time_seconds"] == pytest.approx(lead, rel=0.01)
    assert pool.status()["replicas"]["desired"] == 3
    assert pool.scale() == 3
    assert len(pool.pods(Role.SERVING, ready=True)) == 3
    if operators.cluster.owns_control_plane:
        assert all(replicas >= 3 for replicas in asked_for(operators, pool, killed))


def test_warm_and_draining_pods_are_as_they_were_after_a_restart(
    operators: Rig, scenario: Callable[..., Scenario]
) -> None:
    operator = operators.start_operator()
    pool = scenario(spec={**CLASSIC, "warmPool": {"size": 1}, "replicas": {"floor": 2, "max": 5}})
    pool.start()
    operators.emulator.set_fault(pool.key, gpu_utilization=95)
    pool.wait_roles(serving=4, warm=1)
    operators.emulator.set_fault(pool.key, gpu_utilization=5)
    pool.wait("a pod drains", lambda: pool.pods(Role.DRAINING), timeout=60)
    operator.kill()
    killed = time.time()
    draining = pool.pods(Role.DRAINING)[0]
    warm = {pod["metadata"]["uid"] for pod in pool.pods(Role.WARM)}
    deadline = drain_deadline(draining)
    assert deadline is not None
    assert datetime.fromisoformat(deadline).timestamp() > killed

    operator.start()
    # It goes on draining the same pod: nobody else goes, and no role changes on the way.
    left = pool.wait(
        "the drained pod has gone",
        lambda: {pod["metadata"]["uid"] for pod in pool.pods()},
        lambda seen: draining["metadata"]["uid"] not in seen,
        timeout=45,
    )
    assert warm <= left
    pool.wait_roles(serving=2, warm=1)
    pool.wait("the second drained pod has gone too", pool.scale, lambda seen: seen == 3)
    if operators.cluster.owns_control_plane:
        assert all(asked >= 3 for asked in asked_for(operators, pool, killed))


def test_a_stopped_operator_gives_its_lease_back_first(
    operators: Rig, scenario: Callable[..., Scenario]
) -> None:
    operator = operators.start_operator()
    pool = scenario()
    pool.start()
    lease = operators.cluster.api.get("Lease", "spillway-operator", operators.system_namespace)
    assert lease["spec"]["holderIdentity"] == "a"
    assert operator.stop() == 0
    stopped = time.time()
    lease = operators.cluster.api.get("Lease", "spillway-operator", operators.system_namespace)
    assert not lease["spec"].get("holderIdentity")
    if not operators.cluster.owns_control_plane:
        pytest.skip("the audit log of this cluster can't be read")
    *_, last = writes(operators.cluster, "spillway-a")
    assert (last.resource, last.verb, last.done) == ("leases", "patch", True)
    assert last.at <= stopped
