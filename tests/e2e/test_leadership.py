"""Two operators: one writes at any time, and a burst does not notice who.

Who wrote what is told by the API server's audit log, as each operator has an account of its own.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
import requests

from tests.e2e.rig.audit import Write, writes
from tests.e2e.rig.operator_process import FAST
from tests.e2e.scenario import CAPACITY_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.faults import Faults
    from tests.e2e.rig.cluster import Cluster
    from tests.e2e.rig.operator_process import OperatorProcess
    from tests.e2e.rig.rig import Rig
    from tests.e2e.scenario import Scenario

SPIKE = 4 * CAPACITY_PER_SECOND
#: By design a failover with a lease of 15 s takes less than 20: a lease and 5 s.
FAILOVER_SECONDS = FAST["lease_duration_seconds"] + 5.0
#: What an operator writes beside its Lease.
WORK = {
    "inferencepools", "inferencepools/status", "pods", "deployments/scale", "configmaps"
}  # fmt: skip


@dataclass
class Watcher:
    """Looks at the router of a bursting pool all the time.

    Attributes:
        pool: The pool.
        fractions: Share sent away at each look; 0 where no value is live.
    """

    pool: Scenario
    fractions: list[float] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look while the block runs."""
        thread = threading.Thread(target=self._look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            value = self.pool.traffic()["overflow"] or {}
            self.fractions.append(value["fraction"] if value.get("live") else 0.0)


@pytest.fixture(autouse=True)
def _audited(cluster: Cluster) -> None:
    if not cluster.owns_control_plane:
        pytest.skip("the audit log of this cluster can't be read")


@pytest.fixture
def pool(scenario: Callable[..., Scenario]) -> Scenario:
    """Two replicas and no room for more, so that it bursts for as long as the spike lasts."""
    return scenario(spec={"replicas": {"floor": 2, "max": 2}})


@pytest.fixture
def pair(operators: Rig) -> tuple[OperatorProcess, OperatorProcess]:
    """A leader and a standby."""
    leader = operators.start_operator("a")
    standby = operators.start_operator("b")
    assert holder(operators) == "a"
    return leader, standby


def holder(rig: Rig) -> str:
    """Who holds the Lease."""
    lease = rig.cluster.api.get("Lease", "spillway-operator", rig.system_namespace)
    name: str = lease["spec"].get("holderIdentity") or ""
    return name


def acquired_at(rig: Rig) -> float:
    """When the present holder took the Lease."""
    lease = rig.cluster.api.get("Lease", "spillway-operator", rig.system_namespace)
    return datetime.fromisoformat(lease["spec"]["acquireTime"]).timestamp()


def work(rig: Rig, operator: OperatorProcess, since: float) -> list[Write]:
    """What an operator wrote, beside its Lease, whether it was let or not."""
    account = f"spillway-{operator.identity}"
    return [w for w in writes(rig.cluster, account, since=since) if w.resource in WORK]


def burst(pool: Scenario) -> None:
    """Start the pool and have it burst."""
    pool.start()
    pool.rate(SPIKE)
    pool.wait(
        "a share of the requests bursts",
        lambda: pool.traffic()["overflow"],
        lambda value: value and value["live"] and value["fraction"] > 0.2,
    )


def taken_over(rig: Rig, pool: Scenario, standby: OperatorProcess, since: float) -> list[Write]:
    """Wait until the standby leads and its value has reached the router; its first writes."""
    pool.wait("the standby holds the Lease", lambda: holder(rig), lambda name: name == "b")
    pool.wait(
        "the router has the new leader's value",
        lambda: (pool.traffic()["overflow"]["epoch"], overflow_of(standby, pool)["epoch"]),
        lambda epochs: epochs[0] == epochs[1],
    )
    found: list[Write] = pool.wait(
        "the new leader has written", lambda: work(rig, standby, since), timeout=60
    )
    return found


def overflow_of(operator: OperatorProcess, pool: Scenario) -> dict[str, object]:
    """What an operator answers to routers."""
    answer = requests.get(f"{operator.url}/v1/overflow/{pool.key}", timeout=5)
    answer.raise_for_status()
    value: dict[str, object] = answer.json()
    return value


def test_a_standby_is_ready_observes_serves_the_value_and_writes_nothing(
    operators: Rig, pool: Scenario, pair: tuple[OperatorProcess, OperatorProcess]
) -> None:
    began = time.time()
    leader, standby = pair
    burst(pool)
    for operator in pair:
        for path in ("readyz", "healthz"):
            assert requests.get(f"{operator.url}/{path}", timeout=5).status_code == 200
    pages = {o.identity: requests.get(f"{o.url}/metrics", timeout=5).text for o in pair}
    assert "spillway_leader 1.0" in pages["a"]
    assert "spillway_leader 0.0" in pages["b"]
    # It sees the load itself, so it knows it when its turn comes.
    seen = [
        float(line.rpartition(" ")[2])
        for line in pages["b"].splitlines()
        if line.startswith("spillway_demand_requests_per_second{") and pool.namespace in line
    ]
    assert seen
    assert seen[0] > 0

    def same() -> bool:
        annotation, answer = json.loads(pool.annotation() or "{}"), overflow_of(standby, pool)
        return all(annotation[name] == answer[name] for name in ("epoch", "version", "fraction"))

    pool.wait("the standby answers what the annotation says", same)
    assert work(operators, leader, began)
    assert work(operators, standby, began) == []


def test_a_killed_leader_is_followed_without_a_double_write_or_a_break_of_the_burst(
    operators: Rig,
    pool: Scenario,
    pair: tuple[OperatorProcess, OperatorProcess],
    measured: dict[str, float],
    faults: Faults,
) -> None:
    began = time.time()
    leader, standby = pair
    burst(pool)
    watcher = Watcher(pool)
    with watcher.watching():
        leader.kill()
        killed = time.time()
        first, *_ = taken_over(operators, pool, standby, began)
        pool.wait("it goes on", lambda: len(work(operators, standby, began)) > 3)
    measured["failover after SIGKILL (lease taken)"] = acquired_at(operators) - killed
    measured["failover after SIGKILL (first write)"] = first.at - killed
    assert first.at - killed < FAILOVER_SECONDS
    assert min(watcher.fractions) > 0
    *_, last = work(operators, leader, began)
    assert last.at <= killed < first.at
    faults.survived(
        "leader killed (SIGKILL; lease of 4 s)",
        "one writer at any time by the audit log; burst never breaks",
        first.at - killed,
    )


def test_a_stopped_leader_hands_over_at_once(
    operators: Rig,
    pool: Scenario,
    pair: tuple[OperatorProcess, OperatorProcess],
    measured: dict[str, float],
) -> None:
    began = time.time()
    leader, standby = pair
    burst(pool)
    watcher = Watcher(pool)
    with watcher.watching():
        asked = time.time()
        assert leader.stop() == 0
        first, *_ = taken_over(operators, pool, standby, began)
    measured["failover after SIGTERM (lease taken)"] = acquired_at(operators) - asked
    # The lease was given back, so nobody waits for it to run out.
    assert acquired_at(operators) - asked < FAST["lease_duration_seconds"]
    assert min(watcher.fractions) > 0
    *_, last = work(operators, leader, began)
    assert last.at < first.at


def test_a_frozen_leader_that_wakes_up_writes_nothing(
    operators: Rig,
    pool: Scenario,
    pair: tuple[OperatorProcess, OperatorProcess],
    measured: dict[str, float],
    faults: Faults,
) -> None:
    began = time.time()
    leader, standby = pair
    burst(pool)
    watcher = Watcher(pool)
    with watcher.watching():
        leader.pause()
        frozen = time.time()
        first, *_ = taken_over(operators, pool, standby, began)
        measured["failover after SIGSTOP (first write)"] = first.at - frozen
        assert first.at - frozen < FAILOVER_SECONDS
        leader.resume()
        woken = time.time()
        pool.wait(
            "the old leader knows that it is none",
            lambda: leader.log_lines(event="leadership changed", leads=False),
        )
        many = len(work(operators, standby, began)) + 4
        pool.wait("the new one goes on", lambda: len(work(operators, standby, began)) >= many)
    assert min(watcher.fractions) > 0
    assert work(operators, leader, woken) == []
    assert [w for w in work(operators, leader, began) if w.at > first.at] == []
    assert holder(operators) == "b"
    faults.survived(
        "leader frozen and woken (SIGSTOP, SIGCONT; lease of 4 s)",
        "one writer at any time by the audit log; the woken one writes nothing",
        first.at - frozen,
    )


def test_writes_to_replicas_and_pods_carry_the_version_they_were_decided_on(
    operators: Rig, scenario: Callable[..., Scenario]
) -> None:
    began = time.time()
    operator = operators.start_operator()
    pool = scenario(spec={"warmPool": {"size": 1}})
    pool.start()
    pool.wait_roles(serving=2, warm=1)
    found = work(operators, operator, began)
    for resource in ("deployments/scale", "pods"):
        some = [w for w in found if w.resource == resource and w.namespace == pool.namespace]
        assert some
        assert all(w.resource_version for w in some)
