"""Labels and annotations that Spillway writes on pods: role, drain deadline, deletion cost.

One change is one merge patch that carries the resourceVersion it was decided on. A change that is
already there is not written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from spillway.adapters.kube.paths import resource_path
from spillway.adapters.kube.projections import project_pod
from spillway.api.names import (
    DELETION_COST_ANNOTATION,
    DO_NOT_DISRUPT_ANNOTATION,
    DRAIN_DEADLINE_ANNOTATION,
    MANAGER_ROLE,
    ROLE_LABEL,
    Role,
)
from spillway.api.timestamps import format_time

if TYPE_CHECKING:
    from spillway.adapters.kube.client import Cluster
    from spillway.adapters.kube.records import PodRecord
    from spillway.adapters.kube.transport import JsonObject


class Keep(Enum):
    """Says that a field of a `PodChange` stays as it is (None would remove it)."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP


@dataclass(frozen=True, slots=True)
class PodChange:
    """What a pod's marks are to be; a field left at `KEEP` stays as it is.

    Attributes:
        role: The role label.
        drain_deadline: When the pod may go although requests still run; None removes it. Parts of
            a second are cut off.
        deletion_cost: The lowest goes first; 0 removes the annotation, which means the same.
        do_not_disrupt: Whether Karpenter is to leave the pod alone; False removes the annotation.
    """

    role: Role | Keep = KEEP
    drain_deadline: float | Keep | None = KEEP
    deletion_cost: int | Keep = KEEP
    do_not_disrupt: bool | Keep = KEEP


#: A pod that serves and carries none of our marks: what leaving Active restores.
RELEASED: Final = PodChange(
    role=Role.SERVING, drain_deadline=None, deletion_cost=0, do_not_disrupt=False
)


def difference(pod: PodRecord, change: PodChange) -> JsonObject:
    """The metadata patch that takes the pod there; empty when it is there already."""
    labels: dict[str, str] = {}
    annotations: dict[str, str | None] = {}
    if change.role is not KEEP and not (pod.role_labelled and pod.role is change.role):
        labels[ROLE_LABEL] = change.role.value
    if change.drain_deadline is not KEEP:
        wanted = None if change.drain_deadline is None else math.floor(change.drain_deadline)
        if wanted != pod.drain_deadline:
            text = None if wanted is None else format_time(wanted)
            annotations[DRAIN_DEADLINE_ANNOTATION] = text
    if change.deletion_cost is not KEEP and change.deletion_cost != pod.deletion_cost:
        cost = change.deletion_cost
        annotations[DELETION_COST_ANNOTATION] = str(cost) if cost else None
    if change.do_not_disrupt is not KEEP and change.do_not_disrupt != pod.do_not_disrupt:
        annotations[DO_NOT_DISRUPT_ANNOTATION] = "true" if change.do_not_disrupt else None
    patch: JsonObject = {}
    if labels:
        patch["labels"] = labels
    if annotations:
        patch["annotations"] = annotations
    return patch


class PodWriter:
    """Writes the marks of pods."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def write(self, pod: PodRecord, change: PodChange) -> PodRecord | None:
        """Take a pod to its new marks with at most one patch.

        Args:
            pod: The pod as it was when the change was decided.
            change: Its new marks.

        Returns:
            The pod as it is now (the same record if there was nothing to write); None if it has
            finished meanwhile.

        Raises:
            Conflict: The pod has changed since; decide again.
            NotFound: The pod is gone.
        """
        metadata = difference(pod, change)
        if not metadata:
            return pod
        # The uid guards against a StatefulSet's new pod of the same name.
        metadata |= {"resourceVersion": pod.resource_version, "uid": pod.uid}
        path = resource_path("v1", "pods", pod.namespace, pod.name)
        return project_pod(
            await self._cluster.merge_patch(path, {"metadata": metadata}, MANAGER_ROLE)
        )
