"""Scales a target whose pods can't carry roles: by replicas alone, no warm pool and no drain."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from spillway.api.names import Role
from spillway.api.reasons import Reason
from spillway.core.actions import DRAINED_COST, DeletionCost
from spillway.core.decision import ReasonNote
from spillway.core.facts import PodPhase, TargetKind
from spillway.core.samples import fresh_load

if TYPE_CHECKING:
    from spillway.core.facts import PodFacts, TargetFacts
    from spillway.core.roster import Roster


def no_roles(variant: str, target: TargetFacts) -> ReasonNote | None:
    """Why pods of a target can't carry roles; None when they can."""
    if target.role_in_selector:
        message = f"the selector of variant {variant}'s target names the role label"
        return ReasonNote(Reason.ROLE_IN_SELECTOR, message)
    if target.kind is TargetKind.OTHER:
        message = f"the target of variant {variant} is of a kind whose victims are not known"
        return ReasonNote(Reason.UNSUPPORTED_TARGET, message)
    if target.kind is TargetKind.ORDINAL and any(pod.ordinal is None for pod in target.pods):
        message = f"pods of variant {variant} have no ordinal, so the next victim is not known"
        return ReasonNote(Reason.UNSUPPORTED_TARGET, message)
    if target.service_selects_role is None:
        message = f"no Service selects the pods of variant {variant}"
        return ReasonNote(Reason.NO_SERVICE, message)
    if not target.service_selects_role:
        message = f"the Service of variant {variant} does not select the role serving"
        return ReasonNote(Reason.SERVICE_IGNORES_ROLE, message)
    return None


def serve_all(roster: Roster, reason: Reason) -> None:
    """Lets every pod serve again, in case roles were given while they still meant something."""
    if roster.target.role_in_selector:
        # The role is part of the pod's identity there: a flip would orphan it.
        return
    for pod in roster.pods:
        if pod.role is not Role.SERVING or pod.drain_deadline is not None:
            roster.assign(pod, Role.SERVING, reason)


def step_down(roster: Roster, need: int, most: int) -> tuple[list[DeletionCost], int | None]:
    """Deletion costs to set, and the replicas to ask for now; None to leave them.

    At most ``most`` go at once. A Deployment gets the hint which ones first: the least loaded, and
    the replicas follow when the hint is seen. Pods that are not ready go before those anyway.
    """
    count = min(roster.size - need, most)
    if count <= 0:
        return _unhinted(roster), None
    lower = roster.size - count
    if roster.target.kind is not TargetKind.DEPLOYMENT:
        return [], lower
    ready = [p for p in roster.pods if p.phase is PodPhase.READY]
    hints = count - (roster.size - len(ready))
    hinted = [p for p in ready if p.deletion_cost == DRAINED_COST]
    if len(hinted) >= hints:
        return [], lower
    others = sorted((p for p in ready if p not in hinted), key=lambda p: _load(p, roster.now))
    chosen = others[: hints - len(hinted)]
    return [DeletionCost(roster.variant, p, DRAINED_COST) for p in chosen], None


def _unhinted(roster: Roster) -> list[DeletionCost]:
    return [
        DeletionCost(roster.variant, p, None)
        for p in roster.pods
        if p.deletion_cost == DRAINED_COST
    ]


def _load(pod: PodFacts, now: float) -> tuple[float, float, str]:
    load = fresh_load(pod, now)
    return math.inf if load is None else load.in_flight, -pod.created_at, pod.name
