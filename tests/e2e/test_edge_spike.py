"""The whole of it: a saturating spike of real requests, a real Envoy, the operator that steers it.

Clients, Envoy, Prometheus, the control plane and the operator are real, and so is every request;
the pods' engines and the paid API are emulated and count for themselves what they answered.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import pytest
import requests

from spillway.api.names import Role
from spillway.core.ledger import LATE_COUNT_SECONDS, Period
from tests.e2e.rig.cloud import Cloud
from tests.e2e.rig.edge_traffic import EdgePool, EdgeTraffic
from tests.e2e.rig.emulator.settings import LatencyTargets, WorkloadSettings
from tests.e2e.rig.processes import free_ports
from tests.e2e.scenario import CAPACITY_PER_SECOND, MIX, MODEL, Scenario
from tests.e2e.watching import happened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.e2e.rig.clients import Outcome
    from tests.e2e.rig.operator_process import OperatorProcess
    from tests.e2e.rig.rig import Rig

pytestmark = pytest.mark.long

#: What the floor of two serves with ease, and three times what it is declared to serve.
CALM, SPIKE = CAPACITY_PER_SECOND, 3 * 2 * CAPACITY_PER_SECOND
#: From a pod's start to Ready: long enough to see who answers meanwhile.
STARTUP_SECONDS: Final = 12.0
TARGETS = LatencyTargets(ttft_seconds=2.0, tpot_seconds=0.06)
ATTAINMENT: Final = 0.95
SPEC: Final = {
    "latency": {"ttft": "2s", "tpot": "60ms", "attainment": str(ATTAINMENT)},
    "demand": {"source": "Gateway"},
    "burst": {"driver": "EdgeEnvoy", "budget": {"perMonth": "100"}},
}
#: As test_overflow.py has it: answers last about 2.3 s, sixteen at once.
ENGINE: Final = {"profile": {"overrides": {"base_seconds": 0.022, "max_num_seqs": 16}}}


@pytest.fixture
def pool(scenario: Callable[..., Scenario]) -> Scenario:
    """A pool of two replicas whose pods answer HTTP."""
    (port,) = free_ports(1)
    emulator = {**ENGINE, "router": "none", "http_port": port}
    made = scenario(startup_seconds=STARTUP_SECONDS, spec=SPEC, emulator=emulator)
    made.deploy()
    made.apply()
    return made


@pytest.fixture
def traffic(rig: Rig, pool: Scenario, operator: OperatorProcess) -> Iterator[EdgeTraffic]:
    """The edge before it, its clients, and the paid API behind it."""
    behind = EdgePool(
        namespace=pool.namespace,
        name=pool.name,
        service=pool.name,
        http_port=pool.emulator["http_port"],
        model=MODEL,
        mix=WorkloadSettings.model_validate(MIX).build(),
        targets=TARGETS,
    )
    made = EdgeTraffic(rig, behind, [Cloud("cloud")], operator)
    try:
        yield made.start()
    finally:
        made.stop()


def between(outcomes: Sequence[Outcome], since: float, until: float) -> list[Outcome]:
    """Those whose requests were sent in that time."""
    return [each for each in outcomes if since <= each.sent_at < until]


def cloud_share(outcomes: Sequence[Outcome]) -> float:
    """Share that the paid API answered."""
    return sum(each.who != "local" for each in outcomes) / len(outcomes)


def in_time(outcomes: Sequence[Outcome]) -> float:
    """Share whose first token came within the target."""
    return sum(each.ttft_seconds <= TARGETS.ttft_seconds for each in outcomes) / len(outcomes)


def arrivals_per_second(pool: Scenario) -> float:
    """The demand by the pool's status; 0 before it is known."""
    demand = pool.status().get("demand") or {}
    return float(demand.get("requestsPerSecond", 0.0))


def settled_usd(pool: Scenario) -> float:
    """The month's spend by the stored ledger, without what is put aside."""
    ledger = pool.ledger()
    return 0.0 if ledger is None else float(ledger.spent[Period.MONTH].usd)


def spent_usd(operator: OperatorProcess, pool: Scenario) -> float:
    """The month's spend, reservations included, by the operator's metrics."""
    labels = f'{{namespace="{pool.namespace}",period="month",pool="{pool.name}"}}'
    page = requests.get(f"{operator.url}/metrics", timeout=5).text
    [value] = [
        line.rpartition(" ")[2]
        for line in page.splitlines()
        if line.startswith("spillway_budget_spent_usd" + labels)
    ]
    return float(value)


def wait_until_nothing_leaves(pool: Scenario, cloud: Cloud, seconds: float) -> float:
    """Wait until the cloud got nothing for so long; returns since when."""
    seen, since = -1, time.time()

    def look() -> float:
        nonlocal seen, since
        got = cloud.answered + cloud.together.in_flight
        if got != seen:
            seen, since = got, time.time()
        return time.time() - since

    pool.wait("nothing leaves any more", look, lambda quiet: quiet >= seconds, timeout=120)
    return since


@pytest.mark.timeout(480)
def test_a_spike_is_served_in_time_paid_for_only_while_replicas_start_and_accounted_for(
    rig: Rig,
    pool: Scenario,
    traffic: EdgeTraffic,
    operator: OperatorProcess,
    measured: dict[str, float],
) -> None:
    clients, [cloud] = traffic.clients, traffic.clouds
    pool.wait_roles(serving=2)
    pool.wait("the edge finds them", traffic.reaches_replicas)
    traffic.rate((0, CALM))
    pool.wait_ready()
    pool.wait_condition("GatewayReporting", "True")
    pool.wait(
        "the edge's count of arrivals is the demand",
        lambda: arrivals_per_second(pool),
        lambda seen: seen == pytest.approx(CALM, rel=0.5),
        timeout=60,
    )
    assert cloud.answered == 0, "two replicas are enough for that"

    began = time.time()
    traffic.rate((0, SPIKE))
    pool.wait("some leave", lambda: cloud.answered > 0)
    quiet_since = wait_until_nothing_leaves(pool, cloud, seconds=12.0)
    demand = arrivals_per_second(pool)
    serving = len(pool.pods(Role.SERVING, ready=True))
    ended = time.time()

    traffic.rate((0, CALM))
    pool.wait_roles(serving=2, draining=0, timeout=150)
    traffic.rate((0, 0))
    pool.wait("everybody has an answer", lambda: clients.in_flight, lambda left: left == 0)

    # Nobody was lost, not even by replicas that went, and all tell the same.
    assert clients.problems == []
    assert clients.lost == 0
    engines = pool.traffic()
    assert engines["finished_local_total"] == clients.answered["local"]
    assert cloud.answered == clients.answered["cloud"]
    assert clients.sent == clients.answered.total() > 20 * SPIKE

    # Within the promise on the replicas, by the clients' clocks and by the edge's.
    spike = between(clients.outcomes, began, ended)
    assert in_time([each for each in spike if each.who == "local"]) >= ATTAINMENT
    assert in_time(spike) >= ATTAINMENT
    assert edge_attainment(rig, pool) >= ATTAINMENT

    # The cloud took the rest while replicas started, and nothing after they served.
    [first, *_] = [
        event["time"] for event in happened(pool, "pod_serving") if event["time"] > began
    ]
    starting = between(clients.outcomes, began + 3, first)
    assert len(starting) > 5 * SPIKE
    assert cloud_share(starting) > 0.2
    assert cloud_share(between(clients.outcomes, quiet_since, ended)) == 0
    assert serving > 2
    assert demand == pytest.approx(SPIKE, rel=0.25), "upstream of the split"

    # The ledger holds what the cloud charged, and what is told of it does when what was put aside
    # and not used has come back.
    assert cloud.usd > 0
    charged = pytest.approx(cloud.usd, rel=0.01)
    pool.wait("the ledger has counted", lambda: settled_usd(pool), lambda usd: usd == charged)
    pool.wait(
        "reservations are closed",
        lambda: (pool.status()["budget"]["spentMonth"], spent_usd(operator, pool)),
        lambda seen: seen == (charged, charged),
        timeout=LATE_COUNT_SECONDS + 30,
    )
    away = min(each.sent_at for each in spike if each.who == "cloud")
    measured["a spike at the edge: the first request left after"] = away - began
    measured["a spike at the edge: the last request left after"] = quiet_since - began
    measured["a spike at the edge: first new replica served after"] = first - began


def edge_attainment(rig: Rig, pool: Scenario) -> float:
    """Share of the replicas' first tokens within the target, by the edge's own histogram."""
    where = f'namespace="{pool.namespace}",pool="{pool.name}",destination="local"'
    name = "spillway_gateway_time_to_first_token_seconds"
    # Prometheus 3 writes bounds that are whole numbers with a point.
    met = f'sum({name}_bucket{{{where},le=~"{TARGETS.ttft_seconds:g}([.]0)?"}})'
    [found] = rig.prometheus.query(f"{met} / sum({name}_count{{{where}}})")
    return float(found["value"][1])
