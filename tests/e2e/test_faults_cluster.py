"""Things of the cluster that go: nodes with their pods, a namespace, the CRD, a node's labels.

A gateway's configuration that somebody edits: test_routes.py. A rollout in a spike:
test_lifecycle.py.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import requests

from tests.e2e.faults import bursting, never_below, within_ledger
from tests.e2e.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.faults import Faults
    from tests.e2e.rig.operator_process import OperatorProcess
    from tests.e2e.rig.rig import Rig


@pytest.fixture
def own_nodes(rig: Rig, namespace: str) -> Iterator[Callable[..., str]]:
    """Adds nodes on which this namespace's pods alone run."""
    made: list[str] = []

    def add(gpus: int, *, labelled: bool = True) -> str:
        labels = {"pool": namespace, **({} if labelled else {"nvidia.com/gpu.product": ""})}
        name = f"{namespace}-{len(made)}"
        made.append(rig.cluster.add_node(name, gpus=gpus, labels=labels))
        return made[-1]

    yield add
    for name in made:
        rig.cluster.remove_node(name)


@pytest.mark.usefixtures("operator")
def test_half_of_the_pods_lost_with_their_node_are_asked_for_no_less(
    rig: Rig, scenario: Callable[..., Scenario], own_nodes: Callable[..., str], faults: Faults
) -> None:
    first, _ = own_nodes(2), own_nodes(2)
    pool = scenario(replicas=4, spec={"replicas": {"floor": 4, "max": 4}})
    pool.deploy_on_own_nodes()
    pool.apply()
    pool.wait_ready()
    pool.rate(12.0)
    pool.wait(
        "the load is known",
        lambda: (pool.status().get("demand") or {}).get("requestsPerSecond", 0),
        lambda per_second: per_second > 11,
    )
    began = time.time()
    # Its pods go first, and their successors must not find it again.
    rig.cluster.api.patch("Node", first, None, {"spec": {"unschedulable": True}})
    rig.cluster.remove_node(first)
    pool.wait("half is gone", lambda: len(pool.pods("serving", ready=True)) <= 2)
    pool.wait("what is left sends away", pool.traffic, lambda seen: seen["cloud_total"] > 0)
    left = time.time() - began
    own_nodes(2)
    back = time.time()
    pool.wait_roles(serving=4, timeout=90)
    seconds = time.time() - back
    never_below(pool, 4, began)
    within_ledger(pool)
    faults.survived(
        "a node is lost with half of the pods",
        f"4 are asked for all the time, burst covers after {left:.1f} s",
        seconds,
    )


@pytest.mark.usefixtures("operator")
def test_a_node_without_gpu_labels_serves_all_the_same(
    scenario: Callable[..., Scenario], own_nodes: Callable[..., str], faults: Faults
) -> None:
    own_nodes(4, labelled=False)
    pool = scenario(spec={"replicas": {"floor": 2, "max": 4}, "burst": None})
    pool.deploy_on_own_nodes()
    pool.apply()
    pool.wait_ready()
    pool.rate(12.0)
    pool.wait("it is scaled up", pool.scale, lambda n: n > 2, timeout=60)
    faults.survived("nodes without GPU labels", "the pool is Ready and is scaled up", None)


@pytest.mark.usefixtures("operator")
def test_a_namespace_that_is_deleted_in_a_burst_goes_and_disturbs_nobody(
    rig: Rig, scenario: Callable[..., Scenario], operator: OperatorProcess, faults: Faults
) -> None:
    doomed = Scenario(rig, rig.cluster.create_namespace())
    other = scenario(name="other")
    bursting(doomed)
    bursting(other)
    began = time.time()
    rig.cluster.delete_namespace(doomed.namespace)
    gone = f"{operator.url}/v1/overflow/{doomed.key}"
    other.wait("its value is gone", lambda: requests.get(gone, timeout=5).status_code == 404)
    other.wait(
        "the namespace is gone",
        lambda: rig.cluster.api.find("Namespace", doomed.namespace) is None,
        timeout=60,
    )
    seconds = time.time() - began
    doomed.rate(0)
    sent = other.traffic()["cloud_total"]
    other.wait("the other goes on", lambda: other.traffic()["cloud_total"] > sent)
    never_below(other, 2, began)
    within_ledger(other)
    assert operator.alive
    faults.survived(
        "a pool's namespace is deleted in a burst", "it goes; another pool bursts on", seconds
    )


def test_a_crd_that_is_removed_and_comes_back_costs_no_replica(
    rig: Rig, operator: OperatorProcess, faults: Faults
) -> None:
    if not rig.cluster.owns_control_plane:
        pytest.skip("the CRD of this cluster is not ours to remove")
    pool = Scenario(rig, rig.cluster.create_namespace(), spec={"warmPool": {"size": 1}})
    bursting(pool)
    pool.wait_roles(serving=2, warm=1)
    began = time.time()
    rig.cluster.api.delete("CustomResourceDefinition", "inferencepools.spillway.dev")
    pool.wait("every pod serves", lambda: len(pool.pods("serving")), lambda n: n == 3)
    assert operator.alive
    rig.apply_crds()
    pool.apply()
    back = time.time()
    pool.wait_ready()
    pool.wait("it bursts again", lambda: (pool.traffic()["overflow"] or {}).get("live"))
    seconds = time.time() - back
    never_below(pool, 2, began)
    within_ledger(pool)
    pool.rate(0)
    rig.cluster.delete_namespace(pool.namespace)
    faults.survived(
        "CRD removed with its pools, and made anew",
        "all pods serve meanwhile; the ledger is kept",
        seconds,
    )
