"""Nodes, quotas and GPU requests as the API server sends them."""

from __future__ import annotations

from typing import Any

import pytest

from spillway.adapters.kube.nodes import gpu_count, pod_gpus, project_node, project_quota


def node(**changes: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "gpu-1",
            "labels": {
                "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
                "topology.kubernetes.io/zone": "eu-1a",
            },
        },
        "spec": {},
        "status": {
            "allocatable": {"cpu": "96", "nvidia.com/gpu": "8"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
        **changes,
    }


def test_a_gpu_node() -> None:
    record = project_node(node())
    assert record is not None
    assert (record.name, record.zone, record.gpus) == ("gpu-1", "eu-1a", 8)
    assert record.product == "NVIDIA-H100-80GB-HBM3"
    assert record.takes_pods
    assert not record.interrupted


def test_a_node_without_gpus_or_labels() -> None:
    assert project_node(node(status={"allocatable": {"cpu": "4"}})) is None
    bare = project_node(node(metadata={"name": "bare"}))
    assert bare is not None
    assert (bare.zone, bare.product) == (None, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"spec": {"unschedulable": True}},
        {"status": {"allocatable": {"nvidia.com/gpu": "8"}, "conditions": []}},
        {"status": {"allocatable": {"nvidia.com/gpu": "8"}}},
    ],
)
def test_a_cordoned_or_unready_node_takes_no_pods(changes: dict[str, Any]) -> None:
    record = project_node(node(**changes))
    assert record is not None
    assert not record.takes_pods
    assert not record.interrupted


@pytest.mark.parametrize(
    "changes",
    [
        {"spec": {"taints": [{"key": "aws-node-termination-handler/spot-itn"}]}},
        {"spec": {"taints": [{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]}},
        {"metadata": {"name": "gpu-1", "deletionTimestamp": "2026-11-21T12:00:00Z"}},
    ],
)
def test_a_node_that_was_given_notice(changes: dict[str, Any]) -> None:
    record = project_node(node(**changes))
    assert record is not None
    assert record.interrupted
    assert not record.takes_pods


def test_a_spot_nodes_own_taint_is_no_notice() -> None:
    taints = [{"key": "kubernetes.azure.com/scalesetpriority", "value": "spot"}]
    record = project_node(node(spec={"taints": taints}))
    assert record is not None
    assert not record.interrupted


GPUS = "requests.nvidia.com/gpu"


def quota(hard: dict[str, str], used: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "serving", "name": "gpus"},
        "spec": {"hard": hard, **spec},
        "status": {"hard": hard, "used": used},
    }


def test_what_a_quota_leaves() -> None:
    record = project_quota(quota({GPUS: "8"}, {GPUS: "5"}))
    assert record is not None
    assert (record.namespace, record.left) == ("serving", 3)
    over = project_quota(quota({GPUS: "2"}, {GPUS: "5"}))
    assert over is not None
    assert over.left == 0


def test_a_quota_of_something_else_or_of_some_pods_alone_says_nothing() -> None:
    assert project_quota(quota({"pods": "10"}, {})) is None
    hard = {GPUS: "8"}
    assert project_quota(quota(hard, {}, scopes=["BestEffort"])) is None


def test_a_pods_gpus_are_those_of_its_containers_together() -> None:
    gpu = {"resources": {"limits": {"nvidia.com/gpu": "2"}}}
    assert pod_gpus({"containers": [gpu, {"name": "proxy"}, gpu]}) == 4
    assert pod_gpus({"containers": [gpu], "initContainers": [gpu, gpu]}) == 2
    assert pod_gpus({"containers": []}) == 0
    assert pod_gpus({}) == 0


@pytest.mark.parametrize(
    ("quantity", "count"),
    [("8", 8), (8, 8), ("2k", 2000), (None, 0), ("1.5", 0), ("eight", 0), ("-1", 0), ("", 0)],
)
def test_quantities(quantity: object, count: int) -> None:
    assert gpu_count(quantity) == count
