"""N pools, their Deployments and Services, and the nodes for their pods, made in parallel."""

from __future__ import annotations

import contextlib
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from spillway.api.names import API_VERSION, KIND
from tests.e2e.rig.fleet.pages import MODEL
from tests.e2e.rig.kubeapi import ApiError
from tests.e2e.rig.waiting import wait_for
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
#: Ten times what a server has: the leases and heartbeats of 1,250 nodes alone take an API server on
#: two cores most of its time.
GPUS_A_NODE: Final = 80
#: Room for pods that are replaced: a share of the nodes, and at least one.
_SPARE: Final = 0.05
_AT_ONCE: Final = 8
_POOLS_AT_ONCE: Final = 100
_TRIES: Final = 5
#: Two minutes without one more ready pod is a fault of the rig.
_STALLED_SECONDS: Final = 120.0


def name_of(pool: int) -> str:
    """What a pool, its Deployment and its Service are called."""
    return f"pool-{pool}"


def pool_manifest(pool: int, namespace: str, pods: int, most: int) -> dict[str, Any]:
    """The InferencePool: capacity is learned, burst is an annotation, a pod a replica."""
    cloud = {"name": "cloud", "price": {"inputPerMillion": "0.18", "outputPerMillion": "0.18"}}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name_of(pool), "namespace": namespace},
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
            "replicas": {"floor": pods, "max": most},
            "latency": {"ttft": "2s", "tpot": "60ms", "attainment": "0.95"},
            "burst": {"providers": [cloud], "budget": {"perDay": "250"}},
        },
    }


class Fleet:
    """The pools of a cluster.

    Args:
        cluster: Where.
        pods: Of each pool.
        tell: Progress, for a person.
        prefix: What its namespaces and nodes are called, before their numbers.
        max_replicas: Of each pool; None: two more than its pods.
        startup_seconds: Least and most from a pod's start to its readiness.

    Attributes:
        pools: How many there are.
        pods: Of each pool.
    """

    def __init__(
        self,
        cluster: Cluster,
        pods: int,
        tell: Callable[[str], None] = lambda _: None,
        *,
        prefix: str = "team",
        max_replicas: int | None = None,
        startup_seconds: tuple[int, int] = (2, 6),
    ) -> None:
        self.pools = 0
        self.pods = pods
        self._cluster = cluster
        self._tell = tell
        self._prefix = prefix
        self._max = pods + 2 if max_replicas is None else max_replicas
        self._startup_seconds = startup_seconds
        self._nodes: list[str] = []
        self._namespaces: list[str] = []

    def namespace_of(self, pool: int) -> str:
        """Where a pool lives."""
        return f"{self._prefix}-{pool // POOLS_A_NAMESPACE}"

    def grow(self, pools: int) -> None:
        """Have this many pools; returns when all their pods are ready.

        Raises:
            TimeoutError: No pod has become ready for a while.
        """
        self._furnish(pools)
        # Scheduler and kwok on two cores stall under ten thousand pods at once.
        while self.pools < pools:
            self._add(min(pools, self.pools + _POOLS_AT_ONCE))

    def _add(self, pools: int) -> None:
        """Have this many pools; there is room for them."""
        new = range(self.pools, pools)
        at = self.namespace_of
        workloads = [
            vllm_deployment(
                name_of(p),
                at(p),
                replicas=self.pods,
                startup_seconds=random.randint(*self._startup_seconds),  # noqa: S311 - spreads load
            )
            for p in new
        ]
        self._make("services", [service(name_of(p), at(p)) for p in new])
        self._make("deployments", workloads)
        self._await_pods(pools * self.pods, pools)
        self._make("pools", [pool_manifest(p, at(p), self.pods, self._max) for p in new])
        self.pools = pools

    def shrink(self, pools: int) -> None:
        """Have no more pools than this: the last ones go with their workloads."""
        api = self._cluster.api

        def delete(one: tuple[str, int]) -> None:
            kind, pool = one
            api.delete(kind, name_of(pool), self.namespace_of(pool))

        last = range(pools, self.pools)
        kinds = (KIND, "Service", "Deployment")
        self._each("objects deleted", [(kind, pool) for kind in kinds for pool in last], delete)
        self.pools = min(self.pools, pools)

    def remove(self) -> None:
        """Take everything away again, without waiting for its end."""
        for name in self._namespaces:
            self._cluster.delete_namespace(name)
        self._each("nodes", self._nodes, lambda name: self._cluster.api.delete("Node", name))
        self._nodes, self._namespaces, self.pools = [], [], 0

    def _furnish(self, pools: int) -> None:
        """Have namespaces and nodes for so many pools."""
        namespaces = dict.fromkeys(self.namespace_of(p) for p in range(pools))
        wanted = [name for name in namespaces if name not in self._namespaces]
        self._make("namespaces", [namespace_manifest(name) for name in wanted])
        self._namespaces += wanted
        count = -(-pools * self.pods // GPUS_A_NODE)
        count += max(1, int(_SPARE * count))
        names = [f"{self._prefix}-node-{n}" for n in range(len(self._nodes), count)]
        self._make("nodes", [node_manifest(name, gpus=GPUS_A_NODE) for name in names])
        self._nodes += names
        # A pod that finds no node waits for minutes before the scheduler looks at it again.
        wait_for("the nodes are Ready", self._unready, lambda n: n == 0, timeout=300, interval=2.0)

    def _unready(self) -> int:
        """Nodes of this fleet that are not Ready."""
        ready = {
            node["metadata"]["name"]
            for node in self._cluster.api.list("Node", cached=True)
            for condition in node["status"].get("conditions", ())
            if condition["type"] == "Ready" and condition["status"] == "True"
        }
        return sum(name not in ready for name in self._nodes)

    def change_all(self, ttft: str) -> None:
        """Edit the spec of every pool."""
        patch = {"spec": {"latency": {"ttft": ttft}}}
        self._each(
            "pools edited",
            range(self.pools),
            lambda p: self._cluster.api.patch(KIND, name_of(p), self.namespace_of(p), patch),
        )

    def behind(self) -> int:
        """Pools whose status is not of their present spec."""
        # Not from the cache, which may not have the last edit yet and would then call all done.
        found = self._own(KIND, cached=False)
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
        while (due := due + pause) < ends and time.monotonic() < ends:
            time.sleep(max(0.0, due - time.monotonic()))
            # A call that fails on a busy machine is a pod that stays.
            with contextlib.suppress(ApiError):
                deleted += self._replace_one(chance)
        time.sleep(max(0.0, ends - time.monotonic()))
        return deleted

    def _replace_one(self, chance: random.Random) -> int:
        """Delete a pod; 0 where its pool has none just then."""
        pool = chance.randrange(self.pools)
        namespace, name = self.namespace_of(pool), name_of(pool)
        pods = self._cluster.api.list("Pod", namespace, selector=f"app={name}", cached=True)
        names = [p["metadata"]["name"] for p in pods if "deletionTimestamp" not in p["metadata"]]
        if not names:
            return 0
        self._cluster.api.delete("Pod", chance.choice(names), namespace)
        return 1

    def _await_pods(self, wanted: int, pools: int) -> None:
        """Wait until the Deployments say that their pods are ready."""
        began = changed = time.monotonic()
        best = -1
        while best < wanted:
            time.sleep(2.0)
            ready = sum(
                (d.get("status") or {}).get("readyReplicas", 0)
                for d in self._own("Deployment", cached=True)
            )
            if ready > best:
                best, changed = ready, time.monotonic()
            self._tell(f"{pools} pools: {best} of {wanted} pods ready, {changed - began:.0f} s")
            if time.monotonic() - changed > _STALLED_SECONDS:
                msg = f"{best} of {wanted} pods are ready, and no more have become so lately"
                raise TimeoutError(msg)

    def _own(self, kind: str, *, cached: bool) -> list[dict[str, Any]]:
        """All objects of a kind in the fleet's namespaces."""
        found = self._cluster.api.list(kind, cached=cached)
        return [one for one in found if one["metadata"]["namespace"] in self._namespaces]

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
