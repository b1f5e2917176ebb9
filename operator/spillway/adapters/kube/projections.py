"""Raw objects to records: what the informers keep of them.

A projection reads one object and nothing else, so the store is a function of what the API server
holds. It may raise on a malformed object; the informer leaves that object out and says why.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Final

from spillway.adapters.kube import selectors
from spillway.adapters.kube.nodes import pod_gpus
from spillway.adapters.kube.records import (
    AutoscalerRecord,
    Owner,
    PodRecord,
    ServiceRecord,
    WorkloadRecord,
)
from spillway.api.names import (
    DELETION_COST_ANNOTATION,
    DO_NOT_DISRUPT_ANNOTATION,
    DRAIN_DEADLINE_ANNOTATION,
    MANAGER_SCALE,
    ROLE_LABEL,
    Role,
)
from spillway.api.timestamps import parse_time
from spillway.core.facts import PodPhase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spillway.adapters.kube.transport import JsonObject

_REVISION_LABELS: Final = ("pod-template-hash", "controller-revision-hash")
_POD_INDEX_LABEL: Final = "apps.kubernetes.io/pod-index"
_DEPLOYMENT_REVISION: Final = "deployment.kubernetes.io/revision"
_ORDINAL_SUFFIX: Final = re.compile(r"-(\d+)$")
_ROLES: Final = {role.value: role for role in Role}
#: A Ready condition that turned False this long after the kubelet first saw the pod was True in
#: between. The kubelet writes startTime and the first conditions in one update; times have whole
#: seconds.
_FIRST_STATUS_SECONDS: Final = 2.0
#: Pods that wait for a node (Unschedulable) or for a queue's quota (SchedulingGated, as Kueue does)
#: both lack capacity that this operator can't make.
_SHORT_REASONS: Final = frozenset({"Unschedulable", "SchedulingGated"})


def project_pod(raw: JsonObject) -> PodRecord | None:
    """A pod, or None for one that has finished.

    Failed and Succeeded pods (evicted ones stay as Failed) are no replicas: their controller does
    not count them and has made others.
    """
    meta, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    if status.get("phase") in {"Failed", "Succeeded"}:
        return None
    labels = _interned(meta.get("labels") or {})
    annotations = meta.get("annotations") or {}
    owner = _controller(meta)
    created_at = _required_time(meta, "creationTimestamp")
    phase, since, ready_at = _phase(meta, status, created_at)
    return PodRecord(
        namespace=sys.intern(meta["namespace"]),
        name=meta["name"],
        uid=_required_text(meta, "uid"),
        resource_version=_required_text(meta, "resourceVersion"),
        labels=labels,
        role=_ROLES.get(labels.get(ROLE_LABEL, ""), Role.SERVING),
        role_labelled=labels.get(ROLE_LABEL) in _ROLES,
        phase=phase,
        phase_since=since,
        created_at=created_at,
        ready_at=ready_at,
        revision=next((labels[name] for name in _REVISION_LABELS if name in labels), ""),
        ip=status.get("podIP") or None,
        node=spec.get("nodeName") or None,
        ordinal=_ordinal(meta["name"], labels, owner),
        drain_deadline=_drain_deadline(annotations),
        deletion_cost=_deletion_cost(annotations),
        do_not_disrupt=annotations.get(DO_NOT_DISRUPT_ANNOTATION) == "true",
        owner=owner,
        has_readiness_probe=_has_readiness_probe(spec),
        gpus=pod_gpus(spec),
    )


def _phase(
    meta: Mapping[str, Any], status: Mapping[str, Any], created_at: float
) -> tuple[PodPhase, float, float | None]:
    """Phase, since when, and when the pod was ready first (as far as this object can tell).

    "Was ready once and is not now" shows in the Ready condition: it turned False later than the
    kubelet's first status. `records.carry_pod` adds what the informer saw itself. (A started
    container proves nothing: without a startup probe it counts as started before it is ready.)
    """
    conditions = {entry["type"]: entry for entry in status.get("conditions") or []}
    ready = conditions.get("Ready") or {}
    turned = _seconds(ready.get("lastTransitionTime"))
    is_ready = ready.get("status") == "True"
    ready_at = turned if is_ready else None
    deletion = _seconds(meta.get("deletionTimestamp"))
    if deletion is not None:
        # deletionTimestamp is when the grace period ends.
        since = deletion - float(meta.get("deletionGracePeriodSeconds") or 0)
        return PodPhase.TERMINATING, since, ready_at
    if is_ready:
        return PodPhase.READY, turned if turned is not None else created_at, ready_at
    scheduled = conditions.get("PodScheduled") or {}
    scheduled_turned = _seconds(scheduled.get("lastTransitionTime"))
    since = scheduled_turned if scheduled_turned is not None else created_at
    if scheduled.get("status") == "False" and scheduled.get("reason") in _SHORT_REASONS:
        return PodPhase.UNSCHEDULABLE, since, None
    started = _seconds(status.get("startTime"))
    if turned is not None and started is not None and turned > started + _FIRST_STATUS_SECONDS:
        return PodPhase.UNREADY, turned, None
    return PodPhase.STARTING, since, None


def _seconds(text: str | None) -> float | None:
    """A time in seconds since the epoch; None where there is none.

    Raises:
        ValueError: It is no RFC 3339 time.
    """
    return parse_time(text) if text else None


def _ordinal(name: str, labels: Mapping[str, str], owner: Owner | None) -> int | None:
    if owner is None or owner.kind != "StatefulSet":
        return None
    index = labels.get(_POD_INDEX_LABEL)
    if index is not None and index.isdecimal():
        return int(index)
    # Before Kubernetes 1.28 there is the name alone.
    found = _ORDINAL_SUFFIX.search(name)
    return int(found[1]) if found else None


def _drain_deadline(annotations: Mapping[str, str]) -> float | None:
    """An unreadable deadline is none: users can write annotations, and a pod must not vanish."""
    try:
        return _seconds(annotations.get(DRAIN_DEADLINE_ANNOTATION))
    except ValueError:
        return None


def _deletion_cost(annotations: Mapping[str, str]) -> int:
    """Kubernetes takes an unreadable cost as 0 too."""
    try:
        return int(annotations.get(DELETION_COST_ANNOTATION, "0"))
    except ValueError:
        return 0


def project_workload(raw: JsonObject, *, kind: str) -> WorkloadRecord:
    """A Deployment or StatefulSet of apps/v1.

    Args:
        raw: The object; items of a list lack their kind.
        kind: ``Deployment`` or ``StatefulSet``.
    """
    meta, spec, status = raw["metadata"], raw["spec"], raw.get("status") or {}
    managers = _replicas_managers(meta.get("managedFields") or [])
    template = spec.get("template") or {}
    return WorkloadRecord(
        api_version="apps/v1",
        kind=kind,
        namespace=sys.intern(meta["namespace"]),
        name=meta["name"],
        uid=_required_text(meta, "uid"),
        resource_version=_required_text(meta, "resourceVersion"),
        selector=selectors.from_label_selector(spec["selector"]),
        template_labels=_interned((template.get("metadata") or {}).get("labels") or {}),
        spec_replicas=int(spec.get("replicas", 1)),
        status_replicas=int(status.get("replicas", 0)),
        ready_replicas=int(status.get("readyReplicas", 0)),
        rolling_out=_rolling_out(kind, meta, spec, status),
        update_revision=status.get("updateRevision", "") if kind == "StatefulSet" else "",
        revision_number=(meta.get("annotations") or {}).get(_DEPLOYMENT_REVISION, ""),
        has_readiness_probe=_has_readiness_probe(template.get("spec") or {}),
        replicas_managers=managers,
        scale_owned=MANAGER_SCALE in managers,
        deleting="deletionTimestamp" in meta,
    )


def project_deployment(raw: JsonObject) -> WorkloadRecord:
    """A Deployment."""
    return project_workload(raw, kind="Deployment")


def project_stateful_set(raw: JsonObject) -> WorkloadRecord:
    """A StatefulSet."""
    return project_workload(raw, kind="StatefulSet")


def _rolling_out(
    kind: str, meta: Mapping[str, Any], spec: Mapping[str, Any], status: Mapping[str, Any]
) -> bool:
    """Whether pods of an older revision are being replaced, or are about to be."""
    if int(status.get("observedGeneration", 0)) < int(meta.get("generation", 0)):
        return True
    replicas, updated = int(status.get("replicas", 0)), int(status.get("updatedReplicas", 0))
    if kind != "StatefulSet":
        return updated < replicas
    if status.get("currentRevision") == status.get("updateRevision"):
        return False
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        # Nothing happens until somebody deletes a pod, perhaps for months.
        return False
    # Ordinals below the partition stay at the old revision on purpose.
    partition = int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
    return updated < max(0, replicas - partition)


def _replicas_managers(managed_fields: list[dict[str, Any]]) -> tuple[str, ...]:
    """Who owns spec.replicas, by either the object itself or its scale subresource."""
    return tuple(
        entry.get("manager", "")
        for entry in managed_fields
        if "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
    )


def project_autoscaler(raw: JsonObject) -> AutoscalerRecord:
    """A HorizontalPodAutoscaler."""
    meta, target = raw["metadata"], raw["spec"]["scaleTargetRef"]
    return AutoscalerRecord(
        namespace=meta["namespace"],
        name=meta["name"],
        # Optional in the API; those who leave it out mean apps/v1.
        target_api_version=target.get("apiVersion") or "apps/v1",
        target_kind=target["kind"],
        target_name=target["name"],
    )


def project_service(raw: JsonObject) -> ServiceRecord | None:
    """A Service with a selector; None for one without (its endpoints are somebody else's)."""
    meta, selector = raw["metadata"], (raw.get("spec") or {}).get("selector") or {}
    if not selector:
        return None
    return ServiceRecord(meta["namespace"], meta["name"], _interned(selector))


def _interned(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels with shared strings: ten thousand pods have few different ones."""
    return {sys.intern(name): sys.intern(value) for name, value in labels.items()}


def _controller(meta: Mapping[str, Any]) -> Owner | None:
    for reference in meta.get("ownerReferences") or []:
        if reference.get("controller"):
            return Owner(
                sys.intern(reference["kind"]),
                sys.intern(reference["name"]),
                sys.intern(reference["uid"]),
            )
    return None


def _required_text(meta: Mapping[str, Any], name: str) -> str:
    text = meta.get(name)
    if not isinstance(text, str) or not text:
        msg = f"metadata.{name} is no text"
        raise ValueError(msg)
    return text


def _required_time(meta: Mapping[str, Any], name: str) -> float:
    seconds = _seconds(meta.get(name))
    if seconds is None:
        msg = f"metadata.{name} is absent"
        raise ValueError(msg)
    return seconds


def _has_readiness_probe(pod_spec: Mapping[str, Any]) -> bool:
    return any("readinessProbe" in container for container in pod_spec.get("containers") or [])
