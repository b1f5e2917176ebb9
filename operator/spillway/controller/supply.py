"""GPUs that pools could still get: from nodes, from what pods hold of them, and from quotas."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spillway.core.facts import GpuSupply

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spillway.adapters.kube.nodes import NodeRecord, QuotaRecord
    from spillway.adapters.kube.records import PodRecord
    from spillway.api.validation import InferencePool


@dataclass(frozen=True, slots=True)
class Supply:
    """What was counted in one look at the cluster.

    Attributes:
        elastic: Nodes may be added.
        nodes: GPU nodes by name; None where nodes can't be seen.
        free: GPUs that nobody asked for, on nodes that take pods, by product.
        quotas: GPUs left, by namespace.
        zones: Of the nodes that take pods, by product; None: of all of them.
    """

    elastic: bool = True
    nodes: dict[str, NodeRecord] | None = None
    free: dict[str | None, int] = field(default_factory=dict)
    quotas: dict[str, int] = field(default_factory=dict)
    zones: dict[str | None, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def count(
        cls,
        nodes: Iterable[NodeRecord] | None,
        pods: Iterable[PodRecord],
        quotas: Iterable[QuotaRecord],
        *,
        elastic: bool,
    ) -> Supply:
        """Count once for all pools.

        Args:
            nodes: GPU nodes; None where they can't be seen.
            pods: All pods that may hold GPUs, other people's too.
            quotas: Those that bound GPUs.
            elastic: Nodes may be added.
        """
        left: dict[str, int] = {}
        for quota in quotas:
            known = left.get(quota.namespace)
            left[quota.namespace] = quota.left if known is None else min(known, quota.left)
        if nodes is None:
            return cls(elastic=elastic, quotas=left)
        by_name = {node.name: node for node in nodes}
        held: dict[str, int] = defaultdict(int)
        for pod in pods:
            if pod.node is not None and pod.gpus:
                held[pod.node] += pod.gpus
        free: dict[str | None, int] = defaultdict(int)
        zones: dict[str | None, set[str]] = defaultdict(set)
        for node in by_name.values():
            if not node.takes_pods:
                continue
            free[node.product] += max(0, node.gpus - held[node.name])
            if node.zone is not None:
                zones[node.product].add(node.zone)
                zones[None].add(node.zone)
        seen = {product: frozenset(names) for product, names in zones.items()}
        return cls(elastic=elastic, nodes=by_name, free=dict(free), quotas=left, zones=seen)

    def of(self, pool: InferencePool) -> dict[str, GpuSupply]:
        """The supply of each variant of a pool."""
        return {
            variant.name: self._of(variant.accelerator.type, pool.namespace)
            for variant in pool.spec.variants
        }

    def _of(self, product: str | None, namespace: str) -> GpuSupply:
        quota = self.quotas.get(namespace)
        if self.nodes is None:
            return GpuSupply(elastic=self.elastic, quota_left=quota)
        free = sum(self.free.values()) if product is None else self.free.get(product, 0)
        zones = self.zones.get(product, frozenset())
        return GpuSupply(free=free, elastic=self.elastic, quota_left=quota, zones=zones)

    def zone(self, node: str | None) -> str | None:
        """The zone of a node; None where it is not known."""
        record = self._node(node)
        return None if record is None else record.zone

    def interrupted(self, node: str | None) -> bool:
        """Whether a node has been given notice."""
        record = self._node(node)
        return record is not None and record.interrupted

    def _node(self, name: str | None) -> NodeRecord | None:
        return None if self.nodes is None or name is None else self.nodes.get(name)
