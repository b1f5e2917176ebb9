"""What the fast loop needs to know of a pool: the last decision joined with the live load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from spillway.api.inferencepool import Mode
from spillway.api.names import Role
from spillway.core.capacity import GENERIC_PROFILE
from spillway.core.economics import api_usd_per_request
from spillway.core.facts import PodPhase
from spillway.core.guarding import bearable_usd_per_hour
from spillway.core.overflow import LiveLoad, OverflowInputs
from spillway.core.prices import resolve
from spillway.core.samples import is_fresh

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spillway.core.facts import PoolFacts, ReplicaLoad
    from spillway.core.pool import Outcome

#: From this share of what the replicas can take a pool is watched at each fast tick.
WATCHED_SHARE: Final = 0.5


def overflow_inputs(
    facts: PoolFacts, outcome: Outcome, live: LiveLoad | None, now: float
) -> OverflowInputs:
    """Inputs of the overflow value.

    Args:
        facts: Facts of the last slow step; their spec is the newest.
        outcome: Its outcome.
        live: What the fast loop has just seen; None when nothing was seen.
        now: Seconds since the epoch.
    """
    spec, decision = facts.spec, outcome.decision
    mix = outcome.state.deciding.capacity.mix.mix()
    serving = [c for name, c in decision.capacity.items() if decision.by_variant.get(name)]
    known = serving or list(decision.capacity.values())
    # The spec may be newer than the decision: what it declares since counts at once.
    prices = resolve(spec, facts.offers, outcome.state.deciding.prices, now)
    costs: dict[str, float] = {}
    # A grant is priced at the dearest provider: overflow may spill over to it.
    dearest: float | None = None
    long = mix.at_p95()
    if spec.burst is not None:
        for provider in spec.burst.providers:
            usd = api_usd_per_request(provider, mix, prices)
            usd_of_long = api_usd_per_request(provider, long, prices)
            if usd is not None and usd_of_long is not None:
                costs[provider.name] = usd
                dearest = max(dearest or 0.0, usd_of_long)
    contested = any(t.contention is not None for t in facts.targets.values())
    demand = decision.demand
    failing: Mapping[str, float] = {}
    gateway = facts.gateway
    arrivals = demand.requests_per_second if demand is not None else None
    if gateway is not None and is_fresh(gateway.sampled_at, now):
        arrivals = gateway.arrivals_per_second
        failing = gateway.failing_by_provider
    suspicion = outcome.state.deciding.guard.suspicion
    return OverflowInputs(
        spec=spec,
        # One Service deals requests out evenly, so the slowest variant sets the pace.
        mu=min((c.requests_per_second for c in known), default=None),
        concurrency=min((c.concurrency for c in known), default=None),
        demand_per_second=arrivals,
        live=live,
        prefill_seconds=max(
            (c.prefill_seconds for c in known if c.prefill_seconds is not None),
            default=GENERIC_PROFILE.per_prefill_token * mix.computed_tokens,
        ),
        p95_cost_usd=dearest,
        price_known=not prices.unknown,
        budget_left_usd=None,
        release=contested or spec.mode is not Mode.ACTIVE,
        cost_by_provider=costs,
        failing_by_provider=failing,
        tokens_per_request=mix.prompt_tokens + mix.output_tokens,
        prompt_tokens_per_request=mix.prompt_tokens if mix.measured else None,
        prompt_cv=mix.prompt_cv,
        most_leaving_per_second=None
        if suspicion is None
        else suspicion.most_leaving_per_second(
            spec.guard.mode, bearable_usd_per_hour(spec), max(costs.values(), default=None)
        ),
        engine_concurrency=min(
            (c.engine_concurrency for c in known if c.engine_concurrency is not None),
            default=None,
        ),
        route_problem=None if facts.route is None else facts.route.problem,
        kv_tokens=min((c.kv_tokens for c in known if c.kv_tokens is not None), default=None),
    )


def live_load(facts: PoolFacts, loads: Mapping[str, ReplicaLoad], now: float) -> LiveLoad | None:
    """The serving replicas as the fast loop has just seen them.

    Args:
        facts: Which replicas serve.
        loads: Fresh samples by pod UID; pods that were not read are not in it.
        now: Seconds since the epoch.

    Returns:
        None when replicas serve and none of them could be read: then nothing is known.
    """
    serving = serving_uids(facts)
    seen = [loads[uid] for uid in serving if uid in loads]
    if serving and not seen:
        return None
    return LiveLoad(
        at=min((load.sampled_at for load in seen), default=now),
        in_flight_by_pod=tuple(load.in_flight for load in seen),
        waiting=sum(load.waiting for load in seen),
        arrivals_per_second=None,
        replicas_serving=len(serving),
    )


def serving_uids(facts: PoolFacts) -> tuple[str, ...]:
    """UIDs of the pods that are ready and serving."""
    return tuple(
        pod.uid
        for target in facts.targets.values()
        for pod in target.pods
        if pod.phase is PodPhase.READY and pod.role is Role.SERVING
    )


def is_hot(facts: PoolFacts, outcome: Outcome) -> bool:
    """Whether the pool is above half of what its serving replicas can take, or may be."""
    capacity = _least_concurrency(outcome)
    demand = outcome.decision.demand
    if demand is None or capacity <= 0:
        return True
    return demand.in_flight >= WATCHED_SHARE * capacity * len(serving_uids(facts))


def shows_load(load: ReplicaLoad, outcome: Outcome) -> bool:
    """Whether a replica is above half of what it can take: then those beside it may be too."""
    return load.in_flight >= WATCHED_SHARE * _least_concurrency(outcome)


def _least_concurrency(outcome: Outcome) -> float:
    """B* of the variant that takes the fewest requests a replica; 0 where none is known."""
    known = (c.concurrency for c in outcome.decision.capacity.values() if c.concurrency > 0)
    return min(known, default=0.0)
