"""From an outcome to conditions and status: which condition, with which reason and message."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.api.inferencepool import InferencePoolStatus
from spillway.api.names import Role
from spillway.api.quantities import figure
from spillway.api.reasons import Reason
from spillway.api.timestamps import format_time
from spillway.core.capacity import Capacity
from spillway.core.facts import Contention, MissingData, PodPhase, PoolFacts, RouteFacts, TargetKind
from spillway.core.ledger import PoolLedger, reserve
from spillway.core.overflow import (
    NO_ALLOWANCE,
    Admit,
    Allowance,
    OverflowValue,
    ProviderShare,
)
from spillway.core.pool import Outcome, PoolState, step
from spillway.core.pool_conditions import conditions
from spillway.core.report import status
from spillway.core.reported import Report
from tests.unit.core import pools

NOW = pools.START


def outcome_of(
    facts: PoolFacts, now: float = NOW, state: PoolState | None = None, *, read_only: bool = False
) -> Outcome:
    before = state or PoolState.restored(InferencePoolStatus(), now)
    return step(facts, before, now, read_only=read_only, overflow_fraction=0.0, budget_left=True)


def reported(pool: pools.Pool, **said: Any) -> dict[str, tuple[bool | None, Reason, str]]:
    """Conditions by type: status, reason, message."""
    facts = pool.facts()
    outcome = outcome_of(facts, pool.now, read_only=pool.read_only)
    values = {"overflow": None, "ledger": PoolLedger.empty("UTC", pool.now), **said}
    found = conditions(facts, Report(outcome, **values), pool.now)
    return {c.type.value: (c.status, c.reason, c.message) for c in found}


def test_the_route_is_told_where_there_is_one() -> None:
    pool = pools.Pool()
    assert "RouteReady" not in reported(pool)
    outcome = outcome_of(pool.facts(), pool.now)
    report = Report(outcome, overflow=None, ledger=PoolLedger.empty("UTC", pool.now))
    for route, wanted in (
        (RouteFacts(), (True, Reason.ROUTE_PROGRAMMED, "")),
        (RouteFacts(Reason.ROUTE_NOT_FOUND, "none"), (False, Reason.ROUTE_NOT_FOUND, "none")),
    ):
        found = conditions(replace(pool.facts(), route=route), report, pool.now)
        [told] = [c for c in found if c.type.value == "RouteReady"]
        assert (told.status, told.reason, told.message) == wanted


def test_a_gateway_that_is_not_seen_is_told_after_a_while() -> None:
    edge = pools.Pool(spec=pools.spec(burst=pools.burst(driver="EdgeEnvoy")))
    outcome = outcome_of(edge.facts(), edge.now)
    report = Report(outcome, overflow=None, ledger=PoolLedger.empty("UTC", edge.now))
    told = []
    for missing_since in (None, edge.now - 119, edge.now - 120):
        facts = replace(edge.facts(), gateway_missing_since=missing_since)
        found = [c for c in conditions(facts, report, edge.now) if "Gateway" in c.type.value]
        told.append([(c.status, c.reason) for c in found])
    assert told == [[(True, Reason.GATEWAY_REPORTS)], [], [(False, Reason.GATEWAY_NOT_SEEN)]]
    assert "GatewayReporting" not in reported(pools.Pool())


def test_pods_without_a_readiness_probe_are_not_called_ready() -> None:
    pool = with_service()
    facts = pool.facts()
    (target,) = facts.targets.values()
    old, new = (replace(pod, has_readiness_probe=False) for pod in target.pods)
    found = reported(with_service(pods=(old, new)))["Ready"]
    assert found[:2] == (False, Reason.NO_READINESS_PROBE)
    assert "pods of variant gpu have no readinessProbe" in found[2]
    rolled = replace(new, created_at=old.created_at + 60, has_readiness_probe=True)
    assert reported(with_service(pods=(old, rolled)))["Ready"][0] is True, "the newest counts"


def test_a_ledger_that_can_not_be_stored_is_told() -> None:
    pool = pools.Pool(spec=pools.spec(burst=pools.burst()))
    found = reported(pool, ungranted=True)["BudgetAvailable"]
    assert found[:2] == (False, Reason.LEDGER_NOT_STORED)
    assert reported(pool)["BudgetAvailable"][:2] == (True, Reason.BUDGET_LEFT)


def with_service(**changes: Any) -> pools.Pool:
    return pools.Pool(target_changes={"service_selects_role": True, **changes})


def value(fraction: float = 0.5, *, until: float = NOW + 45, **changes: Any) -> OverflowValue:
    values: dict[str, Any] = {
        "version": 1,
        "epoch": 1,
        "until": until,
        "fraction": fraction,
        "admit": Admit(60),
        "allowance": Allowance(10, 1.0) if fraction else NO_ALLOWANCE,
        "providers": (ProviderShare("api", fraction),),
        "reason": Reason.SHORTAGE if fraction else Reason.COVERED,
    }
    return OverflowValue(**{**values, **changes})


# Conditions


def test_a_pool_in_order() -> None:
    found = reported(with_service())
    assert found["Ready"] == (True, Reason.RECONCILED, "2 of at least 1 replicas serve")
    assert found["MetricsAvailable"][:2] == (True, Reason.METRICS_PRESENT)
    assert found["TargetContested"][:2] == (False, Reason.RECONCILED)
    assert found["PriceKnown"][:2] == (True, Reason.PRICES_KNOWN)
    assert found["Paused"][:2] == (False, Reason.RECONCILED)
    assert found["OverflowActive"][:2] == (False, Reason.BURST_DISABLED)
    assert found["WarmPoolReady"][:2] == (False, Reason.WARM_DISABLED)
    assert "BudgetAvailable" not in found, "absent without burst"


def test_a_latency_promise_that_no_replica_can_keep_is_told() -> None:
    pool = with_service()
    facts = pool.facts()
    outcome = outcome_of(facts)

    def told(each: Capacity) -> tuple[bool | None, Reason, str]:
        decision = replace(outcome.decision, capacity={"gpu": each})
        said = Report(replace(outcome, decision=decision), None, None)
        found = {c.type.value: c for c in conditions(facts, said, NOW)}["LatencyAttainable"]
        return found.status, found.reason, found.message

    assert reported(pool)["LatencyAttainable"] == (True, Reason.LATENCY_ATTAINABLE, "")
    nothing = told(Capacity(0.0, 0.0, "Learned"))
    assert nothing[:2] == (False, Reason.TARGET_UNREACHABLE)
    assert "no batch meets ttft 2s and tpot 0.06s on gpu" in nothing[2]
    few = Capacity(5.0, 9.0, "Learned", longest_prompt_tokens=9e4, unattainable_share=0.04)
    assert told(few)[0] is True, "within the 5 % that the promise leaves"
    many = told(replace(few, unattainable_share=0.06))
    assert many[:2] == (False, Reason.PROMPTS_UNATTAINABLE)
    assert "more than 5% of the prompts are too long" in many[2]


def test_ready_names_what_stands_in_its_way() -> None:
    short = pools.Pool(spec=pools.spec(replicas={"floor": 3, "max": 8}))
    assert reported(short)["Ready"] == (
        False,
        Reason.STARTING,
        "2 of at least 3 replicas serve",
    )
    gone = with_service(exists=False)
    assert reported(gone)["Ready"] == (
        False,
        Reason.TARGET_NOT_FOUND,
        "Deployment ns/gpu does not exist",
    )
    refused = reported(with_service(), problem="may not patch pods")["Ready"]
    assert refused == (False, Reason.WRITE_FAILED, "may not patch pods")


def test_a_gpu_shortage_is_why_the_floor_does_not_serve() -> None:
    waiting = pools.pod("w", None, phase=PodPhase.UNSCHEDULABLE, since=NOW - 400)
    pool = pools.Pool(spec=pools.spec(replicas={"floor": 3, "max": 8}), extra_pods=(waiting,))
    assert reported(pool)["Ready"][:2] == (False, Reason.GPU_SHORTAGE)


def test_missing_metrics_name_the_first_query_and_count_the_others() -> None:
    missing = (MissingData("up", "nothing"), MissingData("down", "a lot"))
    pool = pools.Pool(missing=missing)
    assert reported(pool)["MetricsAvailable"] == (
        False,
        Reason.METRICS_MISSING,
        "up: nothing (and 1 more)",
    )


def test_a_hung_engine_is_told_although_the_metrics_are_there() -> None:
    pool = pools.Pool(load_changes={"waiting": 50.0, "gpu_utilization": 0.01})
    assert reported(pool)["MetricsAvailable"][:2] == (True, Reason.HUNG_ENGINE)


def test_the_last_limit_that_had_a_say_is_shown() -> None:
    pool = pools.Pool(spec=pools.spec(replicas={"floor": 1, "max": 2}), rps=100.0)
    assert reported(pool)["ScalingLimited"] == (
        True,
        Reason.MAX,
        "the pool may have at most 2 replicas",
    )


def test_who_else_scales_the_target_is_named() -> None:
    other = Contention("HorizontalPodAutoscaler", "web")
    found = reported(with_service(contention=other))["TargetContested"]
    assert found[:2] == (True, Reason.TARGET_CONTESTED)
    assert "HorizontalPodAutoscaler web also scales the target of variant gpu" in found[2]


@pytest.mark.parametrize(
    ("mode", "read_only", "expected"),
    [
        ("Active", False, (False, Reason.RECONCILED)),
        ("Paused", False, (True, Reason.PAUSED)),
        ("Advise", False, (True, Reason.ADVISE)),
        ("Active", True, (True, Reason.READ_ONLY)),
    ],
)
def test_paused_says_by_what(
    mode: str,
    read_only: bool,  # noqa: FBT001
    expected: tuple[bool, Reason],
) -> None:
    pool = pools.Pool(spec=pools.spec(mode=mode))
    assert reported(pool, read_only=read_only)["Paused"][:2] == expected


def test_prices_that_are_missing_are_named() -> None:
    spec = pools.spec(variants=[pools.variant(usd=None)], burst=pools.burst(input_usd=None))
    assert reported(pools.Pool(spec=spec))["PriceKnown"] == (
        False,
        Reason.PRICE_UNKNOWN,
        "no price for variant gpu, provider api: burst is off until there is one",
    )


# Overflow and budget

BURST = pools.spec(burst=pools.burst(budget={"perDay": "10"}))


@pytest.mark.parametrize(
    ("overflow", "expected"),
    [
        (value(), (True, Reason.SHORTAGE)),
        (value(0.0), (False, Reason.COVERED)),
        (value(0.0, reason=Reason.BUDGET_EXHAUSTED), (False, Reason.BUDGET_EXHAUSTED)),
        (None, (False, Reason.NO_OVERFLOW_VALUE)),
        (value(until=NOW - 1), (False, Reason.NO_OVERFLOW_VALUE)),
        (value(0.0, until=NOW - 1), (False, Reason.COVERED)),
    ],
)
def test_overflow_is_active_while_a_value_that_sends_away_is_in_force(
    overflow: OverflowValue | None, expected: tuple[bool, Reason]
) -> None:
    assert reported(pools.Pool(spec=BURST), overflow=overflow)["OverflowActive"][:2] == expected


def test_the_message_of_overflow_does_not_move_with_its_figures() -> None:
    messages = {
        reported(pools.Pool(spec=BURST), overflow=value(share))["OverflowActive"][2]
        for share in (0.1, 0.2, 0.3)
    }
    assert len(messages) == 1


def test_budget_is_available_until_it_is_exhausted_or_unknown() -> None:
    pool = pools.Pool(spec=BURST)
    assert reported(pool)["BudgetAvailable"][:2] == (True, Reason.BUDGET_LEFT)
    spent = value(0.0, reason=Reason.BUDGET_EXHAUSTED)
    assert reported(pool, overflow=spent)["BudgetAvailable"][:2] == (
        False,
        Reason.BUDGET_EXHAUSTED,
    )
    unknown = reported(pool, ledger=None)["BudgetAvailable"]
    assert unknown[:2] == (False, Reason.LEDGER_UNREADABLE)
    assert "remove it" in unknown[2]


def test_the_end_of_a_budget_is_announced_on_its_own_clock() -> None:
    # One request a second of $0.36 a thousand is $1.296 an hour: $0.648 lasts for half of one, and
    # it is 13:46:40 in UTC.
    budget = {"perDay": "10", "timeZone": "Europe/Berlin"}
    pool = pools.Pool(spec=pools.spec(burst=pools.burst(budget=budget)), cloud_rps=1.0)
    assert pool.spec.burst is not None
    bounds = pool.spec.burst.budget
    ledger = PoolLedger.empty("Europe/Berlin", NOW)
    spent, _ = reserve(ledger, Decimal("9.352"), 1, bounds, NOW)
    assert reported(pool, ledger=spent)["BudgetAvailable"] == (
        True,
        Reason.BUDGET_RUNNING_OUT,
        "at this rate, out by 15:20 on 1970-01-12 (Europe/Berlin)",
    )


# Warm pool


def test_a_warm_pool_counts_its_replicas() -> None:
    pool = with_service()
    pool.spec = pools.spec(warmPool={"size": 1})
    assert reported(pool)["WarmPoolReady"] == (
        False,
        Reason.WARM_BACKFILL,
        "0 of 1 replicas are warm",
    )
    pool.extra_pods = (pools.pod("w", pools.load(NOW, running=0.0), role=Role.WARM),)
    assert reported(pool)["WarmPoolReady"] == (True, Reason.WARM, "1 of 1 replicas are warm")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ({"role_in_selector": True}, Reason.ROLE_IN_SELECTOR),
        ({"service_selects_role": False}, Reason.SERVICE_IGNORES_ROLE),
        ({"service_selects_role": None}, Reason.NO_SERVICE),
        ({"kind": TargetKind.OTHER}, Reason.UNSUPPORTED_TARGET),
    ],
)
def test_why_there_can_be_no_warm_pool(target: dict[str, Any], reason: Reason) -> None:
    pool = with_service(**target)
    pool.spec = pools.spec(warmPool={"size": 1})
    assert reported(pool)["WarmPoolReady"][:2] == (False, reason)


# The status


def status_of(pool: pools.Pool, previous: InferencePoolStatus | None = None, **said: Any) -> Any:
    facts = pool.facts()
    outcome = outcome_of(facts, pool.now)
    values = {"overflow": None, "ledger": None, **said}
    return status(facts, Report(outcome, **values), previous, pool.now)


def test_a_status_has_every_part_a_person_looks_for() -> None:
    assert BURST.burst is not None
    ledger = reserve(PoolLedger.empty("UTC", NOW), Decimal(2), 4, BURST.burst.budget, NOW)[0]
    pool = pools.Pool(spec=BURST, rps=10.0)
    found = status_of(pool, overflow=value(0.25), ledger=ledger)
    assert found.observed_generation == 1
    assert (found.replicas.serving, found.replicas.desired) == (2, 2)
    assert (found.demand.requests_per_second, found.demand.source) == (10.0, "Gateway")
    assert found.forecast.low < found.forecast.mean < found.forecast.high
    assert (found.capacity.requests_per_second, found.capacity.source) == (10.0, "Declared")
    assert (found.cost.gpu_per_hour, found.cost.total_per_hour) == (7.0, "7.00")
    assert (found.overflow.percent, found.overflow.in_flight) == ("25%", 60)
    assert found.overflow.until == format_time(NOW + 45)
    assert (found.budget.spent_day, found.budget.spent_month) == (2.0, 2.0)
    assert found.last_decision.reasons[0] in {"Demand", "Steady"}


def test_what_is_not_known_is_left_out_and_not_zero() -> None:
    pool = pools.Pool(
        spec=pools.spec(variants=[pools.variant(usd=None)]),
        gateway=False,
        load_changes={"sampled_at": 0.0},
    )
    found = status_of(pool)
    assert found.demand is None
    assert found.cost is None
    assert found.budget is None
    assert found.lead_time.p95_seconds is None


def test_an_expired_value_is_not_shown_as_if_it_held() -> None:
    pool = pools.Pool(spec=BURST)
    expired = status_of(pool, overflow=value(0.25, until=NOW - 1))
    assert expired.overflow == InferencePoolStatus().overflow


def test_a_decision_that_changes_nothing_keeps_the_last_one_and_its_time() -> None:
    pool = pools.Pool()
    first = status_of(pool)
    pool.now += 15
    second = status_of(pool, first)
    assert second.last_decision == first.last_decision
    pool.rps = 100.0
    third = status_of(pool, second)
    assert third.last_decision != first.last_decision
    assert third.last_decision.time == format_time(pool.now)


def test_a_condition_keeps_the_time_of_its_last_turn() -> None:
    pool = pools.Pool()
    first = status_of(pool)
    pool.now += 100
    second = status_of(pool, first)
    times = {c.last_transition_time for c in second.conditions}
    assert times == {format_time(NOW)}


def test_a_status_survives_being_stored() -> None:
    found = status_of(pools.Pool(spec=BURST), overflow=value())
    stored = found.model_dump(mode="json", exclude_none=True)
    assert InferencePoolStatus.model_validate(stored) == found


@given(st.floats(1e-6, 1e9))
def test_figures_have_three_digits(number: float) -> None:
    shown = figure(number)
    assert shown == pytest.approx(number, rel=0.005)
    assert figure(shown) == shown
    digits = f"{shown:e}".split("e")[0].replace(".", "").rstrip("0")
    assert len(digits) <= 3


def test_hits_of_a_cache_are_in_the_status_and_not_in_the_load() -> None:
    pool = pools.Pool(gateway=True)
    facts = pool.facts()
    assert facts.gateway is not None
    plain = outcome_of(facts, pool.now)
    seen = replace(facts.gateway, cache_hits_per_second=facts.gateway.arrivals_per_second)
    cached = replace(facts, gateway=seen)
    outcome = outcome_of(cached, pool.now)
    assert outcome.decision.demand == plain.decision.demand
    assert outcome.decision.desired == plain.decision.desired
    said = status(cached, Report(outcome, overflow=None, ledger=None), None, pool.now)
    assert said.levers is not None
    assert said.levers.cache_hit_share == 0.5
    assert status(facts, Report(plain, overflow=None, ledger=None), None, pool.now).levers is None
