"""From what every pool wants to what each may have, where GPUs of a kind are scarce.

Runs once a tick over all pools, on their last decisions; each pool meets its share as a limit
(`spillway.core.limits.fleet_share`) in its next one. Pools that nobody may write for, and kinds of
GPU of which nodes can be added or can't be seen, are left out.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from spillway.api.names import Role
from spillway.core.economics import share_used
from spillway.core.facts import PodPhase
from spillway.core.fleet import Claim, share
from spillway.core.values import replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spillway.api.inferencepool import Variant
    from spillway.core.decision import Decision
    from spillway.core.facts import PoolFacts


def shares(pools: Iterable[tuple[PoolFacts, Decision]]) -> dict[str, dict[str, int]]:
    """Serving replicas by pool and variant, for every pool that is in a contest.

    Args:
        pools: Each pool's facts and its last decision.
    """
    contests: dict[str | None, list[tuple[PoolFacts, Variant, Claim]]] = defaultdict(list)
    free: dict[str | None, int] = {}
    for facts, decision in pools:
        if not decision.write:
            continue
        for variant in facts.spec.variants:
            supply = facts.supply.get(variant.name)
            if supply is None or supply.free is None or supply.elastic:
                continue
            kind = variant.accelerator.type
            free[kind] = supply.free
            contests[kind].append((facts, variant, _claim(facts, variant, decision)))
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for kind, claims in contests.items():
        gpus = free[kind] + sum(c.held * c.gpus_per_replica for _, _, c in claims)
        if sum(c.most * c.gpus_per_replica for _, _, c in claims) <= gpus:
            continue
        given = share([claim for _, _, claim in claims], gpus)
        for facts, variant, claim in claims:
            found[facts.key][variant.name] = given[claim.key]
    return dict(found)


def _claim(facts: PoolFacts, variant: Variant, decision: Decision) -> Claim:
    """What the pool wants of the variant: all that it wants beyond its other variants.

    A variant's replicas count after those of the variants before it, so that a pool's second kind
    of GPU is worth what the first leaves to do.
    """
    others = sum(n for name, n in decision.by_variant.items() if name != variant.name)
    held = _held(facts, variant)
    most = max(0, decision.wanted - others)
    claim = Claim(
        key=f"{facts.key}/{variant.name}",
        gpus_per_replica=variant.accelerator.per_replica,
        held=held,
        floor=min(most, max(0, facts.spec.replicas.floor - others)),
        most=most,
        priority=facts.spec.priority,
    )
    worth = _worth(facts, decision, others, most)
    return claim if worth is None else replace(claim, worth=worth)


def _worth(
    facts: PoolFacts, decision: Decision, others: int, most: int
) -> tuple[float, ...] | None:
    """US dollars an hour of each replica; None where the pool has no API to lean on."""
    a, forecast = decision.economics.api_per_replica_hour, decision.forecast
    known = [c.requests_per_second for c in decision.capacity.values()]
    mu = min(known, default=0.0)
    if facts.spec.burst is None or a is None or forecast is None or mu <= 0:
        return None
    return tuple(a * share_used(forecast, mu, others + n) for n in range(1, most + 1))


def _held(facts: PoolFacts, variant: Variant) -> int:
    """Replicas of the variant that hold GPUs and are not its warm pool or on their way out."""
    target = facts.targets.get(variant.name)
    if target is None or not target.exists:
        return 0
    gone = (PodPhase.UNSCHEDULABLE, PodPhase.TERMINATING)
    return sum(p.role is Role.SERVING and p.phase not in gone for p in target.pods)
