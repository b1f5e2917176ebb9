"""The revision that a Deployment's rollout moves to, asked during a rollout.

A Deployment does not tell its pods' newest pod-template-hash; its ReplicaSet does. Rollouts are
rare, so this is asked when one is seen, instead of keeping every old ReplicaSet in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from spillway.adapters.kube.paths import resource_path

if TYPE_CHECKING:
    from spillway.adapters.kube.client import Cluster
    from spillway.adapters.kube.records import WorkloadRecord

_REVISION_ANNOTATION: Final = "deployment.kubernetes.io/revision"
_HASH_LABEL: Final = "pod-template-hash"


async def update_revision(cluster: Cluster, workload: WorkloadRecord) -> str:
    """The pod-template-hash (or controller-revision-hash) of the newest revision.

    Returns:
        "" where it is not known yet: the Deployment controller has not made the ReplicaSet.

    Raises:
        ApiError: The server could not be asked.
    """
    if workload.kind != "Deployment":
        return workload.update_revision
    path = resource_path("apps/v1", "replicasets", workload.namespace)
    params = {"labelSelector": str(workload.selector)}
    async for page in cluster.list_pages(path, params):
        for raw in page.items:
            meta = raw["metadata"]
            owned = any(o["uid"] == workload.uid for o in meta.get("ownerReferences") or [])
            number = (meta.get("annotations") or {}).get(_REVISION_ANNOTATION, "")
            if owned and number and number == workload.revision_number:
                revision: str = (meta.get("labels") or {}).get(_HASH_LABEL, "")
                return revision
    return ""
