"""Pods of a simulated pool as the core wants to see them, from the counts that the engines show.

Replicas of a pool are alike there, so each gets its share of the sums. A pod that became Ready
after the latest sample has none yet, as in a cluster.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from spillway.api.names import Role
from spillway.core.facts import PodFacts, PodPhase, ReplicaLoad

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spillway.sim.scaler import Seen

#: Replicas that are there when the run begins were Ready an hour before.
_READY_BEFORE_SECONDS: Final = 3600.0
#: Window of the means that Prometheus would be asked for.
_WINDOW_SECONDS: Final = 60.0


@dataclass(slots=True)
class _Pod:
    name: str
    created_at: float
    ready_at: float | None = None
    unschedulable_since: float | None = None
    placed_at: float | None = None


class PodTable:
    """Gives the engines' anonymous replicas names and histories.

    Attributes:
        loads: Latest sample by pod UID, of the pods that have one.
    """

    def __init__(self, metric_lag_seconds: float) -> None:
        self.loads: dict[str, ReplicaLoad] = {}
        self._lag = metric_lag_seconds
        self._ready: list[_Pod] = []
        self._coming: list[_Pod] = []
        self._number = 0
        self._requested: int | None = None
        self._asked: tuple[int, float] | None = None
        # (sampled at, running, in flight) over the window, a replica.
        self._recent: deque[tuple[float, float, float]] = deque()

    def asked(self, replicas: int, now: float) -> None:
        """Remember what was asked for: the replicas that follow from it are created now."""
        self._asked = (replicas, now)

    def seen(self, seen: Seen, now: float) -> tuple[PodFacts, ...]:
        """The pods of this moment."""
        self._reconcile(seen, now)
        load = self._load(seen, now)
        self.loads = {}
        facts = []
        for pod in self._ready:
            ready_at = pod.ready_at or now
            sample = load if ready_at <= load.sampled_at else None
            if sample is not None:
                self.loads[pod.name] = sample
            facts.append(
                _facts(pod, PodPhase.READY, since=ready_at, ready_at=ready_at, load=sample)
            )
        for pod in self._coming:
            if pod.unschedulable_since is not None:
                facts.append(_facts(pod, PodPhase.UNSCHEDULABLE, since=pod.unschedulable_since))
            else:
                since = pod.created_at if pod.placed_at is None else pod.placed_at
                facts.append(_facts(pod, PodPhase.STARTING, since=since))
        return tuple(facts)

    def _reconcile(self, seen: Seen, now: float) -> None:
        """Make as many pods as there are: what was asked for explains most of it."""
        ready, coming = int(seen.ready[0]), int(seen.unready[0])
        if self._requested is None:
            since = now - _READY_BEFORE_SECONDS
            self._ready = [self._new(since, since) for _ in range(ready)]
        elif self._asked is not None:
            more = int(seen.requested[0]) - self._requested
            self._coming += [self._new(self._asked[1]) for _ in range(more)]
            for _ in range(-more):
                self._drop()
        self._requested = int(seen.requested[0])
        while len(self._ready) > ready:
            self._ready.pop()
        while len(self._ready) < ready and self._coming:
            first = self._coming.pop(0)
            first.ready_at, first.unschedulable_since = now, None
            self._ready.append(first)
        self._ready += [self._new(now, now) for _ in range(ready - len(self._ready))]
        while len(self._coming) > coming:
            self._coming.pop()
        self._coming += [self._new(now) for _ in range(coming - len(self._coming))]
        pending = 0 if seen.unschedulable is None else int(seen.unschedulable[0])
        placed = len(self._coming) - pending
        for position, pod in enumerate(self._coming):
            if position >= placed:
                pod.unschedulable_since = pod.unschedulable_since or pod.created_at
            elif pod.unschedulable_since is not None:
                pod.unschedulable_since, pod.placed_at = None, now

    def _drop(self) -> None:
        """As a ReplicaSet: what starts goes before what is ready, the latest first."""
        if self._coming:
            self._coming.pop()
        elif self._ready:
            self._ready.pop()

    def _new(self, created_at: float, ready_at: float | None = None) -> _Pod:
        self._number += 1
        return _Pod(f"pod-{self._number}", created_at, ready_at)

    def _load(self, seen: Seen, now: float) -> ReplicaLoad:
        """The share of one replica in the engines' sums."""
        sampled_at = now - self._lag
        known = sum(pod.ready_at is not None and pod.ready_at <= sampled_at for pod in self._ready)
        share = 1 / max(1, known)
        running, waiting = float(seen.running[0]) * share, float(seen.waiting[0]) * share
        recent = self._recent
        recent.append((sampled_at, running, running + waiting))
        while recent[0][0] < sampled_at - _WINDOW_SECONDS:
            recent.popleft()
        first_at, _, first = recent[0]
        change = (running + waiting - first) / (sampled_at - first_at) if len(recent) > 1 else 0.0

        def each(sums: NDArray[np.float64] | None) -> float | None:
            return None if sums is None else float(sums[0]) * share

        return ReplicaLoad(
            sampled_at=sampled_at,
            running=running,
            waiting=waiting,
            waiting_all=waiting,
            kv_usage=float(seen.kv_usage[0]),
            running_mean=sum(sample[1] for sample in recent) / len(recent),
            in_flight_change_per_second=change,
            finished_per_second=each(seen.completions_per_second),
            prompt_tokens_per_second=each(seen.prompt_tokens_per_second),
            generation_tokens_per_second=each(seen.output_tokens_per_second),
            prefix_hit_tokens_per_second=each(seen.cached_tokens_per_second),
            steps_per_second=each(seen.steps_per_second),
            gpu_utilization=float(seen.gpu_utilization[0]),
        )


def _facts(
    pod: _Pod,
    phase: PodPhase,
    *,
    since: float,
    ready_at: float | None = None,
    load: ReplicaLoad | None = None,
) -> PodFacts:
    return PodFacts(
        name=pod.name,
        uid=pod.name,
        resource_version="1",
        role=Role.SERVING,
        phase=phase,
        created_at=pod.created_at,
        phase_since=since,
        ready_at=ready_at,
        load=load,
    )
