"""One decision of one pool: observe, forecast, propose, limit.

Pure: the same facts, memory and time give the same decision. `decide` is what the operator, the
simulator, `explain` and the tests all call.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from spillway.api.inferencepool import Policy
from spillway.core import capacity as capacities
from spillway.core import forecast as forecasts
from spillway.core import history, leadtime
from spillway.core.decision import Decision, ReasonNote
from spillway.core.demand import estimate
from spillway.core.draft import Draft
from spillway.core.economics import gpu_usd_per_replica_hour
from spillway.core.guarding import guarded
from spillway.core.limits import apply_limits, wished
from spillway.core.memory import PoolMemory, UtilizationMemory
from spillway.core.policies import POLICIES, utilization
from spillway.core.prices import resolve
from spillway.core.reporting import gateway_lost
from spillway.core.schedules import scheduled
from spillway.core.situation import Data, Situation, data_of, hung_pods, short_variants
from spillway.core.spending import economics_of
from spillway.core.takeover import take_over
from spillway.core.values import replace
from spillway.core.variants import accepted, allocate
from spillway.core.warmsize import WATCHED_SECONDS, warm_replicas

if TYPE_CHECKING:
    from spillway.core.demand import DemandEstimate
    from spillway.core.economics import Economics
    from spillway.core.facts import PoolFacts
    from spillway.core.policies.proposal import Proposal
    from spillway.core.prices import Prices

__all__ = ["Decision", "PoolMemory", "ReasonNote", "decide"]

#: A decision waits for the next slow tick before it can be made.
TICK_SECONDS: Final = 15.0
#: A replica's billed time beyond its lead: termination and the tick that notices.
RELEASE_MARGIN_SECONDS: Final = 30.0
_INCREASES_KEPT: Final = 100


def decide(
    facts: PoolFacts,
    memory: PoolMemory,
    now: float,
    *,
    read_only: bool,
    overflow_fraction: float,
    budget_left: bool,
) -> tuple[Decision, PoolMemory]:
    """How many replicas of the pool should serve.

    Args:
        facts: What is known of the pool.
        memory: What the last step returned.
        now: Seconds since the epoch.
        read_only: The cluster-wide switch: nothing may be written.
        overflow_fraction: Share of arrivals that the published overflow value sends away, 0 to 1.
        budget_left: Whether burst may still spend.

    Returns:
        The decision, and the memory for the next step.
    """
    demand = estimate(facts, now, overflow_fraction=overflow_fraction)
    decided_last = memory.by_variant
    memory = _observed(facts, memory, demand, now)
    situation = _assess(
        facts, memory, demand, now, overflow_fraction=overflow_fraction, budget_left=budget_left
    )
    proposal = POLICIES[facts.spec.policy](situation)
    situation = replace(situation, memory=_remembered(situation, proposal))
    first = ReasonNote(proposal.reason, proposal.message)
    wish = wished(situation, Draft(proposal.desired, (first,)))
    draft = apply_limits(situation, wish, read_only=read_only)
    by_variant = allocate(situation, draft.desired)
    decision = Decision(
        at=now,
        id=_identifier(facts.key, now),
        previous=situation.replicas,
        desired=draft.desired,
        by_variant=by_variant,
        proposed=proposal.desired,
        wanted=facts.spec.replicas.clamp(wish.desired),
        notes=draft.notes,
        hold=draft.hold,
        write=draft.write,
        warm=warm_replicas(situation, draft.desired),
        demand=demand,
        forecast=situation.forecast,
        peak_share=situation.peak_share,
        capacity=situation.capacity,
        mu=situation.mu,
        economics=situation.economics,
        burst_usable=situation.burst_usable,
        lead_seconds=situation.lead_seconds,
        shortage=bool(situation.short),
        hung=bool(situation.hung),
        # A contested target's number is read anew at each step: the same decision is no news.
        changed=by_variant not in (situation.present, decided_last),
    )
    return decision, _concluded(situation.memory, decision)


def _observed(
    facts: PoolFacts, memory: PoolMemory, demand: DemandEstimate | None, now: float
) -> PoolMemory:
    """The memory with what this moment teaches."""
    lead_times = leadtime.observe(memory.lead_times, facts, now)
    learned, peaks = memory.forecasts, memory.peaks
    if demand is not None and demand.source == "Gateway" and facts.gateway is not None:
        peaks = peaks.observed(facts.gateway.sampled_at, demand.requests_per_second)
    if demand is not None:
        arrivals = demand.requests_per_second
        if demand.lower_bound and learned.at is not None:
            # What is not counted can't be a fall: a lower bound may raise the level, not lower it.
            arrivals = max(arrivals, learned.level)
        lead = lead_times.lead_seconds
        learned = forecasts.update(
            learned,
            now,
            arrivals,
            lead_seconds=lead + TICK_SECONDS,
            hold_seconds=_hold_seconds(facts, lead),
        )
    timers = UtilizationMemory()
    if facts.spec.policy is Policy.UTILIZATION:
        timers = utilization.observe(memory.utilization, facts, lead_times.lead_seconds, now)
    return replace(
        take_over(facts, memory, now),
        started_at=now if memory.started_at is None else memory.started_at,
        lead_times=lead_times,
        forecasts=learned,
        capacity=capacities.observe(memory.capacity, facts, now),
        utilization=timers,
        prices=resolve(facts.spec, facts.offers, memory.prices, now),
        peaks=peaks,
    )


def _assess(
    facts: PoolFacts,
    memory: PoolMemory,
    demand: DemandEstimate | None,
    now: float,
    *,
    overflow_fraction: float,
    budget_left: bool,
) -> Situation:
    """All that follows from the facts before anybody decides."""
    spec = facts.spec
    mix = memory.capacity.mix.mix()
    capacity = {
        v.name: capacities.capacity(v, spec.latency, memory.capacity) for v in spec.variants
    }
    order = _cheapest_first(facts, capacity, memory.prices)
    # One Service deals out requests evenly, so mixed replicas are worth the slowest's rate each.
    mixed = {order[0], *(name for name, n in memory.by_variant.items() if n > 0)}
    mu = min(capacity[name].requests_per_second for name in mixed)
    lead = memory.lead_times.lead_seconds
    window = _hold_seconds(facts, lead)
    declared = scheduled(spec.schedules, now, lead + TICK_SECONDS)
    forecast = forecasts.forecast(memory.forecasts, lead + TICK_SECONDS, window, now)
    if forecast is not None:
        forecast = forecast.at_least(declared.requests_per_second)
    money = economics_of(
        facts,
        order[0],
        mu,
        mix,
        demand,
        forecast,
        now,
        prices=memory.prices,
        overflow_fraction=overflow_fraction,
    )
    priced = money.gpu_per_replica_hour is not None and money.api_per_request is not None
    guard = guarded(
        facts,
        memory,
        demand,
        mix,
        mu,
        money,
        now,
        declared=declared,
    )
    memory = replace(memory, guard=guard)
    spendable = budget_left and guard.suspicion is None
    return Situation(
        facts=facts,
        now=now,
        memory=memory,
        present=dict(memory.by_variant),
        order=order,
        demand=demand,
        forecast=forecast,
        capacity=capacity,
        mu=mu,
        mix=mix,
        economics=money,
        lead_seconds=lead,
        release_window_seconds=window,
        persistence_seconds=_persistence_seconds(facts, lead, money),
        scheduled=declared,
        burst_usable=spec.burst is not None and priced and spendable and not _uncarried(facts, now),
        overflow_fraction=overflow_fraction,
        data=data_of(facts, demand, now),
        short=short_variants(facts, now),
        hung=hung_pods(facts, now),
    )


def _uncarried(facts: PoolFacts, now: float) -> bool:
    """Whether nothing can leave: the route can't carry it, or no gateway is there to send it."""
    unroutable = facts.route is not None and facts.route.problem is not None
    return unroutable or gateway_lost(facts, now)


def _hold_seconds(facts: PoolFacts, lead_seconds: float) -> float:
    """How long a replica must be superfluous before it goes, so how long one is kept at least."""
    window = facts.spec.scaling.release_window
    return lead_seconds + RELEASE_MARGIN_SECONDS if window is None else window


def _persistence_seconds(facts: PoolFacts, lead_seconds: float, money: Economics) -> float:
    """How long burst may carry demand: until it has cost what a start in vain would.

    A start in vain is billed from creation to the end of its termination, at g an hour; burst costs
    a for the same work. Who rents until that comes to the price of buying, and then buys, pays at
    most twice what foresight would have (ski rental; Karlin, Manasse, Rudolph and Sleator,
    "Competitive snoopy caching", Algorithmica 1988).
    """
    asked = facts.spec.scaling.persistence
    if asked is not None:
        return asked
    g, a = money.gpu_per_replica_hour, money.api_per_replica_hour
    in_vain = lead_seconds + RELEASE_MARGIN_SECONDS
    return in_vain if g is None or a is None or a <= g else in_vain * g / a


def _cheapest_first(
    facts: PoolFacts, capacity: dict[str, capacities.Capacity], prices: Prices
) -> tuple[str, ...]:
    """Variants by US dollars per unit of capacity.

    Those without a price or capacity come later, and last those that the pool does not accept: the
    first is the one whose price and capacity the pool is sized by.
    """
    if len(facts.spec.variants) == 1:
        return (facts.spec.variants[0].name,)
    chosen = accepted(facts.spec, capacity)

    def rank(position: int) -> tuple[bool, bool, float, int]:
        variant = facts.spec.variants[position]
        refused = variant.name not in chosen
        g = gpu_usd_per_replica_hour(variant, prices)
        mu = capacity[variant.name].requests_per_second
        if g is None or mu <= 0:
            return refused, True, 0.0, position
        return refused, False, g / mu, position

    positions = sorted(range(len(facts.spec.variants)), key=rank)
    return tuple(facts.spec.variants[position].name for position in positions)


def _remembered(situation: Situation, proposal: Proposal) -> PoolMemory:
    """The memory with the proposal, as far as it may be trusted to say what is superfluous."""
    memory = situation.memory
    if situation.data is Data.MISSING:
        # Nobody knows what was needed: windows begin anew when the data is back.
        return replace(memory, proposals=())
    wanted = proposal.desired
    if situation.demand is not None and situation.demand.lower_bound:
        wanted = max(wanted, situation.replicas)
    keep = max(situation.release_window_seconds, situation.persistence_seconds)
    kept = history.appended(memory.proposals, situation.now, wanted, keep)
    return replace(memory, proposals=kept)


def _concluded(memory: PoolMemory, decision: Decision) -> PoolMemory:
    """The memory for the next step."""
    increases = memory.increases
    if decision.changed and decision.desired > decision.previous:
        recent = [at for at in increases if at > decision.at - WATCHED_SECONDS]
        increases = (*recent, decision.at)[-_INCREASES_KEPT:]
    # Each change starts the classic rule's clocks anew: one step per period, not one per tick.
    timers = UtilizationMemory() if decision.changed else memory.utilization
    return replace(
        memory,
        by_variant=decision.by_variant,
        increases=increases,
        changed_at=decision.at if decision.changed else memory.changed_at,
        utilization=timers,
    )


def _identifier(key: str, now: float) -> str:
    return hashlib.blake2s(f"{key}@{now:.3f}".encode(), digest_size=4).hexdigest()
