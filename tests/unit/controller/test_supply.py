"""GPUs that are free, from nodes, pods and quotas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spillway.adapters.kube.nodes import NodeRecord, QuotaRecord
from spillway.adapters.kube.projections import project_pod
from spillway.api.validation import parse
from spillway.controller.supply import Supply
from tests.unit.controller.fakes import pool_object

if TYPE_CHECKING:
    from spillway.adapters.kube.records import PodRecord

H100, L40S = "NVIDIA-H100-80GB-HBM3", "NVIDIA-L40S"


def node(name: str, product: str, zone: str, gpus: int = 8, **changes: Any) -> NodeRecord:
    values: dict[str, Any] = {"takes_pods": True, "interrupted": False} | changes
    return NodeRecord(name, zone, product, gpus, **values)


def pod(name: str, on: str | None, gpus: int = 1) -> PodRecord:
    spec: dict[str, Any] = {
        "containers": [{"resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}]
    }
    if on is not None:
        spec["nodeName"] = on
    record = project_pod(
        {
            "metadata": {
                "namespace": "other",
                "name": name,
                "uid": name,
                "resourceVersion": "1",
                "creationTimestamp": "2026-11-21T12:00:00Z",
            },
            "spec": spec,
        }
    )
    assert record is not None
    return record


def of(supply: Supply, product: str | None = H100) -> Any:
    accelerator = {"type": product} if product else {}
    variant = {"name": "v", "targetRef": {"name": "t"}, "accelerator": accelerator}
    pool = parse(pool_object("p", variants=[variant]))
    return supply.of(pool)["v"]


def test_free_is_what_no_pod_holds_on_nodes_that_take_pods() -> None:
    nodes = [
        node("a", H100, "1a"),
        node("b", H100, "1b"),
        node("c", L40S, "1c", gpus=4),
        node("cordoned", H100, "1d", takes_pods=False),
    ]
    pods = [pod("one", "a", 4), pod("two", "b", 1), pod("waits", None, 8), pod("gone", "lost", 8)]
    supply = Supply.count(nodes, pods, [], elastic=False)
    assert of(supply).free == 4 + 7
    assert of(supply, L40S).free == 4
    assert of(supply, None).free == 4 + 7 + 4
    assert of(supply, "unheard-of").free == 0
    assert of(supply).zones == {"1a", "1b"}
    assert not of(supply).elastic


def test_without_sight_of_nodes_nothing_is_known() -> None:
    supply = Supply.count(None, [pod("one", "a")], [], elastic=False)
    assert of(supply).free is None
    assert supply.zone("a") is None
    assert not supply.interrupted("a")


def test_the_tightest_quota_of_a_namespace_counts() -> None:
    namespace = parse(pool_object("p")).namespace
    quotas = [QuotaRecord(namespace, "q", 5), QuotaRecord(namespace, "r", 2)]
    quotas.append(QuotaRecord("elsewhere", "s", 0))
    assert of(Supply.count([], [], quotas, elastic=True)).quota_left == 2


def test_what_a_node_says_of_its_pods() -> None:
    nodes = [node("a", H100, "1a", takes_pods=False, interrupted=True)]
    supply = Supply.count(nodes, [], [], elastic=True)
    assert supply.zone("a") == "1a"
    assert supply.interrupted("a")
    assert supply.zone(None) is None
    assert not supply.interrupted("b")
