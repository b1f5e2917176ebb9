"""What a plan may ask for: role changes, deletion costs, replicas, protection. Values only."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Final

from spillway.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spillway.api.names import Role
    from spillway.api.reasons import Reason
    from spillway.core.decision import ReasonNote
    from spillway.core.facts import PodFacts

#: The lowest cost there is (int32): no user's cost ranks before that of a drained replica.
DRAINED_COST: Final = -(2**31)


@dataclass(frozen=True, slots=True)
class RoleChange:
    """One patch of a pod: its role label and its drain deadline annotation.

    Attributes:
        variant: Variant that the pod belongs to.
        pod: The pod as it was when this was decided.
        role: Role it gets.
        reason: Why.
        drain_deadline: When a draining pod may go although requests still run on it; None takes
            the annotation away.
    """

    variant: str
    pod: PodFacts
    role: Role
    reason: Reason
    drain_deadline: float | None = None


@dataclass(frozen=True, slots=True)
class DeletionCost:
    """A pod's deletion cost annotation; ``cost`` None takes it away."""

    variant: str
    pod: PodFacts
    cost: int | None


@dataclass(frozen=True, slots=True)
class ScaleTo:
    """A write to the scale subresource of a variant's target.

    Attributes:
        variant: Variant whose target it is.
        replicas: spec.replicas; the value it has already when only ownership is to be taken.
        resource_version: That the write must carry.
        reason: Why.
    """

    variant: str
    replicas: int
    resource_version: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Protect:
    """Ask node autoscalers not to disrupt a pod (``on``), or let them."""

    pod: PodFacts
    on: bool


@dataclass(frozen=True, slots=True)
class RoleCounts:
    """Pods of all targets by what they do; terminating and unready ones count for nothing.

    Attributes:
        serving: Ready and serving.
        warm: Ready and warm.
        starting: On the way to their first Ready, whatever they will be.
        draining: Finishing their requests.
    """

    serving: int = 0
    warm: int = 0
    starting: int = 0
    draining: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about one pool now; every part may be done without the others.

    Attributes:
        roles: At most one for a pod; in order of urgency (what adds serving replicas first).
        costs: At most one for a pod.
        scales: At most one for a variant.
        protections: Follow from ``roles``.
        notes: What was held back or can't be done, and why.
        counts: Of the pods as they were found.
    """

    roles: tuple[RoleChange, ...] = ()
    costs: tuple[DeletionCost, ...] = ()
    scales: tuple[ScaleTo, ...] = ()
    protections: tuple[Protect, ...] = ()
    notes: tuple[ReasonNote, ...] = ()
    counts: RoleCounts = RoleCounts()


@dataclass(frozen=True, slots=True)
class IdleScrapes:
    """Evidence that a draining pod has finished.

    Attributes:
        sampled_at: Time of the latest sample that was counted.
        count: Successive samples without a request, since the pod left the EndpointSlice.
    """

    sampled_at: float
    count: int


@dataclass(frozen=True, slots=True)
class DrainTime:
    """Time that a draining pod still has, by what this process has seen pass.

    Attributes:
        deadline: The pod's annotation; another one begins anew.
        left: Seconds, below zero once they are over.
    """

    deadline: float
    left: float


@dataclass(frozen=True, slots=True)
class PlanMemory:
    """What planning remembers; lost, it only takes a little longer to drain.

    Attributes:
        idle: By UID of the draining pod.
        owned: Variants whose spec.replicas Spillway has owned: one that it does not own any more
            was scaled by somebody else.
        drains: By UID of the draining pod.
        at: When the last plan was made; None before the first.
    """

    idle: Mapping[str, IdleScrapes] = field(default_factory=dict)
    owned: frozenset[str] = frozenset()
    drains: Mapping[str, DrainTime] = field(default_factory=dict)
    at: float | None = None
