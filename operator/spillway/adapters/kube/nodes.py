"""Nodes and quotas, as far as they say which GPUs more replicas could get."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spillway.adapters.kube.transport import JsonObject

#: The device plugin's extended resource; every vLLM chart asks for GPUs by it.
GPU_RESOURCE: Final = "nvidia.com/gpu"
#: Set by GPU feature discovery, which the GPU operator brings.
_PRODUCT_LABEL: Final = "nvidia.com/gpu.product"
_ZONE_LABEL: Final = "topology.kubernetes.io/zone"
#: Taints of a node that has been given notice: spot interruptions (AWS node termination handler,
#: GKE), and nodes that Karpenter or the cluster autoscaler is about to take away.
_NOTICES: Final = frozenset(
    {
        "aws-node-termination-handler/spot-itn",
        "cloud.google.com/impending-node-termination",
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",
        "node.kubernetes.io/out-of-service",
        "ToBeDeletedByClusterAutoscaler",
    }
)


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node with GPUs.

    Attributes:
        name: Name.
        zone: Availability zone; None where it has no label.
        product: GPU product name; None where it has no label.
        gpus: Allocatable GPUs.
        takes_pods: Ready and not cordoned.
        interrupted: It has been given notice and will go.
    """

    name: str
    zone: str | None
    product: str | None
    gpus: int
    takes_pods: bool
    interrupted: bool


def project_node(raw: JsonObject) -> NodeRecord | None:
    """A node, or None for one without GPUs."""
    meta, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    gpus = gpu_count((status.get("allocatable") or {}).get(GPU_RESOURCE))
    if not gpus:
        return None
    labels = meta.get("labels") or {}
    ready = any(
        entry.get("type") == "Ready" and entry.get("status") == "True"
        for entry in status.get("conditions") or []
    )
    taints = {taint.get("key") for taint in spec.get("taints") or []}
    interrupted = bool(taints & _NOTICES) or "deletionTimestamp" in meta
    return NodeRecord(
        name=meta["name"],
        zone=_interned(labels.get(_ZONE_LABEL)),
        product=_interned(labels.get(_PRODUCT_LABEL)),
        gpus=gpus,
        takes_pods=ready and not spec.get("unschedulable", False) and not interrupted,
        interrupted=interrupted,
    )


@dataclass(frozen=True, slots=True)
class QuotaRecord:
    """A ResourceQuota that bounds GPUs.

    Attributes:
        namespace: Namespace.
        name: Name.
        left: GPUs that may still be asked for.
    """

    namespace: str
    name: str
    left: int


def project_quota(raw: JsonObject) -> QuotaRecord | None:
    """A quota, or None for one that does not bound GPUs, or not those of every pod."""
    meta, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    if spec.get("scopes") or spec.get("scopeSelector"):
        return None
    key = f"requests.{GPU_RESOURCE}"
    hard = (status.get("hard") or {}).get(key, (spec.get("hard") or {}).get(key))
    if hard is None:
        return None
    used = gpu_count((status.get("used") or {}).get(key))
    return QuotaRecord(meta["namespace"], meta["name"], max(0, gpu_count(hard) - used))


def pod_gpus(pod_spec: Mapping[str, Any]) -> int:
    """GPUs that a pod asks for: its containers' limits, or one init container's if that is more.

    Extended resources can't be overcommitted, so that requests equal limits.
    """

    def asked(containers: object) -> list[int]:
        listed = containers if isinstance(containers, list) else []
        limits = (((c.get("resources") or {}).get("limits") or {}) for c in listed)
        return [gpu_count(limit.get(GPU_RESOURCE)) for limit in limits]

    return max([sum(asked(pod_spec.get("containers"))), *asked(pod_spec.get("initContainers"))])


def gpu_count(quantity: object) -> int:
    """An extended resource's quantity: whole numbers, as text; 0 where there is none or nonsense.

    The API server refuses fractions of extended resources, and writes "2k" for 2000.
    """
    text = str(quantity or "0")
    factor = 1000 if text.endswith("k") else 1
    digits = text.removesuffix("k")
    return int(digits) * factor if digits.isdecimal() else 0


def _interned(text: str | None) -> str | None:
    return None if not text else sys.intern(text)
