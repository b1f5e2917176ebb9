"""Turns an outcome into what a person reads: the status of a pool."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from spillway.api.conditions import merge_conditions
from spillway.api.inferencepool import (
    BudgetStatus,
    CapacityStatus,
    Condition,
    CostStatus,
    DecisionStatus,
    DemandStatus,
    ForecastStatus,
    InferencePoolStatus,
    LeadTimeStatus,
    LeversStatus,
    OverflowStatus,
    ReplicaStatus,
)
from spillway.api.quantities import figure
from spillway.api.timestamps import format_time
from spillway.core.guarding import guard_status
from spillway.core.levers import levers
from spillway.core.periods import Period
from spillway.core.pool_conditions import conditions
from spillway.core.price_status import to_status
from spillway.core.sizing import sizing_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spillway.core.facts import PoolFacts
    from spillway.core.reported import Report


def status(
    facts: PoolFacts, report: Report, previous: InferencePoolStatus | None, now: float
) -> InferencePoolStatus:
    """The status that the pool should have.

    Args:
        facts: What the step knew.
        report: What it decided and what was published.
        previous: The status as it stands; keeps transition times and the last decision.
        now: Seconds since the epoch.
    """
    decision = report.outcome.decision
    counts = report.outcome.plan.counts
    before: Sequence[Condition] = previous.conditions if previous else ()
    return InferencePoolStatus(
        observed_generation=facts.generation,
        replicas=ReplicaStatus(
            serving=counts.serving,
            warm=counts.warm,
            starting=counts.starting,
            draining=counts.draining,
            desired=decision.desired,
        ),
        demand=_demand_status(report),
        forecast=_forecast_status(report),
        capacity=_capacity_status(report),
        cost=_cost_status(report),
        levers=_levers_status(facts, report, now),
        sizing=sizing_status(facts.spec, decision),
        overflow=_overflow_status(report, now),
        budget=_budget_status(facts, report, now),
        guard=guard_status(report.outcome.state.deciding.guard),
        lead_time=_lead_status(report),
        prices=to_status(report.outcome.state.deciding.prices),
        last_decision=_decision_status(report, previous),
        conditions=merge_conditions(before, conditions(facts, report, now), facts.generation, now),
    )


def _demand_status(report: Report) -> DemandStatus | None:
    demand = report.outcome.decision.demand
    if demand is None:
        return None
    return DemandStatus(
        requests_per_second=figure(demand.requests_per_second),
        queue=figure(demand.queue),
        source=demand.source,
        lower_bound=demand.lower_bound,
        prefill_tokens_per_second=_known(demand.prefill_tokens_per_second),
        decode_tokens_per_second=_known(demand.decode_tokens_per_second),
    )


def _known(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else figure(value)


def _forecast_status(report: Report) -> ForecastStatus | None:
    forecast = report.outcome.decision.forecast
    if forecast is None:
        return None
    return ForecastStatus(
        mean=figure(forecast.mean),
        low=figure(forecast.quantile(0.05)),
        high=figure(forecast.quantile(0.95)),
        horizon_seconds=figure(forecast.horizon_seconds),
    )


def _capacity_status(report: Report) -> CapacityStatus | None:
    capacity = next(iter(report.outcome.decision.capacity.values()), None)
    if capacity is None:
        return None
    return CapacityStatus(
        requests_per_second=figure(capacity.requests_per_second),
        concurrency=figure(capacity.concurrency),
        source=capacity.source,
        detail=capacity.detail,
        longest_prompt_tokens=_known(capacity.longest_prompt_tokens),
        relative_error=_known(capacity.relative_error),
    )


def _cost_status(report: Report) -> CostStatus | None:
    costs = report.outcome.decision.economics
    if costs is None or costs.gpu_per_hour is None:
        return None
    total = costs.gpu_per_hour + (costs.api_per_hour or 0.0)
    return CostStatus(
        gpu_per_hour=figure(costs.gpu_per_hour),
        api_per_hour=figure(costs.api_per_hour or 0.0),
        total_per_hour=f"{figure(total):.2f}",
        all_gpu_per_hour=None if costs.all_gpu_per_hour is None else figure(costs.all_gpu_per_hour),
        all_api_per_hour=None if costs.all_api_per_hour is None else figure(costs.all_api_per_hour),
    )


def _levers_status(facts: PoolFacts, report: Report, now: float) -> LeversStatus | None:
    decision = report.outcome.decision
    costs = decision.economics
    paid = None
    if costs is not None and costs.gpu_per_hour is not None:
        paid = costs.gpu_per_hour + (costs.api_per_hour or 0.0)
    found = levers(facts.gateway, decision.demand, paid, now)
    if found is None:
        return None
    saved = found.saved_usd_per_hour
    return LeversStatus(
        cache_hits_per_second=figure(found.cache_hits_per_second),
        cache_hit_share=figure(found.cache_hit_share),
        saved_tokens_per_second=figure(found.saved_tokens_per_second),
        saved_per_hour=None if saved is None else _known(saved),
        routed_share=figure(found.routed_share),
    )


def _overflow_status(report: Report, now: float) -> OverflowStatus:
    value = report.overflow
    if value is None or value.lapsed(now):
        return OverflowStatus()
    return OverflowStatus(
        fraction=figure(value.fraction),
        percent=f"{value.fraction:.0%}",
        in_flight=value.admit.in_flight if value.admit else None,
        reason=value.reason,
        until=format_time(value.until) if value.fraction > 0 else "",
    )


def _budget_status(facts: PoolFacts, report: Report, now: float) -> BudgetStatus | None:
    if report.ledger is None:
        return None
    spent = report.ledger.spent_by_period()
    out_at = report.budget_ends_at(facts, now)
    return BudgetStatus(
        spent_hour=figure(float(spent[Period.HOUR])),
        spent_day=figure(float(spent[Period.DAY])),
        spent_month=figure(float(spent[Period.MONTH])),
        lasts_until="" if out_at is None else format_time(out_at),
    )


def _lead_status(report: Report) -> LeadTimeStatus:
    leads = report.outcome.state.deciding.lead_times
    measured = list(leads.recent_seconds)
    return LeadTimeStatus(
        p95_seconds=figure(report.outcome.decision.lead_seconds) if measured else None,
        recent_seconds=[figure(seconds) for seconds in measured],
    )


def _decision_status(report: Report, previous: InferencePoolStatus | None) -> DecisionStatus | None:
    decision = report.outcome.decision
    reasons = [note.reason.value for note in decision.notes]
    before = previous.last_decision if previous is not None else None
    if before is not None and not decision.changed and before.reasons == reasons:
        return before
    return DecisionStatus(
        id=decision.id,
        time=format_time(decision.at),
        reasons=reasons,
        message=str(decision),
    )
