"""Takes replicas away without hurting a request: choose, drain, wait, remove.

A victim first leaves the Service (role draining). It goes only when it has left the EndpointSlice
and three successive samples show it without a request, or when its deadline has passed. A missing
sample never counts as an idle one.

The deadline is a time of the wall clock, in an annotation, so that it outlives the operator. While
the operator runs, the time until then must have passed step by step as well: a clock that is set
forward ends no request.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from spillway.api.names import Role
from spillway.api.reasons import Reason
from spillway.core.actions import DRAINED_COST, DeletionCost, DrainTime, IdleScrapes
from spillway.core.facts import PodPhase
from spillway.core.history import MAX_GAP_SECONDS
from spillway.core.samples import fresh_load, is_fresh
from spillway.core.values import dataclass
from spillway.core.warm import is_idle, warm_deficit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from spillway.core.actions import PlanMemory
    from spillway.core.facts import PodFacts
    from spillway.core.roster import Roster

#: A keep-alive connection still reaches a pod that has left its Service; three samples in a row
#: leave such a connection time to show.
IDLE_SCRAPES: Final = 3


def observe_idle(
    pods: Iterable[PodFacts], before: Mapping[str, IdleScrapes], now: float
) -> dict[str, IdleScrapes]:
    """Idle samples in a row of each draining pod, counted since it left the EndpointSlice.

    A sample counts once; a missing one leaves the count as it was.
    """
    idle = {}
    for pod in pods:
        if pod.role is not Role.DRAINING or pod.in_endpoints is not False:
            continue
        load, seen = fresh_load(pod, now), before.get(pod.uid)
        if seen is not None and seen.sampled_at > now and not is_fresh(seen.sampled_at, now):
            # The clock was set back: no sample would be later for as long.
            seen = None
        if load is not None and (seen is None or load.sampled_at > seen.sampled_at):
            count = seen.count if seen is not None else 0
            seen = IdleScrapes(load.sampled_at, count + 1 if is_idle(pod, now) else 0)
        if seen is not None:
            idle[pod.uid] = seen
    return idle


def count_down(
    pods: Iterable[PodFacts], before: Mapping[str, DrainTime], at: float | None, now: float
) -> dict[str, DrainTime]:
    """Time that each draining pod has left, by the steps that were seen.

    A step counts as `MAX_GAP_SECONDS` at most, and one back as nothing. After a restart there is
    nothing but the annotation to go by.

    Args:
        pods: All pods of the pool.
        before: From the last plan.
        at: When that was made; None for the first of this process.
        now: Seconds since the Unix epoch.
    """
    begun = now if at is None else at
    passed = min(max(now - begun, 0.0), MAX_GAP_SECONDS)
    left = {}
    for pod in pods:
        if pod.role is not Role.DRAINING or pod.drain_deadline is None:
            continue
        known = before.get(pod.uid)
        if known is None or known.deadline != pod.drain_deadline:
            # Marked after the last plan, so by the clock of then.
            known = DrainTime(pod.drain_deadline, pod.drain_deadline - begun)
        left[pod.uid] = DrainTime(known.deadline, known.left - passed)
    return left


@dataclass(frozen=True, slots=True)
class Finished:
    """Draining pods that may go.

    Attributes:
        idle: They have no request any more.
        overdue: Their deadline has passed, whatever runs on them.
    """

    idle: tuple[PodFacts, ...]
    overdue: tuple[PodFacts, ...]

    @property
    def uids(self) -> frozenset[str]:
        """UIDs of all of them."""
        return frozenset(p.uid for p in (*self.idle, *self.overdue))


def finished(roster: Roster, seen: PlanMemory) -> Finished:
    """The draining pods of a target that may go now, by what was seen of them until now."""
    done: list[PodFacts] = []
    overdue: list[PodFacts] = []
    for pod in roster.draining():
        scrapes, time = seen.idle.get(pod.uid), seen.drains.get(pod.uid)
        if pod.role is not Role.DRAINING:
            continue
        if scrapes is not None and scrapes.count >= IDLE_SCRAPES:
            done.append(pod)
        elif time is not None and time.deadline <= roster.now and time.left <= 0:
            overdue.append(pod)
    return Finished(tuple(done), tuple(overdue))


def recycle(roster: Roster, done: Finished, warm: int) -> None:
    """Makes pods that have finished draining warm where the warm pool lacks some.

    So too a pod below a warm one of a target that drops its highest ordinal: it can't go before
    that one, and in its place that one can.
    """
    ready = [p for p in done.idle if p.phase is PodPhase.READY and not p.interrupted]
    top = max((p.ordinal or 0 for p in roster.ready(Role.WARM)), default=-1)
    for pod in roster.promotable(ready):
        below = roster.ordinal and (pod.ordinal or 0) < top
        if below or warm_deficit(roster, warm) > 0:
            roster.assign(pod, Role.WARM, Reason.WARM_BACKFILL)


def drain_surplus(
    roster: Roster, need: int, warm: int, surplus: int, most: int, deadline: float
) -> int:
    """Begins to drain at most ``most`` of ``surplus`` pods; how many it began.

    Serving pods are taken only while ``need`` ready ones stay. A target that drops the highest
    ordinal leaves no choice; otherwise lost pods go first, then warm ones beyond ``warm``, then
    serving ones of an old revision, then those with the fewest requests.
    """
    if roster.ordinal:
        return _drain_top(roster, need, min(surplus, most), deadline)
    # A node's notice is some two minutes: what still serves there finishes, unless it is the last.
    others = bool(roster.ready(Role.SERVING))
    lost = [p for p in roster.unready(lost=True) if others or p.phase is PodPhase.UNREADY]
    warm_surplus = max(0, len(roster.ready(Role.WARM)) + len(roster.starting(Role.WARM)) - warm)
    spare_serving = max(0, len(roster.ready(Role.SERVING)) - need)
    victims = [
        *least_missed(roster, roster.ready(Role.WARM))[:warm_surplus],
        *least_missed(roster, roster.ready(Role.SERVING))[:spare_serving],
    ]
    chosen = [*lost, *victims[: max(0, surplus)]][:most]
    for pod in chosen:
        roster.assign(pod, Role.DRAINING, Reason.DRAINING, deadline)
    return len(chosen)


def drain_for_warm(roster: Roster, need: int, warm: int, most: int, deadline: float) -> None:
    """Drains serving pods that ``need`` does not miss, so that they can become warm."""
    on_the_way = len(roster.ready(Role.DRAINING))
    spare = len(roster.ready(Role.SERVING)) - need
    count = min(spare, warm_deficit(roster, warm) - on_the_way, most)
    for pod in least_missed(roster, roster.ready(Role.SERVING))[: max(0, count)]:
        roster.assign(pod, Role.DRAINING, Reason.DRAINING, deadline)


def keep_deadlines(roster: Roster, deadline: float) -> None:
    """Gives draining pods whose deadline is missing (somebody took it away) a new one."""
    for pod in roster.draining():
        if pod.drain_deadline is None and pod.uid not in roster.changes:
            roster.assign(pod, Role.DRAINING, Reason.DRAINING, deadline)


def least_missed(roster: Roster, pods: list[PodFacts]) -> list[PodFacts]:
    """Pods in the order in which they should go."""
    if roster.ordinal:
        return sorted(pods, key=lambda p: -(p.ordinal or 0))

    def key(pod: PodFacts) -> tuple[bool, float, float, str]:
        load = fresh_load(pod, roster.now)
        in_flight = math.inf if load is None else load.in_flight
        return not roster.outdated(pod), in_flight, -pod.created_at, pod.name

    return sorted(pods, key=key)


def costs(roster: Roster, done: Finished) -> list[DeletionCost]:
    """Deletion costs that make the finished pods, and no others, the ones that go first."""
    changes = []
    for pod in roster.pods:
        goes = pod.uid in done.uids and roster.role(pod) is Role.DRAINING and not roster.ordinal
        if goes and pod.deletion_cost != DRAINED_COST:
            changes.append(DeletionCost(roster.variant, pod, DRAINED_COST))
        elif not goes and pod.deletion_cost == DRAINED_COST:
            changes.append(DeletionCost(roster.variant, pod, None))
    return changes


def removable(roster: Roster, done: Finished) -> int:
    """How many replicas fewer take exactly finished pods away; 0 while that is not certain.

    A ReplicaSet removes unassigned, Pending and NotReady pods before it looks at the deletion
    cost, so all others must be ready, and the cost must be there already (two ticks).
    """
    if roster.uncreated:
        return 0
    going = {p.uid for p in roster.draining() if p.uid in done.uids}
    if roster.ordinal:
        return _run(p.uid in going for p in _from_top(roster))
    marked = {p.uid for p in roster.pods if p.uid in going and p.deletion_cost == DRAINED_COST}
    others = [p for p in roster.pods if p.uid not in marked]
    if any(p.phase is not PodPhase.READY or p.deletion_cost == DRAINED_COST for p in others):
        return 0
    return len(marked)


def cancellable(roster: Roster) -> int:
    """How many replicas fewer take only pods away that never served.

    That needs no drain: a ReplicaSet removes unassigned pods first, then Pending and NotReady
    ones, an ordinal target its highest. Pods that were ready once and are not now may hold
    requests; with such a one in the target, only unassigned pods are certain to go first.
    """
    starting = {p.uid for p in roster.starting()}
    if roster.ordinal:
        ordinals = {p.ordinal for p in roster.pods}
        whole = all(index in ordinals for index in range(len(roster.pods)))
        run = _run(p.uid in starting for p in _from_top(roster))
        # Below a gap, the next pod to be created is not the highest.
        return run + roster.uncreated if whole else 0
    if any(p.phase is not PodPhase.READY and p.uid not in starting for p in roster.pods):
        unassigned = [p for p in roster.starting() if p.node is None]
        return roster.uncreated + len(unassigned)
    return roster.uncreated + len(starting)


def _drain_top(roster: Roster, need: int, most: int, deadline: float) -> int:
    count = 0
    for pod in _from_top(roster):
        if count >= most:
            break
        if roster.role(pod) is Role.DRAINING:
            continue
        if pod in roster.starting():
            break
        serving = roster.ready(Role.SERVING)
        if pod in serving and len(serving) <= need:
            # The surplus is warm and further down: let it serve, then this one may go.
            for substitute in roster.promotable(roster.ready(Role.WARM))[:1]:
                roster.assign(substitute, Role.SERVING, Reason.PROMOTED)
            break
        roster.assign(pod, Role.DRAINING, Reason.DRAINING, deadline)
        count += 1
    return count


def _from_top(roster: Roster) -> list[PodFacts]:
    return sorted(roster.pods, key=lambda p: -(p.ordinal or 0))


def _run(flags: Iterable[bool]) -> int:
    """How many are true before the first that is not."""
    count = 0
    for flag in flags:
        if not flag:
            break
        count += 1
    return count
