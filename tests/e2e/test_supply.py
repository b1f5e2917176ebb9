"""GPUs as the cluster knows them: quotas, notices, and pools that share what there is."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.rig.operator_process import OperatorProcess
    from tests.e2e.rig.rig import Rig
    from tests.e2e.scenario import Scenario

pytestmark = pytest.mark.usefixtures("operator")


@pytest.fixture(scope="module")
def operator(rig: Rig) -> Iterator[OperatorProcess]:
    """An operator on a cluster to which nobody adds nodes."""
    yield rig.start_operator(nodes_may_be_added=False)
    rig.stop_operators()


@pytest.fixture
def nodes(rig: Rig, namespace: str) -> Iterator[Callable[..., str]]:
    """Adds nodes with GPUs of a kind that this namespace's pods alone run on."""
    added: list[str] = []

    def add(gpus: int) -> str:
        labels = {"pool": namespace, "nvidia.com/gpu.product": namespace}
        added.append(rig.cluster.add_node(f"{namespace}-{len(added)}", gpus=gpus, labels=labels))
        return added[-1]

    yield add
    for name in added:
        rig.cluster.remove_node(name)


def start_on_own_nodes(*pools: Scenario) -> None:
    for pool in pools:
        pool.deploy_on_own_nodes()
        pool.apply()
    for pool in pools:
        pool.wait_ready()


def variant(pool: str, kind: str) -> list[dict[str, Any]]:
    return [
        {
            "name": "main",
            "targetRef": {"kind": "Deployment", "name": pool},
            "price": {"perAcceleratorHour": "3.50"},
            "capacity": {"requestsPerSecond": "4", "concurrency": 16},
            "accelerator": {"type": kind},
        }
    ]


def burst(usd: str) -> dict[str, Any]:
    price = {"inputPerMillion": usd, "outputPerMillion": usd}
    return {"providers": [{"name": "cloud", "price": price}]}


def test_a_quota_bounds_what_is_asked_for_and_is_the_reason(
    rig: Rig, scenario: Callable[..., Scenario]
) -> None:
    pool = scenario()
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "gpus", "namespace": pool.namespace},
        "spec": {"hard": {"requests.nvidia.com/gpu": "3"}},
    }
    rig.cluster.api.apply(quota)
    pool.start()
    pool.rate(20.0)
    pool.wait_condition("ScalingLimited", "True", "Quota", timeout=90)
    assert pool.scale() <= 3
    rig.cluster.api.delete("v1/ResourceQuota", "gpus", pool.namespace)
    pool.wait("more is asked for without the quota", pool.scale, lambda n: n > 3, timeout=60)


def test_a_replica_whose_node_was_given_notice_is_replaced_before_it_goes(
    rig: Rig, namespace: str, scenario: Callable[..., Scenario], nodes: Callable[..., str]
) -> None:
    for _ in range(3):
        nodes(1)
    pool = scenario(spec={"variants": variant("llama", namespace)})
    start_on_own_nodes(pool)
    going = pool.pods()[0]
    taint = {"key": "aws-node-termination-handler/spot-itn", "effect": "NoSchedule"}
    rig.cluster.api.patch("Node", going["spec"]["nodeName"], None, {"spec": {"taints": [taint]}})
    pool.wait(
        "a replica starts in place of the one that goes",
        pool.pods,
        lambda pods: len(pods) == 3,
        timeout=60,
    )
    pool.wait_roles(serving=2, timeout=60)
    names = {pod["metadata"]["name"] for pod in pool.pods("serving", ready=True)}
    assert going["metadata"]["name"] not in names


def test_scarce_gpus_go_to_the_pool_that_has_more_use_for_them(
    rig: Rig, namespace: str, scenario: Callable[..., Scenario], nodes: Callable[..., str]
) -> None:
    nodes(5)
    bounds = {"floor": 1, "max": 8}

    def made(name: str, usd: str) -> Scenario:
        spec = {
            "variants": variant(name, namespace),
            "replicas": bounds,
            "burst": burst(usd),
            "guard": {"mode": "Off"},
        }
        return scenario(name=name, replicas=1, spec=spec)

    dear, cheap = made("dear", "60"), made("cheap", "4")
    start_on_own_nodes(dear, cheap)
    cheap.rate(16.0)
    cheap.wait("the cheap pool has the GPUs", cheap.scale, lambda n: n >= 3, timeout=90)
    dear.rate(14.0)
    dear.wait("GPUs move to the dear one", dear.scale, lambda n: n >= 3, timeout=120)
    assert cheap.scale() >= bounds["floor"]
    told = _explained(rig, cheap)
    assert "have more use for them" in told["limit"] or cheap.scale() == bounds["floor"]


def _explained(rig: Rig, pool: Scenario) -> dict[str, str]:
    """What ``spillway explain`` says of a pool on this cluster, by topic."""
    said = subprocess.run(
        [sys.executable, "-m", "spillway", "explain", pool.key, "--json",
         "--kubeconfig", str(rig.cluster.kubeconfig)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return {line["topic"]: line["text"] for line in json.loads(said.stdout)["lines"]}
