"""The guard in a pool's step: what it is shown, its ceilings, and how a restart restores it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from spillway.api.quantities import figure
from spillway.api.status import GuardStatus
from spillway.api.timestamps import format_time, parse_time
from spillway.core.guard import Ceiling, GuardMemory, Sign, Suspicion, Traffic, observe, remembered
from spillway.core.samples import is_fresh

if TYPE_CHECKING:
    from spillway.api.inferencepool import InferencePoolSpec
    from spillway.core.demand import DemandEstimate
    from spillway.core.economics import Economics
    from spillway.core.facts import PoolFacts
    from spillway.core.memory import PoolMemory
    from spillway.core.schedules import Scheduled
    from spillway.core.tokenmix import TokenMix

#: An announced rate may be exceeded by this factor before it is a surprise.
_SCHEDULE_ROOM: Final = 1.5
#: A ceiling on spend is what would use up a budget in this share of its period.
_BUDGET_SHARE: Final = 0.25
_PERIOD_HOURS: Final = {"per_hour": 1.0, "per_day": 24.0, "per_month": 730.0}


def guarded(
    facts: PoolFacts,
    memory: PoolMemory,
    demand: DemandEstimate | None,
    mix: TokenMix,
    mu: float,
    money: Economics,
    now: float,
    *,
    declared: Scheduled,
) -> GuardMemory:
    """The guard's memory after this step; without data what is suspected stays."""
    if demand is None:
        return memory.guard
    prompt, output = demand.prompt_tokens_per_request, demand.output_tokens_per_request
    tokens = (mix.prompt_tokens if prompt is None else prompt) + (
        mix.output_tokens if output is None else output
    )
    gateway = facts.gateway
    counted = gateway is not None and is_fresh(gateway.sampled_at, now)
    traffic = Traffic(
        tokens_per_minute=demand.requests_per_second * tokens * 60,
        requests_per_second=demand.requests_per_second,
        usd_per_hour=money.api_per_hour,
        replicas=sum(memory.by_variant.values()),
        stray=memory.forecasts.band.stray,
        talker=gateway.top_talker if gateway is not None and counted else "",
        talker_share=gateway.top_talker_share if gateway is not None and counted else None,
    )
    return observe(
        memory.guard,
        facts.spec.guard,
        traffic,
        ceiling_of(facts.spec, mix, mu, declared),
        now,
        released_at=facts.guard_released_at,
    )


def ceiling_of(spec: InferencePoolSpec, mix: TokenMix, mu: float, declared: Scheduled) -> Ceiling:
    """The declared ceilings, or what replicas.max serve and what the budget would bear.

    What its owner lets a pool grow to is what it was made for, however fast it gets there.

    What a schedule has announced is no surprise, however far it is beyond the past.
    """
    per_request = mix.prompt_tokens + mix.output_tokens
    tokens, usd = spec.guard.ceiling.tokens_per_minute, spec.guard.ceiling.usd_per_hour
    allowed = spec.replicas.max * mu * per_request * 60
    announced = max(declared.replicas * mu, _SCHEDULE_ROOM * declared.requests_per_second)
    return Ceiling(
        max(allowed if tokens is None else float(tokens), announced * per_request * 60),
        budget_usd_per_hour(spec) if usd is None else float(usd),
    )


def budget_usd_per_hour(spec: InferencePoolSpec) -> float | None:
    """Spend that would use up the tightest budget in a quarter of its period; None without one."""
    pace = _even_pace(spec)
    return None if pace is None else pace / _BUDGET_SHARE


def bearable_usd_per_hour(spec: InferencePoolSpec) -> float:
    """Spend on the API that may go on through a runaway: declared, or the budget's even pace."""
    declared = spec.guard.ceiling.usd_per_hour
    return (_even_pace(spec) or 0.0) if declared is None else float(declared)


def _even_pace(spec: InferencePoolSpec) -> float | None:
    """Spend an hour that uses up the tightest budget just at its period's end."""
    if spec.burst is None:
        return None
    budget = spec.burst.budget
    paces = [
        float(amount) / hours
        for period, hours in _PERIOD_HOURS.items()
        if (amount := getattr(budget, period)) is not None
    ]
    return min(paces, default=None)


def guard_status(memory: GuardMemory) -> GuardStatus | None:
    """What the status says of the guard; None while it is off or knows no past yet."""
    if not memory.mature and memory.suspicion is None:
        return None
    status = GuardStatus(
        # Two digits: the past moves all the time, and each change of it would be a write.
        usual_tokens_per_minute=float(f"{memory.tokens_per_minute:.2g}"),
        usual_requests_per_second=float(f"{memory.requests_per_second:.2g}"),
    )
    suspicion = memory.suspicion
    if suspicion is None:
        return status
    return status.model_copy(
        update={
            "suspected_since": format_time(suspicion.since),
            "sign": suspicion.sign.value,
            "evidence": suspicion.evidence,
            "replicas_before": suspicion.replicas,
            "usd_per_hour_before": figure(suspicion.usd_per_hour),
        }
    )


def restored(status: GuardStatus | None, now: float) -> GuardMemory:
    """Memory after a restart: a weekend's runaway is not forgotten by a rollout.

    A status that can't be read is no suspicion.
    """
    if status is None:
        return GuardMemory()
    suspicion = None
    if status.suspected_since and status.sign in set(Sign):
        try:
            since = parse_time(status.suspected_since)
        except ValueError:
            since = now
        suspicion = Suspicion(
            since=min(since, now),
            sign=Sign(status.sign),
            evidence=status.evidence,
            replicas=max(0, status.replicas_before),
            usd_per_hour=_amount(status.usd_per_hour_before),
        )
    return remembered(
        tokens_per_minute=_amount(status.usual_tokens_per_minute),
        requests_per_second=_amount(status.usual_requests_per_second),
        suspicion=suspicion,
        now=now,
    )


def _amount(value: float) -> float:
    return value if math.isfinite(value) and value > 0 else 0.0
