"""Moves pods between serving and warm: un-drain, promote, mark, demote.

Nothing here removes a replica; `spillway.core.drain` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spillway.api.names import Role
from spillway.api.reasons import Reason
from spillway.core.facts import PodPhase
from spillway.core.samples import fresh_load

if TYPE_CHECKING:
    from spillway.core.facts import PodFacts
    from spillway.core.roster import Roster


def fill_serving(roster: Roster, need: int) -> None:
    """Brings ready serving pods up to ``need``: un-drain first, then warm, each by one label.

    An un-drained pod has its prefix cache and perhaps sessions; a warm one is what the pool paid
    for. Starting warm pods become serving ones while those on their way do not suffice.
    """
    if roster.ordinal:
        _undrain_misplaced(roster)
    draining = roster.ready(Role.DRAINING)
    for pod in roster.promotable(draining)[: _short(roster, need)]:
        roster.assign(pod, Role.SERVING, Reason.UNDRAINED)
    for pod in roster.promotable(roster.ready(Role.WARM))[: _short(roster, need)]:
        roster.assign(pod, Role.SERVING, Reason.PROMOTED)
    still = max(0, _short(roster, need) - len(roster.starting(Role.SERVING)))
    for pod in sorted(roster.starting(Role.WARM), key=_progress)[:still]:
        roster.assign(pod, Role.SERVING, Reason.PROMOTED)


def mark_starting(roster: Roster, need: int, warm: int) -> None:
    """Marks pods that start as warm, before they are Ready, where ``need`` does not miss them.

    New pods start as serving by their template, so that they fail open without Spillway.
    """
    for pod in sorted(roster.starting(Role.SERVING), key=_progress, reverse=True):
        # A pod that finds no node may never come: it does not cover the need.
        coming = [
            p
            for p in roster.starting(Role.SERVING)
            if p.phase is PodPhase.STARTING and p.uid != pod.uid
        ]
        covered = len(roster.ready(Role.SERVING)) + len(coming) >= need
        if covered and warm_deficit(roster, warm) > 0:
            roster.assign(pod, Role.WARM, Reason.WARM_BACKFILL)


def demote_idle(roster: Roster, need: int, warm: int, most: int) -> int:
    """Makes at most ``most`` idle serving pods warm that ``need`` does not miss; how many.

    A pod with requests is never demoted: `spillway.core.drain.drain_for_warm` drains it first.
    """
    spare = min(len(roster.ready(Role.SERVING)) - need, warm_deficit(roster, warm), most)
    idle = [p for p in roster.ready(Role.SERVING) if is_idle(p, roster.now)]
    chosen = list(reversed(roster.promotable(idle)))[: max(0, spare)]
    for pod in chosen:
        roster.assign(pod, Role.WARM, Reason.DEMOTED)
    return len(chosen)


def warm_deficit(roster: Roster, warm: int) -> int:
    """Warm pods that are missing, those on their way counted."""
    return max(0, warm - len(roster.ready(Role.WARM)) - len(roster.starting(Role.WARM)))


def is_idle(pod: PodFacts, now: float) -> bool:
    """Whether a fresh sample shows no request on the pod; a missing one shows nothing.

    A request that the engine has deferred is one too: it waits for no capacity, but it is there.
    """
    load = fresh_load(pod, now)
    return load is not None and load.running == 0 and load.waiting_all == 0


def _undrain_misplaced(roster: Roster) -> None:
    """A draining pod below a serving one can't be the next to go: let it serve again."""
    top = max((p.ordinal or 0 for p in roster.ready(Role.SERVING)), default=-1)
    for pod in roster.draining():
        if pod.phase is PodPhase.READY and (pod.ordinal or 0) < top:
            roster.assign(pod, Role.SERVING, Reason.UNDRAINED)


def _short(roster: Roster, need: int) -> int:
    return max(0, need - len(roster.ready(Role.SERVING)))


def _progress(pod: PodFacts) -> tuple[bool, float, str]:
    """Sort key: the pod that will be ready first comes first."""
    return pod.phase is PodPhase.UNSCHEDULABLE, pod.created_at, pod.name
