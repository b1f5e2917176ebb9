"""The overflow value: set at once, published twice, leased, and never beyond the budget."""

from __future__ import annotations

import json
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from spillway.api.reasons import Reason
from spillway.api.timestamps import parse_time
from tests.e2e.scenario import CAPACITY_PER_SECOND
from tests.e2e.watching import watch_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.rig.operator_process import OperatorProcess
    from tests.e2e.scenario import Scenario

pytestmark = pytest.mark.usefixtures("operator")

#: Three times what two replicas take, and no more replicas allowed: all the rest must leave.
SPIKE = 3 * 2 * CAPACITY_PER_SECOND
TWO = {"replicas": {"floor": 2, "max": 2}}
#: An emulated replica that can take no more than it is declared to: answers last about 2.3 s.
ENGINE = {"profile": {"overrides": {"base_seconds": 0.022, "max_num_seqs": 16}}}
#: Longer than an answer of such a replica, with its wait before.
REQUEST_SECONDS = 4.0


def over_http(operator: OperatorProcess, pool: Scenario) -> dict[str, Any]:
    """The value as gateways get it."""
    answer = requests.get(f"{operator.url}/v1/overflow/{pool.key}", timeout=5)
    assert answer.status_code == 200, answer.text
    value: dict[str, Any] = answer.json()
    return value


def annotated(pool: Scenario) -> dict[str, Any]:
    """The value of the annotation; empty where there is none."""
    text = pool.annotation()
    value: dict[str, Any] = json.loads(text) if text else {}
    return value


def bursting(pool: Scenario) -> dict[str, Any]:
    """Send the spike and wait until a share of it leaves."""
    pool.rate(SPIKE)
    value: dict[str, Any] = pool.wait(
        "a share leaves", lambda: annotated(pool), lambda seen: seen.get("fraction", 0) > 0.3
    )
    return value


def delays(operator: OperatorProcess) -> dict[str, float]:
    """Cumulative counts of spillway_overflow_delay_seconds by upper bound; ``+Inf`` is all."""
    page = requests.get(f"{operator.url}/metrics", timeout=5).text
    return {
        sample.labels["le"]: sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "spillway_overflow_delay_seconds_bucket"
    }


def test_a_shortage_is_answered_within_a_second_of_the_sample_that_shows_it(
    scenario: Callable[..., Scenario], operator: OperatorProcess, measured: dict[str, float]
) -> None:
    pool = scenario(spec=TWO, emulator=ENGINE)
    pool.start()
    before = delays(operator)
    began = time.time()
    pool.rate(SPIKE)
    pool.wait("the router sends some away", lambda: pool.traffic()["cloud_total"] > 0)
    left_after = time.time() - began
    after = delays(operator)
    assert after["+Inf"] > before["+Inf"], "the delay was measured"
    within = {le: after[le] - before[le] for le in after}
    assert within["1.0"] == within["+Inf"], "each within a second"
    best = min(float(le) for le, count in within.items() if count == within["+Inf"])
    measured["overflow is set after the sample that shows the shortage, at most"] = best
    measured["a spike leaves for the cloud after it begins, by (router polls once a second)"] = (
        left_after
    )


def test_annotation_and_endpoint_say_the_same_and_are_renewed_before_they_expire(
    scenario: Callable[..., Scenario], operator: OperatorProcess
) -> None:
    pool = scenario(spec=TWO, emulator=ENGINE)
    pool.start()
    bursting(pool)
    pool.wait(
        "the load is steady", lambda: abs(annotated(pool)["fraction"] - 2 / 3) < 0.15, timeout=60
    )
    # The endpoint has each second's value and the annotation follows a write later: two looks may
    # differ by a tick, and the two must meet all the same.
    note, answer = pool.wait(
        "annotation and endpoint agree",
        lambda: (annotated(pool), over_http(operator, pool)),
        lambda seen: abs(seen[0]["fraction"] - seen[1]["fraction"]) <= 0.02,
    )
    keys = {
        "version", "epoch", "until", "fraction", "admit", "allowance", "providers", "reason",
    }  # fmt: skip
    assert set(note) == set(answer) == keys
    assert note["reason"] == answer["reason"] == Reason.SHORTAGE
    assert note["epoch"] == answer["epoch"] > 0
    assert sum(p["fraction"] for p in note["providers"]) == pytest.approx(note["fraction"])
    assert note["admit"]["inFlight"] >= 2 * 16
    assert note["allowance"]["requests"] > 0
    assert note["allowance"]["usd"] > 0
    pool.wait_condition("OverflowActive", "True")
    ends = time.time() + 12
    while time.time() < ends:
        assert parse_time(annotated(pool)["until"]) > time.time(), (
            "never out of date while it bursts"
        )
        time.sleep(0.25)
    pool.rate(0)
    pool.wait("all stays", lambda: over_http(operator, pool)["fraction"] == 0, timeout=60)
    pool.wait_condition("OverflowActive", "False", Reason.COVERED.value)


def test_the_endpoint_only_reads_and_knows_what_there_is(
    scenario: Callable[..., Scenario], operator: OperatorProcess
) -> None:
    pool = scenario(spec=TWO)
    pool.start()
    address = f"{operator.url}/v1/overflow/{pool.key}"
    pool.wait("there is a value", lambda: requests.get(address, timeout=5).status_code == 200)
    assert requests.put(address, json={"fraction": 1}, timeout=5).status_code == 405
    assert requests.delete(address, timeout=5).status_code == 405
    unknown = requests.get(f"{operator.url}/v1/overflow/{pool.namespace}/nobody", timeout=5)
    assert unknown.status_code == 404
    assert "nobody" in unknown.json()["error"]


def test_a_router_that_admits_keeps_what_is_in_flight_within_the_bound(
    scenario: Callable[..., Scenario], operator: OperatorProcess
) -> None:
    pool = scenario(spec=TWO, emulator={**ENGINE, "router": "admit"})
    pool.start()
    bursting(pool)
    # Nobody counts arrivals here: until their window is full, what is granted is spent early, and
    # then the rest stays.
    pool.wait("the load is known", lambda: annotated(pool)["fraction"] > 0.55, timeout=60)
    # A request that was admitted stays when the bound falls: it counts for as long as one takes.
    bounds: deque[float] = deque(maxlen=int(REQUEST_SECONDS / 0.25))
    for look in range(32):
        bounds.append(over_http(operator, pool)["admit"]["inFlight"])
        time.sleep(0.25)
        if look >= 12:
            assert pool.traffic()["in_flight_local"] <= max(bounds) * 1.1
    traffic = pool.traffic()
    assert traffic["cloud_total"] > 0
    assert traffic["lost_total"] == traffic["refused_total"] == 0


def test_a_budget_is_never_exceeded_and_says_when_it_is_spent(
    scenario: Callable[..., Scenario],
) -> None:
    cents = 0.30
    budget = {"burst": {"budget": {"perHour": f"{cents:.2f}"}}}
    pool = scenario(spec={**TWO, **budget}, emulator=ENGINE)
    pool.start()
    pool.rate(SPIKE)
    pool.wait("some leave", lambda: pool.traffic()["cloud_total"] > 0)
    pool.wait_condition("BudgetAvailable", "False", Reason.BUDGET_EXHAUSTED.value, timeout=90)
    pool.wait("all stays", lambda: annotated(pool).get("fraction") == 0)
    watch_for(pool, 3)
    sent = pool.traffic()["cloud_total"]
    watch_for(pool, 4)
    traffic = pool.traffic()
    assert traffic["cloud_total"] == sent, "nothing leaves any more"
    assert 0 < traffic["cost_usd_total"] <= cents
    assert pool.status()["budget"]["spentHour"] <= cents
    pool.wait_event(Reason.BUDGET_EXHAUSTED)


def test_without_a_price_nothing_leaves(scenario: Callable[..., Scenario]) -> None:
    unpriced = {"burst": {"providers": [{"name": "cloud"}]}}
    pool = scenario(spec={**TWO, **unpriced}, emulator=ENGINE)
    pool.start()
    condition = pool.wait_condition("PriceKnown", "False", Reason.PRICE_UNKNOWN.value)
    assert "provider cloud" in condition["message"]
    pool.rate(SPIKE)
    pool.wait("a queue grows", lambda: pool.traffic()["waiting"] > 10)
    watch_for(pool, 3)
    assert pool.traffic()["cloud_total"] == 0
    assert pool.status()["overflow"]["reason"] == Reason.PRICE_UNKNOWN
