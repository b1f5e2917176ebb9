"""How long a replica takes from creation to first Ready, measured on the pool's own pods.

Time that a pod was unschedulable counts as lead up to the usual time for a node to appear; beyond
that it was a GPU shortage, which says nothing about how fast a replica starts.
"""

from __future__ import annotations

import math
from dataclasses import field
from typing import TYPE_CHECKING, Final

from spillway.core.facts import PodPhase
from spillway.core.samples import pods_of
from spillway.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spillway.core.facts import PodFacts, PoolFacts

#: Stands in until one start was seen: weights of a mid-size model from a warm disk take minutes,
#: and the first start replaces it.
DEFAULT_LEAD_SECONDS: Final = 120.0
#: Enough for a 95th percentile that one odd start does not own, few enough to follow a new image.
KEPT: Final = 20


@dataclass(frozen=True, slots=True)
class LeadTimeMemory:
    """Measurements and what is needed to take the next ones.

    Attributes:
        recent_seconds: Latest measurements, oldest first.
        since: First observation; pods Ready before it were not watched and are not measured,
            because their Ready time may be of a later recovery.
        unschedulable_seconds: By UID of pods not yet Ready: how long they could not be placed.
        measured: UIDs of present pods that were measured or are not to be.
    """

    recent_seconds: tuple[float, ...] = ()
    since: float | None = None
    unschedulable_seconds: dict[str, float] = field(default_factory=dict)
    measured: frozenset[str] = frozenset()

    @classmethod
    def restored(cls, recent_seconds: Iterable[float]) -> LeadTimeMemory:
        """From status.leadTime.recentSeconds; values that are no duration are left out."""
        kept = [s for s in recent_seconds if math.isfinite(s) and s > 0]
        return cls(recent_seconds=tuple(kept[-KEPT:]))

    @property
    def p95_seconds(self) -> float | None:
        """Nearest-rank 95th percentile; None until one start was seen."""
        if not self.recent_seconds:
            return None
        ordered = sorted(self.recent_seconds)
        return ordered[math.ceil(0.95 * len(ordered)) - 1]

    @property
    def lead_seconds(self) -> float:
        """The percentile, or the default until one start was seen."""
        p95 = self.p95_seconds
        return DEFAULT_LEAD_SECONDS if p95 is None else p95


def observe(memory: LeadTimeMemory, facts: PoolFacts, now: float) -> LeadTimeMemory:
    """Take the measurements that the pods of this moment complete."""
    since = now if memory.since is None else memory.since
    recent = list(memory.recent_seconds)
    measured = set()
    waiting: dict[str, float] = {}
    for pod in pods_of(facts):
        if pod.uid in memory.measured:
            measured.add(pod.uid)
        elif pod.ready_at is None:
            waiting[pod.uid] = _unschedulable_seconds(pod, memory, now)
        else:
            measured.add(pod.uid)
            watched = pod.uid in memory.unschedulable_seconds or pod.created_at >= since
            if watched and pod.ready_at > pod.created_at:
                unplaced = memory.unschedulable_seconds.get(pod.uid, 0.0)
                shortage = max(0.0, unplaced - facts.node_lead_seconds)
                recent.append(max(0.0, pod.ready_at - pod.created_at - shortage))
    return LeadTimeMemory(tuple(recent[-KEPT:]), since, waiting, frozenset(measured))


def _unschedulable_seconds(pod: PodFacts, memory: LeadTimeMemory, now: float) -> float:
    """How long the pod could not be placed, so far; it stops growing once the pod is placed."""
    before = memory.unschedulable_seconds.get(pod.uid, 0.0)
    if pod.phase is PodPhase.UNSCHEDULABLE:
        return max(before, now - pod.phase_since)
    return before
