"""Replicas of several pods: a LeaderWorkerSet's group counts as one, and its leader stands for it.

The leader's engine answers for all pods of the group, so it alone is scraped and served from. The
group is as far as its last pod, and lost with the first whose node was given notice.
https://lws.sigs.k8s.io/docs/reference/labels-annotations-and-environment-variables/
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from spillway.adapters.kube.selectors import Requirement, Selector
from spillway.core.facts import PodPhase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from spillway.adapters.kube.records import PodRecord

_PREFIX: Final = "leaderworkerset.sigs.k8s.io/"
SET_LABEL: Final = f"{_PREFIX}name"
GROUP_LABEL: Final = f"{_PREFIX}group-index"
WORKER_LABEL: Final = f"{_PREFIX}worker-index"
_LEADER: Final = "0"
#: The least of its pods says how far a group is.
_FARTHEST_LAST: Final = (
    PodPhase.TERMINATING,
    PodPhase.UNSCHEDULABLE,
    PodPhase.UNREADY,
    PodPhase.STARTING,
    PodPhase.READY,
)


def replicas_of(
    pods: Iterable[PodRecord],
    members_of: Callable[[str, Selector], Iterable[PodRecord]],
    interrupted: Callable[[str | None], bool],
) -> list[tuple[PodRecord, bool]]:
    """Pods that each stand for a replica, and whether the replica is to be lost to a notice.

    Args:
        pods: What the target's selector selects: its leaders, or all of its pods.
        members_of: Pods of a namespace by selector.
        interrupted: Whether the node of that name was given notice.
    """
    found = []
    for pod in pods:
        if pod.labels.get(WORKER_LABEL, _LEADER) != _LEADER:
            continue
        members = [pod]
        if SET_LABEL in pod.labels and GROUP_LABEL in pod.labels:
            same = tuple(
                Requirement(label, "In", (pod.labels[label],)) for label in (SET_LABEL, GROUP_LABEL)
            )
            members += members_of(pod.namespace, Selector(same))
        last = min(members, key=lambda member: _FARTHEST_LAST.index(member.phase))
        if last.phase is not pod.phase:
            pod = replace(pod, phase=last.phase, phase_since=last.phase_since)  # noqa: PLW2901
        found.append((pod, any(interrupted(member.node) for member in members)))
    return found
