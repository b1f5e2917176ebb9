"""What a pool costs an hour, and what the same load would cost in other hands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spillway.core.economics import (
    MOST_REPLICAS,
    SECONDS_PER_HOUR,
    Economics,
    cheapest_provider,
    gpu_usd_per_replica_hour,
    replicas_by_quantile,
)
from spillway.core.facts import PodPhase
from spillway.core.samples import is_fresh

if TYPE_CHECKING:
    from spillway.core.demand import DemandEstimate
    from spillway.core.facts import PoolFacts
    from spillway.core.forecast import Forecast
    from spillway.core.prices import Prices
    from spillway.core.tokenmix import TokenMix


def economics_of(
    facts: PoolFacts,
    cheapest_variant: str,
    mu: float,
    mix: TokenMix,
    demand: DemandEstimate | None,
    forecast: Forecast | None,
    now: float,
    *,
    prices: Prices,
    overflow_fraction: float,
) -> Economics:
    """Prices and cost rates in US dollars; None wherever a price or the load is not known."""
    spec = facts.spec
    variant = next(v for v in spec.variants if v.name == cheapest_variant)
    g = gpu_usd_per_replica_hour(variant, prices)
    provider = cheapest_provider(spec.burst, mix, prices)
    name, per_request = provider if provider is not None else (None, None)
    all_gpu = None
    if g is not None and forecast is not None and mu > 0:
        all_gpu = g * replicas_by_quantile(forecast, mu, spec.latency.attainment, MOST_REPLICAS)
    all_api = None
    if per_request is not None and demand is not None:
        all_api = per_request * demand.requests_per_second * SECONDS_PER_HOUR
    leaving: float | None = 0.0
    if spec.burst is not None:
        leaving = _leaving_per_second(facts, demand, overflow_fraction, now)
    return Economics(
        gpu_per_replica_hour=g,
        api_per_replica_hour=None if per_request is None else per_request * mu * SECONDS_PER_HOUR,
        api_per_request=per_request,
        provider=name,
        gpu_per_hour=_gpu_usd_per_hour(facts, prices),
        api_per_hour=_api_usd_per_hour(leaving, per_request),
        all_gpu_per_hour=all_gpu,
        all_api_per_hour=all_api,
    )


def _api_usd_per_hour(leaving: float | None, per_request: float | None) -> float | None:
    if leaving == 0:
        return 0.0
    if leaving is None or per_request is None:
        return None
    return leaving * per_request * SECONDS_PER_HOUR


def _gpu_usd_per_hour(facts: PoolFacts, prices: Prices) -> float | None:
    """Every pod that holds GPUs is paid for, whatever it does; None if one has no price."""
    total = 0.0
    for variant in facts.spec.variants:
        target = facts.targets.get(variant.name)
        if target is None or not target.exists:
            continue
        held = sum(p.phase is not PodPhase.UNSCHEDULABLE for p in target.pods)
        g = gpu_usd_per_replica_hour(variant, prices)
        if held and g is None:
            return None
        total += held * (g or 0.0)
    return total


def _leaving_per_second(
    facts: PoolFacts, demand: DemandEstimate | None, overflow_fraction: float, now: float
) -> float | None:
    """Requests per second that go to the API: the gateway's count, else what the split implies."""
    gateway = facts.gateway
    if gateway is not None and is_fresh(gateway.sampled_at, now):
        return gateway.cloud_per_second
    if overflow_fraction <= 0:
        return 0.0
    if demand is None or overflow_fraction >= 1:
        return None
    return demand.requests_per_second * overflow_fraction / (1 - overflow_fraction)
