"""Policy Utilization: the classic rule, with the queue beside the GPUs.

Double when the mean GPU utilisation has been above 60 % for 60 s, remove one when it has been below
30 % for ten minutes; the figures are spec.utilization's. A queue counts as high whatever the GPUs
say, and nothing is removed while one request waits: a long queue at low utilisation is work that
waits, not idleness.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spillway.api.names import Role
from spillway.api.quantities import format_duration
from spillway.api.reasons import Reason
from spillway.core.facts import PodPhase
from spillway.core.history import MAX_GAP_SECONDS
from spillway.core.memory import UtilizationMemory
from spillway.core.policies.proposal import Proposal
from spillway.core.samples import pods_of, reporting

if TYPE_CHECKING:
    from spillway.core.facts import PoolFacts
    from spillway.core.situation import Situation


def observe(
    memory: UtilizationMemory, facts: PoolFacts, lead_seconds: float, now: float
) -> UtilizationMemory:
    """Keep the timers: since when utilisation has been high, and since when low.

    A replica that starts is on its way to help, so high utilisation begins to count when it is
    there, or is late. What nobody watched (a gap, a clock that was set) does not count as lasting.
    """
    if memory.at is not None and not 0 <= now - memory.at <= MAX_GAP_SECONDS:
        memory = UtilizationMemory()
    settings = facts.spec.utilization
    loads, owing = reporting(pods_of(facts), now)
    if not loads:
        return UtilizationMemory()
    queue = sum(load.waiting for load in loads)
    gpus = [load.gpu_utilization for load in loads if load.gpu_utilization is not None]
    mean = sum(gpus) / len(gpus) if gpus else None
    queued = queue / len(loads) > settings.queue_per_replica
    high = queued or (mean is not None and mean * 100 > settings.scale_up_percent)
    low = (
        mean is not None
        and len(gpus) == owing
        and mean * 100 < settings.scale_down_percent
        and queue == 0
    )
    if high and _replicas_on_their_way(facts, lead_seconds, now):
        return UtilizationMemory(high_since=now, at=now)
    return UtilizationMemory(
        high_since=_since(memory.high_since, now, holds=high),
        low_since=_since(memory.low_since, now, holds=low),
        at=now,
    )


def propose(situation: Situation) -> Proposal:
    """Double, remove one, or stay."""
    settings, timers = situation.spec.utilization, situation.memory.utilization
    present, now = situation.replicas, situation.now
    if timers.high_since is not None and now - timers.high_since >= settings.scale_up_after:
        lasting = format_duration(settings.scale_up_after)
        if _queue_is_long(situation):
            message = f"more than {settings.queue_per_replica} requests a replica wait, {lasting}"
            return Proposal(max(1, 2 * present), Reason.QUEUE_LONG, message)
        message = f"GPU utilisation above {settings.scale_up_percent}% for {lasting}"
        return Proposal(max(1, 2 * present), Reason.UTILIZATION_HIGH, message)
    if timers.low_since is not None and now - timers.low_since >= settings.scale_down_after:
        message = (
            f"GPU utilisation below {settings.scale_down_percent}% and no queue for "
            f"{format_duration(settings.scale_down_after)}"
        )
        return Proposal(max(0, present - 1), Reason.UTILIZATION_LOW, message)
    return Proposal(present, Reason.STEADY, "utilisation and queue call for no change")


def _since(before: float | None, now: float, *, holds: bool) -> float | None:
    """When a state began that holds now; None where it does not."""
    if not holds:
        return None
    return now if before is None else before


def _queue_is_long(situation: Situation) -> bool:
    loads, _ = reporting(pods_of(situation.facts), situation.now)
    long = situation.spec.utilization.queue_per_replica
    return bool(loads) and sum(load.waiting for load in loads) / len(loads) > long


def _replicas_on_their_way(facts: PoolFacts, lead_seconds: float, now: float) -> bool:
    allowed = {
        PodPhase.STARTING: lead_seconds,
        PodPhase.UNSCHEDULABLE: facts.node_lead_seconds,
    }
    return any(
        p.role is Role.SERVING and now - p.phase_since <= allowed.get(p.phase, -1.0)
        for p in pods_of(facts)
    )
