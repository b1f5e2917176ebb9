"""What was asked of a pool before this step: continued, restored, or taken over from others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spillway.api.names import Role
from spillway.core.facts import PodPhase
from spillway.core.values import replace

if TYPE_CHECKING:
    from spillway.core.facts import PoolFacts, TargetFacts
    from spillway.core.memory import PoolMemory


def take_over(facts: PoolFacts, memory: PoolMemory, now: float) -> PoolMemory:
    """The memory with a number for each variant of the spec.

    A variant that is known keeps its number, so a ``kubectl scale`` by hand is corrected and not
    followed. One whose target is new to this process (a new pool, a restart, a target that was
    deleted and came back, or that somebody else has stopped to scale) is asked for what its
    spec.replicas says less warm and draining pods, and never for less than before. If somebody else
    set that number, adoption begins.

    After a restart the pool's last desired number counts too: what was on its way then still is.
    """
    by_variant: dict[str, int] = {}
    adopted_at, adopted = memory.adopted_at, dict(memory.adopted)
    known, contested = set(), False
    for variant in facts.spec.variants:
        name = variant.name
        before = memory.by_variant.get(name, 0)
        target = facts.targets.get(name)
        if target is None or not target.exists:
            by_variant[name] = before
            continue
        if target.contention is not None:
            # The number is somebody else's for now; when they are gone, the target is taken over.
            by_variant[name], contested = serving_asked_for(target), True
            continue
        known.add(name)
        if name in memory.known:
            by_variant[name] = before
            continue
        by_variant[name] = max(before, serving_asked_for(target))
        # An adoption that a restart interrupted goes on, although the target is our own by now.
        goes_on = adopted_at is not None and name not in adopted
        if goes_on or not target.owned:
            adopted_at, adopted[name] = now, serving_asked_for(target)
    if memory.restored_desired and known:
        first = next(v.name for v in facts.spec.variants if v.name in known)
        by_variant[first] += max(0, memory.restored_desired - sum(by_variant.values()))
    return replace(
        memory,
        by_variant=by_variant,
        known=frozenset(known),
        restored_desired=0 if known or contested else memory.restored_desired,
        adopted_at=adopted_at,
        adopted=adopted,
    )


def serving_asked_for(target: TargetFacts) -> int:
    """Replicas of spec.replicas that are neither warm nor on their way out."""
    others = sum(
        p.role is not Role.SERVING and p.phase is not PodPhase.TERMINATING for p in target.pods
    )
    return max(0, target.spec_replicas - others)
