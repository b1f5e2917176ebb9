"""What the informers keep of pods, workloads, Services and autoscalers: small, and no more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from spillway.core.facts import PodFacts, PodPhase, ReplicaLoad

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spillway.adapters.kube.selectors import Selector
    from spillway.api.names import Role


@dataclass(frozen=True, slots=True)
class Owner:
    """The controller of an object.

    Attributes:
        kind: Such as ``ReplicaSet``.
        name: Its name, in the same namespace.
        uid: Its UID.
    """

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class PodRecord:
    """A pod that counts as a replica, or is on its way to or from that.

    Attributes:
        namespace: Namespace.
        name: Name.
        uid: UID.
        resource_version: What a write to this pod must carry.
        labels: All labels, for selectors.
        role: From the role label; a pod without it (or with an unknown value) serves.
        role_labelled: Whether the label is there with a known value.
        phase: See `PodPhase`.
        phase_since: When the pod came into ``phase``.
        created_at: Creation time.
        ready_at: First time it was Ready as far as is known; None if never, or before our time.
        revision: pod-template-hash or controller-revision-hash; "" without.
        ip: Pod IP, once assigned.
        node: Node name, once scheduled.
        ordinal: StatefulSet ordinal.
        drain_deadline: From the annotation.
        deletion_cost: From the annotation; 0 where there is none.
        do_not_disrupt: Whether Karpenter is told to leave it alone.
        owner: Its controller.
        has_readiness_probe: Whether any container declares one.
        gpus: GPUs that it asks for.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str
    labels: dict[str, str]
    role: Role
    role_labelled: bool
    phase: PodPhase
    phase_since: float
    created_at: float
    ready_at: float | None
    revision: str
    ip: str | None
    node: str | None
    ordinal: int | None
    drain_deadline: float | None
    deletion_cost: int
    do_not_disrupt: bool
    owner: Owner | None
    has_readiness_probe: bool
    gpus: int = 0

    def facts(
        self,
        *,
        in_endpoints: bool | None,
        load: ReplicaLoad | None,
        zone: str | None = None,
        interrupted: bool = False,
    ) -> PodFacts:
        """The pod as the core knows it.

        Args:
            in_endpoints: Whether an EndpointSlice still lists it; None if unknown.
            load: Its latest sample; None where none is fresh.
            zone: Availability zone of its node, if known.
            interrupted: Its node has been given notice.
        """
        return PodFacts(
            name=self.name,
            uid=self.uid,
            resource_version=self.resource_version,
            role=self.role,
            phase=self.phase,
            created_at=self.created_at,
            phase_since=self.phase_since,
            ready_at=self.ready_at,
            revision=self.revision,
            ip=self.ip,
            node=self.node,
            ordinal=self.ordinal,
            drain_deadline=self.drain_deadline,
            deletion_cost=self.deletion_cost,
            in_endpoints=in_endpoints,
            load=load,
            has_readiness_probe=self.has_readiness_probe,
            zone=zone,
            interrupted=interrupted,
        )


def carry_pod(previous: PodRecord, record: PodRecord) -> PodRecord:
    """What a pod's record takes over from the one before it: when it was ready first.

    A Ready condition tells its last change alone, so a pod that lost readiness forgets when it had
    it. It must not look like one that starts.
    """
    if previous.uid != record.uid or previous.ready_at is None:
        return record
    phase = PodPhase.UNREADY if record.phase is PodPhase.STARTING else record.phase
    ready_at = (
        previous.ready_at if record.ready_at is None else min(previous.ready_at, record.ready_at)
    )
    if phase is record.phase and ready_at == record.ready_at:
        return record
    return replace(record, phase=phase, ready_at=ready_at)


@dataclass(frozen=True, slots=True)
class WorkloadRecord:
    """A Deployment or a StatefulSet.

    Attributes:
        api_version: ``apps/v1``.
        kind: ``Deployment`` or ``StatefulSet``.
        namespace: Namespace.
        name: Name.
        uid: UID.
        resource_version: The workload's, which is the scale subresource's as well.
        selector: Which pods are its own.
        template_labels: Labels that its new pods get.
        spec_replicas: What is asked for; 1 where the spec does not say.
        status_replicas: Pods that its controller counts.
        ready_replicas: Of these, Ready.
        rolling_out: A rollout is under way.
        update_revision: StatefulSet: the revision that a rollout moves to. Deployment: "", because
            only its ReplicaSets know (`revisions.update_revision`).
        revision_number: Deployment: its ``deployment.kubernetes.io/revision``.
        has_readiness_probe: Whether any container of the template declares one.
        replicas_managers: Field managers that own spec.replicas.
        scale_owned: Whether our scale manager is one of them.
        deleting: Whether it is being deleted.
    """

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str
    selector: Selector
    template_labels: dict[str, str]
    spec_replicas: int
    status_replicas: int
    ready_replicas: int
    rolling_out: bool
    update_revision: str
    revision_number: str
    has_readiness_probe: bool
    replicas_managers: tuple[str, ...]
    scale_owned: bool
    deleting: bool


@dataclass(frozen=True, slots=True)
class AutoscalerRecord:
    """A HorizontalPodAutoscaler (KEDA's ScaledObjects make one each).

    Attributes:
        namespace: Namespace.
        name: Name.
        target_api_version: What it scales.
        target_kind: What it scales.
        target_name: What it scales.
    """

    namespace: str
    name: str
    target_api_version: str
    target_kind: str
    target_name: str


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """A Service.

    Attributes:
        namespace: Namespace.
        name: Name.
        selector: Labels that its pods must have; empty selects nothing (manual endpoints).
    """

    namespace: str
    name: str
    selector: dict[str, str]

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether a pod with these labels is behind this Service."""
        return bool(self.selector) and self.selector.items() <= labels.items()
