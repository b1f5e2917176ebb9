"""N pools, their Deployments and Services, and the nodes for their pods, made in parallel."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from spillway.api.names import API_VERSION, KIND
from tests.e2e.rig.fleet.pages import MODEL
from tests.e2e.rig.kubeapi import ApiError
from tests.e2e.rig.workloads import (
    ACCELERATOR,
    namespace_manifest,
    node_manifest,
    service,
    vllm_deployment,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.e2e.rig.cluster import Cluster

POOLS_A_NAMESPACE: Final = 50
GPUS_A_NODE: Final = 8
#: Room for pods that are replaced: a share of the nodes, and at least one.
_SPARE: Final = 0.05
_AT_ONCE: Final = 8
_TRIES: Final = 5
#: A minute without one more ready pod is a fault of the rig.
_STALLED_SECONDS: Final = 120.0


def namespace_of(pool: int) -> str:
    """Where a pool lives."""
    return f"team-{pool // POOLS_A_NAMESPACE}"


def name_of(pool: int) -> str:
    """What a pool, its Deployment and its Service are called."""
    return f"pool-{pool}"


def pool_manifest(pool: int, pods: int) -> dict[str, Any]:
    """The InferencePool: capacity is learned, burst is an annotation, GPUs are scarce."""
    cloud = {"name": "cloud", "price": {"inputPerMillion": "0.18", "outputPerMillion": "0.18"}}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name_of(pool), "namespace": namespace_of(pool)},
        "spec": {
            "modelName": MODEL,
            "variants": [
                {
                    "name": "h100",
                    "targetRef": {"kind": "Deployment", "name": name_of(pool)},
                    "accelerator": {"type": ACCELERATOR},
                    "price": {"perAcceleratorHour": "3.50"},
                }
            ],
            "replicas": {"floor": pods, "max": pods + 2},
            "latency": {"ttft": "2s", "tpot": "60ms", "attainment": "0.95"},
            "burst": {"providers": [cloud], "budget": {"perDay": "250"}},
        },
    }


class Fleet:
    """The pools of a cluster; it only grows.

    Args:
        cluster: Where.
        pods: Of each pool.
        tell: Progress, for a person.
    """

    def __init__(self, cluster: Cluster, pods: int, tell: Callable[[str], None]) -> None:
        self.pools = 0
        self.pods = pods
        self._cluster = cluster
        self._tell = tell
        self._nodes = 0

    def grow(self, pools: int) -> None:
        """Have this many pools; returns when all their pods are ready.

        Raises:
            TimeoutError: No pod has become ready for a while.
        """
        new = range(self.pools, pools)
        if not new:
            return
        nodes = -(-pools * self.pods // GPUS_A_NODE)
        nodes += max(1, int(_SPARE * nodes))
        namespaces = sorted({namespace_of(p) for p in new} - {namespace_of(self.pools - 1)})
        self._make("namespaces", [namespace_manifest(name) for name in namespaces])
        self._make(
            "nodes",
            [node_manifest(f"fleet-{n}", gpus=GPUS_A_NODE) for n in range(self._nodes, nodes)],
        )
        self._nodes = nodes
        workloads = [
            vllm_deployment(
                name_of(p),
                namespace_of(p),
                replicas=self.pods,
                startup_seconds=random.randint(2, 6),  # noqa: S311 - spreads load
            )
            for p in new
        ]
        self._make("services", [service(name_of(p), namespace_of(p)) for p in new])
        self._make("deployments", workloads)
        self._await_pods(pools * self.pods, pools)
        self._make("pools", [pool_manifest(p, self.pods) for p in new])
        self.pools = pools

    def change_all(self, ttft: str) -> None:
        """Edit the spec of every pool."""
        patch = {"spec": {"latency": {"ttft": ttft}}}
        self._each(
            "pools edited",
            range(self.pools),
            lambda p: self._cluster.api.patch(KIND, name_of(p), namespace_of(p), patch),
        )

    def behind(self) -> int:
        """Pools whose status is not of their present spec."""
        found = self._cluster.api.list(KIND)
        return sum(
            (pool.get("status") or {}).get("observedGeneration") != pool["metadata"]["generation"]
            for pool in found
        )

    def churn(self, pods_a_minute: float, seconds: float, chance: random.Random) -> int:
        """Delete pods at random, evenly over a time; their ReplicaSets replace them.

        Returns:
            How many were deleted.
        """
        ends, deleted = time.monotonic() + seconds, 0
        pause = 60.0 / pods_a_minute
        due = time.monotonic()
        while (due := due + pause) < ends:
            time.sleep(max(0.0, due - time.monotonic()))
            pool = chance.randrange(self.pools)
            pods = self._cluster.api.list(
                "Pod", namespace_of(pool), selector=f"app={name_of(pool)}"
            )
            names = [
                p["metadata"]["name"] for p in pods if "deletionTimestamp" not in p["metadata"]
            ]
            if names:
                self._cluster.api.delete("Pod", chance.choice(names), namespace_of(pool))
                deleted += 1
        time.sleep(max(0.0, ends - time.monotonic()))
        return deleted

    def _await_pods(self, wanted: int, pools: int) -> None:
        """Wait until the Deployments say that their pods are ready."""
        began = changed = time.monotonic()
        best = -1
        while best < wanted:
            time.sleep(2.0)
            ready = sum(
                (d.get("status") or {}).get("readyReplicas", 0)
                for d in self._cluster.api.list("Deployment")
            )
            if ready > best:
                best, changed = ready, time.monotonic()
            self._tell(f"{pools} pools: {best} of {wanted} pods ready, {changed - began:.0f} s")
            if time.monotonic() - changed > _STALLED_SECONDS:
                msg = f"{best} of {wanted} pods are ready, and no more have become so lately"
                raise TimeoutError(msg)

    def _make(self, what: str, manifests: Sequence[dict[str, Any]]) -> None:
        self._each(what, manifests, self._cluster.api.create)

    def _each(self, what: str, items: Iterable[Any], work: Callable[[Any], object]) -> None:
        """Do this for each, several at once, with a few tries."""

        def tried(item: Any) -> None:
            for attempt in range(_TRIES):
                try:
                    work(item)
                except ApiError as error:
                    # A time-out may have made it all the same.
                    if error.status == 409:
                        return
                    if attempt + 1 == _TRIES:
                        raise
                    time.sleep(1.0)
                else:
                    return

        every, began = list(items), time.monotonic()
        with ThreadPoolExecutor(_AT_ONCE) as several:
            for number, _ in enumerate(several.map(tried, every), start=1):
                if number % 200 == 0 or number == len(every):
                    self._tell(
                        f"{what}: {number} of {len(every)}, {time.monotonic() - began:.0f} s"
                    )
