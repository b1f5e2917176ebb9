"""A small model of a workload controller: which pods come and go when replicas change.

It ranks victims as Kubernetes' ReplicaSet controller does (unassigned, not ready, deletion cost),
or by ordinal, and breaks ties at random: what Spillway does must be safe whichever pod is picked.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from spillway.api.names import Role
from spillway.core.facts import PodFacts, PodPhase, ReplicaLoad, TargetFacts, TargetKind

if TYPE_CHECKING:
    from random import Random

    from spillway.core.plan import Plan

TICK_SECONDS = 15.0
START_TICKS = 3


@dataclass
class Workload:
    """One target, its pods, and the nodes that they find."""

    random: Random
    kind: TargetKind
    replicas: int
    nodes: int = 100
    now: float = 1_800_000_000.0
    pods: dict[str, PodFacts] = field(default_factory=dict)
    version: int = 0
    born: int = 0

    def facts(self) -> TargetFacts:
        return TargetFacts(
            kind=self.kind,
            resource_version=str(self.version),
            spec_replicas=self.replicas,
            owned=True,
            service_selects_role=True,
            pods=tuple(self.pods.values()),
        )

    def apply(self, plan: Plan) -> None:
        for change in plan.roles:
            pod = self.pods[change.pod.name]
            self.pods[pod.name] = replace(
                pod, role=change.role, drain_deadline=change.drain_deadline
            )
        for cost in plan.costs:
            pod = self.pods[cost.pod.name]
            self.pods[pod.name] = replace(pod, deletion_cost=cost.cost or 0)
        for scale in plan.scales:
            assert scale.resource_version == str(self.version)
            self.replicas = scale.replicas
            self.version += 1

    def reconcile(self) -> list[PodFacts]:
        """Creates and removes pods; the removed ones."""
        removed = []
        while len(self.pods) > self.replicas:
            victim = min(self.pods.values(), key=self._rank)
            removed.append(self.pods.pop(victim.name))
        while len(self.pods) < self.replicas:
            self._create()
        return removed

    def advance(self, busy: float, blips: float) -> None:
        """One tick later: pods start, are sampled, leave the endpoints, lose readiness."""
        self.now += TICK_SECONDS
        assigned = sum(p.node is not None for p in self.pods.values())
        for pod in list(self.pods.values()):
            changed = pod
            if pod.node is None and assigned < self.nodes:
                assigned += 1
                changed = replace(pod, node="n", phase=PodPhase.STARTING, phase_since=self.now)
            elif pod.phase is PodPhase.STARTING:
                if self.now - pod.phase_since >= START_TICKS * TICK_SECONDS:
                    changed = replace(pod, phase=PodPhase.READY, phase_since=self.now)
            elif pod.phase is PodPhase.UNREADY:
                if self.random.random() < 0.4:
                    changed = replace(pod, phase=PodPhase.READY, phase_since=self.now)
            elif pod.phase is PodPhase.READY and self.random.random() < blips:
                changed = replace(pod, phase=PodPhase.UNREADY, phase_since=self.now)
            self.pods[pod.name] = replace(
                changed,
                in_endpoints=pod.role is Role.SERVING and changed.phase is PodPhase.READY,
                load=self._sample(changed, busy),
            )

    def _sample(self, pod: PodFacts, busy: float) -> ReplicaLoad | None:
        if pod.phase is not PodPhase.READY:
            # What was seen last: it takes no new request meanwhile.
            return pod.load
        before = pod.load.running if pod.load is not None else 0.0
        running = float(self.random.randint(1, 9)) if self.random.random() < busy else 0.0
        if not pod.in_endpoints and pod.role is not Role.SERVING:
            # No new requests; those that run come to their end.
            running = max(0.0, before - 2)
        return ReplicaLoad(sampled_at=self.now, running=running, waiting=0.0, waiting_all=0.0)

    def _create(self) -> None:
        taken = {p.ordinal for p in self.pods.values()}
        ordinal = next(i for i in range(len(taken) + 1) if i not in taken)
        name = f"p-{self.born}"
        self.born += 1
        self.pods[name] = PodFacts(
            name=name,
            uid=name,
            resource_version="1",
            role=Role.SERVING,
            phase=PodPhase.UNSCHEDULABLE,
            created_at=self.now,
            phase_since=self.now,
            ordinal=ordinal,
            in_endpoints=False,
        )

    def _rank(self, pod: PodFacts) -> tuple[float, ...]:
        if self.kind is TargetKind.ORDINAL:
            return (-(pod.ordinal or 0),)
        return (
            pod.node is not None,
            pod.phase is PodPhase.READY,
            pod.deletion_cost,
            self.random.random(),
        )
