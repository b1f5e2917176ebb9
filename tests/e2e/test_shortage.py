"""GPUs run out: a condition, not a cascade, and nobody who serves pays for it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from spillway.api.reasons import Reason
from tests.e2e.rig.workloads import vllm_deployment
from tests.e2e.watching import happened, watch, watch_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.e2e.rig.operator_process import OperatorProcess
    from tests.e2e.rig.rig import Rig
    from tests.e2e.scenario import Scenario

pytestmark = pytest.mark.usefixtures("operator")

#: A pod that waits for longer than this waits for a GPU, not for a node on its way.
NODE_LEAD_SECONDS = 4.0
CLASSIC: Mapping[str, Any] = {
    "policy": "Utilization",
    "utilization": {"scaleUpAfter": "2s", "scaleDownAfter": "2s"},
    "replicas": {"floor": 2, "max": 8},
    "burst": None,
}
BUSY, IDLE = 95, 5


@pytest.fixture(scope="module")
def operator(rig: Rig) -> Iterator[OperatorProcess]:
    """An operator that calls a pod short of GPUs after a few seconds."""
    yield rig.start_operator(node_lead_seconds=NODE_LEAD_SECONDS)
    rig.stop_operators()


@contextmanager
def own_node(rig: Rig, namespace: str, name: str, gpus: int) -> Iterator[None]:
    """A node for this namespace's pods alone."""
    node = rig.cluster.add_node(f"{namespace}-{name}", gpus=gpus, labels={"pool": namespace})
    try:
        yield
    finally:
        rig.cluster.remove_node(node)


def start_on_own_nodes(pool: Scenario) -> None:
    """Start the pool with pods that only run on its namespace's nodes."""
    pool.deploy_on_own_nodes()
    pool.apply()
    pool.wait_ready()


def gpus_say(pool: Scenario, percent: float) -> None:
    """Have DCGM report this utilisation for every GPU of the pool."""
    pool.rig.emulator.set_fault(pool.key, gpu_utilization=percent)


def pending(pool: Scenario) -> int:
    return sum("nodeName" not in pod["spec"] for pod in pool.pods())


def limited(pool: Scenario) -> str:
    """The reason of the limit that has the last word."""
    condition = pool.condition("ScalingLimited")
    return str(condition["reason"]) if condition.get("status") == "True" else ""


def test_a_shortage_is_a_condition_and_does_not_cascade_until_a_node_comes(
    rig: Rig, scenario: Callable[..., Scenario]
) -> None:
    pool = scenario(spec=CLASSIC)
    with own_node(rig, pool.namespace, "first", gpus=3):
        start_on_own_nodes(pool)
        gpus_say(pool, BUSY)
        pool.wait(
            "the shortage is the limit",
            lambda: limited(pool),
            lambda reason: reason == Reason.GPU_SHORTAGE.value,
            timeout=60,
        )
        assert pending(pool) == 1
        looks = watch_for(pool, 10)
        assert {seen.replicas for seen in looks} == {4}, "asking for more finds no more GPUs"
        assert pool.condition("Ready")["status"] == "True", "the floor serves"
        message = pool.condition("ScalingLimited")["message"]
        assert "variant main" in message
        with own_node(rig, pool.namespace, "second", gpus=8):
            looks = watch(pool, "it goes on", lambda seen: seen.serving == 8, timeout=90)
            assert max(seen.replicas for seen in looks) == 8
            gpus_say(pool, 50)
            pool.wait(
                "the shortage is over",
                lambda: limited(pool),
                lambda reason: reason != Reason.GPU_SHORTAGE.value,
            )
            assert pending(pool) == 0


def test_no_serving_replica_goes_because_others_find_no_gpu(
    rig: Rig, scenario: Callable[..., Scenario]
) -> None:
    pool = scenario(spec=CLASSIC, emulator={"profile": {"overrides": {"base_seconds": 0.03}}})
    with own_node(rig, pool.namespace, "only", gpus=3):
        start_on_own_nodes(pool)
        gpus_say(pool, BUSY)
        pool.wait("one waits for a GPU", lambda: pending(pool) == 1)
        watch(pool, "three serve", lambda seen: seen.serving == 3)
        pool.rate(6)
        pool.wait("all three work", lambda: len(happened(pool, "pod_first_request")) >= 3)
        gpus_say(pool, IDLE)
        looks = watch(pool, "two are left", lambda seen: seen.pods == 2, timeout=90)
        assert min(seen.serving for seen in looks) >= 2
        first = next(seen for seen in looks if seen.replicas < 4)
        assert first.serving + first.draining >= 3, "the pod that waited went first"
        assert [event["in_flight"] for event in happened(pool, "pod_deleted")] == [0]
        assert pool.traffic()["lost_total"] == pool.traffic()["refused_total"] == 0


def test_a_pool_whose_floor_finds_no_gpu_says_so(
    rig: Rig, scenario: Callable[..., Scenario]
) -> None:
    pool = scenario(spec={"replicas": {"floor": 2, "max": 4}})
    workload = vllm_deployment(pool.name, pool.namespace, replicas=2, startup_seconds=1)
    workload["spec"]["template"]["spec"]["nodeSelector"]["pool"] = pool.namespace
    with own_node(rig, pool.namespace, "small", gpus=1):
        pool.deploy(workload)
        pool.apply()
        pool.wait_condition("Ready", "False", Reason.GPU_SHORTAGE.value)
        assert {seen.replicas for seen in watch_for(pool, 5)} == {2}
        with own_node(rig, pool.namespace, "more", gpus=1):
            pool.wait_ready()
