"""Plans roles and replicas of one pool: from how many should serve to what is to be written.

Promotion and un-drain are one label patch each and come first; replicas are raised for what is
still missing, warm pool included; what is too much is drained and goes when it has finished.

What always holds: replicas are lowered only by pods that have finished draining or never served;
all pods of the pool stay within spec.replicas.max unless they exist already; nothing is reduced
while the pool or the target is held (no data, adoption, contention, rollout).
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from spillway.api.names import KIND, Role
from spillway.api.reasons import Reason
from spillway.core.actions import (
    DRAINED_COST,
    DeletionCost,
    IdleScrapes,
    Plan,
    PlanMemory,
    Protect,
    RoleChange,
    RoleCounts,
    ScaleTo,
)
from spillway.core.decision import ReasonNote
from spillway.core.drain import (
    Finished,
    cancellable,
    costs,
    count_down,
    drain_for_warm,
    drain_surplus,
    finished,
    keep_deadlines,
    observe_idle,
    recycle,
    removable,
)
from spillway.core.plainscale import no_roles, serve_all, step_down
from spillway.core.roster import Roster
from spillway.core.samples import pods_of
from spillway.core.values import dataclass, replace
from spillway.core.warm import demote_idle, fill_serving, mark_starting, warm_deficit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spillway.api.inferencepool import Scaling
    from spillway.core.facts import PoolFacts, TargetFacts

__all__ = [
    "DRAINED_COST",
    "DeletionCost",
    "IdleScrapes",
    "Plan",
    "PlanMemory",
    "Protect",
    "RoleChange",
    "RoleCounts",
    "ScaleTo",
    "plan",
    "release",
]


@dataclass(slots=True)
class _Part:
    """One variant's share of the plan, while it is made.

    Attributes:
        roster: Its pods.
        need: Serving replicas it should have.
        held: Nothing may be reduced.
        roles: Whether its pods carry roles.
        warm: Warm replicas it should have.
        keep: Pods that exist beyond need and warm for now: draining and lost ones.
        lower: Replicas to go down to, once nothing has to go up.
        lower_reason: Why.
        costs: Deletion costs to write.
    """

    roster: Roster
    need: int
    held: bool
    roles: bool
    warm: int = 0
    keep: int = 0
    lower: int | None = None
    lower_reason: Reason = Reason.SCALED
    costs: list[DeletionCost] = field(default_factory=list)

    @property
    def wanted(self) -> int:
        """Pods that the variant should have."""
        return self.need + self.warm + self.keep


def plan(
    facts: PoolFacts,
    desired_by_variant: Mapping[str, int],
    warm_size: int,
    hold: bool,  # noqa: FBT001 - a decision's field, passed on
    memory: PlanMemory,
    now: float,
) -> tuple[Plan, PlanMemory]:
    """What to write for one pool now, and what to remember.

    Args:
        facts: What is known of the pool.
        desired_by_variant: Serving replicas that were decided; a variant without one is held.
        warm_size: Warm replicas wanted; the first variant whose pods can carry roles has them.
        hold: Nothing may be reduced.
        memory: From the last plan, or empty.
        now: Seconds since the Unix epoch.
    """
    seen = PlanMemory(
        idle=observe_idle(pods_of(facts), memory.idle, now),
        owned=memory.owned,
        drains=count_down(pods_of(facts), memory.drains, memory.at, now),
        at=now,
    )
    notes: list[ReasonNote] = []
    parts = [
        _part(variant.name, target, desired_by_variant, notes, now, hold=hold)
        for variant in facts.spec.variants
        if (target := _existing(facts, variant.name, notes)) is not None
    ]
    _place_warm(facts, parts, warm_size, notes)
    for part in parts:
        if part.roles:
            _plan_roles(part, seen, facts.spec.scaling, notes)
        elif not part.held:
            part.costs, part.lower = step_down(
                part.roster, part.need, facts.spec.scaling.max_step_down
            )
    limits = _limits(parts, facts.spec.replicas.max)
    scales: list[ScaleTo] = []
    for part, limit in zip(parts, limits, strict=True):
        name = part.roster.variant
        scale = _scale(part, limit, was_owned=name in memory.owned)
        if part.need + part.keep > limit:
            message = f"variant {name} needs more replicas than max leaves it"
            notes.append(ReasonNote(Reason.MAX, message))
        if scale is not None:
            scales.append(scale)
    actions = Plan(
        roles=tuple(change for part in parts for change in part.roster.changes.values()),
        costs=tuple(cost for part in parts for cost in part.costs),
        scales=tuple(scales),
        protections=tuple(p for part in parts for p in part.roster.protections()),
        notes=tuple(notes),
        counts=_counts(facts),
    )
    owned = {p.roster.variant for p in parts if p.roster.target.owned}
    known = {p.roster.variant for p in parts}
    return actions, replace(seen, owned=frozenset(owned | (memory.owned & known)))


def release(facts: PoolFacts) -> Plan:
    """Lets go of a pool: every pod serves, and costs, deadlines and protections are cleared.

    Replicas stay as they are: whoever takes over decides. A target that another pool runs is left
    alone, because its roles are that pool's.
    """
    rosters = [
        Roster(variant, target, 0.0)
        for variant, target in facts.targets.items()
        if target.exists and (target.contention is None or target.contention.kind != KIND)
    ]
    cleared = []
    for roster in rosters:
        for pod in roster.pods:
            if pod.role is not Role.SERVING or pod.drain_deadline is not None:
                roster.assign(pod, Role.SERVING, Reason.RELEASED)
            ours = pod.deletion_cost == DRAINED_COST
            if ours or (pod.deletion_cost and pod.role is not Role.SERVING):
                cleared.append(DeletionCost(roster.variant, pod, None))
    return Plan(
        roles=tuple(change for roster in rosters for change in roster.changes.values()),
        costs=tuple(cleared),
        protections=tuple(p for roster in rosters for p in roster.protections()),
        counts=_counts(facts),
    )


def _existing(facts: PoolFacts, variant: str, notes: list[ReasonNote]) -> TargetFacts | None:
    target = facts.targets.get(variant)
    if target is None or not target.exists:
        message = f"the target of variant {variant} does not exist"
        notes.append(ReasonNote(Reason.TARGET_NOT_FOUND, message))
        return None
    return target


def _part(
    variant: str,
    target: TargetFacts,
    desired_by_variant: Mapping[str, int],
    notes: list[ReasonNote],
    now: float,
    *,
    hold: bool,
) -> _Part:
    roster = Roster(variant, target, now)
    need = desired_by_variant.get(variant)
    held = hold or need is None or target.rolling_out or target.contention is not None
    why = no_roles(variant, target)
    if why is not None:
        notes.append(why)
        serve_all(roster, why.reason)
    if target.contention is not None:
        other = target.contention
        message = f"{other.kind} {other.name} also scales the target of variant {variant}"
        notes.append(ReasonNote(Reason.TARGET_CONTESTED, message))
    if need is None:
        need = len(roster.ready(Role.SERVING))
    return _Part(roster, need, held, roles=why is None)


def _place_warm(
    facts: PoolFacts, parts: list[_Part], warm_size: int, notes: list[ReasonNote]
) -> None:
    """Gives the warm pool to the first variant that can have it; need goes before warm."""
    carrier = next((part for part in parts if part.roles), None)
    if carrier is not None:
        room = facts.spec.replicas.max - sum(part.need for part in parts)
        carrier.warm = max(0, min(warm_size, room))
    elif warm_size > 0:
        message = "no target of the pool can hold warm replicas"
        notes.append(ReasonNote(Reason.WARM_DISABLED, message))


def _plan_roles(part: _Part, seen: PlanMemory, scaling: Scaling, notes: list[ReasonNote]) -> None:
    roster, need, warm = part.roster, part.need, part.warm
    target = roster.target
    deadline = roster.now + scaling.drain_timeout
    fill_serving(roster, need)
    if not target.rolling_out and target.contention is None:
        mark_starting(roster, need, warm)
    done = finished(roster, seen)
    if not part.held:
        most = scaling.max_step_down
        most -= demote_idle(roster, need, warm, most)
        recycle(roster, done, warm)
        surplus = max(0, roster.active - need - warm)
        cancelled = min(surplus, cancellable(roster))
        most -= drain_surplus(roster, need, warm, surplus - cancelled, most, deadline)
        drain_for_warm(roster, need, warm, most, deadline)
        if cancelled:
            part.lower = roster.size - cancelled
        else:
            _remove_finished(part, done, notes)
    keep_deadlines(roster, deadline)
    part.costs = costs(roster, done)
    # Finished pods beyond spec.replicas are going already: keeping them would call them back.
    going = sum(p.uid in done.uids for p in roster.draining())
    leaving = min(going, max(0, len(roster.pods) - target.spec_replicas))
    part.keep = len(roster.draining()) + len(roster.unready(lost=True)) - leaving
    if not part.held:
        ready = len(roster.ready(Role.DRAINING))
        part.keep -= min(ready, warm_deficit(roster, warm))


def _remove_finished(part: _Part, done: Finished, notes: list[ReasonNote]) -> None:
    roster = part.roster
    going = [p for p in roster.draining() if p.uid in done.uids]
    count = removable(roster, done)
    if count:
        part.lower = len(roster.pods) - count
        overdue = {p.uid for p in done.overdue}
        late = any(p.uid in overdue for p in going)
        part.lower_reason = Reason.DRAIN_DEADLINE if late else Reason.DRAINED
    elif going and all(p.deletion_cost == DRAINED_COST for p in going):
        message = f"drained replicas of variant {roster.variant} go when all others are ready"
        notes.append(ReasonNote(Reason.STARTING, message))


def _limits(parts: list[_Part], most: int) -> list[int]:
    """Most pods that each variant may have, within ``most`` of the pool: need first, then warm."""
    totals = [part.roster.size for part in parts]
    for warm in (False, True):
        for index, part in enumerate(parts):
            room = most - sum(totals) + totals[index]
            wanted = part.wanted if warm else part.need + part.keep
            totals[index] = max(totals[index], min(wanted, room))
    return [most - sum(totals) + total for total in totals]


def _scale(part: _Part, limit: int, *, was_owned: bool) -> ScaleTo | None:
    """The write to the target's replicas: up at once, down when it is safe, or to own the field."""
    roster, target = part.roster, part.roster.target
    if target.contention is not None:
        return None
    up = min(part.wanted, limit)
    if up > target.spec_replicas:
        replicas, reason = up, _up_reason(part)
    elif part.lower is not None and part.lower < target.spec_replicas:
        replicas, reason = part.lower, part.lower_reason
    elif not target.owned:
        replicas, reason = target.spec_replicas, Reason.RECONCILED
    else:
        return None
    if was_owned and not target.owned:
        reason = Reason.FOREIGN_SCALE
    return ScaleTo(roster.variant, replicas, target.resource_version, reason)


def _up_reason(part: _Part) -> Reason:
    roster = part.roster
    coming = len(roster.starting(Role.SERVING)) + len(roster.unready(lost=False))
    covered = len(roster.ready(Role.SERVING)) + coming >= part.need
    return Reason.WARM_BACKFILL if part.roles and covered else Reason.SCALED


def _counts(facts: PoolFacts) -> RoleCounts:
    serving = warm = starting = draining = 0
    for variant, target in facts.targets.items():
        if target.exists:
            roster = Roster(variant, target, 0.0)
            serving += len(roster.ready(Role.SERVING))
            warm += len(roster.ready(Role.WARM))
            starting += len(roster.starting())
            draining += len(roster.draining())
    return RoleCounts(serving, warm, starting, draining)
