"""A target's pods by what they do, kept up to date while a plan moves them."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Final

from spillway.api.names import Role
from spillway.core.actions import Protect, RoleChange
from spillway.core.facts import PodPhase, TargetKind
from spillway.core.values import dataclass

if TYPE_CHECKING:
    from spillway.api.reasons import Reason
    from spillway.core.facts import PodFacts, TargetFacts

#: A container that restarts loads its weights again, which takes minutes; a pod that is still not
#: ready after as long as Kubernetes waits for a lost node (300 s) gets a replacement.
LOST_AFTER_SECONDS: Final = 300.0
_STARTING: Final = (PodPhase.UNSCHEDULABLE, PodPhase.STARTING)


@dataclass(slots=True)
class _Groups:
    """Pods of a roster by what they do, each in the roster's order.

    Attributes:
        ready: Ready ones that will stay, by role.
        starting: Those before their first Ready, draining ones included.
        draining: In any phase.
        unready: Those that were ready once, or will go, and are not draining.
    """

    ready: dict[Role, list[PodFacts]] = field(default_factory=lambda: {role: [] for role in Role})
    starting: list[PodFacts] = field(default_factory=list)
    draining: list[PodFacts] = field(default_factory=list)
    unready: list[PodFacts] = field(default_factory=list)


class Roster:
    """Pods of one target, terminating ones left out.

    Attributes:
        variant: Name of the variant.
        target: Facts of its target.
        pods: All pods that are not terminating.
        changes: Role changes so far, by pod UID.
        now: When the plan is made.
    """

    def __init__(self, variant: str, target: TargetFacts, now: float) -> None:
        self.variant = variant
        self.target = target
        self.pods = tuple(p for p in target.pods if p.phase is not PodPhase.TERMINATING)
        self.changes: dict[str, RoleChange] = {}
        self.now = now
        self._groups: _Groups | None = None

    @property
    def ordinal(self) -> bool:
        """Whether the highest ordinal goes first, whatever its deletion cost."""
        return self.target.kind is TargetKind.ORDINAL

    def role(self, pod: PodFacts) -> Role:
        """The pod's role after the changes so far."""
        change = self.changes.get(pod.uid)
        return pod.role if change is None else change.role

    def ready(self, role: Role) -> list[PodFacts]:
        """Ready pods of a role that will stay."""
        return self._grouped().ready[role].copy()

    def starting(self, role: Role | None = None) -> list[PodFacts]:
        """Pods before their first Ready, of a role or of any but draining."""
        return [
            p
            for p in self._grouped().starting
            if (self.role(p) is role if role else self.role(p) is not Role.DRAINING)
        ]

    def draining(self) -> list[PodFacts]:
        """Draining pods in any phase."""
        return self._grouped().draining.copy()

    def unready(self, *, lost: bool) -> list[PodFacts]:
        """Pods that were ready once, and of these the lost ones or those that may come back.

        A pod whose node has been given notice is lost already, whatever it still does.
        """
        return [
            p
            for p in self._grouped().unready
            if (p.interrupted or self.now - p.phase_since >= LOST_AFTER_SECONDS) is lost
        ]

    def _grouped(self) -> _Groups:
        """The pods by what they do now: a plan asks a score of times and changes little."""
        if self._groups is None:
            groups = self._groups = _Groups()
            for p in self.pods:
                role = self.role(p)
                if role is Role.DRAINING:
                    groups.draining.append(p)
                elif p.interrupted or p.phase is PodPhase.UNREADY:
                    groups.unready.append(p)
                if p.interrupted:
                    continue
                if p.phase is PodPhase.READY:
                    groups.ready[role].append(p)
                elif p.phase in _STARTING:
                    groups.starting.append(p)
        return self._groups

    @property
    def uncreated(self) -> int:
        """Pods that spec.replicas asks for and that do not exist yet."""
        return max(0, self.target.spec_replicas - len(self.pods))

    @property
    def size(self) -> int:
        """Pods that exist or are asked for."""
        return max(self.target.spec_replicas, len(self.pods))

    @property
    def active(self) -> int:
        """Pods that serve, are warm, or will: neither draining nor lost."""
        return self.size - len(self.draining()) - len(self.unready(lost=True))

    def assign(
        self, pod: PodFacts, role: Role, reason: Reason, drain_deadline: float | None = None
    ) -> None:
        """Changes a pod's role."""
        self.changes[pod.uid] = RoleChange(self.variant, pod, role, reason, drain_deadline)
        self._groups = None

    def promotable(self, pods: list[PodFacts]) -> list[PodFacts]:
        """Pods in the order in which they should come to serve: those that will stay longest."""
        if self.ordinal:
            return sorted(pods, key=lambda p: (self.outdated(p), p.ordinal or 0, p.name))
        return sorted(pods, key=lambda p: (self.outdated(p), -p.created_at, p.name))

    def outdated(self, pod: PodFacts) -> bool:
        """Whether a rollout is to replace the pod."""
        newest = self.target.update_revision
        return bool(newest) and pod.revision != newest

    def protections(self) -> list[Protect]:
        """Keep disruption away from warm and draining pods; a PDB keeps it from serving ones."""
        return [
            Protect(c.pod, c.role is not Role.SERVING)
            for c in self.changes.values()
            if (c.pod.role is Role.SERVING) is not (c.role is Role.SERVING)
        ]
