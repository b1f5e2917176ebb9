"""Which pods a Service still sends traffic to, asked when it matters: at the end of a drain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from spillway.adapters.kube.paths import resource_path

if TYPE_CHECKING:
    from spillway.adapters.kube.client import Cluster

_SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class ServiceEndpoints:
    """Everything that a Service's EndpointSlices list, whatever its conditions.

    A listed endpoint that is not ready counts: kube-proxy falls back to terminating ones, and a
    gateway may be slow to follow.

    Attributes:
        pods: Names of listed pods.
        addresses: Listed addresses.
    """

    pods: frozenset[str]
    addresses: frozenset[str]

    def lists(self, pod_name: str, ip: str | None) -> bool:
        """Whether a pod is listed, by name or (in slices without targetRef) by address."""
        return pod_name in self.pods or (ip is not None and ip in self.addresses)


async def service_endpoints(cluster: Cluster, namespace: str, service: str) -> ServiceEndpoints:
    """List a Service's EndpointSlices; a Service that is absent lists nothing.

    Raises:
        ApiError: The server could not be asked; then nothing is known, and nobody has drained.
    """
    pods: set[str] = set()
    addresses: set[str] = set()
    path = resource_path("discovery.k8s.io/v1", "endpointslices", namespace)
    params = {"labelSelector": f"{_SERVICE_NAME_LABEL}={service}"}
    async for page in cluster.list_pages(path, params):
        for endpoint in (e for raw in page.items for e in raw.get("endpoints") or []):
            addresses.update(endpoint.get("addresses") or [])
            reference = endpoint.get("targetRef") or {}
            if reference.get("kind") == "Pod":
                pods.add(reference["name"])
    return ServiceEndpoints(frozenset(pods), frozenset(addresses))
